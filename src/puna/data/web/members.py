"""Members of a gzip file: where they begin, and what they hold, in bounded memory.

A WARC.gz is a row of gzip members, one a record, so that a reader may begin at any of them. A member is found by the
three bytes that every one begins with, and proved by decompressing what follows: those bytes turn up within compressed
data too, and then what follows is no gzip, or does not begin like a record.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from typing import BinaryIO

BLOCK = 1 << 17  # bytes read at once
PIECE = 1 << 20  # bytes decompressed at once
MAX_RATIO = 250  # times its stored size that a member may hold, once it holds over FREE bytes; text makes 3 to 20
FREE = 64_000_000
MAX_CANDIDATES = 100_000  # places that look like a member and are none, after which a search gives up

MAGIC = re.compile(rb"\x1f\x8b\x08[\x00-\x1f]", re.DOTALL)


class DamagedError(Exception):
    """A member cannot be read on: the reason."""


def is_gzip(file: BinaryIO) -> bool:
    file.seek(0)
    return file.read(2) == b"\x1f\x8b"


class Member:
    """The gzip member at byte `start` of a file; `end` is known once `pieces` has been read to its end."""

    def __init__(self, file: BinaryIO, start: int) -> None:
        self.file, self.start = file, start
        self.end = start

    def pieces(self) -> Iterator[bytes]:
        """What it holds, in pieces of at most PIECE bytes. Raises DamagedError where it is not sound gzip."""
        decompressor = zlib.decompressobj(31)
        self.file.seek(self.start)
        data, size = b"", 0
        while not decompressor.eof:
            data = decompressor.unconsumed_tail or self.file.read(BLOCK)
            if not data:
                raise DamagedError("the file ends inside a gzip member")
            try:
                piece = decompressor.decompress(data, PIECE)
            except zlib.error:
                raise DamagedError("the gzip data is damaged") from None
            size += len(piece)
            stored = self.file.tell() - self.start
            if size > FREE and size > MAX_RATIO * stored:
                raise DamagedError(f"a gzip member holds over {MAX_RATIO} times its stored size")
            if piece:
                yield piece
        self.end = self.file.tell() - len(decompressor.unused_data)


def next_member(file: BinaryIO, position: int, end: int, beginning: bytes) -> int:
    """Where the first member at or after `position` begins whose text begins with `beginning`; `end` when there is
    none before it."""
    tail, left = b"", MAX_CANDIDATES
    while position < end:
        file.seek(position)
        block = file.read(BLOCK)
        if not block:
            break
        data = tail + block
        for match in MAGIC.finditer(data):
            found = position - len(tail) + match.start()
            if found >= end or left == 0:
                return end
            left -= 1
            if _begins(file, found, beginning):
                return found
        position += len(block)
        tail = data[-3:]
    return end


def _begins(file: BinaryIO, position: int, beginning: bytes) -> bool:
    file.seek(position)
    decompressor = zlib.decompressobj(31)
    try:
        return decompressor.decompress(file.read(4096), len(beginning)) == beginning
    except zlib.error:
        return False
