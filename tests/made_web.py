"""WARC files made of pages that tests write."""

from __future__ import annotations

import gzip
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from puna.data.document import Document
from puna.data.sources import Aside, Dropped, SetAside, locate, read, split
from puna.recipe import C4, CommonCrawl

PROSE = "The river flows through many towns of the wide valley before it meets the sea, and so do its boats. "
RECIPES = {"commoncrawl": CommonCrawl, "c4": C4}


def html(number: int = 0, body: str = PROSE * 4) -> str:
    return (
        f"<html><head><title>Chapter {number} | Site</title></head><body><nav><a href='/'>Home</a></nav>"
        f"<h1>Chapter {number}</h1><p>{number} {body}</p><footer>Imprint</footer></body></html>"
    )


def http(
    body: bytes | str, headers: Sequence[str] = ("Content-Type: text/html; charset=utf-8",), status: str = "200 OK"
) -> bytes:
    data = body.encode() if isinstance(body, str) else body
    return "\r\n".join([f"HTTP/1.1 {status}", *headers, "", ""]).encode() + data


def record(number: int, block: bytes, *, wrong: int = 0, kind: str = "response", **more: str) -> bytes:
    """`wrong`: bytes by which Content-Length is wrong; `more`: further headers, with _ for -."""
    headers = {
        "WARC-Type": kind,
        "WARC-Record-ID": f"<urn:uuid:{number:04d}>",
        "WARC-Target-URI": f"https://www.site{number}.org/page",
        "WARC-Date": "2020-01-02T03:04:05Z",
        "Content-Length": str(len(block) + wrong),
    }
    headers |= {name.replace("_", "-"): value for name, value in more.items()}
    lines = [f"{name}: {value}" for name, value in headers.items() if value]
    return "\r\n".join(["WARC/1.0", *lines, "", ""]).encode() + block + b"\r\n\r\n"


def page(number: int, body: bytes | str | None = None, **more: Any) -> bytes:
    return record(number, http(html(number) if body is None else body), **more)


def zipped(*records: bytes) -> bytes:
    """A gzip member for each record."""
    return b"".join(gzip.compress(one, 6, mtime=0) for one in records)


def write(folder: Path, name: str, data: bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)
    return folder / name


def records(
    *files: Path | str, source: str = "commoncrawl", task_size: int = 1 << 30, **values: object
) -> list[Document | Dropped | SetAside | Aside]:
    recipe = RECIPES[source].model_validate({"inputs": [str(file) for file in files], "share": 1, **values})
    inputs = locate(source, recipe)
    return [record for task in split(source, inputs, recipe, task_size) for record in read(task, inputs, recipe)]


def kept(found: Sequence[object]) -> list[Document]:
    return [one for one in found if isinstance(one, Document)]


def aside(found: Sequence[object]) -> list[SetAside]:
    return [one for one in found if isinstance(one, SetAside)]


def rules(found: Sequence[object]) -> Mapping[str, int]:
    counts: dict[str, int] = {}
    for one in found:
        if isinstance(one, Dropped):
            counts[one.rule] = counts.get(one.rule, 0) + 1
    return counts
