"""An index of the text of a run's documents, built when it is asked for: which documents may hold a piece of text.

    trace/index.json                     written last: what it was made of, and how large it is
    trace/FINGERPRINT/NNNNN.grams        what is kept of one shard (dedup/winnow.py), cut by ranges; goes in the end
    trace/FINGERPRINT/part-NNNNN.parts   one range of all shards: (gram, document), sorted, cut into BUCKETS by gram
    trace/FINGERPRINT/*.json             records of the tasks, so that a killed build goes on; they go in the end

All are exchange files. A document is numbered in the order of the shards. A gram is 32 bits of a key: another may have
the same by chance, so what the index names are candidates, and each is read. No document that holds the text is missed,
if the text has SHORTEST bytes: all that is kept of the text is then kept of the document.

Memory: building holds what is kept of one shard (0.17 bytes for each of text) or one range, about PART bytes of stored
documents; a look holds one bucket for each gram of the text.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from puna import records, space, storage
from puna.data.dedup import exchange
from puna.data.dedup.grams import distinct
from puna.data.dedup.winnow import GRAM, SHORTEST, WINDOW, keys_of, winnowed
from puna.data.document import read_column
from puna.errors import InputError
from puna.formats import TRACE, refuse_newer
from puna.progress import say, seconds, size
from puna.run import hold
from puna.steps import Context
from puna.storage import Place

FOLDER, NAME = "trace", "index.json"
PART = 32_000_000  # stored bytes of documents whose entries are one range, about 20 MB of them
BUCKETS = 4096
ENTRY = np.dtype([("gram", "<u4"), ("document", "<u4")])  # in .grams files: its row in the shard
MOST_DOCUMENTS = 2**32


@dataclass(frozen=True)
class Shard:
    """A file of documents. size: bytes as stored."""

    path: Place
    held_out: bool
    size: int


@dataclass(frozen=True)
class Index:
    """An index that is of the documents there are. firsts: the number of each shard's first document, and the end."""

    scratch: Place
    partitions: int
    firsts: tuple[int, ...]
    counts: dict[str, int | float]
    """`documents`, `text_bytes`, `entries`, `bytes`, and the `seconds` that building it took."""
    new: bool = False
    """Whether it was built just now."""

    def as_json(self, run: str) -> dict[str, Any]:
        return {"format": TRACE.version, "run": run, "new": self.new, "shortest_bytes": SHORTEST, **self.counts}

    def as_text(self) -> str:
        text, length = self.counts["text_bytes"], self.counts["bytes"]
        return (
            f"Index of {self.counts['documents']:,} documents{'' if self.new else ', there already'}: {size(length)}, "
            f"{100 * length / max(1, text):.0f} % of {size(text)} of text; building it took "
            f"{seconds(self.counts['seconds'])}. --text finds by it what has {SHORTEST} bytes or more."
        )


class _Building(Context):
    """The tasks of an index, which is no step of a recipe."""

    @property
    def scratch(self) -> Place:
        return self.folder / FOLDER / self.fingerprint


def shards(folder: Place) -> tuple[Shard, ...]:
    """The shards of a run, held-out ones last. InputError when it has no documents yet."""
    if not storage.is_folder(folder / "documents"):
        raise InputError("holds no documents yet", where=str(folder), mend="puna data RECIPE makes them")
    found = []
    for kind in ("documents", "heldout"):
        if storage.is_folder(folder / kind):
            sizes = storage.tree(folder / kind)
            paths = storage.listing(folder / kind, "*/*.parquet")
            found += [Shard(path, kind == "heldout", sizes[storage.below(path, folder / kind)]) for path in paths]
    return tuple(found)


