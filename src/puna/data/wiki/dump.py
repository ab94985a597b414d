"""Pages out of a MediaWiki dump: bz2 of one stream or many, or plain XML, in any encoding XML allows.

Pages are cut out of the bytes before any XML is parsed. So memory is one page, a broken page costs that page only, no
document type is ever read (an entity bomb has nowhere to declare itself), and a dump can be entered at any border: a
page belongs to the range in which its first byte lies, and is read to its end past it. Borders of bz2 streams may fall
inside pages.

What ends the reading is told with the stored bytes that it cost: from the bz2 stream under way to the end of the range.
A file that breaks off costs all its bytes, since nothing tells how much of it is missing.
"""

from __future__ import annotations

import bz2
import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from puna import storage
from puna.storage import Location

MAX_PAGE = 8_000_000  # bytes of one page's XML; MediaWiki itself allows 2 MiB of text
MAX_GAP = 64_000_000  # bytes without a page after which a file is given up: bombs, dumps of another kind
BLOCK = 1 << 18  # bytes read or decompressed at once
HEAD = 1 << 16  # bytes of a dump's beginning in which its language is looked for

STREAM = re.compile(rb"BZh[1-9](?:1AY&SY|\x17rE8P\x90)")  # a stream's header, then the magic of a block or of the end
BEGIN = re.compile(rb"<page[\s>]")
END = b"</page>"
CLOSE = b"</mediawiki"
DECLARED = re.compile(rb"""<\?xml[^>]*?\sencoding\s*=\s*["']([\w.:-]+)""")
MARKS = {
    b"\xef\xbb\xbf": "utf-8",
    b"\xff\xfe\0\0": "utf-32-le",
    b"\0\0\xfe\xff": "utf-32-be",
    b"\xff\xfe": "utf-16-le",
    b"\xfe\xff": "utf-16-be",
}  # byte order marks
BARE = {b"<\0": "utf-16-le", b"\0<": "utf-16-be"}  # what begins XML without one
OTHERS = {b"\x1f\x8b": "gzip", b"7z\xbc\xaf": "7z", b"\xfd7zXZ": "xz", b"PK": "zip", b"\x28\xb5\x2f\xfd": "zstd"}


@dataclass(frozen=True, slots=True)
class Page:
    """One <page> element in UTF-8. `offset`: its byte in the file; in bz2, where the stream begins that holds it."""

    xml: bytes
    offset: int


@dataclass(frozen=True, slots=True)
class Damage:
    """A stretch that cannot be read, the beginning of the page that it lies in, and the stored bytes that are lost with
    it, when nothing behind it is read."""

    reason: str
    xml: bytes = b""
    size: int = 0


class DamagedError(Exception):
    """The bytes of a file cannot be read on from byte `offset`; without one, the file breaks off."""

    def __init__(self, reason: str, offset: int | None = None) -> None:
        super().__init__(reason)
        self.offset = offset


def pages(location: Location, start: int, end: int) -> Iterator[Page | Damage]:
    """The pages that begin in bytes start..end of a file (in bz2: in the streams that begin there), in order."""
    last = end == storage.size(location)
    closes = last and b"<mediawiki" in head(location)
    with storage.open_read(location) as file:
        yield from _Cutter(start, end, last, closes).cut(_in_utf8(file, start, end))


def head(location: Location) -> bytes:
    """The first HEAD bytes of the XML in UTF-8; fewer where the file is short or damaged."""
    found = b""
    with storage.open_read(location) as file:
        try:
            for block in _in_utf8(file, 0, 1):
                found += block.data
                if len(found) >= HEAD:
                    break
        except DamagedError:
            pass
    return found[:HEAD]


def borders(location: Location, piece: int) -> list[int]:
    """Where a dump may be cut into ranges of `piece` bytes or a little more: 0, the cuts, its size.

    bz2 is cut where a stream begins, found by its magic and proved by decompressing what follows. What is not UTF-8
    is one range, since its encoding is known at its beginning only.
    """
    size = storage.size(location)
    with storage.open_read(location) as file:
        try:
            first = next(_in_file(file, 0, 1)).data
            if size <= piece or encoding(first) != "utf-8":
                return [0, size]
        except (DamagedError, StopIteration):
            return [0, size]
        file.seek(0)
        compressed = file.read(3) == b"BZh"
        cuts = list(_stream_cuts(file, piece)) if compressed else list(range(piece, size, piece))
    return [0, *cuts, size]


