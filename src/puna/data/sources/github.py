"""Code, one document a file (section 2.1: only Apache, BSD and MIT projects; files filtered by line length and share of
alphanumeric characters; boilerplate such as headers removed).

It is read from installed packages, archives (source distributions, wheels), folders of repositories, and the
tables of GitHub's public dataset on BigQuery. Whatever the form: first what a project says of its licence, then files.

Rules, in order: `licence` (of the project; that of the nearest folder with a licence file of its own, and a file's own
SPDX line, win over it, and a head that names a copyleft licence drops the file), `extension`, `path`, `size`, `link`,
`binary`, `generated`, `longest line`, `mean line`, `alphanumeric`, `letters per token`, `short`. The numbers are those
of RedPajama, the known reproduction, as recipe values. It counted the tokens of its own tokenizer; here a token is a
run of word characters or a run of other visible ones, which needs none. Files that are no text are set aside: neither
UTF-8 nor, for Python, what their encoding line (PEP 263) says.

Line ends become \\n; else nothing but the licence header is taken from a file. What was read under which licence goes
beside the documents, for the notice. Memory: one file of at most `max_bytes`, and what the formats state
(`code/archive.py`, `code/tables.py`, `code/projects.py`).
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import cast

import xxhash

from puna import storage
from puna.data.code import archive, tables
from puna.data.code.archive import Entry
from puna.data.code.judge import Judge
from puna.data.code.licence import Verdict, named_in, of_expression, of_project
from puna.data.code.licence_text import NAMED_FILE
from puna.data.code.projects import MAX_BYTES, Gathering, Project, home_page, says_something
from puna.data.sources.inputs import PACKAGE, PYTHON, normal, package
from puna.data.sources.records import Aside, Dropped, Input, Part, Record, SetAside, Task, group_parts
from puna.recipe import GitHub, Source

Found = Iterator[Record | Aside]


def split(inputs: Sequence[Input], recipe: Source, task_size: int) -> list[Task]:
    """Groups of at least `task_size` bytes: of files of packages and folders, of stretches of archives and tables. A
    packed tar or table is one stretch."""
    sizes = {(entry.declared, member): size for entry in inputs for member, size in entry.members}
    parts = [part for entry in inputs for part in _parts(entry, cast(GitHub, recipe), task_size)]

    def size(part: Part) -> int:
        return sizes[part.declared, part.members[0]] if part.members else part.end - part.start

    tasks = group_parts("github", parts, task_size, size)
    return [Task(task.name, task.source, _joined(task.parts)) for task in tasks]


def read(task: Task, inputs: Sequence[Input], recipe: Source) -> Found:
    """The records of a task's files, in the order of inputs, and of paths or places in them."""
    known = {entry.declared: entry for entry in inputs}
    rules = cast(GitHub, recipe)
    licences = tuple(entry.location for entry in inputs if tables.table_of(entry.location) == "licenses")
    for part in task.parts:
        entry = known[part.declared]
        if entry.members:
            yield from _read_files(entry, part, rules)
        elif tables.table_of(entry.location):
            yield from _read_table(entry, part, rules, licences)
        else:
            yield from _read_archive(entry, part, rules)


def _parts(entry: Input, rules: GitHub, task_size: int) -> Iterator[Part]:
    if entry.members:
        yield from (Part(entry.declared, members=(member,)) for member, _ in entry.members)
        return
    table = tables.table_of(entry.location)
    if table == "licenses":
        return
    if entry.size <= task_size:
        yield Part(entry.declared, 0, max(entry.size, 1))
        return
    if table:
        cuts = tables.cuts(entry.location, task_size)
    else:
        cuts = [*_surveyed(entry, rules).places] if archive.can_be_cut(entry.location) else []
    kept = [0]
    for cut in cuts:
        if cut - kept[-1] >= task_size:
            kept.append(cut)
    yield from (Part(entry.declared, start, end) for start, end in pairwise([*kept, max(entry.size, kept[-1] + 1)]))


