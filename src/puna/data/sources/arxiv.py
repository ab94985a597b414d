"""arXiv: its LaTeX sources as published in bulk, one document a paper (section 2.1: everything before the first section
and the bibliography removed; comments removed; macros that authors define written out).

A dump is a tar for a part of a month, `arXiv_src_YYMM_NNN.tar`, of `YYMM/ID.gz`, each a paper: a gzip of a tar of its
files or of one file. Members stay where they are: only headers are read when tasks are cut, and a task reads its
papers one after another.

Rules, in order: `pdf` (a paper without source), `not a paper`, `repeated` (a second member of one id), `size`,
`withdrawn`, `no tex`, `no section`, `short`. What cannot be read is set aside: damaged or lying archives, what is no
plain file, text with NUL characters, macros that never end. Memory: the LaTeX of one paper, at most
`sources.arxiv.max_bytes`, in the stages of its way, and ten times that when its macros grow to their limit.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import PurePosixPath
from typing import Any, BinaryIO, cast

from puna import storage
from puna.data.document import Document, Origin, document_id
from puna.data.latex import archive, tar
from puna.data.latex.cut import cut
from puna.data.latex.expand import EndlessError
from puna.data.latex.paper import NotTextError, read_paper
from puna.data.sources.records import EXAMPLE, Aside, Dropped, Input, Part, Record, SetAside, Task, group_parts, placed
from puna.recipe import ArXiv, Source

# arXiv asks no licence in the archive: it is said paper by paper in its metadata, which the dump does not hold.
LICENCE = "arXiv"
NEW_ID = re.compile(r"(\d{2})(\d{2})\.\d{4,5}")
OLD_ID = re.compile(r"([a-z-]+)(\d{2})(\d{2})(\d{3})")
VERSION = re.compile(r"v\d{1,3}$")
WITHDRAWN = re.compile(
    rb"\s*%auto-ignore\b|.{0,400}\b(paper|article|submission|manuscript) (has been|was|is) (being )?"
    rb"withdrawn\b",
    re.IGNORECASE | re.DOTALL,
)
SHORT = 3000  # bytes of a single file that may be no more than the word that the paper was withdrawn
CONTROLS = re.compile(r"[\x00-\x1f\x7f]")


def split(inputs: Sequence[Input], recipe: Source, task_size: int) -> list[Task]:
    """Ranges of about `task_size` stored bytes between the headers of papers; members of one id stay together."""
    parts = []
    for entry in inputs:
        parts += [Part(entry.declared, start, end) for start, end in pairwise(_cuts(entry, task_size))]
    return group_parts("arxiv", parts, task_size)


def read(task: Task, inputs: Sequence[Input], recipe: Source) -> Iterator[Record | Aside]:
    """The records of a task's papers, in the order of the dumps."""
    known = {entry.declared: entry for entry in inputs}
    for part in task.parts:
        for record in _Reader(known[part.declared], cast(ArXiv, recipe)).read(part):
            yield placed(record, part.declared)


def paper_id(name: str) -> tuple[str, str, str]:
    """(id, version, date) of the paper that a member's name means; no version and no date where it tells none."""
    stem = CONTROLS.sub("?", PurePosixPath(name).name)
    stem = re.sub(r"\.(gz|pdf)$", "", stem, flags=re.IGNORECASE)
    version = VERSION.search(stem)
    plain = stem[: version.start()] if version else stem
    if found := NEW_ID.fullmatch(plain):
        return plain, version[0] if version else "", _date(found[1], found[2])
    if found := OLD_ID.fullmatch(plain):
        number = plain.removeprefix(found[1])
        return f"{found[1]}/{number}", version[0] if version else "", _date(found[2], found[3])
    return stem, "", ""


def _date(year: str, month: str) -> str:
    return f"{1900 + int(year) if int(year) > 90 else 2000 + int(year)}-{month}"


def _cuts(entry: Input, task_size: int) -> list[int]:
    """Where a dump may be cut: before a member, at least `task_size` behind the last cut, and not between two members
    of one id."""
    offsets: list[int] = []
    last: dict[str, int] = {}  # of each id, the number of its last member
    first: dict[str, int] = {}
    with storage.open_read(entry.location) as file:
        for found in tar.members(file, 0, entry.size, entry.size):
            if isinstance(found, tar.Member) and found.kind == "file":
                key = paper_id(found.name)[0]
                first.setdefault(key, len(offsets))
                last[key] = len(offsets)
            offsets.append(found.offset)
    reach = [0] * len(offsets)
    for key, number in first.items():
        reach[number] = last[key]
    cuts, held = [0], -1
    for number, offset in enumerate(offsets):
        if number > held and offset - cuts[-1] >= task_size:
            cuts.append(offset)
        held = max(held, reach[number])
    return [*cuts, entry.size]