@dataclass(frozen=True, slots=True)
class _Block:
    data: bytes
    offset: int  # in the file: of the first byte, or of the bz2 stream that holds it
    own: bool  # whether pages that begin in it belong to the range
    exact: bool  # whether its bytes are bytes of the file


class _Cutter:
    """Cuts pages out of blocks, holding what has been read of the page under way."""

    def __init__(self, start: int, end: int, last: bool, closes: bool) -> None:
        self.start, self.end = start, end
        self.at_end = last  # whether the range is the file's last one
        self.closed = not closes  # whether the end tag of the element around all pages was met, if one must come
        self.held = bytearray()
        self.base = 0  # position of the first held byte among all that were read
        self.read = 0  # bytes read
        self.owned = 0  # how many of them lie in the range
        self.last = 0  # position at which the last page ended
        self.searched = 0  # held bytes in which there is no end of a page
        self.marks: list[tuple[int, _Block]] = []  # positions of the blocks that held bytes lie in

    def cut(self, blocks: Iterator[_Block]) -> Iterator[Page | Damage]:
        inside = False
        try:
            for block in blocks:
                self._take(block)
                inside = self._begun()
                while inside:
                    found = self._page()
                    if found is None:
                        break
                    yield found
                    inside = self._begun()
                if not inside and not block.own:
                    return
                if not inside and self.read - self.last > MAX_GAP:
                    what = f"no page in {MAX_GAP} bytes: is this a pages-articles dump?"
                    yield Damage(what, size=self._lost(block.offset))
                    return
        except DamagedError as damage:
            yield Damage(str(damage), bytes(self.held[:HEAD]) if inside else b"", self._lost(damage.offset))
            return
        if inside:
            yield Damage("the file ends inside a page", bytes(self.held[:HEAD]), self._lost(None))
        elif not self._is_closed():
            yield Damage("the file ends without </mediawiki>: it is cut short", size=self._lost(None))

    def _is_closed(self) -> bool:
        """Whether the file is whole, as far as this range tells: its beginning may lie within the end tag."""
        rest = bytes(self.held).strip()
        return self.closed or (bool(rest or not self.last) and (CLOSE + b">").endswith(rest))

    def _lost(self, offset: int | None) -> int:
        """Stored bytes of the range that are not read when reading ends there, or (None) with the file."""
        if offset is None:
            return self.end if self.at_end else 0
        return max(0, self.end - max(offset, self.start))

    def _take(self, block: _Block) -> None:
        self.marks.append((self.read, _Block(b"", block.offset, block.own, block.exact)))
        self.held += block.data
        self.read += len(block.data)
        if block.own:
            self.owned = self.read

    def _begun(self) -> bool:
        """Move to the next page; whether it has been met, and belongs to the range."""
        found = BEGIN.search(self.held)
        if found is None and CLOSE in self.held:
            self.closed = True
        skipped = found.start() if found else max(0, len(self.held) - len(CLOSE))
        if skipped:
            self._advance(skipped)
        return found is not None and self.base < self.owned

    def _page(self) -> Page | Damage | None:
        """The page that begins with the first held byte; None when its end has not been read."""
        end = self.held.find(END, max(0, self.searched - len(END)))
        if end < 0 and len(self.held) <= MAX_PAGE:
            self.searched = len(self.held)
            return None
        limit = end + len(END) if end >= 0 else MAX_PAGE
        again = BEGIN.search(self.held, 1, limit)
        if again or end < 0 or limit > MAX_PAGE:
            reason = "a page has no end" if again else f"a page is larger than {MAX_PAGE} bytes"
            lost = Damage(reason, bytes(self.held[:HEAD]))
            self._advance(again.start() if again else limit)
            self.last = self.base
            return lost
        position, block = self.marks[0]
        page = Page(bytes(self.held[:limit]), block.offset + (self.base - position if block.exact else 0))
        self._advance(limit)
        self.last = self.base
        return page

    def _advance(self, count: int) -> None:
        del self.held[:count]
        self.base += count
        self.searched = 0
        while len(self.marks) > 1 and self.marks[1][0] <= self.base:
            self.marks.pop(0)


