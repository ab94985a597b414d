"""Records out of a WARC or WET file, gzip or plain, from any of its borders on.

A record begins with its headers and has as many bytes as its Content-Length says, unless the file shows otherwise: the
crawl 2018-34 counts two bytes wrong, files are clipped, members are damaged. So what follows a record is looked at
before the record is believed, and after damage the reading goes on at the next record or member that is sound. Readers
of the kind that trust each length lose the rest of such a file, or end in silence (docs/log.md).

Memory: a record's block is held up to `hold` bytes and its first HEAD bytes beyond that; the rest is read past. A gzip
member is held up to `hold` and HEAD bytes, so one worker holds about three times `hold` at most.

A record belongs to the range in which its member begins (in a plain file: in which it begins itself), whatever lies
before it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from puna import storage
from puna.data.web.members import BLOCK, DamagedError, Member, is_gzip, next_member
from puna.storage import Location

HEAD = 1 << 16  # bytes of a record's headers at most, and of a larger block that are kept
SLACK = 16  # bytes by which a Content-Length may be wrong
HEAD_OF_NEXT = 32  # bytes by which the next record is told: two line ends and its version
BEGIN = b"WARC/"
AGAIN = re.compile(rb"\r?\n\r?\n(?=WARC/[01]\.\d+\r?\n)")
IN_A_GAP = re.compile(rb"(?=WARC/[01]\.\d+\r?\n)")
END_OF_HEADERS = re.compile(rb"\r?\n\r?\n")
OTHERS = {b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bz2", b"\xfd7zXZ": "xz", b"PK": "zip", b"7z\xbc\xaf": "7z"}


@dataclass(frozen=True, slots=True)
class WarcRecord:
    """One record. Names of headers are in lower case, of several of one name the first counts."""

    headers: dict[str, str]
    block: bytes
    """What follows the headers; only its first HEAD bytes when `length` is more than was to be held."""
    length: int
    """Bytes of the block."""
    offset: int
    """Byte of the file at which reading must start to meet the record: of its gzip member, or its own."""


@dataclass(frozen=True, slots=True)
class Damage:
    """What cannot be read, the record's id when it is known, and the stored bytes that are lost with it."""

    reason: str
    key: str = ""
    size: int = 0


def records(location: Location, start: int, end: int, hold: int) -> Iterator[WarcRecord | Damage]:
    """The records of bytes start..end of a file, in order. `hold`: bytes of a block that are held at most."""
    with storage.open_read(location) as file:
        file.seek(0)
        magic = file.read(6)
        for other, name in OTHERS.items():
            if magic.startswith(other):
                yield Damage(f"is {name}; WARC files are read as gzip or plain", size=end - start)
                return
        if magic.startswith(b"\x1f\x8b"):
            yield from _in_members(file, start, end, hold)
        else:
            yield from _in_plain(file, start, end, hold)


def borders(location: Location, piece: int) -> list[int]:
    """Where a file may be cut into ranges of `piece` bytes or a little more: 0, the cuts, its size. A border is where
    a gzip member begins that holds a record; in a plain file, where a record begins and its length is right."""
    size = storage.size(location)
    cuts: list[int] = []
    if size > piece:
        with storage.open_read(location) as file:
            compressed = is_gzip(file)
            cut = piece
            while cut < size:
                cut = next_member(file, cut, size, BEGIN) if compressed else _next_record(file, cut, size)
                if cut < size:
                    cuts.append(cut)
                cut += piece
    return [0, *cuts, size]


def _in_members(file: BinaryIO, position: int, end: int, hold: int) -> Iterator[WarcRecord | Damage]:
    while position < end:
        member = Member(file, position)
        held, fault = _held(member, hold + HEAD)
        if fault:
            following = next_member(file, position + 1, end, BEGIN)
            if held.strip(b"\0") or not _is_padding(file, position, following):
                yield Damage(fault, _key_in(held), following - position)
            position = following
        elif member.end > position:
            yield from _Cutter(iter((held,)), position, None, hold).cut(None)
            position = member.end
        else:
            sound = position
            cutter = _Cutter(member.pieces(), position, None, hold)
            for record in cutter.cut(None):
                yield record
                sound = max(position, file.tell() - 2 * BLOCK)
            following = next_member(file, position + 1, end, BEGIN) if cutter.fault else member.end
            if cutter.fault:
                yield Damage(cutter.fault, cutter.key, following - sound)
            position = following


