"""The packed streams of a 7z archive, unpacked in blocks.

Methods: LZMA2 and LZMA (LZMA2 also behind the x86 filter, which some packers put on anything), BZip2 (which the
publisher of the dumps uses), Deflate, and none. Memory is one block and the dictionary that the archive asks for, at
most MAX_DICTIONARY; what an archive states of its size is checked before anything is unpacked.
"""

from __future__ import annotations

import bz2
import lzma
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

MAX_DICTIONARY = 1 << 28  # bytes that decompression may hold; 7-Zip's strongest setting takes 1 << 26
MAX_SIZE = 1_000_000_000_000  # bytes of one stream; the largest Posts.xml has 100 GB
MAX_RATIO = 250  # unpacked to packed bytes, above FREE; posts reach 8
FREE = 64_000_000  # bytes that any archive may unpack to
BLOCK = 1 << 18  # bytes read or unpacked at once

COPY, LZMA2, X86, LZMA = b"\0", b"\x21", b"\3\3\1\3", b"\3\1\1"
DEFLATE, BZIP2, AES = b"\4\1\x08", b"\4\2\2", b"\6\xf1\7\1"


class ArchiveError(Exception):
    """An archive that is damaged, encrypted, or past a limit; `str()` is the reason."""


@dataclass(frozen=True, slots=True)
class Folder:
    """Files packed as one stream. `coders`: (method, properties) in the order of decoding."""

    coders: tuple[tuple[bytes, bytes], ...]
    start: int
    packed: int
    size: int
    crc: int | None


def unpacked(file: BinaryIO, folder: Folder) -> Iterator[bytes]:
    """What a folder holds, in blocks of at most BLOCK bytes."""
    if any(method == AES for method, _ in folder.coders):
        raise ArchiveError("is encrypted")
    if folder.size > MAX_SIZE:
        raise ArchiveError(f"states {folder.size} bytes, more than {MAX_SIZE}")
    if folder.size > max(FREE, MAX_RATIO * folder.packed):
        raise ArchiveError(f"states {folder.size} bytes packed into {folder.packed}: a bomb")
    decoder = _decoder(folder.coders)
    file.seek(folder.start)
    left, wanted, data = folder.packed, folder.size, b""
    try:
        while wanted and not decoder.eof:
            if decoder.needs_input and left:
                data = file.read(min(BLOCK, left))
                left -= len(data)
                if not data:
                    raise ArchiveError("the archive breaks off")
            out = decoder.decompress(data, min(BLOCK, wanted))
            if not out and not data and not left:
                return
            data = b""
            wanted -= len(out)
            if out:
                yield out
    except (lzma.LZMAError, OSError, EOFError, zlib.error, ValueError) as error:
        raise ArchiveError(f"the packed data is damaged ({type(error).__name__})") from None


class _Copy:
    """Data that is not packed, or (by `inner`) a raw Deflate stream, as the decompressors of lzma and bz2 give it."""

    eof = False

    def __init__(self, inner: Any = None) -> None:
        self.inner, self.held = inner, b""

    @property
    def needs_input(self) -> bool:
        return not self.held

    def decompress(self, data: bytes, limit: int) -> bytes:
        data = self.held + data
        if self.inner is None:
            out, self.held = data[:limit], data[limit:]
        else:
            out = self.inner.decompress(data, limit)
            self.held = self.inner.unconsumed_tail
        return out


def _decoder(coders: Sequence[tuple[bytes, bytes]]) -> Any:
    """A decompressor with `decompress(data, limit)`, `needs_input` and `eof`."""
    methods = [method for method, _ in coders]
    try:
        if methods == [COPY]:
            return _Copy()
        if methods == [DEFLATE]:
            return _Copy(zlib.decompressobj(-15))
        if methods == [BZIP2]:
            return bz2.BZ2Decompressor()
        if methods[:1] in ([LZMA], [LZMA2]) and methods[1:] in ([], [X86]) and methods != [LZMA, X86]:
            after = [{"id": lzma.FILTER_X86}] if methods[1:] else []
            return lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=[*after, _lzma(*coders[0])])
    except (lzma.LZMAError, ValueError, IndexError, struct.error):
        raise ArchiveError("the packed data is damaged (its settings)") from None
    raise ArchiveError(f"is packed by a method that is not read ({' '.join(method.hex() for method in methods)})")


def _lzma(method: bytes, properties: bytes) -> dict[str, int]:
    if method == LZMA2:
        bits = properties[0]
        size = (2 | bits & 1) << (bits // 2 + 11)
        found = {"id": lzma.FILTER_LZMA2, "dict_size": size}
    else:
        code, size = struct.unpack("<BI", properties)
        found = {"id": lzma.FILTER_LZMA1, "dict_size": max(size, 4096)}
        found |= {"lc": code % 9, "lp": code // 9 % 5, "pb": code // 45}
    if size > MAX_DICTIONARY:
        raise ArchiveError(f"asks for a dictionary of {size} bytes, more than {MAX_DICTIONARY}")
    return found
