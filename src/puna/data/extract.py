"""One extraction task: raw records in, shards of clean documents out, and a count for every record that went.

Documents are written as they come, in shards of bounded size, so memory is one row group, whatever the input.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import xxhash
import zstandard

from puna import storage
from puna.data.document import Document, DocumentWriter, utf8_size, valid
from puna.data.sources import Aside, Dropped, Input, Record, Task, read
from puna.data.sources.records import EXAMPLE
from puna.progress import say
from puna.recipe import Source
from puna.storage import Place

LINES = json.JSONEncoder(ensure_ascii=True, sort_keys=True, separators=(",", ":"))
EXAMPLES = 5  # of each kind that are kept for people to look at


def extract(inputs: Sequence[Input], recipe: Source, shard_size: int, task: Task, scratch: Place) -> dict[str, Any]:
    """Read one task and write its documents to scratch/TASK-NNN.parquet; the result counts every record."""
    counts = _Counts()
    shards: list[str] = []
    with _Beside(scratch, task.name) as beside:
        documents = counts.kept(beside.passing(read(task, inputs, recipe)))
        first = next(documents, None)
        while first is not None:
            shard = scratch / f"{task.name}-{len(shards):03d}.parquet"
            with DocumentWriter(shard) as writer:
                while first is not None and writer.bytes < shard_size:
                    writer.write(first)
                    first = next(documents, None)
            shards.append(storage.below(shard, scratch.parents[2]))
    shards += [storage.below(file, scratch.parents[2]) for file in beside.files]
    return counts.as_json() | {"input_bytes": sum(size for _, size in stored(inputs, task)), "files": shards}


def total(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The counts of all tasks of a source as one; a line says what could not be read, if anything."""
    kept: Counter[str] = Counter()
    dropped: dict[str, dict[str, Any]] = {}
    aside: list[Any] = []
    examples: list[Any] = []
    for result in results:
        kept.update({unit: result["kept"][unit] for unit in ("documents", "bytes")})
        examples += result["kept"]["examples"]
        aside += result["set_aside"]["examples"]
        for rule, found in result["dropped"].items():
            into = dropped.setdefault(rule, {"documents": 0, "bytes": 0, "examples": []})
            into["documents"] += found["documents"]
            into["bytes"] += found["bytes"]
            into["examples"] = smallest(into["examples"] + found["examples"])
    counts = {
        "records": sum(result["records"] for result in results),
        "input_bytes": sum(result["input_bytes"] for result in results),
        "kept": {"documents": kept["documents"], "bytes": kept["bytes"], "examples": smallest(examples)},
        "dropped": dropped,
        "set_aside": {
            "count": sum(result["set_aside"]["count"] for result in results),
            "bytes": sum(result["set_aside"]["bytes"] for result in results),
            "examples": aside[:EXAMPLES],
        },
    }
    if aside:
        say(f"  {unread(counts)}")
    return counts


def unread(counts: Mapping[str, Any]) -> str:
    """What of a source was set aside, and the first reason, in one line."""
    aside, first = counts["set_aside"], counts["set_aside"]["examples"][0]
    where = f"{first['file']} {first['key']}".strip()
    return (
        f"{aside['count']:,} of {counts['records']:,} records could not be read, and with them "
        f"{aside['bytes']:,} of {counts['input_bytes']:,} stored bytes; the first: {where}: {first['reason']}"
    )


def unread_share(counts: Mapping[str, Any]) -> float:
    """The share of a source's records that could not be read, or of its stored bytes, whichever is larger."""
    aside = counts["set_aside"]
    return float(max(aside["count"] / max(1, counts["records"]), aside["bytes"] / max(1, counts["input_bytes"])))


def stored(inputs: Sequence[Input], task: Task, endings: tuple[str, ...] = ("",)) -> Iterator[tuple[str, int]]:
    """Of each part of a task, its input and its stored bytes: of a range, or of members with one of those endings."""
    sizes = {entry.declared: dict(entry.members) for entry in inputs}
    for part in task.parts:
        members = (sizes[part.declared][member] for member in part.members if member.endswith(endings))
        yield part.declared, part.end - part.start + sum(members)


