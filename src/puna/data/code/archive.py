"""The files of an archive, one after another: tar, plain or packed by gzip, bzip2 or xz, and zip (a wheel is one).

Nothing is unpacked onto a disk, so no name in an archive can reach a place; what kind an archive is says its beginning,
not its name. A tar is read forward, header by header: Python's own reader takes a damaged header for the end, reads
headers of any length into memory, and keeps every one that it met. Here a tar that breaks off says so.

`latex/tar.py` reads arXiv's tars, where damage means another thing: each member is a paper of its own, so it goes on
behind damage at the next header. Here an archive is one project, judged by all that it says, and ends where it breaks.
Names that are no UTF-8 are Latin-1 there and \\xNN here; pax headers with wrong lengths are left there and damage here.

Memory: one file, if its reader asks for it; one header of at most MAX_HEADER bytes; of a zip its directory, of at most
MAX_DIRECTORY bytes in the file.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import BinaryIO, cast

from puna import storage
from puna.storage import Location

NAMED = re.compile(r"\.(?i:tar(\.(gz|bz2|xz))?|tgz|tbz2?|txz|zip|whl)$")
MAX_ENTRIES = 500_000  # the largest repositories have about as many files
MAX_UNPACKED = 200_000_000_000  # bytes of all files of one archive
MAX_RATIO = 200  # bytes unpacked for a byte stored, once SURE bytes are out; source code comes to 3 to 30
SURE = 100_000_000
MAX_HEADER = 1_000_000  # bytes of a long name or of extended attributes
MAX_DIRECTORY = 100_000_000  # bytes of a zip's directory
CHUNK = 1 << 20
FILE, LINK, OTHER = "file", "link", "other"
BROKEN = (
    EOFError, OSError, ValueError, OverflowError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, tarfile.TarError,
    NotImplementedError, RuntimeError,
)  # fmt: skip
"""What damaged archives raise, in the libraries that unpack them."""


class BrokenArchive(Exception):
    """An archive cannot be read on. `lost`: stored bytes from there to its end."""

    def __init__(self, reason: str, lost: int) -> None:
        super().__init__(reason)
        self.lost = lost


@dataclass(frozen=True)
class Entry:
    """One file, link or device. Bytes are read before the next entry is asked for."""

    path: str
    """As the archive has it; bytes that are no UTF-8 as \\xNN."""
    kind: str
    """FILE, LINK, or OTHER for what holds no bytes that could be read: a device, an encrypted or a sparse file."""
    size: int
    """Bytes, as the archive says."""
    start: int
    """Byte of the archive (of a packed tar: of what is unpacked) where its header begins: its place among others."""
    read: Callable[[], bytes]
    """All its bytes; one of BROKEN when they cannot be read."""


def entries(location: Location, start: int = 0, end: int | None = None, before: int = 0) -> Iterator[Entry]:
    """The entries whose header begins in the bytes from `start` to `end`, but for folders; BrokenArchive where the
    archive breaks or is larger than any honest one. before: entries whose header begins before `start`."""
    with ExitStack() as stack:
        raw = stack.enter_context(storage.open_read(location))
        stored = raw.seek(0, io.SEEK_END)
        raw.seek(0)
        last = ""
        try:
            magic = raw.read(6)
            raw.seek(0)
            found = _zip(raw, stored, start) if magic[:2] == b"PK" else _tar(stack, raw, magic, start, stored)
            for count, entry in enumerate(found, before):
                if count >= MAX_ENTRIES:
                    raise ValueError(f"it has more than {MAX_ENTRIES:,} entries")
                if end is not None and entry.start >= end:
                    return
                last = entry.path
                yield entry
        except BROKEN as error:
            where = f" behind {last}" if last else ""
            reason = " ".join(str(error).split())[:120] or type(error).__name__
            raise BrokenArchive(f"the archive cannot be read{where}: {reason}", max(0, stored - raw.tell())) from None


def can_be_cut(location: Location) -> bool:
    """Whether parts of the archive can be read by themselves: a zip, or a tar that is not packed."""
    with storage.open_read(location) as raw:
        return _unpacker(raw.read(6)) is None


def safe(path: str) -> bool:
    """Whether a path stays below the folder that an archive would be unpacked in."""
    return bool(path) and not re.match(r"[/\\]|[A-Za-z]:", path) and ".." not in re.split(r"[/\\]", path)


def shown(path: str) -> str:
    """A path as valid text: bytes that are no UTF-8 as \\xNN."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _unpacker(magic: bytes) -> Callable[[BinaryIO], BinaryIO] | None:
    if magic[:2] == b"\x1f\x8b":
        return lambda raw: cast(BinaryIO, gzip.GzipFile(fileobj=raw, mode="rb"))
    if magic[:3] == b"BZh":
        return lambda raw: cast(BinaryIO, bz2.BZ2File(raw))
    if magic == b"\xfd7zXZ\0":
        return lambda raw: cast(BinaryIO, lzma.LZMAFile(raw))
    return None


