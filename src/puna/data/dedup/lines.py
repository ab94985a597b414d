"""Lines that repeat across all documents of a source: CCNet's paragraphs, and C4's spans of three sentences.

A unit is a line, or a sentence of a page. Units, or runs of `span` of them, with the same normal form (normal.py) are
one; of those that occur twice or more every copy goes, as in CCNet, or all but one: that of the document with the
smallest id, and in it the first. No order or size of shards has a say in that.

A unit whose normal form is empty is one like others, as in CCNet: the second empty line takes both away. CCNet keeps
the first of copies that stand in one document alone; here they are copies like others. A sentence goes with any span of
it that goes, even where another span with it is the copy that stays.

    write_hashes    a shard -> one row for each distinct hash it has, and apart what it knows of its own repeats
    find_repeats    a range of hashes -> which of those rows go
    gather          a shard -> its lines that go, sorted
    edited          the texts of a shard -> the same without them

A hash that stands in every document is one row a shard: memory follows the distinct ones, so no line is too frequent.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import compress, pairwise
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from puna.data.dedup import exchange, normal
from puna.data.dedup.grams import distinct, runs
from puna.data.web.c4_rules import SENTENCE
from puna.errors import InputError
from puna.storage import Place

ROW = np.dtype([("hash", "<u8"), ("unit", "<u4"), ("count", "<u4")])
ROW_WITH_ID = np.dtype([*ROW.descr, ("id", "S16")])
VALUE = np.dtype([("value", "<u4")])
VERDICT = np.dtype([("row", "<u4"), ("line", "<u4"), ("size", "<u4")])
EXAMPLES = 5
BATCH = 4_000_000  # characters whose lines are Python objects at once
CUT = re.compile(rf"{SENTENCE.pattern}\s*|\n\s*")
UNITS, SIZES, GONE = range(3)  # what a shard keeps to itself: units a document, bytes a unit, units that go anyway


@dataclass(frozen=True)
class Policy:
    """What counts as a repeat, and what becomes of it."""

    unit: Literal["line", "sentence"] = "line"
    keep_first: bool = False
    span: int = 1
    """Units in a row that are compared as one."""
    parts: int = 1
    """Parts that documents are dealt to by their ids; repeats are looked for within each."""

    @property
    def row(self) -> np.dtype[Any]:
        return ROW_WITH_ID if self.keep_first else ROW

    def units(self, text: str) -> list[str]:
        return sentences(text) if self.unit == "sentence" else text.split("\n")


def sentences(text: str) -> list[str]:
    """A text cut behind the marks that end sentences for C4's rules, and behind lines; nothing of it is lost."""
    cuts = [0, *(match.end() for match in CUT.finditer(text)), len(text)]
    return [text[start:end] for start, end in pairwise(cuts) if end > start]


def write_hashes(
    location: Place, own: Place, documents: Iterable[tuple[str, str | None]], policy: Policy, partitions: int
) -> dict[str, int]:
    """Write the hashes of one shard's (id, text), cut by ranges, and what only the shard needs to know as `own`.

    A document without text (None) takes no part. Returns the numbers of documents that do, of `lines`, and of `rows`.
    Memory: BATCH characters with their lines, and about 50 bytes for each line of the shard.
    """
    ids: list[str] = []
    counts: list[int] = []
    found: list[npt.NDArray[np.uint64]] = []
    sizes: list[npt.NDArray[np.uint32]] = []
    for batch in _batches(documents):
        texts = [text for _, text in batch if text is not None]
        data, of_batch, bytes_of = _units(texts, policy)
        each = iter(of_batch)
        ids += [identifier for identifier, _ in batch]
        counts += [0 if text is None else next(each) for _, text in batch]
        if len(bytes_of):
            found.append(normal.hashes(data))
        sizes.append(bytes_of)
    units = np.array(counts, "<u4")
    document = np.repeat(np.arange(len(units), dtype=np.uint32), units)
    key = np.concatenate([np.empty(0, np.uint64), *found])
    starts = np.arange(len(key), dtype=np.uint32)
    if policy.span > 1:
        key, starts = _spans(key, document, policy.span)
    if policy.parts > 1:
        key = _dealt(key, np.array([int(i[:16], 16) % policy.parts for i in ids], np.uint64)[document[starts]])
    table, gone = _distinct(key, starts, document, ids, policy)
    exchange.write(location, table, exchange.ranges(table["hash"], partitions), partitions)
    values = [units, np.concatenate([np.empty(0, np.uint32), *sizes]), gone]
    kinds = np.repeat(np.arange(len(values)), [len(each) for each in values])
    exchange.write(own, np.concatenate(values).astype("<u4").view(VALUE), kinds, len(values))
    return {"documents": int((units > 0).sum()), "lines": len(document), "rows": len(table)}


