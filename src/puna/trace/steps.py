"""From a document to the training steps that read it, with where it was published.

Nothing is kept for this but the ranges of windows that rewinds passed over (metrics.jsonl): windows are a pure function
of their number (tokens/windows.py), so that which steps read a token follows from where it stands. What costs is to
look for names: ids and origins of all documents are read, which is some hundredth of their bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from puna import storage
from puna.data.document import Document, read_documents
from puna.data.exclude import Exclusions, entries
from puna.errors import InputError
from puna.records import read_records
from puna.run import read_recipe
from puna.storage import Place
from puna.tokens import manifest as manifests
from puna.tokens.shards import Shard
from puna.tokens.windows import Windows
from puna.train import history
from puna.train.position import Ranges, first_window, joined, step_that_reads

FORMAT = 1  # of the JSON
SHOWN = 12  # steps of a document that are written out on the screen
COLUMNS = ("id", "source", "group", "origin")


@dataclass(frozen=True)
class Traced:
    """One document. held_out: no step may read it. steps: those that read it, from 1 as metrics.jsonl counts them."""

    document: Document
    entry: str
    """What was asked for that it answers to."""
    held_out: bool
    steps: tuple[int, ...]

    def as_json(self) -> dict[str, Any]:
        document = self.document
        known = {"id": document.id, "source": document.source, "group": document.group}
        told = {"entry": self.entry, "held_out": self.held_out, "steps": list(self.steps)}
        return known | told | {"origin": asdict(document.origin)}


@dataclass(frozen=True)
class Trace:
    run: str
    planned: int
    """Steps that the run's mixture is planned for; 0 before there is one."""
    trained: int
    """Steps done so far."""
    documents: tuple[Traced, ...]
    missing: tuple[str, ...]
    """What was asked for that no document answers to."""

    def as_json(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "run": self.run,
            "steps": {"planned": self.planned, "trained": self.trained},
            "documents": [found.as_json() for found in self.documents],
            "missing": list(self.missing),
        }

    def as_text(self) -> str:
        lines = [f"{len(self.documents):,} documents; {self.trained:,} of {self.planned:,} steps are trained"]
        for found in self.documents:
            lines += ["", *told(found, self.trained)]
        if self.missing:
            lines += ["", f"no document of this run is named {', '.join(self.missing[:SHOWN])}"]
        return "\n".join(lines)


def documents(run: str, names: Sequence[str]) -> Trace:
    """The documents that entries name, in the form of `data.exclude`, and the steps that read each.

    Raises InputError when the run has no documents yet, or a list cannot be read.
    """
    folder = storage.place(run)
    chosen = Exclusions(entries(names))
    steps, planned, trained = Steps.of(folder)
    found: list[Traced] = []
    for held_out, path, document in all_documents(folder):
        origin = document.origin
        entry = chosen.of(document.id, document.group, origin.url, origin.title, origin.key, origin.dump, origin.file)
        if entry is not None:
            read = steps.that_read(document.source, path.stem, document.id) if steps and not held_out else ()
            found.append(Traced(document, entry, held_out, read))
    answered = {one.entry for one in found}
    return Trace(run, planned, trained, tuple(found), tuple(name for name in chosen.entries if name not in answered))


class OtherTokens(InputError):
    """The tokens were made from other documents than there are now."""


