"""A local object store that speaks the S3 protocol over HTTP: moto's server, in a process of its own.

Its own process, since tests fork, and a fork must not carry a server's threads. It keeps nothing on the disk and ends
with the process that started it. One request is served at a time, so that a conditional put is as atomic as the
protocol promises.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

BUCKET = "bucket"


@dataclass(frozen=True)
class ObjectStore:
    """A running server with one bucket. Its methods ask it as any client does, over HTTP, but not by way of Puna."""

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
            "SSL_CERT_FILE": os.devnull,  # loading the system's certificates takes as long as a hundred requests
            "SSL_CERT_DIR": os.devnull,
        }

    def url(self, name: str) -> str:
        """s3://BUCKET/NAME."""
        return f"s3://{BUCKET}/{name}"

    def listing(self, name: str) -> dict[str, str]:
        """The MD5 of every object below NAME, by its key from there."""
        found: dict[str, str] = {}
        for page in _client(self.address).get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"{name}/"):
            for entry in page.get("Contents", ()):
                found[entry["Key"].removeprefix(f"{name}/")] = entry["ETag"].strip('"')
        return found

    def read(self, name: str) -> bytes:
        return bytes(_client(self.address).get_object(Bucket=BUCKET, Key=name)["Body"].read())

    def remove(self, name: str) -> None:
        """Remove every object below NAME."""
        keys = [{"Key": f"{name}/{key}"} for key in self.listing(name)]
        for first in range(0, len(keys), 1000):
            _client(self.address).delete_objects(Bucket=BUCKET, Delete={"Objects": keys[first : first + 1000]})

    def unfinished(self, name: str) -> list[str]:
        """The keys below NAME of which an upload was begun and neither completed nor given up."""
        told = _client(self.address).list_multipart_uploads(Bucket=BUCKET, Prefix=f"{name}/")
        return [each["Key"].removeprefix(f"{name}/") for each in told.get("Uploads", ())]

    def copy(self, source: str, target: str) -> None:
        """Copy every object below `source` to below `target`."""
        for key in self.listing(source):
            of = {"Bucket": BUCKET, "Key": f"{source}/{key}"}
            _client(self.address).copy_object(Bucket=BUCKET, Key=f"{target}/{key}", CopySource=of)


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
            yield ObjectStore(f"http://127.0.0.1:{port}")
        finally:
            process.stdin.close()
            if "s3fs" in sys.modules:  # what it keeps of this server would be asked in the place of the next one
                sys.modules["s3fs"].S3FileSystem.clear_instance_cache()


@cache
def _client(address: str) -> Any:
    import boto3

    keys = {"aws_access_key_id": "nobody", "aws_secret_access_key": "nothing", "region_name": "us-east-1"}
    return boto3.client("s3", endpoint_url=address, **keys)


def _serve() -> None:
    from moto.moto_server.werkzeug_app import create_backend_app

    # The application for S3 alone: moto takes longer to find out what a request is for than to answer it.
    _Request.application = create_backend_app("s3")
    made = _Request.application.test_client().put(f"/{BUCKET}")
    assert made.status_code == 200, made.text
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Request)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_port, flush=True)
    sys.stdin.read()  # until the process that started this one closes it or ends
    os._exit(0)


class _Request(BaseHTTPRequestHandler):
    """The requests of one connection, which stays open; moto's own server closes it after each."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    application: ClassVar[Any]
    one_at_a_time: ClassVar[threading.Lock] = threading.Lock()

    def do_GET(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        data = self.rfile.read(length)
        with self.one_at_a_time:
            answer = self.application.test_client().open(
                self.path,
                method=self.command,
                headers=list(self.headers.items()),
                data=data,
                base_url=f"http://{self.headers['Host']}",
            )
        body = answer.data
        told = answer.headers.get("Content-Length", "0") if self.command == "HEAD" else str(len(body))
        self.send_response_only(answer.status_code)
        for name, value in answer.headers.items():
            if name.lower() not in ("content-length", "connection"):
                self.send_header(name, value)
        self.send_header("Content-Length", told)
        self.end_headers()
        self.wfile.write(body)

    do_HEAD = do_PUT = do_POST = do_DELETE = do_GET

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing: what is asked is the tests' own matter."""


if __name__ == "__main__":
    _serve()
