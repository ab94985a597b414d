"""One paper as arXiv stores it: a gzip of a tar of its files, or of a single file.

Only what can be LaTeX is held in memory. Limits of one paper, beside `sources.arxiv.max_bytes` for its text: ENTRIES
files, UNPACKED bytes decompressed, and RATIO decompressed bytes a stored one once FREE bytes are out (figures in
PostScript come to 10, a bomb to 1000). Archives within are not opened.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from puna.data.latex import tar

ENTRIES = 20_000
UNPACKED = 2_000_000_000
FREE = 16_000_000
RATIO = 200
CHUNK = 1 << 18
TEXT = {
    *("", ".tex", ".ltx", ".latex", ".sty", ".cls", ".clo", ".def", ".cfg", ".inc", ".tikz", ".pgf", ".txt", ".tab"),
    *(".rtx", ".xxx", ".json"),
}
README = "00readme"
SINGLE = "paper.tex"  # the name that a single file goes by


class BrokenPaperError(Exception):
    """A paper that cannot be unpacked: why."""


class TooLargeError(Exception):
    """A paper with more text than the recipe allows."""


@dataclass(frozen=True)
class Files:
    """What a paper holds: its LaTeX by path, and the paths of everything else."""

    texts: dict[str, bytes]
    others: tuple[str, ...]
    beginning: bytes
    """The first bytes of a paper that is a single file."""


def unpack(chunks: Iterator[bytes], stored: int, max_bytes: int) -> Files:
    """The files of a paper of `stored` bytes. BrokenPaperError for what cannot be read, TooLargeError for more than
    `max_bytes` of text."""
    stream = Stream(chunks, stored)
    beginning = stream.peek(tar.BLOCK)
    if not beginning:
        raise BrokenPaperError("the paper is empty")
    if not tar.is_header(beginning):
        data = stream.read(max_bytes + 1)
        if len(data) > max_bytes:
            raise TooLargeError
        return Files({SINGLE: data}, (), beginning)
    texts: dict[str, bytes] = {}
    others = []
    left, entries = max_bytes, 0
    for member in tar.members(stream):
        entries += 1
        if entries > ENTRIES:
            raise BrokenPaperError(f"holds more than {ENTRIES:,} files")
        if isinstance(member, tar.Damage):
            raise BrokenPaperError(f"a damaged tar within: {member.reason}")
        path = inside(member.name)
        if member.kind != "file" or not path:
            continue
        if not is_text(path):
            others.append(path)
            continue
        left -= member.size
        if left < 0:
            raise TooLargeError
        stream.seek(member.start)
        texts[path] = stream.read(member.size)
        if len(texts[path]) < member.size:
            raise BrokenPaperError("a damaged tar within: it ends inside a file")
    return Files(texts, tuple(others), b"")


def is_text(path: str) -> bool:
    pure = PurePosixPath(path.lower())
    return pure.suffix in TEXT and (pure.suffix not in (".xxx", ".json") or pure.stem.startswith(README))


def inside(name: str) -> str:
    """A path as it stands within a paper, without `.` and `..`; "" for one that leads out of it."""
    parts: list[str] = []
    for part in name.split("/"):
        if part == "..":
            if not parts:
                return ""
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return "" if name.startswith("/") else "/".join(parts)


class Stream:
    """Decompressed bytes, read forward, at most CHUNK of them more than were asked for. Raises BrokenPaperError for
    damage and for more than the limits."""

    def __init__(self, chunks: Iterator[bytes], stored: int) -> None:
        self._chunks, self._limit = chunks, min(UNPACKED, max(FREE, stored * RATIO))
        self._inflate = zlib.decompressobj(31)
        self._input = b""
        self._ready = bytearray()
        self._at = self._out = 0

    def peek(self, size: int) -> bytes:
        self._fill(size)
        return bytes(self._ready[:size])

    def read(self, size: int, /) -> bytes:
        self._fill(size)
        data = bytes(self._ready[:size])
        del self._ready[:size]
        self._at += len(data)
        return data

    def seek(self, offset: int, /) -> int:
        """Forward only: what lies between is read and forgotten."""
        while self._at < offset and self.read(min(CHUNK, offset - self._at)):
            pass
        return self._at

    def _fill(self, size: int) -> None:
        while len(self._ready) < size:
            data = self._more()
            if not data:
                return
            self._ready += data
            self._out += len(data)
            if self._out > self._limit:
                raise BrokenPaperError(f"unpacks to more than {self._limit:,} bytes")

    def _more(self) -> bytes:
        """The next decompressed bytes; none at the end."""
        while True:
            if not self._input:
                self._input = next(self._chunks, b"")
                if not self._input:
                    if not self._inflate.eof:
                        raise BrokenPaperError("the gzip ends before its end")
                    return b""
            if self._inflate.eof:
                # Further gzip members follow each other; anything else behind the first is filling.
                if not self._input.startswith(b"\x1f\x8b"):
                    self._input = b""
                    continue
                self._inflate = zlib.decompressobj(31)
            try:
                data = self._inflate.decompress(self._input, CHUNK)
            except zlib.error as error:
                raise BrokenPaperError(f"damaged gzip ({error})") from None
            self._input = self._inflate.unused_data if self._inflate.eof else self._inflate.unconsumed_tail
            if data:
                return data