class _Reader:
    """Turns members of one dump into records."""

    def __init__(self, entry: Input, recipe: ArXiv) -> None:
        self.entry, self.recipe = entry, recipe
        self.seen: set[str] = set()

    def read(self, part: Part) -> Iterator[Record | Aside]:
        entry, found = self.entry, None
        with storage.open_read(entry.location) as file:
            for found in tar.members(file, part.start, part.end, entry.size):
                if isinstance(found, tar.Damage):
                    yield SetAside(found.reason, entry.declared, paper_id(found.name)[0], found.size)
                elif found.kind != "folder":
                    yield from self._member(file, found)
            if part.end == entry.size and not isinstance(found, tar.Damage):
                yield from self._ending(file, found)

    def _ending(self, file: BinaryIO, last: tar.Member | None) -> Iterator[SetAside]:
        """What an archive that ends without the mark of its end costs: nobody knows, so nothing is counted."""
        if self.entry.size == 0:
            yield SetAside("the file is empty", self.entry.declared, "")
            return
        file.seek(max(0, self.entry.size - tar.BLOCK))
        if file.read(tar.BLOCK).strip(b"\0"):
            yield SetAside("the archive ends without the mark of its end", self.entry.declared, "")

    def _member(self, file: BinaryIO, member: tar.Member) -> Iterator[Record | Aside]:
        key, version, date = paper_id(member.name)
        stored = self.entry.declared
        name = member.name.lower()
        if member.kind != "file":
            yield SetAside(f"is no file but a {member.kind}", stored, key, member.size)
        elif not archive.inside(member.name):
            yield SetAside("its path leads out of the archive", stored, key, member.size)
        elif member.size == 0:
            yield SetAside("the paper is empty", stored, key)
        elif name.endswith(".pdf"):
            yield Dropped("pdf", key, member.size, "")
        elif not name.endswith(".gz"):
            yield Dropped("not a paper", key, member.size, "")
        elif key in self.seen:
            yield Dropped("repeated", key, member.size, member.name[:EXAMPLE])
        else:
            self.seen.add(key)
            yield from self._paper(file, member, key, version, date)

    def _paper(self, file: BinaryIO, member: tar.Member, key: str, version: str, date: str) -> Iterator[Record | Aside]:
        try:
            files = archive.unpack(_chunks(file, member), member.size, self.recipe.max_bytes)
            if rule := _sourceless(files):
                example = (
                    next(iter(files.texts.values()), b"")[:EXAMPLE].decode("latin-1") if rule == "withdrawn" else ""
                )
                yield Dropped(rule, key, member.size, example)
                return
            found = read_paper(files)
        except archive.TooLargeError:
            yield Dropped("size", key, member.size, f"more than {self.recipe.max_bytes:,} bytes of text")
            return
        except (archive.BrokenPaperError, NotTextError, EndlessError) as error:
            yield SetAside(str(error), self.entry.declared, key, member.size)
            return
        if found is None:
            yield Dropped("no tex", key, member.size, ", ".join(sorted(files.others))[:EXAMPLE])
            return
        size = sum(map(len, files.texts.values()))
        text = cut(
            found.text,
            keep_appendix=self.recipe.keep_appendix,
            keep_without_section=self.recipe.keep_without_section,
            verbatim=found.verbatim,
        )
        if text is None:
            yield Dropped("no section", key, size, found.text.strip()[:EXAMPLE])
        elif len(text) < max(1, self.recipe.min_characters):
            yield Dropped("short", key, size, text[:EXAMPLE])
        else:
            if found.left or found.missing:
                yield Aside("latex", _left(key, found.left, found.missing))
            yield self._document(member, key, version, date, found.title, text)

    def _document(self, member: tar.Member, key: str, version: str, date: str, title: str, text: str) -> Document:
        dump, native = self.entry.dump, key + version
        url = f"https://arxiv.org/abs/{native}" if date else ""
        title = " ".join(title.split())[:EXAMPLE]
        origin = Origin(dump, native, self.entry.declared, member.offset, url, title, date, LICENCE)
        return Document(document_id("arxiv", dump, native), "arxiv", key, "und", text, origin)


def _sourceless(files: archive.Files) -> str:
    """The rule by which a paper is left out before it is read, or ""."""
    if files.beginning.startswith(b"%PDF"):
        return "pdf"
    if files.beginning.startswith((b"%!", b"PK\x03\x04", b"<!DOCTYPE", b"<html", b"\x1f\x8b", b"\x04%!")):
        return "no tex"
    if sum(map(len, files.texts.values())) <= SHORT and any(map(WITHDRAWN.match, files.texts.values())):
        return "withdrawn"
    return ""


def _chunks(file: BinaryIO, member: tar.Member) -> Iterator[bytes]:
    """A member's bytes, archive.CHUNK at a time."""
    file.seek(member.start)
    left = member.size
    while left > 0 and (data := file.read(min(archive.CHUNK, left))):
        left -= len(data)
        yield data


def _left(key: str, left: dict[str, str], missing: list[str]) -> dict[str, Any]:
    """What of a paper stays as it is: macros by reason, and files that it names and does not hold."""
    return {"paper": key, "macros": dict(sorted(left.items())[:200]), "missing": missing[:200]}