def find(folder: Place, known: Sequence[Shard]) -> tuple[Index | None, str]:
    """The index of the run's shards; else None, and why it cannot be used, in words."""
    path = folder / FOLDER / NAME
    if not storage.exists(path):
        return None, "there is no index (puna trace RUN --index builds one)"
    value = storage.read_json(path)
    TRACE.refuse_newer(value.get("format"), path)
    try:
        fingerprint, partitions, firsts = value["fingerprint"], value["partitions"], tuple(value["firsts"])
        sizes: dict[str, int] = value["sizes"]
        counts = {name: value[name] for name in ("documents", "text_bytes", "entries", "bytes", "seconds")}
    except (KeyError, TypeError):
        return None, "the index is damaged (puna trace RUN --index builds it anew)"
    if fingerprint != _fingerprint(folder, known):
        return None, "the index is stale, for the documents have changed (puna trace RUN --index builds it anew)"
    there = storage.tree(folder / FOLDER / fingerprint)
    if any(there.get(name) != length for name, length in sizes.items()):
        return None, "files of the index are gone (puna trace RUN --index builds it anew)"
    return Index(folder / FOLDER / fingerprint, partitions, firsts, counts), ""


def build(run: str, workers: int) -> Index:
    """The index of the documents as they are, built unless it is there.

    The run is held meanwhile. A build that was killed goes on with the tasks that it had not ended. InputError when the
    documents are not finished, PunaError when the disk cannot hold it.
    """
    folder = storage.place(run)
    refuse_newer(folder)
    with hold(folder):
        found = shards(folder)
        index, why = find(folder, found)
        if index is None:
            say(why)
            index = _build(folder, found, workers)
        _tidy(index)
    return index


def candidates(index: Index, text: str) -> Iterator[tuple[int, tuple[int, ...]]]:
    """(number of a shard, rows) of the documents that may hold a text of at least SHORTEST bytes, in order."""
    left: npt.NDArray[np.uint32] | None = None
    for key in keys_of(text):
        part = int(exchange.ranges(np.array([key]), index.partitions)[0])
        gram = np.uint32(key & np.uint64(0xFFFFFFFF))
        entries, _ = exchange.read([_part(index.scratch, part)], int(gram) * BUCKETS >> 32, ENTRY)
        named = entries["document"][entries["gram"] == gram]
        left = named if left is None else np.intersect1d(left, named, assume_unique=True)
        if not len(left):
            return
    assert left is not None
    documents = np.sort(left).astype(np.int64)
    firsts = np.array(index.firsts)
    numbers = np.searchsorted(firsts, documents, "right") - 1
    for number in np.unique(numbers).tolist():
        yield number, tuple((documents[numbers == number] - firsts[number]).tolist())


def _build(folder: Place, found: Sequence[Shard], workers: int) -> Index:
    started = time.monotonic()
    fingerprint = _fingerprint(folder, found, finished=True)
    partitions = 1 + sum(shard.size for shard in found) // PART
    context = _Building(folder, FOLDER, fingerprint, workers, {})
    text = _text_bytes(folder)
    need = space.indexed(text, len(found), partitions, workers)
    there = sum(storage.tree(context.scratch).values()) if storage.is_folder(context.scratch) else 0
    say(f"  an index of {size(text)} of text, of about {size(space.INDEXED * text)}")
    space.check(folder, "the index", need, there=there)
    tasks = list(enumerate(found))
    work = partial(_write_grams, folder, partitions)
    results = context.map(
        work, tasks, label="  reading text", name=lambda task: f"{task[0]:05d}", size=lambda task: task[1].size
    )
    firsts = [0, *np.cumsum([result["documents"] for result in results]).tolist()]
    if firsts[-1] >= MOST_DOCUMENTS:
        raise InputError(f"{firsts[-1]:,} documents are more than an index can number", where=str(folder))
    grams = [_grams(context.scratch, number) for number in range(len(found))]
    sort = partial(_sort, folder, grams, firsts)
    parts = context.map(sort, list(range(partitions)), label="  sorting", name=lambda part: f"part-{part:05d}")
    sizes = {
        _part(context.scratch, part).name: storage.size(_part(context.scratch, part)) for part in range(partitions)
    }
    counts: dict[str, int | float] = {
        "documents": firsts[-1],
        "text_bytes": sum(result["bytes"] for result in results),
        "entries": sum(result["entries"] for result in parts),
        "bytes": sum(sizes.values()),
        "seconds": round(time.monotonic() - started, 3),
    }
    value = {"format": TRACE.version, "fingerprint": fingerprint, "partitions": partitions, "firsts": firsts}
    storage.write_json(folder / FOLDER / NAME, value | {"sizes": sizes} | counts)
    return Index(context.scratch, partitions, tuple(firsts), counts, new=True)


