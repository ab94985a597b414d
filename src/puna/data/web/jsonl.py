"""JSON lines, plain or compressed with gzip or zstd, in bounded memory: a line is held up to a limit and read past
beyond it. A plain file may be entered anywhere: a line belongs to the range in which it begins."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

import zstandard

from puna import storage
from puna.data.web.members import BLOCK, DamagedError, Member
from puna.storage import Location

STEP = 128  # bytes of zstd decompressed at once
WINDOW = 1 << 27  # bytes of a zstd window at most: 128 MiB, as its own command line allows


@dataclass(frozen=True, slots=True)
class Line:
    """One line without its end; empty when it was longer than the limit."""

    data: bytes
    number: int
    """From 1 within the range."""
    offset: int
    """Its byte in the file; of a compressed file 0, where reading must start."""
    size: int
    """Its bytes."""


@dataclass(frozen=True, slots=True)
class Break:
    """Why the reading ended before the end, and the stored bytes that are lost with it."""

    reason: str
    size: int


def is_compressed(location: Location) -> bool:
    with storage.open_read(location) as file:
        return _unpacking(file) is not None


def lines(location: Location, start: int, end: int, limit: int) -> Iterator[Line | Break]:
    """The lines that begin in bytes start..end of a file, in order; a compressed file is one range."""
    with storage.open_read(location) as file:
        unpacked = _unpacking(file)
        pieces = unpacked(file) if unpacked else _plain(file, max(0, start - 1))
        try:
            yield from _lines(pieces, 0 if unpacked else start, None if unpacked else end, limit)
        except DamagedError as error:
            yield Break(str(error), storage.size(location) - max(0, file.tell() - BLOCK))


def _lines(pieces: Iterator[bytes], start: int, end: int | None, limit: int) -> Iterator[Line]:
    """The pieces begin one byte before `start`, unless that is 0, so that a line which ends right before the range is
    told from one that goes on in it. `end`: none for what is compressed."""
    held, size, number = bytearray(), 0, 0
    offset = max(0, start - 1)
    skipping = start > 0
    for piece in pieces:
        for part in _parts(piece):
            size += len(part)
            if len(held) <= limit and not skipping:
                held += part
            if not part.endswith(b"\n"):
                continue
            if not skipping:
                number += 1
                whole = bytes(held).rstrip(b"\r\n") if len(held) <= limit else b""
                yield Line(whole, number, 0 if end is None else offset, size)
            offset += size
            held, size, skipping = bytearray(), 0, False
            if end is not None and offset >= end:
                return
    if size and not skipping:
        whole = bytes(held) if len(held) <= limit else b""
        yield Line(whole, number + 1, 0 if end is None else offset, size)


def _parts(piece: bytes) -> list[bytes]:
    parts = piece.split(b"\n")
    return [part + b"\n" for part in parts[:-1]] + ([parts[-1]] if parts[-1] else [])


def _plain(file: BinaryIO, offset: int) -> Iterator[bytes]:
    file.seek(offset)
    yield from iter(lambda: file.read(BLOCK), b"")


def _unpacking(file: BinaryIO) -> Callable[[BinaryIO], Iterator[bytes]] | None:
    """What reads what a compressed file holds; None for a plain one."""
    file.seek(0)
    magic = file.read(4)
    if magic.startswith(b"\x1f\x8b"):
        return _members
    return _frames if magic == b"\x28\xb5\x2f\xfd" else None


def _members(file: BinaryIO) -> Iterator[bytes]:
    """What gzip members hold."""
    size, start = file.seek(0, 2), 0
    while start < size:
        member = Member(file, start)
        yield from member.pieces()
        start = member.end


def _frames(file: BinaryIO) -> Iterator[bytes]:
    """What zstd frames hold. A few bytes at once: four of them may hold 128 KiB."""
    file.seek(0)
    data = file.read(STEP)
    while data:
        frame = zstandard.ZstdDecompressor(max_window_size=WINDOW).decompressobj()
        while not frame.eof:
            if not data:
                raise DamagedError("the file ends inside a zstd frame")
            try:
                piece = frame.decompress(data)
            except zstandard.ZstdError:
                raise DamagedError("the zstd data is damaged") from None
            if piece:
                yield piece
            data = frame.unused_data if frame.eof else file.read(STEP)
        data = data or file.read(STEP)
