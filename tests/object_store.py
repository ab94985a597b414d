"""A local object store that speaks the S3 protocol over HTTP: moto's server, in a process of its own.

Its own process, since tests fork, and a fork must not carry a server's threads. It keeps nothing on the disk and ends
with the process that started it. One request is served at a time, so that a conditional put is as atomic as the
protocol promises.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BUCKET = "bucket"


@dataclass(frozen=True)
class ObjectStore:
    """A running server with one empty bucket."""

    address: str

    @property
    def environment(self) -> Mapping[str, str]:
        """What makes S3 clients talk to it and to nothing else."""
        return {
            "AWS_ENDPOINT_URL": self.address,
            "AWS_ACCESS_KEY_ID": "nobody",
            "AWS_SECRET_ACCESS_KEY": "nothing",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "NO_PROXY": "127.0.0.1",
        }

    def make_bucket(self) -> None:
        import boto3

        keys = {"aws_access_key_id": "nobody", "aws_secret_access_key": "nothing", "region_name": "us-east-1"}
        boto3.client("s3", endpoint_url=self.address, **keys).create_bucket(Bucket=BUCKET)

    def url(self, name: str) -> str:
        """s3://BUCKET/NAME."""
        return f"s3://{BUCKET}/{name}"

    def download(self, name: str, folder: Path) -> None:
        """Every object below NAME as a file in `folder`."""
        import boto3

        client = boto3.client("s3", endpoint_url=self.address)
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"{name}/"):
            for entry in page.get("Contents", ()):
                target = folder / entry["Key"].removeprefix(f"{name}/")
                target.parent.mkdir(parents=True, exist_ok=True)
                client.download_file(BUCKET, entry["Key"], str(target))


@contextmanager
def serving() -> Iterator[ObjectStore]:
    """Start the server, and end it with the block."""
    command = [sys.executable, __file__]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin
        assert process.stdout
        port = process.stdout.readline().strip()
        assert port, f"the server ended with status {process.wait()}; what it said stands above"
        try:
            store = ObjectStore(f"http://127.0.0.1:{port}")
            store.make_bucket()
            yield store
        finally:
            process.stdin.close()


def _serve() -> None:
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    WSGIRequestHandler.protocol_version = "HTTP/1.1"  # clients keep a connection open
    served = _one_at_a_time(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, served, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_port, flush=True)
    sys.stdin.read()  # until the process that started this one closes it or ends
    os._exit(0)


def _one_at_a_time(application: Callable[..., Iterable[bytes]]) -> Callable[..., Iterable[bytes]]:
    lock = threading.Lock()

    def served(environment: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        with lock:
            return list(application(environment, start))

    return served


if __name__ == "__main__":
    _serve()
