"""The verdicts, and the last exchange: every kept document goes to the shard of its id.

Documents of a source end up sorted by id in shards that are ranges of ids. Ids are hashes, so each shard is a fair
sample of the source, and which task, file or worker a document came through leaves no mark.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from puna import storage
from puna.data import decontaminate, mask
from puna.data.dedup import exchange
from puna.data.document import SCHEMA, give_back, read_table, write_table
from puna.data.judge import Judge
from puna.storage import Place

NO_FATE = ("named", "files")  # what else a task tells


@dataclass(frozen=True)
class Benchmarks:
    """What a source's documents share with benchmarks, and how much of it they may."""

    shared: tuple[Place, ...]
    common: Place
    partitions: int
    max_shared: int
    quoted: str
    action: str

    def contaminated(self, index: int, rows: int) -> npt.NDArray[np.bool_]:
        """(rows,): the documents of a shard that share more."""
        found = decontaminate.verdict(
            self.shared[index],
            self.common,
            rows,
            partitions=self.partitions,
            max_shared=self.max_shared,
            quoted=self.quoted,
        )
        return np.equal(found, decontaminate.CONTAMINATED)


@dataclass(frozen=True)
class Verdict:
    """What decides where a document of one source goes."""

    judge: Judge
    overlaps: tuple[Place, ...]
    """Each shard's scores against held-out text."""
    max_overlap: float
    parts: int
    mask: tuple[str, ...] = ()
    benchmarks: Benchmarks | None = None


def send(rule: Verdict, task: tuple[int, Place], scratch: Place) -> dict[str, Any]:
    """Judge one shard: write what stays sorted by id, a row group for each range of ids, and what is held out apart.
    Memory: the shard twice."""
    index, shard = task
    judged = rule.judge.judged(index, shard)
    fates, left = {**judged.gone, "heldout": judged.held}, judged.kept
    if rule.benchmarks:
        found = rule.benchmarks.contaminated(index, len(left)) & left
        if rule.benchmarks.action == "drop":
            fates["contamination"] = found
            left = left & ~found
    fates["overlap"] = left & (np.frombuffer(storage.read(rule.overlaps[index]), "<f4") > rule.max_overlap)
    fates["training"] = left & ~fates["overlap"]
    if rule.benchmarks and rule.benchmarks.action == "mark":
        fates["marked"] = found & fates["training"]
    size, named, table = judged.size, list(judged.named), judged.table
    del judged  # or the shard would stand in memory twice
    table = table.combine_chunks()
    _write_ranges(table, fates["training"], rule, _sent(scratch, index))
    write_table(_heldout(scratch, index), _masked(table.filter(pa.array(fates["heldout"])), rule.mask))
    counts = {name: {"documents": int(fate.sum()), "bytes": int(size[fate].sum())} for name, fate in fates.items()}
    files = (_sent(scratch, index), _heldout(scratch, index))
    return counts | {"named": named, "files": [storage.below(file, scratch.parents[2]) for file in files]}


def gather(folder: Place, source: str, shards: int, part: int | None, scratch: Place) -> dict[str, Any]:
    """Write one range of ids of all shards, sorted, as documents/SOURCE/PART.parquet; no part: what is held out, as
    heldout/SOURCE/00000.parquet. Memory: the range twice."""
    give_back()
    if part is None:
        target = f"heldout/{source}/00000.parquet"
        tables = (read_table(_heldout(scratch, index)) for index in range(shards))
    else:
        target = f"documents/{source}/{part:05d}.parquet"
        tables = (_range(_sent(scratch, index), part) for index in range(shards))
    # Nothing keeps the unsorted table while the sorted one is written: a shard of documents is all that a worker holds.
    write_table(folder / target, _sorted([SCHEMA.empty_table(), *tables]))
    return {"files": [target]}


def tidy(scratch: Place, shards: int) -> None:
    """Remove what was only on its way: the documents stand in their shards now."""
    for index in range(shards):
        storage.remove(_sent(scratch, index))
        storage.remove(_heldout(scratch, index))


def total(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Documents and bytes by fate, over all shards."""
    names = dict.fromkeys([*("training", "heldout", "duplicate", "overlap", "excluded"), *chain(*results)])
    # A task that an earlier version had finished left nobody out.
    count = {
        n: {k: sum(r[n][k] for r in results if n in r) for k in ("documents", "bytes")}
        for n in names
        if n not in NO_FATE
    }
    marked = {"marked": count.pop("marked")} if "marked" in count else {}  # stays, and counts as what it is too
    return {
        **marked,
        "training": count.pop("training"),
        "heldout": count.pop("heldout"),
        "dropped": count,
        "named": len(set().union(*(r.get("named", ()) for r in results))),
    }


def _masked(table: pa.Table, kinds: tuple[str, ...]) -> pa.Table:
    if not kinds:
        return table
    texts = [mask.masked(text, kinds) for text in table["text"].to_pylist()]
    return table.set_column(table.schema.get_field_index("text"), SCHEMA.field("text"), pa.array(texts, pa.string()))


def _write_ranges(table: pa.Table, chosen: npt.NDArray[np.bool_], rule: Verdict, location: Place) -> None:
    """The chosen documents sorted by id, a row group for each range; one range of them is copied at a time."""
    identifiers = np.array(table["id"].to_pylist(), "S32")
    rows = np.flatnonzero(chosen)
    rows = rows[np.argsort(identifiers[rows], kind="stable")]
    keys = np.fromiter((int(i[:16], 16) for i in identifiers[rows].tolist()), np.uint64, len(rows))
    ends = np.searchsorted(exchange.ranges(keys, rule.parts), np.arange(rule.parts + 1)).tolist()
    with storage.create(location) as file, pq.ParquetWriter(file, table.schema, compression="zstd") as writer:
        for start, end in pairwise(ends):
            part = _masked(table.take(pa.array(rows[start:end])), rule.mask)
            writer.write_table(part, row_group_size=max(1, end - start))


def _range(location: Place, part: int) -> pa.Table:
    with storage.open_read(location) as file:
        return pq.ParquetFile(file).read_row_group(part)


def _sorted(tables: list[pa.Table]) -> pa.Table:
    table = pa.concat_tables(tables).combine_chunks()
    tables.clear()
    order: npt.NDArray[np.int64] = np.argsort(np.array(table["id"].to_pylist(), "S32"), kind="stable")
    return table.take(pa.array(order))


def _sent(scratch: Place, index: int) -> Place:
    return scratch / f"{index:05d}.sent.parquet"


def _heldout(scratch: Place, index: int) -> Place:
    return scratch / f"{index:05d}.heldout.parquet"