def _in_utf8(file: BinaryIO, start: int, end: int) -> Iterator[_Block]:
    blocks = _in_file(file, start, end)
    if start:
        yield from blocks  # only UTF-8 is cut into ranges
        return
    decoder: codecs.IncrementalDecoder | None = None
    for number, block in enumerate(blocks):
        if number == 0 and (name := encoding(block.data)) != "utf-8":
            decoder = codecs.getincrementaldecoder(name)()
        if decoder is None:
            yield block
            continue
        try:
            data = decoder.decode(block.data).encode()
        except UnicodeError as error:
            raise DamagedError(f"not valid {name} ({error.__class__.__name__})", block.offset) from None
        yield _Block(data, block.offset, block.own, False)


def encoding(data: bytes) -> str:
    """The encoding of XML that begins with `data`, from its byte order mark or declaration: `utf-8` for all that can be
    read as that. DamagedError for one that is not known."""
    for mark, marked in (MARKS | BARE).items():
        if data.startswith(mark):
            return marked
    declared = DECLARED.match(data)
    name = declared[1].decode() if declared else "utf-8"
    try:
        b"<".decode(name)  # refuses codecs that are not of text
        codec = codecs.lookup(name)
    except (LookupError, UnicodeError):
        raise DamagedError(f"unknown encoding {name!r}", 0) from None
    return "utf-8" if codec.name in ("utf-8", "ascii") else name


def _in_file(file: BinaryIO, start: int, end: int) -> Iterator[_Block]:
    """Blocks from `start` to the end of the file, decompressed; those past `end` are not the range's own."""
    file.seek(0)
    magic = file.read(6)
    for other, name in OTHERS.items():
        if magic.startswith(other):
            raise DamagedError(f"is {name}; dumps are read as bz2 or as XML", 0)
    file.seek(start)
    if magic.startswith(b"BZh"):
        yield from _decompressed(file, start, end)
        return
    while data := file.read(min(BLOCK, end - start) if start < end else BLOCK):
        yield _Block(data, start, start < end, True)
        start += len(data)


def _decompressed(file: BinaryIO, stream: int, end: int) -> Iterator[_Block]:
    data = file.read(BLOCK)
    while data.strip(b"\0"):  # zeros may pad the end
        data += file.read(BLOCK) if len(data) < len(b"BZh") else b""
        if not data.startswith(b"BZh"):
            raise DamagedError("what follows a bz2 stream is not bz2", stream)
        decompressor = bz2.BZ2Decompressor()
        for out in _output(decompressor, file, data, stream):
            yield _Block(out, stream, stream < end, False)
        data = decompressor.unused_data or file.read(BLOCK)
        stream = file.tell() - len(data)


def _output(decompressor: bz2.BZ2Decompressor, file: BinaryIO, data: bytes, stream: int) -> Iterator[bytes]:
    """What the stream at byte `stream` holds, in pieces of at most BLOCK bytes: a bomb is never held whole."""
    while not decompressor.eof:
        try:
            out = decompressor.decompress(data, BLOCK)
        except OSError:
            raise DamagedError("the bz2 data is damaged", stream) from None
        if out:
            yield out
        data = file.read(BLOCK) if decompressor.needs_input and not decompressor.eof else b""
        if not data and decompressor.needs_input and not decompressor.eof:
            raise DamagedError("the file ends inside a bz2 stream")


def _stream_cuts(file: BinaryIO, piece: int) -> Iterator[int]:
    cut = _next_stream(file, piece)
    while cut is not None:
        yield cut
        cut = _next_stream(file, cut + piece)


def _next_stream(file: BinaryIO, position: int) -> int | None:
    """Where the first bz2 stream at or after `position` begins."""
    tail = b""
    file.seek(position)
    while block := file.read(BLOCK):
        data = tail + block
        for match in STREAM.finditer(data):
            stream = position - len(tail) + match.start()
            if _is_stream(file, stream):
                return stream
        position += len(block)
        file.seek(position)
        tail = data[-9:]
    return None


def _is_stream(file: BinaryIO, position: int) -> bool:
    file.seek(position)
    decompressor = bz2.BZ2Decompressor()
    try:
        while data := file.read(BLOCK):
            if decompressor.decompress(data, 1) or decompressor.eof:
                return True
    except OSError:
        pass
    return False