class Steps:
    """Which windows are read in which step. rewound: those that rewinds passed over, which none reads."""

    def __init__(self, windows: Windows, per_step: int, rewound: Ranges = ()) -> None:
        self.windows, self.per_step, self.rewound = windows, per_step, rewound
        self._past = sum(end - first for first, end in rewound)
        self._last: tuple[tuple[str, str], int, Shard, dict[str, int]] | None = None

    @staticmethod
    def of(folder: Place) -> tuple[Steps | None, int, int]:
        """(steps, planned, trained) of a run; no steps before it has a mixture. OtherTokens when the tokens were made
        from other documents than there are now."""
        read_recipe(folder)  # which refuses what is no run
        if not storage.exists(manifests.folder_of(folder) / "mixture.json"):
            return None, 0, 0
        windows = Windows(folder)
        _refuse_others(folder)
        mixture = windows.mixture
        told = history.lines(folder / history.METRICS_NAME)
        rewound = joined((spike["rewound"][0], spike["rewound"][1]) for spike in history.rewinds(told))
        return Steps(windows, mixture.batch_windows, rewound), mixture.steps, _trained(told)

    def that_read(self, source: str, shard: str, document: str) -> tuple[int, ...]:
        if source not in self.windows.mixture.sources:
            return ()
        before, opened, rows = self._shard(source, shard)
        first, last = (before + int(opened.offsets[rows[document] + more]) for more in (0, 1))
        read = self.windows.readings(source, first, last, past=self._past)
        steps = (step_that_reads(window, self.per_step, self.rewound) for window in read)
        return tuple(sorted({step for step in steps if step is not None and step <= self.windows.mixture.steps}))

    def _shard(self, source: str, name: str) -> tuple[int, Shard, dict[str, int]]:
        """(tokens of the source before it, the shard, row of each document); the last one is kept."""
        if self._last is None or self._last[0] != (source, name):
            before = 0
            for entry in self.windows.manifest.sources[source].shards:
                if entry.name == name:
                    break
                before += entry.tokens
            opened = Shard.open(manifests.stem(self.windows.folder, source, name))
            self._last = ((source, name), before, opened, {id: row for row, id in enumerate(opened.ids)})
        return self._last[1:]

    def windows_of(self, number: int) -> range:
        """The windows that step `number` (from 1) reads."""
        first = first_window(number, self.per_step, self.rewound)
        return range(first, min(first + self.per_step, len(self.windows) + self._past))


def _refuse_others(folder: Place) -> None:
    """Tokens of documents that were changed since would tell of steps that read what is no more."""
    known = read_records(folder)
    for name, record in known.items():
        source = name.partition(".")[2]
        if name.startswith("documents."):
            tokens = known.get(f"tokens.{source}")
            if tokens is None or tokens["inputs"].get(name) != record["produced"]:
                what = f"its tokens were made from other {source} documents than there are now"
                raise OtherTokens(what, where=str(folder), mend="puna tokens RECIPE makes them anew")


def _trained(lines: Sequence[Mapping[str, Any]]) -> int:
    """The last step of metrics.jsonl; 0 before there is one."""
    steps = [line["step"] for line in lines if "loss" in line and isinstance(line.get("step"), int)]
    return steps[-1] if steps else 0


def told(found: Traced, trained: int, places: str = "") -> list[str]:
    """Lines for a person: one document, where its record lies, and which steps read it."""
    origin = found.document.origin
    lines = [f"{found.document.id}  {found.document.source}  {origin.title or origin.key}"]
    lines += [f"  from   {origin.dump}, {origin.key}"]
    lines += [f"  in     {origin.file}, from byte {origin.offset:,} on"] if origin.file else []
    lines += [f"  at     {origin.url}"] if origin.url else []
    lines += [f"  holds  it at {places}"] if places else []
    return [*lines, f"  read   {_read(found, trained)}"]


def _read(found: Traced, trained: int) -> str:
    if found.held_out:
        return "never: it is held out"
    if not found.steps:
        return "in no step that is planned"
    done = sum(step <= trained for step in found.steps)
    listed = ", ".join(f"{step:,}" for step in found.steps[:SHOWN])
    more = f" and {len(found.steps) - SHOWN:,} more" if len(found.steps) > SHOWN else ""
    return f"in step {listed}{more}: {done:,} of these are trained"


def all_documents(folder: Place) -> Iterator[tuple[bool, Place, Document]]:
    """(held out, shard, document without its text) of every document of a run."""
    if not storage.is_folder(folder / "documents"):
        raise InputError("holds no documents yet", where=str(folder), mend="puna data RECIPE makes them")
    for name in ("documents", "heldout"):
        for path in storage.listing(folder / name, "*/*.parquet"):
            for document in read_documents(path, COLUMNS):
                yield name == "heldout", path, document