def _read_files(entry: Input, part: Part, rules: GitHub) -> Found:
    """Files that lie on the disk: of an installed package or a folder."""
    installed = entry.declared.startswith(PACKAGE)
    judge = Judge(_project(entry, tuple(rules.licences), tuple(sorted(_declared(rules).items()))), rules)
    sizes, root = dict(entry.members), Path(entry.location)
    for member in part.members:
        path = root / member
        if not installed and path.is_symlink():
            yield Dropped("link", f"{entry.dump}: {archive.shown(member)}", 0, "")
        else:
            read = path.read_bytes
            yield from judge.file(archive.shown(member), sizes[member], read, entry.declared)


def _read_archive(entry: Input, part: Part, rules: GitHub) -> Found:
    """The files of an archive whose place is in the part."""
    survey = _surveyed(entry, rules)
    judge = Judge(survey.project, rules)
    end = None if part.end >= entry.size else part.end  # of a packed tar, places count what is unpacked
    before = bisect_left(survey.places, part.start)
    try:
        for found in archive.entries(entry.location, part.start, end, before):
            if reason := _unsound(found, survey.firsts):
                yield SetAside(reason, entry.declared, found.path)
            elif found.kind == archive.LINK:
                yield Dropped("link", f"{entry.dump}: {found.path}", 0, "")
            else:
                yield from judge.file(found.path, found.size, found.read, entry.declared, lost=0)
    except archive.BrokenArchive as error:
        yield SetAside(str(error), entry.declared, "", error.lost)


def _unsound(found: Entry, firsts: Mapping[str, int]) -> str:
    """Why an entry of an archive is not looked at, or ""."""
    if not archive.safe(found.path):
        return "its path leads out of the archive"
    if found.kind == archive.OTHER:
        return "a device, an encrypted or a sparse file"
    if firsts.get(found.path, found.start) != found.start:
        return "the archive holds a file of that path before"
    return ""


@dataclass(frozen=True)
class _Survey:
    """What one pass over an archive, as far as it can be read, tells of it before its files are judged."""

    project: Project
    firsts: Mapping[str, int]
    """Of each path that occurs twice, the place where it occurs first."""
    places: tuple[int, ...]
    """Where its entries begin, in order."""


def _surveyed(entry: Input, rules: GitHub) -> _Survey:
    seen = storage.look(entry.location)
    known = tuple(sorted(_declared(rules).items()))
    return _survey(entry.location, entry.dump, tuple(rules.licences), known, seen.stamp if seen else None)


@lru_cache(maxsize=2)
def _survey(
    location: str, dump: str, families: tuple[str, ...], known: tuple[tuple[str, str], ...], stamp: object
) -> _Survey:
    """Kept for the parts of one archive that a worker reads one after another; `stamp` tells a changed file."""
    gathering, firsts, places = Gathering(), dict[str, int](), list[int]()
    seen: dict[int, int] = {}
    with suppress(archive.BrokenArchive):  # told by the task that reads so far
        for found in archive.entries(location):
            places.append(found.start)
            if found.kind == archive.FILE and archive.safe(found.path):
                digest = xxhash.xxh3_64_intdigest(found.path.encode("utf-8", "surrogatepass"))
                if digest in seen:
                    firsts.setdefault(found.path, seen[digest])
                else:
                    seen[digest] = found.start
                    _gather(gathering, found)
    name = gathering.top.rstrip("/") or re.sub(r"(\.tar)?\.\w+$", "", dump.rpartition("/")[2])
    return _Survey(gathering.project(dump, name, families, dict(known)), firsts, tuple(places))


def _gather(gathering: Gathering, found: Entry) -> None:
    with suppress(*archive.BROKEN):  # the file is set aside when its turn comes
        gathering.pass_by(found.path, found.size, found.read)


