"""Dumps of Stack Exchange made for tests: rows, files of posts, and 7z archives that may lie about themselves."""

from __future__ import annotations

import lzma
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from xml.sax.saxutils import quoteattr

from puna.data.document import Document
from puna.data.sources import Aside, Dropped, SetAside, locate, read, split
from puna.recipe import StackExchange

BEGIN, END = '\ufeff<?xml version="1.0" encoding="utf-8"?>\r\n<posts>\r\n', "</posts>"
LZMA2, LINK = b"\x21", 0xA1FF << 16 | 0x8000


def row(number: int | str, kind: int = 1, parent: int | None = None, **values: object) -> str:
    """A row in the publisher's form; a question unless it has a parent."""
    named: dict[str, object] = {"Id": number, "PostTypeId": 2 if parent is not None else kind}
    named |= {"ParentId": parent} if parent is not None else {}
    named |= {"CreationDate": "2019-01-02T03:04:05.678", "Score": 0, "Body": f"<p>Body of {number}.</p>"} | values
    if named["PostTypeId"] == 1:
        named.setdefault("Title", f"Title of {number}")
    entities = {'"': "&quot;", "\n": "&#xA;", "\r": "&#xD;"}
    written = (
        f'{name}="{quoteattr(str(value), entities)[1:-1]}"' for name, value in named.items() if value is not None
    )
    return f"  <row {' '.join(written)} />\r\n"


def dump(*rows: str) -> bytes:
    return (BEGIN + "".join(rows) + END).encode()


def seven(
    files: Sequence[tuple[str, bytes]],
    *,
    method: bytes = LZMA2,
    settings: bytes = b"\x10",
    attributes: int = 0x20,
    crc: int | None = None,
    size: int | None = None,
    packed: bytes | None = None,
) -> bytes:
    """A 7z archive of one folder; what is given wins over what is true."""
    whole = b"".join(data for _, data in files)
    stored = packed
    if stored is None:
        filters = [{"id": lzma.FILTER_LZMA2, "preset": 1, "dict_size": 1 << 20}]
        stored = lzma.compress(whole, lzma.FORMAT_RAW, filters=filters) if method == LZMA2 else whole
    names = "".join(f"{name}\0" for name, _ in files).encode("utf-16-le")
    crcs = b"".join(struct.pack("<I", zlib.crc32(data) if crc is None else crc) for _, data in files)
    header = b"\x01\x04\x06" + _number(0) + _number(1) + b"\x09" + _number(len(stored)) + b"\0"
    header += b"\x07\x0b" + _number(1) + b"\0" + b"\x01" + bytes([len(method) | 0x20]) + method
    header += _number(len(settings)) + settings + b"\x0c" + _number(len(whole) if size is None else size) + b"\0"
    header += b"\x08\x0d" + _number(len(files))
    header += b"\x09" + b"".join(_number(len(data)) for _, data in files[:-1])
    header += b"\x0a\x01" + crcs + b"\0\0"
    header += b"\x05" + _number(len(files)) + b"\x11" + _number(len(names) + 1) + b"\0" + names
    header += b"\x15" + _number(2 + 4 * len(files)) + b"\x01\0" + struct.pack("<I", attributes) * len(files) + b"\0\0"
    return sealed(stored, header)


def sealed(stored: bytes, header: bytes) -> bytes:
    """An archive of packed data and a header."""
    start = struct.pack("<QQI", len(stored), len(header), zlib.crc32(header))
    return b"7z\xbc\xaf\x27\x1c\0\x04" + struct.pack("<I", zlib.crc32(start)) + start + stored + header


def site(folder: Path, name: str, *rows: str) -> Path:
    return file(folder, name, seven([("Posts.xml", dump(*rows))]))


def file(folder: Path, name: str, data: bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)
    return folder / name


def everything(
    *files: Path | str, task_size: int = 1 << 30, **values: object
) -> list[Document | Dropped | SetAside | Aside]:
    recipe = StackExchange.model_validate({"inputs": [str(file) for file in files], "share": 1, **values})
    inputs = locate("stackexchange", recipe)
    tasks = split("stackexchange", inputs, recipe, task_size)
    return [record for task in tasks for record in read(task, inputs, recipe)]


def records(*files: Path | str, **values: object) -> list[Document | Dropped | SetAside]:
    return [record for record in everything(*files, **values) if not isinstance(record, Aside)]  # type: ignore[arg-type]


def documents(*files: Path | str, **values: object) -> list[Document]:
    return [record for record in records(*files, **values) if isinstance(record, Document)]


def _number(value: int) -> bytes:
    return b"\xff" + value.to_bytes(8, "little")