def find_repeats(
    locations: Sequence[Place], partition: int, turn: tuple[int, int], policy: Policy, verdicts: Place
) -> dict[str, Any]:
    """Judge a range of hashes of all shards: write which units go, cut by shard.

    turn: (k, n) takes the k-th of n even cuts of the range, so that memory is that of one cut: 3 times its rows.
    Returns how many lines are `repeated`, and the most frequent as `examples`: [count, hash, shard, unit] each.
    """
    parts = [_cut(exchange.read([path], partition, policy.row)[0], *turn) for path in locations]
    shards = np.repeat(np.arange(len(parts), dtype=np.uint32), np.array([len(part) for part in parts], np.int64))
    rows = np.concatenate([np.empty(0, policy.row), *parts])
    del parts
    order, first = _grouped(rows["hash"], lambda some: (rows["unit"][some], shards[some], rows["id"][some]), policy)
    rows, shards = rows[order], shards[order]
    heads = np.flatnonzero(first)
    total = np.add.reduceat(rows["count"].astype(np.int64), heads) if len(heads) else np.empty(0, np.int64)
    if policy.keep_first:
        goes = ~first
    else:
        goes = (np.repeat(total, np.diff(np.append(heads, len(rows)))) > 1) & (rows["count"] == 1)
    gone = np.empty(int(goes.sum()), VALUE)
    gone["value"] = rows["unit"][goes]
    exchange.write(verdicts, gone, shards[goes].astype(np.int64), max(1, len(locations)))
    again = total > 1
    total, heads = total[again], heads[again]
    most = np.lexsort((rows["hash"][heads], -total))[:EXAMPLES]
    named = zip(
        total[most].tolist(), *(c[heads[most]].tolist() for c in (rows["hash"], shards, rows["unit"])), strict=True
    )
    return {"repeated": int(total.sum()), "examples": [list(each) for each in named]}


def gather(own: Place, verdicts: Sequence[Place], shard: int, policy: Policy, location: Place) -> dict[str, int]:
    """Write the lines of one shard that go, as VERDICT rows sorted by row and line; returns how many, of how many
    documents (`emptied`: of which nothing stays), and the bytes by which the texts shrink."""
    units, sizes, known = (exchange.read([own], kind, VALUE)[0]["value"] for kind in (UNITS, SIZES, GONE))
    sent, _ = exchange.read(verdicts, shard, VALUE)
    spans = distinct(np.concatenate([known, sent["value"]])).astype(np.int64)
    gone = distinct((spans[:, None] + np.arange(policy.span)).ravel()) if policy.span > 1 else spans
    ends = np.cumsum(units.astype(np.int64))
    row = np.searchsorted(ends, gone, "right")
    rows = np.empty(len(gone), VERDICT)
    rows["row"], rows["line"], rows["size"] = row, gone - (ends - units)[row], sizes[gone]
    exchange.write(location, rows, np.zeros(len(rows), np.int64), 1)
    touched, lines = np.unique(row, return_counts=True)
    emptied = int((lines == units[touched]).sum())
    size = int(rows["size"].sum()) - (emptied if policy.unit == "line" else 0)  # the last line has no newline
    return {"lines": len(rows), "documents": len(touched), "emptied": emptied, "bytes": size}


def removed(gathered: Sequence[Place], shard: int) -> exchange.Rows:
    """The lines of one shard that go: VERDICT rows sorted by row and line, from the files that `gather` wrote."""
    return exchange.read([gathered[shard]], 0, VERDICT)[0]


def edited(texts: Iterable[str], gone: exchange.Rows, policy: Policy = Policy()) -> Iterator[str]:
    """The texts of a shard in order, without the lines that go; "" where nothing is left. One text in memory."""
    rows, lines = gone["row"].tolist(), gone["line"].tolist()
    place, rows = 0, [*rows, -1]
    for row, text in enumerate(texts):
        start = place
        while rows[place] == row:
            place += 1
        yield _without(text, lines[start:place], policy) if place > start else text
    if place != len(lines):
        raise InputError(f"lines that go are those of {rows[place]} documents or more, and there are fewer")


