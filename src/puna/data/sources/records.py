"""What passes between a source and the data steps: inputs, tasks, and the fate of every record."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import xxhash

from puna import storage
from puna.data.document import Document

T = TypeVar("T")
EXAMPLE = 200  # characters of a dropped record that are kept for people to look at


@dataclass(frozen=True)
class Input:
    """One dump, or one package. Only `location` belongs to this machine; it is never recorded."""

    declared: str
    """As named in the recipe, or relative to the root of a glob or folder."""
    location: str
    """Absolute path or URL of the file; for a package, the folder from which its members are named."""
    dump: str
    """Part of each document's id: the file's name, or the package and its version."""
    size: int
    """Bytes."""
    version: str = ""
    """Of the package that holds the input, if one does."""
    members: tuple[tuple[str, int], ...] = ()
    """Of a package: path and bytes of every file, sorted."""

    @cached_property
    def digest(self) -> str:
        """Of the file's bytes; of a package, of the paths, sizes and bytes of its files. Read when first asked for."""
        if not self.members:
            return storage.digest(self.location)
        root = Path(self.location)
        state = xxhash.xxh3_128()
        for path, size in self.members:
            found = storage.digest(root / path) if (root / path).is_file() else "missing"
            state.update(f"{path}\0{size}\0{found}\n".encode("utf-8", "surrogatepass"))
        return f"xxh3:{state.hexdigest()}"


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of one input: the bytes from `start` to `end` of a file, or some members of a package."""

    declared: str
    start: int = 0
    end: int = 0
    members: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Task:
    name: str
    source: str
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Dropped:
    """A sound record that a rule left out."""

    rule: str
    key: str
    size: int
    """Bytes of the record's raw text."""
    example: str
    """Its beginning, at most EXAMPLE characters."""
    file: str = ""
    """The input that holds it, as declared."""


@dataclass(frozen=True, slots=True)
class SetAside:
    """A record, or a stretch of a file, that could not be read."""

    reason: str
    file: str
    key: str
    size: int = 0
    """Stored bytes that are lost with it; 0 for a record within a stretch that is read on."""


@dataclass(frozen=True, slots=True)
class Aside:
    """What a source keeps beside its documents, such as the addresses that an article cites. It is no record: it goes
    to work/extract.SOURCE/*/TASK.KIND.jsonl.zst and is counted by nobody."""

    kind: str
    """One word, part of a file's name."""
    value: Mapping[str, Any]
    """A JSON object, one line."""


Record = Document | Dropped | SetAside


def placed(record: T, file: str) -> T:
    """A record with the input that holds it, where it is a dropped one and says none."""
    return replace(record, file=file) if isinstance(record, Dropped) and not record.file else record


def as_json(tasks: Sequence[Task]) -> list[dict[str, Any]]:
    return [asdict(task) for task in tasks]


def from_json(values: Sequence[Mapping[str, Any]]) -> list[Task]:
    return [
        Task(
            value["name"],
            value["source"],
            tuple(Part(**(part | {"members": tuple(part["members"])})) for part in value["parts"]),
        )
        for value in values
    ]


def group_parts(
    source: str,
    parts: Sequence[Part],
    task_size: int,
    size: Callable[[Part], int] = lambda part: part.end - part.start,
) -> list[Task]:
    """Tasks of consecutive parts with at least `task_size` bytes each (but the last), so that many small files are few
    tasks. Parts are cut to at most `task_size` by the source, where its format can be cut there. `size`: bytes of a
    part."""
    tasks: list[Task] = []
    waiting: list[Part] = []
    held = 0
    for part in parts:
        waiting.append(part)
        held += size(part)
        if held >= task_size:
            tasks.append(Task(f"{len(tasks):05d}", source, tuple(waiting)))
            waiting, held = [], 0
    if waiting:
        tasks.append(Task(f"{len(tasks):05d}", source, tuple(waiting)))
    return tasks
