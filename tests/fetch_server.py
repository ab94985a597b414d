"""A local web server with the paths of the seven places, that also does what servers and networks do wrong.

Files are bytes by path. A path may have faults: functions that answer one request each, in order; behind the last one
the file is served as it should be, by ranges and with an ETag. Every request is kept in `asked`.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import ssl
import tarfile
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


@dataclass
class Server:
    """What is served, what goes wrong, and what was asked for."""

    address: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    faults: dict[str, deque[Fault]] = field(default_factory=lambda: defaultdict(deque))
    asked: list[tuple[str, Mapping[str, str]]] = field(default_factory=list)
    most: int = 0
    """Requests that were answered at the same time, at most."""
    now: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, path: str) -> int:
        return sum(path == asked for asked, _ in self.asked)

    def ranges(self, path: str) -> list[str]:
        """What each request for a path said of ranges."""
        return [headers.get("range", "") for asked, headers in self.asked if asked == path]


class Request(BaseHTTPRequestHandler):
    server: Any
    protocol_version = "HTTP/1.1"
    told = False

    def do_GET(self) -> None:
        served: Server = self.server.served
        self.told = False
        with served.lock:
            served.asked.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
            served.now += 1
            served.most = max(served.most, served.now)
            fault = served.faults[self.path].popleft() if served.faults[self.path] else None
            data = served.files.get(self.path)
        try:
            if fault is not None:
                fault(self, data or b"")
            elif data is None:
                self.answer(404)
            else:
                self.file(data)
        finally:
            self.answered()

    def answered(self) -> None:
        """Said before the last byte goes, since whoever has it may ask again before this thread goes on."""
        with self.server.served.lock:
            self.server.served.now -= not self.told
            self.told = True

    def file(self, data: bytes, headers: Mapping[str, str] | None = None, *, tag: str | None = None) -> None:
        """The file as it should be served: whole, or the range that was asked for."""
        tag = f'"{hashlib.md5(data).hexdigest()}"' if tag is None else tag
        more = {"ETag": tag, "Accept-Ranges": "bytes", **(headers or {})}
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if asked is None or self.headers.get("If-Range", tag) != tag:
            self.answer(200, data, more)
            return
        first, last = int(asked[1]), min(int(asked[2] or len(data)), len(data) - 1)
        if first >= len(data):
            self.answer(416, b"", {"Content-Range": f"bytes */{len(data)}"})
            return
        more["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
        self.answer(206, data[first : last + 1], more)

    def answer(self, status: int, data: bytes = b"", headers: Mapping[str, str] | None = None) -> None:
        if not data:
            self.answered()
        self.head(status, {"Content-Length": str(len(data)), **(headers or {})})
        self.wfile.write(data[:-1])
        self.answered()
        self.wfile.write(data[-1:])

    def head(self, status: int, headers: Mapping[str, str]) -> None:
        self.send_response_only(status)
        for name, value in {"Date": formatdate(1_000_000_000, usegmt=True), "Connection": "close", **headers}.items():
            self.send_header(name, value)
        self.close_connection = True
        self.end_headers()

    def chunk(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing: what is asked is the tests' own matter."""


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing: whoever asks may go away in the middle."""


def certificate(folder: Path) -> Path:
    """A certificate for 127.0.0.1 that vouches for itself, with its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
    made = made.not_valid_before(datetime(2020, 1, 1)).not_valid_after(datetime(2120, 1, 1))
    own = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = folder / "own.pem"
    path.write_bytes(own + made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    return path


Fault = Callable[[Request, bytes], None]


@contextmanager
def serving(tls: ssl.SSLContext | None = None) -> Iterator[Server]:
    server = _Quiet(("127.0.0.1", 0), Request)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    served = Server(f"http{'s' if tls else ''}://127.0.0.1:{server.server_port}")
    server.served = served  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def busy(status: int, after: str = "") -> Fault:
    return lambda request, data: request.answer(status, b"later", {"Retry-After": after} if after else {})


def refuses(status: int) -> Fault:
    return lambda request, data: request.answer(status)


def redirects(to: str, status: int = 302) -> Fault:
    return lambda request, data: request.answer(status, b"", {"Location": to})


def drops(count: int) -> Fault:
    """Ends the connection behind so many bytes of what was asked for."""

    def fault(request: Request, data: bytes) -> None:
        whole = io.BytesIO()
        real, request.wfile = request.wfile, whole
        request.file(data)
        request.wfile = real
        head, _, body = whole.getvalue().partition(b"\r\n\r\n")
        request.wfile.write(head + b"\r\n\r\n" + body[:count])
        request.wfile.flush()

    return fault


def ignores_ranges(request: Request, data: bytes) -> None:
    request.answer(200, data, {"ETag": '"same"'})


def misstates_the_range(request: Request, data: bytes) -> None:
    request.answer(
        206, data[:5], {"Content-Range": f"bytes 0-4/{len(data)}", "ETag": f'"{hashlib.md5(data).hexdigest()}"'}
    )


def ignores_if_range(tag: str) -> Fault:
    """Sends the range that was asked for, of what is now another file."""

    def fault(request: Request, data: bytes) -> None:
        del request.headers["If-Range"]
        request.file(data, tag=tag)

    return fault


def without_length(request: Request, data: bytes) -> None:
    request.head(200, {"Transfer-Encoding": "chunked"})
    for at in range(0, len(data), 1000):
        request.chunk(data[at : at + 1000])
    request.chunk(b"")


def cuts_chunks(request: Request, data: bytes) -> None:
    request.head(200, {"Transfer-Encoding": "chunked"})
    request.chunk(data[: len(data) // 2])


def without_end(request: Request, data: bytes) -> None:
    """Neither a length nor chunks: the connection's end is the file's."""
    request.head(200, {})
    request.wfile.write(data)


def slowly(event: threading.Event) -> Fault:
    """Sends half, and the rest when the event is set."""

    def fault(request: Request, data: bytes) -> None:
        request.head(200, {"Content-Length": str(len(data)), "ETag": f'"{hashlib.md5(data).hexdigest()}"'})
        request.wfile.write(data[: len(data) // 2])
        request.wfile.flush()
        event.wait(20)
        request.wfile.write(data[len(data) // 2 :])

    return fault


def names_its_packing(request: Request, data: bytes) -> None:
    """A .gz file as it is, under `Content-Encoding: gzip`."""
    request.answer(200, data, {"Content-Encoding": "gzip"})


def packs(request: Request, data: bytes) -> None:
    """Any file packed once more, though nobody asked for that."""
    request.answer(200, gzip.compress(data), {"Content-Encoding": "gzip"})


def packs_unknown(request: Request, data: bytes) -> None:
    request.answer(200, data, {"Content-Encoding": "br"})


SNAPSHOT = "CC-MAIN-2019-09"
SEGMENTS = ("1550247479101.30", "1550247479627.17")


def warc(pages: int, seed: int = 0) -> bytes:
    """A WARC: one gzip member a record."""
    records = (
        f"WARC/1.0\r\nWARC-Type: response\r\nX: {seed}-{page}\r\n\r\n{'text ' * 50}\r\n\r\n" for page in range(pages)
    )
    return b"".join(gzip.compress(record.encode(), mtime=0) for record in records)


def tar(papers: int) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        for paper in range(papers):
            data = gzip.compress(f"\\section{{{paper}}}".encode() * 100, mtime=0)
            info = tarfile.TarInfo(f"2001/2001.{paper:05}.gz")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return target.getvalue()


def fill(server: Server) -> None:
    """Every place's catalogue and some files."""
    files = server.files
    paths = [
        f"crawl-data/{SNAPSHOT}/segments/{segment}/warc/CC-MAIN-20190215183319-20190215205319-{number:05}.warc.gz"
        for first, segment in enumerate(SEGMENTS)
        for number in (10 * first, 10 * first + 1)
    ]
    files[f"/crawl-data/{SNAPSHOT}/warc.paths.gz"] = gzip.compress("".join(f"{path}\n" for path in paths).encode())
    files |= {f"/{path}": warc(30, seed) for seed, path in enumerate(paths)}

    rows = gzip.compress(b'{"text":"A page.","url":"u","timestamp":"t"}\n' * 300)
    name = "en/c4-validation.00003-of-00008.json.gz"
    files[f"/datasets/allenai/c4/resolve/main/{name}"] = rows
    oid = f"oid sha256:{hashlib.sha256(rows).hexdigest()}\nsize {len(rows)}\n"
    files[f"/datasets/allenai/c4/raw/main/{name}"] = f"version https://git-lfs.github.com/spec/v1\n{oid}".encode()

    files["/pytest-dev/pluggy/tar.gz/1.5.0"] = gzip.compress(b"pluggy " * 500)

    dump, about = b"BZh9 simple " * 300, {}
    for number, part in enumerate(("p1p5", "p6p10", "p11p20"), start=1):
        wiki = f"simplewiki-20261101-pages-articles-multistream{number}.xml-{part}.bz2"
        data = dump + part.encode()
        files[f"/simplewiki/20261101/{wiki}"] = data
        about[wiki] = {"size": len(data), "sha1": hashlib.sha1(data).hexdigest(), "md5": "0" * 32, "url": "/elsewhere"}
    about["simplewiki-20261101-pages-articles-multistream-index1.txt-p1p5.bz2"] = {"size": 9, "sha1": "0" * 40}
    status = {"jobs": {"articlesmultistreamdump": {"status": "done", "files": about}}}
    files["/simplewiki/20261101/dumpstatus.json"] = json.dumps(status).encode()
    sums = "".join(f"{told['sha1']}  {wiki}\n" for wiki, told in about.items())
    files["/simplewiki/latest/simplewiki-latest-sha1sums.txt"] = sums.encode()

    head = "Text#,Type,Issued,Title,Language,Authors,Subjects,LoCC,Bookshelves\n"
    books = ("1,Text,1971,A,en,,,,", "2,Sound,1971,B,en,,,,", "3,Text,1971,C,de,,,,", "5,Text,1971,E,en; fr,,,,")
    files["/cache/epub/feeds/pg_catalog.csv"] = (head + "\n".join(books) + "\n7,Text,1971,Lost,en,,,,\n").encode()
    files |= {f"/cache/epub/{book}/pg{book}.txt": f"Book {book}\n".encode() * 200 for book in (1, 3, 5)}

    papers = tar(40)
    files["/arxiv/src/arXiv_src_2001_001.tar"] = papers
    entry = "<file><filename>src/arXiv_src_2001_{:03}.tar</filename><md5sum>{}</md5sum><size>{}</size></file>"
    entries = entry.format(1, hashlib.md5(papers).hexdigest(), len(papers)) + entry.format(2, "0" * 32, 9)
    files["/arxiv/src/arXiv_src_manifest.xml"] = f"<arXivSRC>{entries}</arXivSRC>".encode()

    site = b"7z\xbc\xaf" + b"posts " * 400
    files["/download/stackexchange/ai.stackexchange.com.7z"] = site
    sums = f"<size>{len(site)}</size><md5>{'0' * 32}</md5><sha1>{hashlib.sha1(site).hexdigest()}</sha1>"
    archive = f'<file name="ai.stackexchange.com.7z" source="original">{sums}</file>'
    files["/download/stackexchange/stackexchange_files.xml"] = f"<files>{archive}</files>".encode()


def tables(address: str, to: object) -> str:
    """The [fetch] tables of a recipe that asks this server for something of each place."""
    return f"""
[fetch]
to = "{to}"

[fetch.commoncrawl]
base = "{address}"
snapshots = ["{SNAPSHOT}"]
files = 2

[fetch.c4]
base = "{address}/datasets/allenai/c4"
split = "validation"
numbers = [3]

[fetch.github]
base = "{address}"
repositories = ["pytest-dev/pluggy@1.5.0"]

[fetch.wikipedia]
base = "{address}"
languages = ["simple"]
files = 2

[fetch.books]
base = "{address}"
catalogue = "{address}/cache/epub/feeds/pg_catalog.csv"
pause = 0

[fetch.arxiv]
base = "{address}/arxiv"
months = ["2001"]
files = 1

[fetch.stackexchange]
base = "{address}/download/stackexchange"
sites = ["ai.stackexchange.com"]
"""
