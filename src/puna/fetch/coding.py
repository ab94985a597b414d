"""What a server did to a file's bytes on their way, and how that is undone."""

from __future__ import annotations

import zlib
from contextlib import suppress
from typing import Any

from puna.errors import PunaError
from puna.fetch.client import Passing
from puna.fetch.file import File

HEAD = 512  # bytes by which it is told whether a gzip file was packed once more
GZIP = b"\x1f\x8b\x08"
INFLATED = 1 << 20  # bytes of an undone coding that are held at once
LARGEST = 10**12  # bytes that one may unpack to where no size is published


class Misstated(Passing):
    """The server sent another range than the one asked for, or says different things of one file."""


class Coding:
    """What a server may have done to the bytes on their way. Puna asks for none; where one is there all the same, the
    bytes that are kept are those that were published.

    `Content-Encoding: gzip` on a .gz file most often names the file's own packing, and the bytes are the file. Some
    servers pack what is packed already: then what unpacks begins as a gzip file itself.
    """

    def __init__(self, named: str, file: File, ranged: bool) -> None:
        name = named.strip().lower()
        if name not in ("", "identity", "gzip", "x-gzip"):
            raise PunaError(f"is sent packed as {name[:20]!r}, which was not asked for", where=file.url)
        self.named = name not in ("", "identity")
        """Whether the number of bytes sent says nothing of the file."""
        self._file, self._ranged = file, ranged
        self._open = self.named  # until its first bytes tell whose packing it is
        self._unpack: Any = None
        self._head = b""
        self._left = file.size if file.size is not None else LARGEST

    @property
    def ended(self) -> bool:
        """Whether what was sent is whole."""
        return self._unpack is None or bool(self._unpack.eof)

    def undone(self, data: bytes) -> list[bytes]:
        """The file's bytes of what was sent."""
        if self._open:
            self._head += data
            if len(self._head) < HEAD:
                return []
            return self.rest()
        return [data] if self._unpack is None else self._inflated(data)

    def rest(self) -> list[bytes]:
        """What waited for its packing to be told; called at the end too."""
        if not self._open:
            return []
        self._open, data, self._head = False, self._head, b""
        inner = b""
        with suppress(zlib.error):
            inner = zlib.decompressobj(31).decompress(data, len(GZIP))
        if data and (inner == GZIP or not self._file.name.endswith((".gz", ".tgz"))):
            if self._ranged:
                raise Misstated("packs a part of the file", where=self._file.url)
            self._unpack = zlib.decompressobj(31)
        return self.undone(data)

    def _inflated(self, data: bytes) -> list[bytes]:
        pieces = []
        try:
            while data:
                pieces.append(self._unpack.decompress(data, INFLATED))
                self._left -= len(pieces[-1])
                if self._left < 0:
                    raise PunaError("unpacks to more than is published", where=self._file.url)
                data = self._unpack.unconsumed_tail
        except zlib.error as error:
            raise Passing(f"was packed on its way, and is damaged ({error})", where=self._file.url) from None
        return pieces
