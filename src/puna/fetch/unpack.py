"""The wanted members of an archive from outside, unpacked so that it can do no harm.

Each member's name is looked at before anything is written: one that could leave the folder refuses the whole archive,
and so does a wanted one that is a link or a device. Only regular members that were asked for are written; what they
unpack to, their number and that of all members are bounded. The folder has its name when all of them are in it.
Memory: one block; of a zip and a plain tar, the list of members.
"""

from __future__ import annotations

import re
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import IO

from puna import storage
from puna.errors import InputError
from puna.storage import Place

LARGEST = 4_000_000_000  # bytes that the wanted members may have together; TriviaQA's, the largest, are far below
MOST, MEMBERS = 100_000, 1_000_000  # wanted members, and all: MATH has 12,500 problems, TriviaQA 487,254 members
BLOCK = 1 << 20
MEND = "remove it; if it comes again so, it is not what was released"

Member = tuple[str, bool, IO[bytes] | None]
"""Name, whether it is a regular file, its bytes where it is wanted."""


def unpack(archive: Place, keep: Sequence[str], folder: Place) -> int:
    """Unpack the members that match a pattern of `keep` into `folder`, which must not exist; how many there were.

    Raises InputError, by the archive's name, for what is no archive, is damaged, or would leave the folder.
    """
    where, count, left = str(archive), 0, LARGEST
    wanted = re.compile("|".join(_pattern(each) for each in keep))
    try:
        with storage.create_folder(folder) as new:
            for name, regular, data in _members(archive, wanted):
                if data is None:
                    if not regular and wanted.fullmatch(name):
                        raise InputError(f"holds {_shown(name)} as a link or a device", where=where, mend=MEND)
                    continue
                count += 1
                if count > MOST:
                    raise InputError(f"holds more than {MOST:,} such files", where=where, mend=MEND)
                with closing(data), storage.create(new / name) as file:
                    while block := data.read(BLOCK):
                        left -= len(block)
                        if left < 0:
                            raise InputError(f"unpacks to more than {LARGEST:,} bytes", where=where, mend=MEND)
                        file.write(block)
            if not count:
                raise InputError(f"holds none of {', '.join(keep)}", where=where, mend=MEND)
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        what = f"is no archive, or is damaged ({' '.join(str(error).split())[:100]})"
        raise InputError(what, where=where, mend=MEND) from None
    return count


def _members(archive: Place, wanted: re.Pattern[str]) -> Iterator[Member]:
    with storage.open_read(archive) as raw:
        source = _of_zip(raw, wanted) if archive.name.endswith(".zip") else _of_tar(raw, wanted)
        for number, (name, regular, data) in enumerate(source):
            if number == MEMBERS:
                raise InputError(f"has more than {MEMBERS:,} members", where=str(archive), mend=MEND)
            _refuse_outside(name, archive)
            yield name, regular, data


def _of_tar(raw: IO[bytes], wanted: re.Pattern[str]) -> Iterator[Member]:
    """Read as a stream: a packed one is unpacked once."""
    with tarfile.open(fileobj=raw, mode="r|*") as tar:
        while (member := tar.next()) is not None:
            tar.members = []  # type: ignore[attr-defined]  # it would keep all of half a million
            name = _tidy(member.name)
            data = tar.extractfile(member) if member.isreg() and wanted.fullmatch(name) else None
            yield name, member.isreg() or member.isdir(), data


def _of_zip(raw: IO[bytes], wanted: re.Pattern[str]) -> Iterator[Member]:
    with zipfile.ZipFile(raw) as archive:
        for member in archive.infolist():
            name, kind = _tidy(member.filename), member.external_attr >> 28
            regular = kind in (0, 4, 8)  # unknown, a folder, a file
            take = regular and not name.endswith("/") and wanted.fullmatch(name)
            yield name, regular, archive.open(member) if take else None


def _refuse_outside(name: str, archive: Place) -> None:
    if name.startswith("/") or "\\" in name or "\0" in name or ".." in name.split("/") or re.match("[A-Za-z]:", name):
        what = f"holds {_shown(name)}, a path that leads out of its folder"
        raise InputError(what, where=str(archive), mend=MEND)


def _tidy(name: str) -> str:
    while name.startswith("./"):
        name = name[2:]
    return name


def _pattern(keep: str) -> str:
    return re.escape(keep).replace(r"\*", r"[^/\x00-\x1f.][^/\x00-\x1f]*")


def _shown(name: str) -> str:
    return ascii(name[:100])