class _Stream:
    """What is unpacked, read forward and counted."""

    def __init__(self, raw: BinaryIO, unpacked: BinaryIO | None, place: int, stored: int) -> None:
        self.raw, self.unpacked, self.place, self.stored = raw, unpacked, place, stored

    def take(self, size: int) -> bytes:
        """Exactly `size` bytes; EOFError where there are fewer."""
        parts, missing = [], size
        file = self.unpacked or self.raw
        while missing:
            block = file.read(min(missing, CHUNK))
            if not block:
                raise EOFError("it ends within a file")
            parts.append(block)
            missing -= len(block)
            self._count(len(block))
        return b"".join(parts) if len(parts) != 1 else parts[0]

    def header(self) -> bytes:
        """The next 512 bytes, or b"" at the end."""
        block = (self.unpacked or self.raw).read(tarfile.BLOCKSIZE)
        while block and len(block) < tarfile.BLOCKSIZE:
            more = (self.unpacked or self.raw).read(tarfile.BLOCKSIZE - len(block))
            if not more:
                raise EOFError("it ends within a header")
            block += more
        self._count(len(block))
        return block

    def skip(self, size: int) -> None:
        if self.unpacked is None:
            if self.place + size > self.stored:
                raise EOFError("it ends within a file")
            self.raw.seek(size, io.SEEK_CUR)
            self.place += size
            return
        while size:
            block = self.unpacked.read(min(size, CHUNK))
            if not block:
                raise EOFError("it ends within a file")
            size -= len(block)
            self._count(len(block))

    def _count(self, size: int) -> None:
        self.place += size
        if self.unpacked is not None:
            _refuse_much(self.place, self.raw.tell())


def _refuse_much(unpacked: int, taken: int) -> None:
    """ValueError where an archive has unpacked to more bytes than any honest one; `taken`: stored bytes of them."""
    if unpacked > MAX_UNPACKED:
        raise ValueError(f"it unpacks to more than {MAX_UNPACKED:,} bytes")
    if unpacked > SURE and unpacked > MAX_RATIO * max(1, taken):
        raise ValueError(f"it unpacks to more than {MAX_RATIO} bytes for a byte stored")


def _tar(stack: ExitStack, raw: BinaryIO, magic: bytes, start: int, stored: int) -> Iterator[Entry]:
    unpacker = _unpacker(magic)
    if unpacker is None:
        raw.seek(start)
        stream = _Stream(raw, None, start, stored)
    else:
        stream = _Stream(raw, stack.enter_context(unpacker(raw)), 0, stored)
    begun = stream.place
    said: dict[str, str] = {}  # what extended headers say of the next entry
    while block := stream.header():
        if not block.strip(b"\0"):
            return
        try:
            info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except tarfile.HeaderError as error:
            raise ValueError(f"damaged header at byte {stream.place - len(block):,} ({error})") from None
        if info.size < 0:
            raise ValueError("a header with a negative size")
        if info.type in (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK):
            name = _extended(stream, info.size).split(b"\0", 1)[0].decode("utf-8", "surrogateescape")
            if info.type == tarfile.GNUTYPE_LONGNAME:
                said["path"] = name
            continue
        if info.type in (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE):
            said |= _attributes(_extended(stream, info.size))
            continue
        if info.type == tarfile.XGLTYPE:
            _extended(stream, info.size)
            continue
        sparse = info.type == tarfile.GNUTYPE_SPARSE or any(key.startswith("GNU.sparse.") for key in said)
        more = info.type == tarfile.GNUTYPE_SPARSE and block[482]
        while more:
            more = stream.take(tarfile.BLOCKSIZE)[504]
        # Links and devices have no bytes behind them, whatever their header says; kinds that are not known have.
        holds = info.isreg() or info.type not in tarfile.SUPPORTED_TYPES
        size = _size(said.get("size", ""), info.size) if holds else 0
        kind = LINK if info.issym() or info.islnk() else FILE if info.isreg() and not sparse else OTHER
        path, said = said.get("path", info.name), {}
        held = _Held(stream, size)
        if info.type != tarfile.DIRTYPE:
            yield Entry(shown(path), kind, size, begun, held.read)
        held.leave()
        begun = stream.place
    raise EOFError("it has no end mark: it may be cut off")