def _held(member: Member, limit: int) -> tuple[bytes, str]:
    """What a member holds and why it cannot be read; of one that holds more than `limit` bytes, nothing, and its end is
    not known."""
    held = bytearray()
    try:
        for piece in member.pieces():
            held += piece
            if len(held) > limit:
                return b"", ""
    except DamagedError as error:
        return bytes(held), str(error)
    return bytes(held), ""


def _in_plain(file: BinaryIO, start: int, end: int, hold: int) -> Iterator[WarcRecord | Damage]:
    file.seek(start)
    yield from _Cutter(iter(lambda: file.read(BLOCK), b""), start, file, hold).cut(end)


class _Cutter:
    """Cuts records out of pieces of bytes, holding what has been read of the record under way."""

    def __init__(self, pieces: Iterator[bytes], offset: int, file: BinaryIO | None, hold: int) -> None:
        self.pieces, self.hold = pieces, hold
        self.file = file  # a plain one, whose bytes the pieces are; none of a gzip member
        self.offset = offset  # in the file: of the first held byte, or of the gzip member that holds it
        self.data = bytearray()
        self.ended = False
        self.fault = ""  # why the pieces ended before their end
        self.key = ""  # the id of the record under way

    def cut(self, end: int | None) -> Iterator[WarcRecord | Damage]:
        """The records that begin before byte `end` of the file; all of them without one."""
        found = False
        while self._to_next() and (end is None or self.offset < end):
            found = True
            if self.data.startswith(BEGIN):
                record = self._record()
                if record is not None:
                    yield record
            else:
                self.key = ""
                gap = self._again("what follows a record is no record", IN_A_GAP)
                if gap is not None:
                    yield gap
        if not found and self.file is None and not self.fault:
            yield Damage("a gzip member that holds no WARC record")

    def _to_next(self) -> bool:
        """Move to the next byte that is neither line end nor padding; whether there is one."""
        while self._has(1):
            blank = len(self.data) - len(self.data.lstrip(b"\r\n\0"))
            self._drop(blank)
            if self.data:
                self._has(len(BEGIN))
                return True
        return False

    def _record(self) -> WarcRecord | Damage | None:
        """The record that begins with the first held byte; None when the pieces were cut off inside it."""
        offset, self.key = self.offset, ""
        ending = END_OF_HEADERS.search(self.data, 0, HEAD)
        if ending is None:
            self._has(HEAD)
            ending = END_OF_HEADERS.search(self.data, 0, HEAD)
        if ending is None:
            return self._broken("a record's headers have no end")
        headers = parse_headers(bytes(self.data[: ending.start()]))
        self.key = headers.get("warc-record-id", "")
        length, begin = _length(headers), ending.end()
        if length is None:
            return self._broken("a record has no Content-Length")
        if length > self.hold:
            return self._large(headers, begin, length, offset)
        stop = self._stop(begin, length)
        if stop is None:
            return self._broken(_wrong(length))
        block = bytes(self.data[begin:stop])
        self._drop(stop)
        return WarcRecord(headers, block, len(block), offset)

    def _stop(self, begin: int, length: int) -> int | None:
        """Where the block ends that begins at held byte `begin` and is said to be `length` bytes long: before two line
        ends with another record or nothing behind them. None when that is nowhere near."""
        stop = begin + length
        self._has(stop + SLACK + HEAD_OF_NEXT)
        ending = END_OF_HEADERS.match(self.data, stop)
        if ending:
            return stop
        again = AGAIN.search(self.data, max(begin, stop - SLACK), stop + SLACK + HEAD_OF_NEXT)
        if again:
            return again.start()
        last = len(self.data) - (4 if self.data.endswith(b"\r\n\r\n") else 0)
        return last if self.ended and not self.fault and last >= begin and abs(last - stop) <= SLACK else None

    def _large(self, headers: dict[str, str], begin: int, length: int, offset: int) -> WarcRecord | Damage | None:
        """Read past a block that is too large to be held, but for its first HEAD bytes. In a plain file a look at its
        end comes first, since a wrong length would cost whatever follows."""
        if self.file is not None and not _ends(self.file, offset + begin + length):
            return self._broken(_wrong(length))
        self._has(begin + HEAD)
        block = bytes(self.data[begin : begin + HEAD])
        left = begin + length
        while left > len(self.data):
            left -= len(self.data)
            self._drop(len(self.data))
            if not self._has(1):
                return None if self.fault else Damage(_wrong(length), self.key, self.offset - offset)
        self._drop(left)
        return WarcRecord(headers, block, length, offset)

    def _broken(self, reason: str) -> Damage | None:
        """Go on behind a record that cannot be read; None when the pieces were cut off inside it."""
        return self._again(reason, AGAIN)

    def _again(self, reason: str, mark: re.Pattern[bytes]) -> Damage | None:
        """Move to the next record that `mark` finds."""
        lost, searched = 0, 1
        while True:
            again = mark.search(self.data, searched)
            step = again.end() if again else max(0, len(self.data) - HEAD_OF_NEXT)
            if not again and not self._more():
                step = len(self.data)
            lost += step
            self._drop(step)
            searched = 0
            if again or not self.data:
                break
        if self.fault and not self.data:
            return None
        return Damage(reason, self.key, 0 if self.file is None else lost)

    def _has(self, count: int) -> bool:
        """Hold at least `count` bytes; False when there are fewer."""
        while len(self.data) < count:
            if not self._more():
                return False
        return True

    def _more(self) -> bool:
        if self.ended:
            return False
        try:
            piece = next(self.pieces, b"")
        except DamagedError as error:
            self.fault, piece = str(error), b""
        self.ended = not piece
        self.data += piece
        return not self.ended

    def _drop(self, count: int) -> None:
        del self.data[:count]
        if self.file is not None:
            self.offset += count


