"""Where a file that was fetched in part may be cut: behind its last whole record.

A gzipped WARC or WET is one gzip member a record; a tar is headers and padded bytes; a Wikipedia dump of many streams
is one bz2 stream a hundred pages. Nothing is unpacked to the disk;
memory is one block, and for a tar the headers of its members.
"""

from __future__ import annotations

import re
import tarfile
import zlib
from typing import BinaryIO

BLOCK = 1 << 18
STREAM = re.compile(rb"BZh[1-9]1AY&SY")  # what a bz2 stream begins with, its first block's magic among it


def border(file: BinaryIO, name: str, length: int) -> int:
    """Bytes up to the end of the last whole record among the first `length`; 0 when there is none.

    Raises ValueError for a name whose records are not known, or bytes that are none of that format.
    """
    if name.endswith(".gz"):
        return _members(file)
    if name.endswith(".bz2"):
        return _streams(file)
    if name.endswith(".tar"):
        return _of_tar(file, length)
    raise ValueError("its records cannot be told apart")


def _members(file: BinaryIO) -> int:
    """The end of the last whole gzip member."""
    end = read = 0
    member = zlib.decompressobj(31)
    waiting = b""
    while True:
        if not waiting:
            waiting = file.read(BLOCK)
            if not waiting:
                return end
            read += len(waiting)
        try:
            member.decompress(waiting, BLOCK)  # no more than a block is held of what it unpacks to
        except zlib.error as error:
            raise ValueError(f"is no gzip at byte {end} ({error})") from None
        if member.eof:
            waiting = member.unused_data
            end = read - len(waiting)
            member = zlib.decompressobj(31)
        else:
            waiting = member.unconsumed_tail


def _streams(file: BinaryIO) -> int:
    """Where the last bz2 stream begins, and all before it is whole, by ten bytes that chance does not make."""
    start, tail, last = 0, b"", -1
    while block := file.read(BLOCK):
        data = tail + block
        for found in STREAM.finditer(data):
            last = start + found.start()
        if last < 0 and not start:
            raise ValueError("is no bz2")
        tail = data[-9:]
        start += len(data) - len(tail)
    return max(0, last)


def _of_tar(file: BinaryIO, length: int) -> int:
    """The end of the last whole member of a tar, its long names and its padding counted."""
    end = 0
    try:
        with tarfile.open(fileobj=file, mode="r:") as archive:
            while archive.next() is not None:
                if archive.offset > length:
                    break
                end = archive.offset
    except tarfile.TarError as error:
        if not end:
            raise ValueError(f"is no tar ({error})") from None
    return end
