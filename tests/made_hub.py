"""A local hub with as much of Hugging Face's protocol as its client needs to push a repository and to get it back.

Repositories are commits, and a commit is bytes by name. Large files go by Git LFS to a store at another port, as hubs
have them at another host, in one piece or, from `part` bytes on, in several. A path may have faults: functions that
answer requests in its place, in order, one each, or for ever. Every request is kept in `asked` with its headers.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "hf_thisIsNoToken"
LARGE = (".safetensors", ".parquet", ".model")  # what the hub's .gitattributes give to LFS
GIT = {".gitattributes": b"*.safetensors filter=lfs\n"}
PAGE = 3  # files in one page of a listing

Fault = Callable[["Request"], None]


@dataclass
class Repository:
    private: bool
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    head: str = ""

    @property
    def files(self) -> dict[str, bytes]:
        return self.commits[self.head]

    def commit(self, files: Mapping[str, bytes]) -> str:
        named = json.dumps([self.head, *((name, sha256(data)) for name, data in sorted(files.items()))])
        self.head = hashlib.sha1(named.encode()).hexdigest()
        self.commits[self.head] = dict(files)
        return self.head


@dataclass
class MadeHub:
    address: str = ""
    store: str = ""
    part: int = 1 << 30
    owner: str = "me"
    repositories: dict[str, Repository] = field(default_factory=dict)
    stored: dict[str, bytes] = field(default_factory=dict)
    pieces: dict[str, dict[int, bytes]] = field(default_factory=dict)
    faults: dict[str, deque[Fault]] = field(default_factory=dict)
    always: dict[str, Fault] = field(default_factory=dict)
    asked: list[tuple[str, str, Mapping[str, str]]] = field(default_factory=list)
    ignored: tuple[str, ...] = ()
    deaf: bool = False
    """Whether repositories are made public, whatever is asked."""

    def repository(self, name: str, *, private: bool = True, files: Mapping[str, bytes] | None = None) -> Repository:
        """One that is there; name: models/OWNER/NAME or datasets/OWNER/NAME."""
        made = Repository(private)
        made.commit({**GIT, **(files or {})})
        self.repositories[name] = made
        return made

    def count(self, pattern: str) -> int:
        return sum(bool(re.search(pattern, f"{method} {path}")) for method, path, _ in self.asked)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def git_name(data: bytes) -> str:
    return hashlib.sha1(f"blob {len(data)}\0".encode() + data).hexdigest()


def status(number: int, message: str = "", code: str = "", headers: Mapping[str, str] | None = None) -> Fault:
    """An answer that refuses."""

    def fault(request: Request) -> None:
        line = "".join(c for c in message if c.isprintable())
        told = {**({"X-Error-Code": code} if code else {}), **({"X-Error-Message": line} if line else {})}
        request.json({"error": message}, number, {**told, **(headers or {})})

    return fault


def away(to: str) -> Fault:
    """An answer that sends on to another address."""
    return lambda request: request.send(b"", 307, {"Location": to})


def cut(request: Request) -> None:
    """A connection that ends in the middle."""
    request.connection.close()
    request.close_connection = True


class Request(BaseHTTPRequestHandler):
    server: Any
    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16  # an answer in one piece, or its end waits for the other side's word
    disable_nagle_algorithm = True

    def log_message(self, format: str, *arguments: object) -> None:
        pass

    def send(self, data: bytes, number: int = 200, headers: Mapping[str, str] | None = None) -> None:
        told = dict(headers or {})
        self.send_response(number)
        for name, value in {"Content-Length": str(len(data)), **told}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def json(self, value: object, number: int = 200, headers: Mapping[str, str] | None = None) -> None:
        self.send(json.dumps(value).encode(), number, {"Content-Type": "application/json", **(headers or {})})

    def handle_any(self) -> None:
        made: MadeHub = self.server.made
        path = urlsplit(self.path).path
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        where = "store" if self.server.is_store else "hub"
        made.asked.append((self.command, f"{where}{self.path}", {k.lower(): v for k, v in self.headers.items()}))
        for pattern, faults in made.faults.items():
            if faults and re.search(pattern, f"{self.command} {where}{self.path}"):
                return faults.popleft()(self)
        for pattern, fault in made.always.items():
            if re.search(pattern, f"{self.command} {where}{self.path}"):
                return fault(self)
        if self.server.is_store:
            return self.keep(made, path)
        signed = path.startswith("/complete/")  # by its address, as the store's are
        if self.headers.get("Authorization") != f"Bearer {TOKEN}" and not signed:
            return status(401, "Invalid credentials in Authorization header")(self)
        for pattern, answer in ROUTES:
            if found := re.fullmatch(pattern, path):
                return answer(self, made, **{name: unquote(part) for name, part in found.groupdict().items() if part})
        return self.json({"error": "no such route"}, 404)

    do_GET = do_HEAD = do_POST = do_PUT = handle_any

    def keep(self, made: MadeHub, path: str) -> None:
        """The store: pieces under DIGEST/NUMBER, whole files under DIGEST. It is no hub and wants no token."""
        digest, _, number = path.removeprefix("/").partition("/")
        if self.command == "GET":
            return self.send(made.stored[digest])
        if number:
            made.pieces.setdefault(digest, {})[int(number)] = self.body
        elif sha256(self.body) != digest:
            return self.json({"error": "other bytes than were announced"}, 400)
        else:
            made.stored[digest] = self.body
        return self.send(b"", 200, {"ETag": f'"{sha256(self.body)[:16]}"'})


def _whoami(request: Request, made: MadeHub) -> None:
    request.json({"type": "user", "name": made.owner, "orgs": []})


def _create(request: Request, made: MadeHub) -> None:
    asked = json.loads(request.body)
    name = f"{asked.get('type', 'model')}s/{asked['organization']}/{asked['name']}"
    if asked["organization"] != made.owner:
        return status(403, "You don't have the rights to create a repository there")(request)
    if name in made.repositories:
        return request.json({"error": "You already created this repo"}, 409)
    private = asked.get("visibility") == "private" or bool(asked.get("private"))  # by the client's version
    made.repository(name, private=private and not made.deaf)
    return request.json({"url": f"{made.address}/{name.removeprefix('models/')}"})


def _info(request: Request, made: MadeHub, name: str, revision: str = "") -> None:
    found = made.repositories.get(name)
    if found is None:
        return status(404, "Repository not found", "RepoNotFound")(request)
    siblings = [{"rfilename": each} for each in sorted(found.files)]
    told = {"id": name.partition("/")[2], "sha": found.head, "private": found.private, "siblings": siblings}
    return request.json({**told, "tags": [], "downloads": 0, "likes": 0})


def _tree(request: Request, made: MadeHub, name: str, revision: str) -> None:
    found = made.repositories[name]
    files = sorted(found.commits.get(revision, found.files).items())
    query = urlsplit(request.path).query
    start = int(match[1]) if (match := re.search(r"cursor=(\d+)", query)) else 0
    told: list[dict[str, Any]] = (
        [{"type": "directory", "path": "data", "oid": "0" * 40, "size": 0}] if not start else []
    )
    for path, data in files[start : start + PAGE]:
        large = path.endswith(LARGE)
        lfs = {"lfs": {"oid": sha256(data), "size": len(data), "pointerSize": 134}} if large else {}
        told.append({"type": "file", "path": path, "size": len(data), "oid": git_name(data), **lfs})
    more = f"{made.address}/api/{name}/tree/{revision}?recursive=true&cursor={start + PAGE}"
    request.json(told, headers={"Link": f'<{more}>; rel="next"'} if start + PAGE < len(files) else {})


def _validate(request: Request, made: MadeHub) -> None:
    sound = json.loads(request.body)["content"].startswith("---\n")
    request.json({"errors": [] if sound else [{"message": "no header"}], "warnings": []}, 200 if sound else 400)


def _preupload(request: Request, made: MadeHub, name: str, revision: str) -> None:
    if name not in made.repositories:
        return status(404, "Repository not found", "RepoNotFound")(request)
    told = []
    for file in json.loads(request.body)["files"]:
        mode = "lfs" if file["path"].endswith(LARGE) else "regular"
        told.append({"path": file["path"], "uploadMode": mode, "shouldIgnore": file["path"] in made.ignored})
    return request.json({"files": told})


def _batch(request: Request, made: MadeHub, name: str) -> None:
    told = []
    for one in json.loads(request.body)["objects"]:
        digest, size = one["oid"], one["size"]
        upload: dict[str, Any] = {"href": f"{made.store}/{digest}"}
        if size > made.part:
            pieces = range(1, -(-size // made.part) + 1)
            header = {str(number): f"{made.store}/{digest}/{number}" for number in pieces}
            upload = {"href": f"{made.address}/complete/{digest}", "header": {"chunk_size": str(made.part), **header}}
        actions = {"upload": upload, "verify": {"href": f"{made.address}/verify/{name}"}}
        told.append({"oid": digest, "size": size, **({} if digest in made.stored else {"actions": actions})})
    request.json({"transfer": "basic", "objects": told})


def _complete(request: Request, made: MadeHub, digest: str) -> None:
    whole = b"".join(data for _, data in sorted(made.pieces.pop(digest).items()))
    if sha256(whole) != digest:
        return request.json({"error": "other bytes than were announced"}, 400)
    made.stored[digest] = whole
    return request.json({})


def _verify(request: Request, made: MadeHub, name: str) -> None:
    asked = json.loads(request.body)
    sound = len(made.stored.get(asked["oid"], b"")) == asked["size"]
    request.json({}, 200 if sound else 404)


def _commit(request: Request, made: MadeHub, name: str, revision: str) -> None:
    found, files = made.repositories[name], dict(made.repositories[name].files)
    for line in request.body.splitlines():
        one = json.loads(line)
        key, value = one["key"], one["value"]
        if key == "header" and value.get("parentCommit", found.head) != found.head:
            return status(412, "A commit has happened since. Please refresh and try again.")(request)
        if key == "file":
            files[value["path"]] = base64.b64decode(value["content"])
        elif key == "lfsFile":
            if value["oid"] not in made.stored:
                return request.json({"error": "the LFS object was never uploaded"}, 400)
            files[value["path"]] = made.stored[value["oid"]]
        elif key == "deletedFile":
            del files[value["path"]]
    oid = found.commit(files)
    url = f"{made.address}/{name.removeprefix('models/')}/commit/{oid}"
    return request.json({"commitUrl": url, "commitOid": oid, "success": True})


def _resolve(request: Request, made: MadeHub, revision: str, file: str, name: str, kind: str = "") -> None:
    found = made.repositories[f"{kind or 'models/'}{name}"]
    data = found.commits.get(revision, found.files).get(file)
    if data is None:
        return status(404, "Entry not found", "EntryNotFound")(request)
    headers = {"X-Repo-Commit": found.head, "ETag": f'"{git_name(data)}"'}
    if not file.endswith(LARGE):
        return request.send(data, 200, headers)
    large = {"X-Linked-Etag": f'"{sha256(data)}"', "X-Linked-Size": str(len(data))}
    return request.send(b"", 302, {**headers, **large, "Location": f"{made.store}/{sha256(data)}"})


_REPOSITORY = r"(?P<name>(?:models|datasets)/[^/]+/[^/]+)"
ROUTES: list[tuple[str, Callable[..., None]]] = [
    (r"/api/whoami-v2", _whoami),
    (r"/api/repos/create", _create),
    (r"/api/validate-yaml", _validate),
    (rf"/api/{_REPOSITORY}(?:/revision/(?P<revision>[^/]+))?", _info),
    (rf"/api/{_REPOSITORY}/tree/(?P<revision>[^/]+)/?", _tree),
    (rf"/api/{_REPOSITORY}/preupload/(?P<revision>[^/]+)", _preupload),
    (rf"/api/{_REPOSITORY}/commit/(?P<revision>[^/]+)", _commit),
    (r"/(?P<name>.+)\.git/info/lfs/objects/batch", _batch),
    (r"/complete/(?P<digest>.+)", _complete),
    (r"/verify/(?P<name>.+)", _verify),
    (r"/(?P<kind>datasets/)?(?P<name>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<file>.+)", _resolve),
]


@contextmanager
def made_hub() -> Iterator[MadeHub]:
    """A hub at 127.0.0.1, and its store at another port of localhost."""
    made = MadeHub()
    servers = []
    for is_store in (False, True):
        server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Request)
        server.made, server.is_store, server.daemon_threads = made, is_store, True
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        servers.append(server)
    made.address, made.store = (
        f"http://127.0.0.1:{servers[0].server_port}",
        f"http://localhost:{servers[1].server_port}",
    )
    try:
        yield made
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()