class _Beside:
    """Writes what a source keeps beside its documents: TASK.KIND.jsonl.zst, one for each kind that turns up."""

    def __init__(self, scratch: Place, task: str) -> None:
        self.scratch, self.task = scratch, task
        self.files: list[Place] = []
        self._open = ExitStack()
        self._writers: dict[str, Any] = {}

    def __enter__(self) -> _Beside:
        return self

    def __exit__(self, *error: Any) -> None:
        self._open.__exit__(*error)

    def passing(self, records: Iterator[Record | Aside]) -> Iterator[Record]:
        for record in records:
            if isinstance(record, Aside):
                self._write(record)
            else:
                yield record

    def _write(self, aside: Aside) -> None:
        if aside.kind not in self._writers:
            file = self.scratch / f"{self.task}.{aside.kind}.jsonl.zst"
            raw = self._open.enter_context(storage.create(file))
            self._writers[aside.kind] = self._open.enter_context(
                zstandard.ZstdCompressor().stream_writer(raw, closefd=False)
            )
            self.files.append(file)
        self._writers[aside.kind].write(LINES.encode(aside.value).encode() + b"\n")


class _Counts:
    def __init__(self) -> None:
        self.records = self.documents = self.bytes = self.aside = self.lost = 0
        self.examples = _Sample()
        self.dropped: dict[str, dict[str, Any]] = {}
        self.unread: list[dict[str, str]] = []

    def kept(self, records: Iterator[Record]) -> Iterator[Document]:
        """The documents among the records; everything is counted as it passes."""
        for record in records:
            self.records += 1
            if isinstance(record, Document):
                self.documents += 1
                self.bytes += _written_size(record.text)
                origin = record.origin
                names = {"id": record.id, "group": record.group, "dump": origin.dump}
                self.examples.see(origin.file, origin.key, record.text, url=origin.url, title=origin.title, **names)
                yield record
            elif isinstance(record, Dropped):
                rule = self.dropped.setdefault(record.rule, {"documents": 0, "bytes": 0, "examples": _Sample()})
                rule["documents"] += 1
                rule["bytes"] += record.size
                rule["examples"].see(record.file, record.key, record.example)
            else:
                self.aside += 1
                self.lost += record.size
                if len(self.unread) < EXAMPLES:
                    told = {"file": record.file, "key": record.key, "reason": record.reason}
                    self.unread.append({name: valid(value) for name, value in told.items()})

    def as_json(self) -> dict[str, Any]:
        dropped = {name: rule | {"examples": rule["examples"].found} for name, rule in self.dropped.items()}
        size = {"documents": self.documents, "bytes": self.bytes}
        return {
            "records": self.records,
            "kept": size | {"examples": self.examples.found},
            "dropped": dropped,
            "set_aside": {"count": self.aside, "bytes": self.lost, "examples": self.unread},
        }


def _written_size(text: str) -> int:
    """Bytes of a text as DocumentWriter writes it: JSON may hold half a character (a lone surrogate)."""
    try:
        return utf8_size(text)
    except UnicodeEncodeError:
        return utf8_size(valid(text))


class _Sample:
    """EXAMPLES records of all that are seen, each as likely as any other and the same however they are split into
    tasks: those whose keys have the smallest hashes."""

    def __init__(self) -> None:
        self.found: list[dict[str, Any]] = []

    def see(self, file: str, key: str, text: str, **more: str) -> None:
        rank = xxhash.xxh3_64_hexdigest(key.encode("utf-8", "surrogatepass"))
        if len(self.found) < EXAMPLES or rank < self.found[-1]["rank"]:
            named = {name: valid(value) for name, value in more.items() if value}
            example = {"rank": rank, "file": valid(file), "key": valid(key), "text": valid(text[:EXAMPLE])} | named
            self.found = smallest([*self.found, example])


def smallest(examples: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The EXAMPLES of lowest rank, in order."""
    return sorted(examples, key=lambda example: str(example["rank"]))[:EXAMPLES]
