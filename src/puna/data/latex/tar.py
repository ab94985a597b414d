"""The headers of a tar, one after another, each told or told as damage.

Python's tarfile takes a damaged header in the middle for the end of the archive, and loses the rest without a word; it
also keeps every member in memory. This reader goes forward only, so it works on a file and on a stream that is being
decompressed; it holds one header, and behind damage it goes on at the next block that is one. Nothing is ever extracted
to a disk, so no path, link or device can do harm: what is no plain file is told by its kind.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

BLOCK = 512
ZEROS = bytes(BLOCK)
MAX_NAME = 1 << 16  # bytes of an extended header (long name, pax); longer ones are damage
KINDS = {b"0": "file", b"\0": "file", b"7": "file", b"1": "link", b"2": "link", b"3": "device", b"4": "device"}
KINDS |= {b"5": "folder", b"6": "fifo", b"S": "sparse", b"x": "pax", b"X": "pax", b"g": "global", b"L": "long"}
KINDS |= {b"K": "long link"}
EXTENSIONS = ("pax", "global", "long", "long link")
PAX = re.compile(rb"(\d{1,6}) ([^=]+)=")
WITHOUT_DATA = ("link", "device", "folder", "fifo")


class Readable(Protocol):
    """What can be read forward: a file, or a stream that is decompressed on the way."""

    def read(self, size: int, /) -> bytes: ...

    def seek(self, offset: int, /) -> int: ...


@dataclass(frozen=True, slots=True)
class Member:
    offset: int
    """Of its header, or of the first of its extended headers."""
    start: int
    """Of its bytes."""
    size: int
    name: str
    kind: str
    """`file`, `folder`, `link`, `device`, `fifo`, `sparse` or `unknown`."""


@dataclass(frozen=True, slots=True)
class Damage:
    reason: str
    offset: int
    size: int
    """Bytes that are lost with it."""
    name: str = ""


def members(
    file: Readable, start: int = 0, end: int = sys.maxsize, total: int = sys.maxsize
) -> Iterator[Member | Damage]:
    """Members whose first header lies from `start` to `end`. `total`: bytes of the whole file. A member's bytes may be
    read from `file` until the next one is asked for."""
    at, first = start, -1
    known: dict[str, str] = {}
    while at < end or first >= 0:
        file.seek(at)
        block = file.read(BLOCK)
        if len(block) < BLOCK:
            if block.strip(b"\0") or first >= 0:
                begun = first if first >= 0 else at
                yield Damage("the archive ends inside a header", begun, at + len(block) - begun)
            return
        if block == ZEROS:
            at, first, known = at + BLOCK, -1, {}
            continue
        header = _header(block)
        if header is None:
            lost = at
            at = _next_header(file, at + BLOCK)
            yield Damage("what stands there is no header of a tar", lost, min(at, total) - lost)
            first, known = -1, {}
            continue
        kind, name, size = header
        first = at if first < 0 else first
        at += BLOCK
        if kind in EXTENSIONS:
            data = file.read(size) if size <= MAX_NAME else b""
            if len(data) < size:
                yield Damage("an extended header is too long or cut off", first, min(at + size, total) - first)
                first, known = -1, {}
            elif kind == "long":
                known["path"] = text(data.split(b"\0", 1)[0])
            elif kind == "pax":
                known |= _pax(data)
            at += _padded(size)
            continue
        if kind == "sparse":
            at = _behind_sparse(file, block, at)
        kind = "sparse" if any(key.startswith("GNU.sparse") for key in known) else kind
        name, size = known.get("path", name), _pax_size(known, size)
        kind = "folder" if kind == "file" and name.endswith("/") else kind
        size = 0 if kind in WITHOUT_DATA else size
        offset, first, known = first, -1, {}
        if at + size > total:
            yield Damage("the file ends inside a member", offset, total - offset, name)
            return
        yield Member(offset, at, size, name, kind)
        at += _padded(size)


def text(name: bytes) -> str:
    """A name in an archive: UTF-8, else Latin-1, so that no two names become one."""
    try:
        return name.decode()
    except UnicodeDecodeError:
        return name.decode("latin-1")


def is_header(block: bytes) -> bool:
    """Whether a file that begins so is a tar."""
    return len(block) >= BLOCK and block[:BLOCK] != ZEROS and _header(block[:BLOCK]) is not None


def _header(block: bytes) -> tuple[str, str, int] | None:
    """(kind, name, bytes); None for what is no header."""
    said, size = _number(block[148:156]), _number(block[124:136])
    if said != sum(block) - sum(block[148:156]) + 8 * 32 or size is None:
        return None
    name = block[:100].split(b"\0", 1)[0]
    if block[257:263] == b"ustar\0" and block[345]:
        name = block[345:500].split(b"\0", 1)[0] + b"/" + name
    return KINDS.get(block[156:157], "unknown"), text(name), size


def _number(field: bytes) -> int | None:
    """Octal digits, or GNU's base 256 for what is too large for them; None for anything else."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    digits = field.strip(b" \0")
    return int(digits, 8) if re.fullmatch(rb"[0-7]+", digits) else 0 if not digits else None


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


def _next_header(file: Readable, at: int) -> int:
    """The next block that is a header or all zero, else the end of the file."""
    while len(block := file.read(BLOCK)) == BLOCK:
        if block == ZEROS or _header(block):
            return at
        at += BLOCK
    return at + len(block)


def _pax(data: bytes) -> dict[str, str]:
    """The records `length key=value` of a pax header; what is none ends them."""
    found = {}
    at = 0
    while match := PAX.match(data, at):
        end = at + int(match[1])
        if end <= match.end() or end > len(data):
            break
        found[text(match[2])] = text(data[match.end() : end - 1])
        at = end
    return found


def _pax_size(known: dict[str, str], size: int) -> int:
    said = known.get("size", "")
    return int(said) if re.fullmatch(r"[0-9]{1,18}", said) else size


def _behind_sparse(file: Readable, block: bytes, at: int) -> int:
    """Where the data of an old GNU sparse file begins: behind the blocks that go on with its map."""
    more = block[482]
    while more:
        block = file.read(BLOCK)
        at += BLOCK
        more = block[504] if len(block) == BLOCK else 0
    return at