def _read_table(entry: Input, part: Part, rules: GitHub, locations: tuple[str, ...]) -> Found:
    """The rows of the table `contents`, by the licences of the table `licenses`."""
    known = tables.licences(locations)
    judges: dict[str, Judge] = {}
    for row in tables.rows(entry.location, tables.CONTENTS, part.start, part.end):
        repository, path = row.values.get("sample_repo_name"), row.values.get("sample_path")
        if row.broken or not (isinstance(repository, str) and isinstance(path, str) and repository and path):
            yield SetAside(row.broken or "names no repository or path", entry.declared, row.place, row.lost)
            continue
        if repository not in judges:
            if len(judges) >= 10_000:
                judges.clear()
            judges[repository] = Judge(_of_table(entry, repository, known.of(repository), rules), rules)
        size = _whole(row.values.get("size"))
        content = row.values.get("content")
        key = f"{repository}/{path}"
        if isinstance(content, str) and (content or not size):  # CSV has no other way to write that there is none
            data = content.encode("utf-8", "surrogatepass")
            yield from judges[repository].file(key, len(data), lambda data=data: data, entry.declared, lost=0)  # type: ignore[misc]
        elif str(row.values.get("binary")).lower() == "true":
            yield Dropped("binary", f"{entry.dump}: {key}", size, "")
        else:  # the dataset leaves the content of large files out
            yield Dropped("size", f"{entry.dump}: {key}", size, f"{size} bytes")


def _of_table(entry: Input, repository: str, licence: str, rules: GitHub) -> Project:
    verdict = of_expression(licence, rules.licences) if licence else Verdict("unknown", "the table licenses lacks it")
    return Project(repository, entry.dump, f"https://github.com/{repository}", verdict=verdict)


def _whole(value: object) -> int:
    """A count as exports write it: a number, or its digits."""
    text = str(value)
    return int(text) if text.isdecimal() and len(text) < 19 else 0


@lru_cache(maxsize=4)
def _project(entry: Input, families: tuple[str, ...], known: tuple[tuple[str, str], ...]) -> Project:
    """Of an installed package or a folder. Kept for the parts of one that a worker reads one after another."""
    read = _installed if entry.declared.startswith(PACKAGE) else _gathered
    return read(entry, families, dict(known))


def _installed(entry: Input, families: Sequence[str], known: Mapping[str, str]) -> Project:
    name = entry.dump.rpartition(" ")[0]  # what stands before the version in the name of the dump
    if name == PYTHON:  # the standard library is under Python's own licence, and none of the three
        return Project(name, entry.dump, "", entry.version, of_expression("PSF-2.0", families))
    distribution = package(name)
    metadata = distribution.metadata
    own = [
        Path(str(distribution.locate_file(file)))
        for file in distribution.files or []
        if re.fullmatch(r"[^/]+\.(dist|egg)-info(/licenses)?", file.parent.as_posix())
        and NAMED_FILE.fullmatch(file.name)
    ]
    texts = tuple(_start_of(path).decode("utf-8", "replace") for path in sorted(own) if path.is_file())
    verdict = of_project(named_in(metadata), texts, families, known.get(name, ""))  # type: ignore[arg-type]
    below = _gathered(entry, families, known)
    texts += tuple(text for text in below.texts if text not in texts)
    return Project(name, entry.dump, home_page(metadata), entry.version, verdict, texts, below.folders)  # type: ignore[arg-type]


def _start_of(path: Path) -> bytes:
    with storage.open_read(path) as file:
        return file.read(MAX_BYTES)


def _gathered(entry: Input, families: Sequence[str], known: Mapping[str, str]) -> Project:
    gathering, root = Gathering(tops={"", "."}), Path(entry.location)
    for member, size in entry.members:
        if says_something(member) and not (path := root / member).is_symlink() and path.is_file():
            gathering.pass_by(member, size, path.read_bytes)
    return gathering.project(entry.dump, entry.dump, families, known)


def _declared(rules: GitHub) -> dict[str, str]:
    return {normal(known): licence for known, licence in rules.declared.items()}


def _joined(parts: Sequence[Part]) -> tuple[Part, ...]:
    """Neighbouring files of one package or folder as one part."""
    joined: list[Part] = []
    for part in parts:
        if joined and part.members and joined[-1].declared == part.declared:
            joined[-1] = Part(part.declared, members=joined[-1].members + part.members)
        else:
            joined.append(part)
    return tuple(joined)
