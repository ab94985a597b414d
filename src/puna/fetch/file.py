"""One file to be fetched: its name here, its address, and what its place publishes about it."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any

from puna.errors import InputError

LONGEST = 200  # characters of one part of a name: file systems take 255 bytes, and ours begin with some of their own
PART = re.compile(r"[A-Za-z0-9_+=,@~-][A-Za-z0-9_.+=,@~ -]*")
CHECKSUMS = {"md5": 32, "sha1": 40, "sha256": 64}  # hex digits


@dataclass(frozen=True)
class File:
    """A file of a place."""

    name: str
    """Its path below the source's folder, with / between the parts."""
    url: str
    size: int | None = None
    """Bytes as published; None where the place does not say."""
    about: int = 0
    """Bytes that such files have on average, where none are published; 0: nobody knows."""
    checksum: str = ""
    """`sha1:...` as published, or ""."""
    first_seen: str = ""
    """Since which day `checksum` stands for what was fetched first, where none is published: YYYY-MM-DD."""
    limit: int | None = None
    """Only so many bytes from its beginning, cut behind the last whole record."""
    may_lack: bool = False
    """A catalogue that names files which are not there: one that is missing is counted, and no error."""

    @property
    def expected(self) -> int:
        """Bytes that it will have here, as far as anybody knows."""
        known = self.about if self.size is None else self.size
        return known if self.limit is None else min(self.limit, known or self.limit)

    def same(self, other: File) -> bool:
        """Whether both stand for the same bytes: mirrors and averages do not matter."""
        mine, its = ((each.name, each.size, each.checksum, each.limit) for each in (self, other))
        return mine == its

    def as_json(self) -> dict[str, Any]:
        return {key: value for key, value in asdict(self).items() if value not in (None, "", 0, False)}


def checked_name(name: str, where: str) -> str:
    """The name, when it can only lie below the folder it is put into; InputError names the catalogue that has it."""
    parts = name.split("/")
    if not all(PART.fullmatch(part) and len(part) <= LONGEST for part in parts) or len(parts) > 8:
        shown = name[:100].encode("unicode_escape").decode()
        raise InputError(f'names a file "{shown}", which is no plain name', where=where, mend="is this its catalogue?")
    return name


def checked_size(value: object, where: str) -> int | None:
    """Bytes as a catalogue says them, number or text; None where it says nothing."""
    if value is None or value == "":
        return None
    text = str(value)
    if isinstance(value, bool) or not re.fullmatch(r"[0-9]{1,15}", text):
        raise InputError(f"says a size of {text[:40]!r}", where=where, mend="is this its catalogue?")
    return int(text)


def checked_sum(algorithm: str, value: object, where: str) -> str:
    """`md5:...` of a published checksum; "" where there is none."""
    if value is None or value == "":
        return ""
    text = str(value).lower()
    if not re.fullmatch(f"[0-9a-f]{{{CHECKSUMS[algorithm]}}}", text):
        raise InputError(f"says a {algorithm} of {text[:80]!r}", where=where, mend="is this its catalogue?")
    return f"{algorithm}:{text}"
