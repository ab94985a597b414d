"""GGUF as a file: keys with values, then tensors. Read by a bounded parser of our own, written by its mirror.

A file from outside may say that it holds 2^60 keys, that a text is longer than the disk, or that two tensors are the
same bytes. So no number in it is used before it was held against what is left of the file: a count of values may not be
larger than the bytes that could hold them, arrays do not nest, tensors lie within the file, in whole blocks, apart.

Version 3 (and 2, which is the same), little-endian: `GGUF`, uint32 version, uint64 tensors, uint64 keys; each key a
text (uint64 length, UTF-8) and a value (uint32 type, then it); each tensor its name, uint32 dimensions, uint64 sizes
with the fastest first, uint32 type, uint64 offset from the end of all that, padded to `general.alignment`.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from typing import Any, BinaryIO

import numpy as np
from torch import Tensor

from puna import storage
from puna.convert import quants
from puna.errors import InputError
from puna.storage import Place

MAGIC = b"GGUF"
MEND = "get the file again from where it came"
MOST_DIMENSIONS, LONGEST_NAME, MOST_TENSORS, MOST_KEYS = 4, 1 << 16, 1 << 20, 1 << 16
MOST_METADATA = 1 << 26  # bytes before the tensors, ten times that as Python's objects; 256,000 pieces have 10 MB
ALIGNMENT = 32
_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 10: "Q", 11: "q", 12: "d"}
_BOOL, _TEXT, _ARRAY = 7, 8, 9
_KINDS = {"u8": 0, "u32": 4, "i32": 5, "f32": 6, "bool": _BOOL, "text": _TEXT}


@dataclass(frozen=True)
class Entry:
    """A tensor in a file: its type, its shape as torch has it (slowest first), and where its bytes lie."""

    type: quants.Type
    shape: tuple[int, ...]
    start: int
    size: int


@dataclass(frozen=True)
class Header:
    """All but the tensors' bytes. Numbers are int, float or bool; arrays are lists of them or of texts."""

    keys: Mapping[str, Any]
    entries: Mapping[str, Entry]


@contextmanager
def opened(path: Place) -> Iterator[tuple[Header, Any]]:
    """The header of a file, and its bytes mapped for as long as the block lasts."""
    with storage.local_copy(path) as copy, storage.open_read(copy) as file:
        size = storage.size(copy)
        if size < 24:
            raise InputError(f"is no GGUF file: {size} bytes", where=str(path), mend=MEND)
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            yield parse(data, size, str(path)), data


def tensor(data: Any, entry: Entry, where: str) -> Tensor:
    """A tensor of an opened file, copied out of it."""
    part = np.frombuffer(data[entry.start : entry.start + entry.size], dtype=np.uint8).copy()
    return quants.decode(part, entry.type, entry.shape, where)