def parse_headers(data: bytes) -> dict[str, str]:
    """`Name: value` lines by name in lower case; the first of a name counts, a line that begins with a space goes on
    the one before it, and the first line of all is left out."""
    found: dict[str, str] = {}
    name = ""
    for line in data.decode("utf-8", "replace").split("\n")[1:]:
        if line[:1] in (" ", "\t") and name:
            found[name] += " " + line.strip()
            continue
        before, colon, value = line.partition(":")
        name = before.strip().lower() if colon else ""
        if name in found:
            name = ""
        elif name:
            found[name] = value.strip()
    return found


def _length(headers: dict[str, str]) -> int | None:
    said = headers.get("content-length", "")
    return int(said) if said.isascii() and said.isdigit() and len(said) <= 15 else None


def _wrong(length: int) -> str:
    return f"a record is not the {length} bytes long that it says"


def _key_in(held: bytes) -> str:
    ending = END_OF_HEADERS.search(held, 0, HEAD)
    return parse_headers(held[: ending.start()]).get("warc-record-id", "") if ending else ""


def _is_padding(file: BinaryIO, start: int, end: int) -> bool:
    file.seek(start)
    while start < end:
        data = file.read(min(BLOCK, end - start))
        if not data or data.strip(b"\0"):
            return False
        start += len(data)
    return True


def _next_record(file: BinaryIO, position: int, end: int) -> int:
    """Where the first record of a plain file begins at or after `position`, behind a sound record or not, if its length
    is right; `end` when there is none."""
    tail = b""
    while position < end:
        file.seek(position)
        block = file.read(BLOCK)
        if not block:
            break
        data = tail + block
        for match in AGAIN.finditer(data):
            found = position - len(tail) + match.end()
            if _is_record(file, found):
                return found
        position += len(block)
        tail = data[-16:]
    return end


def _is_record(file: BinaryIO, position: int) -> bool:
    file.seek(position)
    head = file.read(HEAD)
    ending = END_OF_HEADERS.search(head)
    if ending is None:
        return False
    length = _length(parse_headers(head[: ending.start()]))
    if length is None:
        return False
    return _ends(file, position + ending.end() + length)


def _ends(file: BinaryIO, position: int) -> bool:
    """Whether a record ends at byte `position` of a plain file; the file is left where it was."""
    before = file.tell()
    file.seek(position)
    after = file.read(4 + len(BEGIN))
    file.seek(before)
    return after in (b"\r\n\r\n" + BEGIN, b"\r\n\r\n")