def _write_grams(folder: Place, partitions: int, task: tuple[int, Shard], scratch: Place) -> dict[str, Any]:
    """What is kept of the documents of one shard, by their rows."""
    number, shard = task
    counts = {"documents": 0, "bytes": 0}

    def texts() -> Iterator[str]:
        for text in read_column(shard.path, "text"):
            counts["documents"] += 1
            counts["bytes"] += len(text.encode())
            yield text

    rows, parts = [np.empty(0, ENTRY)], [np.empty(0, np.int64)]
    for keys, documents in winnowed(texts()):
        made = np.empty(len(keys), ENTRY)
        made["gram"], made["document"] = keys & np.uint64(0xFFFFFFFF), documents
        rows.append(made)
        parts.append(exchange.ranges(keys, partitions))
    target = _grams(scratch, number)
    exchange.write(target, np.concatenate(rows), np.concatenate(parts), partitions)
    return {**counts, "files": [storage.below(target, folder)]}


def _sort(folder: Place, grams: Sequence[Place], firsts: Sequence[int], part: int, scratch: Place) -> dict[str, Any]:
    """One range of all shards, sorted and each entry once."""
    rows, files = exchange.read(grams, part, ENTRY)
    documents = (np.array(firsts)[files] + rows["document"]).astype(np.uint64)
    both = distinct(rows["gram"].astype(np.uint64) << np.uint64(32) | documents)
    made = np.empty(len(both), ENTRY)
    made["gram"], made["document"] = both >> np.uint64(32), both & np.uint64(0xFFFFFFFF)
    bucket = (made["gram"].astype(np.int64) * BUCKETS) >> 32
    target = _part(scratch, part)
    exchange.write(target, made, bucket, BUCKETS)
    return {"entries": len(made), "files": [storage.below(target, folder)]}


def _tidy(index: Index) -> None:
    """Remove what no look needs: other indexes, entries that were on their way, records of tasks."""
    above = index.scratch.parent
    for name in storage.names(above):
        if name not in (NAME, index.scratch.name):
            storage.remove(above / name)
    for name in storage.names(index.scratch):
        if not name.endswith(".parts"):
            storage.remove(index.scratch / name)


def _fingerprint(folder: Place, found: Sequence[Shard], *, finished: bool = False) -> str:
    """Digest of what the steps of documents gave and of the shards that lie there. finished: InputError while some are
    still to come."""
    known = {name: record for name, record in records.read_records(folder).items() if name.startswith("documents.")}
    under_way = [name for name in records.unfinished(folder) if name.startswith("documents.")]
    if finished and (under_way or not known):
        what = f"its documents are not finished ({', '.join(under_way) or 'no step of them is done'})"
        raise InputError(what, where=str(folder), mend="puna data RECIPE finishes them")
    produced = {name: record["produced"] for name, record in known.items()}
    files = [[storage.below(shard.path, folder), shard.size] for shard in found]
    made = records.as_bytes([TRACE.version, GRAM, WINDOW, PART, produced, files])
    return storage.digest_bytes(made).removeprefix("xxh3:")[:16]


def _text_bytes(folder: Place) -> int:
    counts = [
        record["counts"] for name, record in records.read_records(folder).items() if name.startswith("documents.")
    ]
    return sum(int(count[kind]["bytes"]) for count in counts for kind in ("training", "heldout"))


def _grams(scratch: Place, number: int) -> Place:
    return scratch / f"{number:05d}.grams"


def _part(scratch: Place, part: int) -> Place:
    return scratch / f"part-{part:05d}.parts"