def parse(data: Any, size: int, where: str) -> Header:
    """The header of a file of `size` bytes; InputError, naming `where`, when it does not describe it."""
    cursor = _Cursor(data, min(size, MOST_METADATA), where)
    if cursor.take(4) != MAGIC:
        raise cursor.wrong("is no GGUF file")
    version = cursor.number("I")
    if version not in (2, 3):
        raise cursor.wrong(f"is of version {version}, and 2 and 3 are known")
    tensors, count = cursor.number("Q"), cursor.number("Q")
    if tensors > MOST_TENSORS or count > MOST_KEYS:
        raise cursor.wrong(f"says that it holds {count} keys and {tensors} tensors")
    keys: dict[str, Any] = {}
    for _ in range(count):
        key = cursor.text(LONGEST_NAME)
        if key in keys:
            raise cursor.wrong(f"holds {key[:100]!r} twice")
        keys[key] = cursor.value(cursor.number("I"))
    found = [cursor.tensor() for _ in range(tensors)]
    alignment = keys.get("general.alignment", ALIGNMENT)
    if type(alignment) is not int or not 8 <= alignment <= 1 << 16 or alignment & (alignment - 1):
        raise cursor.wrong(f"general.alignment = {str(alignment)[:40]}")
    begin = -(-cursor.place // alignment) * alignment
    return Header(keys, _placed(found, begin, alignment, size, cursor))


def write(path: Place, keys: Mapping[str, tuple[str, Any]], tensors: Mapping[str, tuple[Tensor, quants.Type]]) -> None:
    """Write a file. keys: name -> (kind, value), a kind of _KINDS, or of a list: `[kind]`. Tensors go out one after
    another, in order, so no copy of them all is made."""
    head = bytearray(MAGIC + struct.pack("<IQQ", 3, len(tensors), len(keys)))
    for name, (kind, value) in keys.items():
        head += _text(name) + _valued(kind, value)
    offset = 0
    for name, (one, type) in tensors.items():
        shape = one.shape[::-1]
        head += _text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, type.number, offset)
        offset += _padded(one.numel() // type.block * type.size)
    head += bytes(_padded(len(head)) - len(head))
    with storage.create(path) as file:
        file.write(head)
        for one, type in tensors.values():
            _write_padded(file, quants.encode(one, type))


class _Cursor:
    """A place in the header, which no step leaves."""

    def __init__(self, data: Any, end: int, where: str) -> None:
        self.data, self.place, self.end, self.where = data, 0, end, where

    def wrong(self, what: str) -> InputError:
        return InputError(what, where=self.where, mend=MEND)

    def take(self, size: int) -> bytes:
        if size > self.end - self.place:
            raise self.wrong(f"is cut, or lies: {size} bytes are to follow byte {self.place}")
        self.place += size
        return bytes(self.data[self.place - size : self.place])

    def number(self, code: str) -> Any:
        return struct.unpack(f"<{code}", self.take(struct.calcsize(f"<{code}")))[0]

    def text(self, longest: int = MOST_METADATA) -> str:
        size = self.number("Q")
        if size > longest:
            raise self.wrong(f"is cut, or lies: a text of {size} bytes is to follow byte {self.place}")
        # What a piece is in bytes may be no UTF-8; it is then refused by who reads pieces.
        return self.take(size).decode(errors="surrogateescape")

    def value(self, kind: int) -> Any:
        if kind == _TEXT:
            return self.text()
        if kind == _BOOL:
            return self.number("B") != 0
        if kind in _NUMBERS:
            return self.number(_NUMBERS[kind])
        if kind != _ARRAY:
            raise self.wrong(f"a value at byte {self.place} has type {kind}")
        inner, count = self.number("I"), self.number("Q")
        width = struct.calcsize(f"<{_NUMBERS[inner]}") if inner in _NUMBERS else {_BOOL: 1, _TEXT: 8}.get(inner)
        if width is None:
            raise self.wrong(f"an array at byte {self.place} holds values of type {inner}")
        if count > (self.end - self.place) // width:
            raise self.wrong(f"is cut, or lies: {count} values are to follow byte {self.place}")
        if inner in _NUMBERS:
            return np.frombuffer(self.take(count * width), dtype=f"<{np.dtype(_NUMBERS[inner]).str[1:]}").tolist()
        return [self.value(inner) for _ in range(count)]

    def tensor(self) -> tuple[str, quants.Type, tuple[int, ...], int]:
        name = self.text(LONGEST_NAME)
        dimensions = self.number("I")
        if not 1 <= dimensions <= MOST_DIMENSIONS:
            raise self.wrong(f"{name[:100]!r} has {dimensions} dimensions")
        shape = tuple(self.number("Q") for _ in range(dimensions))
        kind, offset = self.number("I"), self.number("Q")
        if kind not in quants.TYPES:
            known = ", ".join(sorted(quants.BY_NAME))
            raise InputError(f"{name[:100]!r} is of type {kind}", where=self.where, mend=f"known are {known}")
        if prod(shape) >= 1 << 48 or 0 in shape:
            raise self.wrong(f"{name[:100]!r} has shape {shape}")
        if shape[0] % quants.TYPES[kind].block:
            raise self.wrong(f"{name[:100]!r} has rows of {shape[0]}, which are no whole blocks")
        return name, quants.TYPES[kind], shape[::-1], offset


def _placed(
    found: list[tuple[str, quants.Type, tuple[int, ...], int]], begin: int, alignment: int, size: int, cursor: _Cursor
) -> dict[str, Entry]:
    """Where the tensors lie, if they lie within the file and apart from each other."""
    entries: dict[str, Entry] = {}
    for name, kind, shape, offset in found:
        length = prod(shape) // kind.block * kind.size
        if name in entries:
            raise cursor.wrong(f"holds {name[:100]!r} twice")
        if offset % alignment or offset > size or begin + offset + length > size:
            raise cursor.wrong(f"is cut, or lies: {name[:100]!r} is to take {length} bytes from {begin + offset} on")
        entries[name] = Entry(kind, shape, begin + offset, length)
    reached = begin
    for name, entry in sorted(entries.items(), key=lambda item: item[1].start):
        if entry.start < reached:
            raise cursor.wrong(f"{name[:100]!r} begins within the tensor before it")
        reached = entry.start + entry.size
    return entries


def _text(text: str) -> bytes:
    data = text.encode(errors="surrogateescape")
    return struct.pack("<Q", len(data)) + data


def _valued(kind: str, value: Any) -> bytes:
    if not kind.startswith("["):
        return struct.pack("<I", _KINDS[kind]) + _bare(kind, value)
    inner = kind[1:-1]
    head = struct.pack("<IIQ", _ARRAY, _KINDS[inner], len(value))
    return head + (bytes(value) if inner == "u8" else b"".join(_bare(inner, each) for each in value))


def _bare(kind: str, value: Any) -> bytes:
    if kind == "text":
        return _text(value)
    return struct.pack(f"<{'?' if kind == 'bool' else _NUMBERS[_KINDS[kind]]}", value)


def _padded(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def _write_padded(file: BinaryIO, data: quants.Bytes) -> None:
    file.write(data.data)
    file.write(bytes(_padded(len(data)) - len(data)))