class _Held:
    """The bytes of one entry of a tar, which are read at most once and else skipped."""

    def __init__(self, stream: _Stream, size: int) -> None:
        self.stream, self.size, self.left = stream, size, size + -size % tarfile.BLOCKSIZE

    def read(self) -> bytes:
        data = self.stream.take(self.size)
        self.left -= self.size
        return data

    def leave(self) -> None:
        self.stream.skip(self.left)


def _extended(stream: _Stream, size: int) -> bytes:
    if size > MAX_HEADER:
        raise ValueError(f"an extended header of {size:,} bytes")
    return stream.take(size + -size % tarfile.BLOCKSIZE)[:size]


def _attributes(data: bytes) -> dict[str, str]:
    """Extended attributes: lines of "LENGTH KEY=VALUE", where the length counts the whole line."""
    found = {}
    place = 0
    while place < len(data) and (match := re.compile(rb"(\d{1,7}) ([^=\n]+)=").match(data, place)):
        end = place + int(match[1])
        if not match.end() < end <= len(data):
            raise ValueError("damaged extended header")
        found[match[2].decode("utf-8", "replace")] = data[match.end() : end - 1].decode("utf-8", "surrogateescape")
        place = end
    return found


def _size(said: str, otherwise: int) -> int:
    if said and not re.fullmatch(r"\d{1,18}", said):
        raise ValueError("damaged extended header")
    return int(said) if said else otherwise


def _zip(raw: BinaryIO, stored: int, start: int) -> Iterator[Entry]:
    _refuse_large_directory(raw, stored)
    with zipfile.ZipFile(raw) as archive:
        infos = sorted(archive.infolist(), key=lambda info: info.header_offset)
        if sum(info.compress_size for info in infos) > stored:
            raise ValueError("its entries overlap")
        taken = unpacked = 0
        for info in infos:
            taken, unpacked = taken + info.compress_size, unpacked + info.file_size
            _refuse_much(unpacked, taken)
            if info.header_offset < start:
                continue
            mode = info.external_attr >> 16
            odd = info.flag_bits & 1 or (stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFLNK))
            kind = LINK if stat.S_ISLNK(mode) else OTHER if odd else FILE
            if not info.filename.endswith("/"):
                yield Entry(shown(info.filename), kind, info.file_size, info.header_offset, _reading(archive, info))


def _reading(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Callable[[], bytes]:
    def read() -> bytes:
        with archive.open(info) as file:  # gives no more bytes than the entry says, and then compares their checksum
            return file.read(info.file_size + 1)

    return read


def _refuse_large_directory(raw: BinaryIO, stored: int) -> None:
    """ValueError for a directory that would fill the memory; zipfile reads it whole."""
    raw.seek(max(0, stored - (1 << 16) - 22 - 76))
    tail = raw.read()
    found = tail.rfind(b"PK\x05\x06")
    if found < 0:
        raise ValueError("it has no directory: it is cut off, or no zip")
    size = int.from_bytes(tail[found + 12 : found + 16], "little")
    if tail[max(0, found - 20) : found - 16] == b"PK\x06\x07":  # a locator: the record of a large zip stands before it
        size = int.from_bytes(tail[max(0, found - 76) + 40 : found - 28], "little")
    if size > MAX_DIRECTORY:
        raise ValueError(f"its directory has more than {MAX_DIRECTORY:,} bytes")
    raw.seek(0)
