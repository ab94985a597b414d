"""7z archives, as far as a dump of a Stack Exchange site needs them: the list of files, and one file as a stream.

Nothing is written to disk and no name of the archive is used as a path, so names that lead elsewhere and links have
nothing to reach. Every number that an archive states is checked against a limit before anything is made of it.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from puna.data.stack.unpack import ArchiveError, Folder, unpacked

MAGIC = b"7z\xbc\xaf\x27\x1c"
MAX_HEADER = 4_000_000  # bytes of an archive's list of files, packed or not; a dump's is 400
MAX_COUNT = 10_000  # files, folders, streams; a dump has 8
DAMAGED = "the archive's list of files is damaged"
LINK = 0xA000  # of the Unix mode in the upper half of a file's attributes: S_IFLNK


@dataclass(frozen=True, slots=True)
class Member:
    """One file. `skip`: bytes of its folder that stand before it; an empty file has no folder."""

    name: str
    size: int
    crc: int | None
    link: bool
    folder: Folder | None
    skip: int


def members(file: BinaryIO, length: int) -> list[Member]:
    """The files of an archive of `length` bytes, in its order. ArchiveError for what is no sound archive."""
    file.seek(0)
    start = file.read(32)
    if not start.startswith(MAGIC):
        raise ArchiveError("is no 7z archive")
    if len(start) < 32:
        raise ArchiveError("the archive breaks off")
    crc, offset, size, header_crc = struct.unpack("<IQQI", start[8:])
    if zlib.crc32(start[12:]) != crc:
        raise ArchiveError("the archive's first bytes are damaged")
    if not size:
        return []
    if 32 + offset + size > length:
        raise ArchiveError(f"the archive breaks off: {length} bytes of {32 + offset + size}")
    header = _read(file, 32 + offset, size)
    if zlib.crc32(header) != header_crc:
        raise ArchiveError(DAMAGED)
    try:
        return _Header(file, length).members(header)
    except (IndexError, struct.error):
        raise ArchiveError(DAMAGED) from None


def stream(file: BinaryIO, member: Member) -> Iterator[bytes]:
    """The bytes of one file in blocks; ArchiveError where they are damaged, at the latest at the end,
    when size and CRC are known."""
    if member.folder is None:
        return
    left, skip, crc = member.size, member.skip, 0
    for data in unpacked(file, member.folder):
        if skip >= len(data):
            skip -= len(data)
            continue
        data = data[skip : skip + left]
        skip = 0
        left -= len(data)
        crc = zlib.crc32(data, crc)
        yield data
        if not left:
            break
    if left:
        raise ArchiveError(f"{member.name} ends {left} bytes before its stated size")
    if member.crc is not None and crc != member.crc:
        raise ArchiveError(f"{member.name} has the wrong CRC")


def _read(file: BinaryIO, start: int, size: int) -> bytes:
    if size > MAX_HEADER:
        raise ArchiveError(f"the archive's list of files is larger than {MAX_HEADER} bytes")
    file.seek(start)
    data = file.read(size)
    if len(data) < size:
        raise ArchiveError("the archive breaks off")
    return data


class _Header:
    """Reads the list of files. Names of what is read are those of 7-Zip's format description."""

    def __init__(self, file: BinaryIO, length: int) -> None:
        self.file, self.length = file, length
        self.data, self.at = b"", 0

    def members(self, data: bytes) -> list[Member]:
        for _ in range(4):  # a packed list may hold a packed list; nobody packs it more than once
            self.data, self.at = data, 0
            kind = self._byte()
            if kind == 0x01:
                return self._files()
            if kind != 0x17:
                break
            (folder, _), *others = self._streams()
            if others or folder.size > MAX_HEADER:
                raise ArchiveError(f"the archive's list of files is larger than {MAX_HEADER} bytes")
            data = b"".join(stream(self.file, Member("the list of files", folder.size, folder.crc, False, folder, 0)))
        raise ArchiveError(DAMAGED)

    def _files(self) -> list[Member]:
        streams: list[tuple[Folder, list[tuple[int, int | None]]]] = []
        kind = self._byte()
        if kind == 0x02:
            while self._byte():
                self._take(self._number())
            kind = self._byte()
        if kind == 0x04:
            streams = self._streams()
            kind = self._byte()
        if kind == 0:
            return []
        if kind != 0x05:
            raise ArchiveError(DAMAGED)
        count = self._count()
        names, empty, attributes = [""] * count, [False] * count, [0] * count
        while kind := self._byte():
            end = self._number() + self.at
            if kind == 0x0E:
                empty = self._bits(count)
            elif kind == 0x11:
                self._refuse_external()
                names = self.data[self.at : end].decode("utf-16-le", "replace").split("\0")[:count]
            elif kind == 0x15:
                defined = self._defined(count)
                self._refuse_external()
                attributes = [self._integer() if there else 0 for there in defined]
            self._move(end)
        if len(names) < count:
            raise ArchiveError(DAMAGED)
        return _joined(names, empty, attributes, streams)

    def _streams(self) -> list[tuple[Folder, list[tuple[int, int | None]]]]:
        """Each folder with sizes and CRCs of its files."""
        position, packed = 0, [0]
        folders: list[Folder] = []
        parts: list[list[tuple[int, int | None]]] = []
        while kind := self._byte():
            if kind == 0x06:
                position = 32 + self._number()
                packed = self._packed()
            elif kind == 0x07:
                folders = self._folders(position, packed)
                parts = [[(folder.size, folder.crc)] for folder in folders]
            elif kind == 0x08:
                parts = self._substreams(folders)
            else:
                raise ArchiveError(DAMAGED)
        if not folders:
            raise ArchiveError(DAMAGED)
        return list(zip(folders, parts, strict=True))

    def _packed(self) -> list[int]:
        count = self._count()
        sizes = [0] * count
        while kind := self._byte():
            if kind == 0x09:
                sizes = [self._number() for _ in range(count)]
            elif kind == 0x0A:
                self._digests(count)
            else:
                raise ArchiveError(DAMAGED)
        return sizes

    def _folders(self, position: int, packed: list[int]) -> list[Folder]:
        if self._byte() != 0x0B:
            raise ArchiveError(DAMAGED)
        count = self._count()
        self._refuse_external()
        chains = [self._coders() for _ in range(count)]
        if self._byte() != 0x0C:
            raise ArchiveError(DAMAGED)
        sizes = [[self._number() for _ in order] for _, order in chains]
        crcs: list[int | None] = [None] * count
        while kind := self._byte():
            if kind != 0x0A:
                raise ArchiveError(DAMAGED)
            crcs = self._digests(count)
        if len(packed) < count:
            raise ArchiveError(DAMAGED)
        starts = [position]
        for size in packed:
            starts.append(starts[-1] + size)
        if starts[-1] > self.length:
            raise ArchiveError("the archive breaks off")
        folders = []
        for index, ((coders, order), each) in enumerate(zip(chains, sizes, strict=True)):
            start, end = starts[index : index + 2]
            folders.append(Folder(tuple(coders[i] for i in order), start, end - start, each[order[-1]], crcs[index]))
        return folders

    def _coders(self) -> tuple[list[tuple[bytes, bytes]], list[int]]:
        """The coders of a folder, and the order in which they decode; each has one stream in and one out."""
        coders = []
        count = self._count()
        for _ in range(count):
            flags = self._byte()
            method = self._take(flags & 15)
            if flags & 0x90 or not 0 < count <= 4:
                raise ArchiveError(f"is packed by a method that is not read ({method.hex()})")
            coders.append((method, self._take(self._number()) if flags & 0x20 else b""))
        feeds = {}  # coder -> the one whose output it takes
        for _ in range(count - 1):
            into = self._number()
            feeds[into] = self._number()
        order: list[int] = []
        at: int | None = next((index for index in range(count) if index not in feeds.values()), None)
        while at is not None and at < count and len(order) < count:
            order.insert(0, at)
            at = feeds.get(at)
        if len(order) != count:
            raise ArchiveError(DAMAGED)
        return coders, order

    def _substreams(self, folders: Sequence[Folder]) -> list[list[tuple[int, int | None]]]:
        counts = [1] * len(folders)
        kind = self._byte()
        if kind == 0x0D:
            counts = [self._count() for _ in folders]
            if sum(counts) > MAX_COUNT:
                raise ArchiveError(f"the archive states more than {MAX_COUNT} files or streams")
            kind = self._byte()
        sizes = []
        for folder, count in zip(folders, counts, strict=True):
            each = [self._number() for _ in range(count - 1)] if kind == 0x09 else []
            rest = folder.size - sum(each)
            if rest < 0 or len(each) < count - 1:
                raise ArchiveError(DAMAGED)
            sizes.append([*each, rest] if count else [])
        if kind == 0x09:
            kind = self._byte()
        known = [folder.crc if count == 1 else None for folder, count in zip(folders, counts, strict=True)]
        crcs: list[int | None] = []
        if kind == 0x0A:
            missing = sum(count for count, crc in zip(counts, known, strict=True) if crc is None)
            crcs = self._digests(missing)
            kind = self._byte()
        if kind:
            raise ArchiveError(DAMAGED)
        found = iter(crcs)
        return [
            [(size, crc if crc is not None else next(found, None)) for size in each]
            for each, crc in zip(sizes, known, strict=True)
        ]

    def _digests(self, count: int) -> list[int | None]:
        return [self._integer() if there else None for there in self._defined(count)]

    def _defined(self, count: int) -> list[bool]:
        return [True] * count if self._byte() else self._bits(count)

    def _bits(self, count: int) -> list[bool]:
        data = self._take((count + 7) // 8)
        return [bool(data[index // 8] & (0x80 >> index % 8)) for index in range(count)]

    def _refuse_external(self) -> None:
        if self._byte():
            raise ArchiveError(DAMAGED)

    def _count(self) -> int:
        count = self._number()
        if count > MAX_COUNT:
            raise ArchiveError(f"the archive states more than {MAX_COUNT} files or streams")
        return count

    def _number(self) -> int:
        """7-Zip's variable length: as many bytes follow as the first one has leading ones."""
        first, value = self._byte(), 0
        for index in range(8):
            bit = 0x80 >> index
            if not first & bit:
                return value | (first & (bit - 1)) << (8 * index)
            value |= self._byte() << (8 * index)
        return value

    def _byte(self) -> int:
        self.at += 1
        return self.data[self.at - 1]

    def _integer(self) -> int:
        return int(struct.unpack("<I", self._take(4))[0])

    def _take(self, count: int) -> bytes:
        start = self.at
        self._move(start + count)
        return self.data[start : self.at]

    def _move(self, end: int) -> None:
        if end > len(self.data):
            raise IndexError(end)
        self.at = end


def _joined(
    names: Sequence[str],
    empty: Sequence[bool],
    attributes: Sequence[int],
    streams: Sequence[tuple[Folder, list[tuple[int, int | None]]]],
) -> list[Member]:
    """Names in order beside the packed files in order."""
    packed = []
    for folder, parts in streams:
        skip = 0
        for size, crc in parts:
            packed.append((size, crc, folder, skip))
            skip += size
    found = iter(packed)
    made = []
    for name, nothing, attribute in zip(names, empty, attributes, strict=False):
        link = bool(attribute & 0x8000) and (attribute >> 16) & 0xF000 == LINK
        if nothing:
            made.append(Member(name, 0, None, link, None, 0))
            continue
        each = next(found, None)
        if each is None:
            raise ArchiveError(DAMAGED)
        size, crc, folder, skip = each
        made.append(Member(name, size, crc, link, folder, skip))
    return made