def _without(text: str, gone: Sequence[int], policy: Policy) -> str:
    units = policy.units(text)
    if gone[-1] >= len(units):
        raise InputError(f"line {gone[-1]} goes of a document that has {len(units)}", mend="run the data steps again")
    keep = bytearray(b"\1") * len(units)
    for unit in gone:
        keep[unit] = 0
    kept = compress(units, keep)
    return "".join(kept).strip() if policy.unit == "sentence" else "\n".join(kept)


def _batches(documents: Iterable[tuple[str, str | None]]) -> Iterator[list[tuple[str, str | None]]]:
    batch: list[tuple[str, str | None]] = []
    size = 0
    for identifier, text in documents:
        batch.append((identifier, text))
        size += len(text or "") + 1
        if size >= BATCH:
            yield batch
            batch, size = [], 0
    yield batch


def _units(texts: Sequence[str], policy: Policy) -> tuple[bytes, list[int], npt.NDArray[np.uint32]]:
    """The units of all texts, a line each; how many each text has; the bytes of each, those of a newline with them."""
    if policy.unit == "sentence":
        units = [sentences(text) for text in texts]
        flat = [unit for each in units for unit in each]
        sizes = np.fromiter((len(unit.encode()) for unit in flat), np.uint32, len(flat))
        return "\n".join(map(str.strip, flat)).encode(), [len(each) for each in units], sizes
    if not texts:
        return b"", [], np.empty(0, np.uint32)
    data = "\n".join(texts).encode()
    ends = np.append(np.flatnonzero(np.frombuffer(data, np.uint8) == 10), len(data))
    return data, [text.count("\n") + 1 for text in texts], np.diff(ends, prepend=-1).astype(np.uint32)


def _spans(
    hashes: npt.NDArray[np.uint64], document: npt.NDArray[np.uint32], span: int
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint32]]:
    """Hashes of the runs of `span` units that lie in one document, and the unit that each begins with."""
    if len(hashes) < span:
        return np.empty(0, np.uint64), np.empty(0, np.uint32)
    starts = np.flatnonzero(document[: len(document) - span + 1] == document[span - 1 :]).astype(np.uint32)
    return runs(hashes, span)[starts], starts


def _dealt(key: npt.NDArray[np.uint64], part: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Keys that are equal only within one part."""
    mixed = (key ^ (part * np.uint64(0x9E3779B97F4A7C15))) * np.uint64(0xD6E8FEB86659FD93)
    return mixed ^ (mixed >> np.uint64(32))


def _distinct(
    key: npt.NDArray[np.uint64],
    starts: npt.NDArray[np.uint32],
    document: npt.NDArray[np.uint32],
    ids: Sequence[str],
    policy: Policy,
) -> tuple[exchange.Rows, npt.NDArray[np.uint32]]:
    """A row for each distinct key of a shard, by key, and the units that go whatever other shards have."""
    rank = np.empty(len(ids), np.uint32)
    if policy.keep_first:
        rank[np.argsort(np.array(ids, "S32"), kind="stable")] = np.arange(len(ids), dtype=np.uint32)
    order, first = _grouped(key, lambda some: (starts[some], rank[document[starts[some]]]), policy)
    heads = np.flatnonzero(first)
    count = np.diff(np.append(heads, len(order)))
    goes = ~first if policy.keep_first else np.repeat(count > 1, count)
    chosen = order[heads]
    table = np.empty(len(heads), policy.row)
    table["hash"], table["unit"], table["count"] = key[chosen], starts[chosen], count
    if policy.keep_first:
        raw = np.array([bytes.fromhex(i) for i in ids], "S16")
        table["id"] = raw[document[starts[chosen]]]
    return table, starts[order[goes]]


def _grouped(
    key: npt.NDArray[np.uint64], within: Any, policy: Policy
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """An order in which equal keys stand together, and where each group of them begins; where one is kept, those of a
    group are sorted by the columns that `within(indices)` gives, the last of them first."""
    order = np.argsort(key)
    known = key[order]
    first = np.ones(len(key), bool)
    first[1:] = known[1:] != known[:-1]
    if policy.keep_first:
        several = ~first
        several[:-1] |= ~first[1:]
        some = order[several]
        order[several] = some[np.lexsort((*within(some), key[some]))]
    return order, first


def _cut(rows: exchange.Rows, turn: int, turns: int) -> exchange.Rows:
    if turns == 1:
        return rows
    low = rows["hash"] & np.uint64(0xFFFFFFFF)
    chosen: exchange.Rows = rows[((low * np.uint64(turns)) >> np.uint64(32)) == turn]
    return chosen
