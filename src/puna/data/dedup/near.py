"""Near duplicates: which documents of a source are editions of each other (the paper: books, "more than 90% overlap").

Two measures, both over the distinct hashes of runs of 5 words (grams.py). Containment, for books: the part of the
smaller one's grams that the larger one has too; above a limit the two belong together. Similarity, for web pages and
beyond the paper: the part of all grams of the two that they share (Jaccard); at a limit or above they do. Of documents
that belong together, directly or through others, the one with the most distinct grams stays, then the smallest id.

    write_keys      a shard -> keys by which candidates meet, and what is known of each document
    write_pairs     a range of keys -> pairs of documents, with the number of keys that they share there
    candidates      a range of pairs -> those worth a look, and which documents are looked at
    write_grams     a shard -> all grams of its documents that are looked at
    measure         a range of pairs -> what each pair really shares
    find_groups     all measured pairs -> which rows go

Keys of containment are the grams in a sixteenth of the hash space. Two documents are candidates that share one of them,
or, where the smaller has ENOUGH, half the limit's part of them. If hashes fall as chance would have it, a pair of
containment c and n grams in the smaller is missed with a probability of at most (15/16)^(c n), which is 5e-5 for the
shortest books (1,000 characters, 170 grams) at c = 0.9; and, with s keys of ENOUGH or more and the limit 0.9, of
exp(-0.62 s), below 1e-17. Keys of similarity are MinHash's: 20 bands of 6 minima (Broder 1997; Leskovec et al., Mining
of Massive Datasets, 3.4); a pair of similarity s is missed with (1 - s^6)^20: 0.2% at 0.8, 8% at 0.7. Either way a
candidate is measured exactly, so none but true pairs are found. The minima are numpy's: a library of their own would
be one more dependency for 10 lines, and not the slow part.

A key that more than EVERYONE documents have pairs each with the next NEXT in the order of ids, not with all: that holds
many copies together as well, and what hundreds of books have in common is a phrase. The bounds above are for pairs that
share keys of EVERYONE documents or fewer.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import tee
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from puna.data.dedup import exchange
from puna.data.dedup.exact import VERDICT
from puna.data.dedup.grams import MULTIPLIER, distinct, distinct_grams, mixed, runs
from puna.storage import Place

WORDS = 5  # of a gram
SAMPLED = 16  # one gram in so many is a key
ENOUGH = 64  # keys from which on a pair must share a part of them
EVERYONE, NEXT = 32, 16
BANDS, MINIMA = 20, 6
ORDERED = 4096  # grams that are put into all orders at once
KEYS = 50_000  # of a range that are paired at once
BLOCK = 1_000_000  # grams that are looked up at once
EXAMPLES = 5

DOCUMENT = np.dtype([("id", "S16"), ("grams", "<u4"), ("keys", "<u4"), ("size", "<u8")])
KEY = np.dtype([("key", "<u8"), ("id", "S16"), ("row", "<u4")])
PAIR = np.dtype([("one", "<u4"), ("other", "<u4"), ("keys", "<u4")])
MEASURED = np.dtype([("one", "<u4"), ("other", "<u4"), ("shared", "<f8")])
ROW = np.dtype([("row", "<u4")])
GRAM = np.dtype([("gram", "<u8")])
Grams = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class Rule:
    measure: Literal["containment", "similarity"]
    limit: float

    def of(self, one: Grams, other: Grams) -> float:
        """The measure of two documents' sorted distinct grams; 0 where either has none."""
        small, large = (one, other) if len(one) <= len(other) else (other, one)
        if not len(small):
            return 0.0
        shared = sum(_common(small[start : start + BLOCK], large) for start in range(0, len(small), BLOCK))
        return shared / (len(small) if self.measure == "containment" else len(small) + len(large) - shared)

    def holds(self, measured: Any) -> Any:
        return measured > self.limit if self.measure == "containment" else measured >= self.limit


def write_keys(
    location: Place, known: Place, documents: Iterable[tuple[str, str]], rule: Rule, partitions: int
) -> tuple[int, int]:
    """Write the keys of one shard's (id, text), and a DOCUMENT row for each as `known`; returns the numbers of
    documents and keys."""
    rows: list[tuple[bytes, int, int, int]] = []
    keys: list[Grams] = []
    named, texts = tee(documents)
    for (identifier, text), grams in zip(named, distinct_grams((text for _, text in texts), WORDS), strict=True):
        keys.append(_sampled(grams) if rule.measure == "containment" else _bands(grams))
        rows.append((bytes.fromhex(identifier), len(grams), len(keys[-1]), len(text.encode())))
    found = np.array(rows, DOCUMENT)
    row = np.repeat(np.arange(len(found)), found["keys"])
    table = np.empty(len(row), KEY)
    table["key"] = np.concatenate([np.empty(0, np.uint64), *keys])
    table["id"], table["row"] = found["id"][row], row
    exchange.write(location, table, exchange.ranges(table["key"], partitions), partitions)
    exchange.write(known, found, np.zeros(len(found), np.int64), 1)
    return len(found), len(table)


def write_pairs(
    locations: Sequence[Place], partition: int, firsts: Sequence[int], pairs: Place, partitions: int
) -> int:
    """Pair the documents that share keys of one range; returns how many pairs. firsts: the number of each shard's first
    document, by which documents are numbered throughout. Memory: 700 bytes a key of the range at most."""
    rows, shards = exchange.read(locations, partition, KEY)
    order = np.lexsort((rows["id"], rows["key"]))
    key = rows["key"][order]
    number = (np.array([*firsts, 0], np.int64)[shards] + rows["row"])[order].astype(np.uint64)
    del rows, shards, order
    found, start = [np.empty(0, np.uint64)], 0
    while start < len(key):
        end = int(np.searchsorted(key, key[min(start + KEYS, len(key)) - 1], "right"))
        found.append(_pairs(key[start:end], number[start:end]))
        start = end
    joined = np.concatenate(found)
    del found, key, number
    joined.sort()
    heads = _heads(joined)
    table = np.empty(len(heads), PAIR)
    table["keys"] = np.diff(heads, append=len(joined))
    joined = joined[heads]
    del heads
    table["one"], table["other"] = joined >> np.uint64(32), joined & np.uint64(0xFFFFFFFF)
    range_of = exchange.ranges(runs(joined, 1), partitions)
    del joined
    exchange.write(pairs, table, range_of, partitions)
    return len(table)


def _pairs(key: Grams, number: Grams) -> Grams:
    """Pairs of the numbers that stand at equal keys, which are sorted: the smaller in the high 32 bits."""
    sizes = np.diff(np.append(_heads(key), len(key)))
    wide = np.repeat(sizes > EVERYONE, sizes)
    found = [np.empty(0, np.uint64)]
    for apart in range(1, min(EVERYONE, int(sizes.max()))):
        same = key[apart:] == key[:-apart]
        if apart > NEXT:
            same &= ~wide[apart:]
        one, other = number[:-apart][same], number[apart:][same]
        found.append(np.minimum(one, other) << np.uint64(32) | np.maximum(one, other))
    return np.concatenate(found)


def _heads(sorted_values: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Where each group of equal values begins."""
    first = np.ones(len(sorted_values), bool)
    first[1:] = sorted_values[1:] != sorted_values[:-1]
    return np.flatnonzero(first)


def candidates(
    pairs: Sequence[Place],
    partition: int,
    known: Sequence[Place],
    firsts: Sequence[int],
    rule: Rule,
    found: Place,
    looked_at: Place,
) -> int:
    """Write the pairs of one range that are candidates, and the rows that they name, cut by shard; returns how many."""
    rows, _ = exchange.read(pairs, partition, PAIR)
    rows = rows[np.lexsort((rows["other"], rows["one"]))]
    joined = rows["one"].astype(np.uint64) << np.uint64(32) | rows["other"]
    heads = _heads(joined)
    count = np.add.reduceat(rows["keys"].astype(np.int64), heads) if len(heads) else np.empty(0, np.int64)
    chosen = rows[heads]
    if rule.measure == "containment":
        numbers = distinct(np.concatenate([chosen["one"], chosen["other"]]))
        documents = _documents(known, firsts, numbers)
        one, other = (documents[np.searchsorted(numbers, chosen[side])] for side in ("one", "other"))
        keys = np.where(one["grams"] <= other["grams"], one["keys"], other["keys"])
        chosen = chosen[count >= np.where(keys >= ENOUGH, rule.limit / 2 * keys, 1)]
    exchange.write(found, chosen, np.zeros(len(chosen), np.int64), 1)
    numbers = distinct(np.concatenate([chosen["one"], chosen["other"]])).astype(np.int64)
    shard = np.searchsorted(firsts, numbers, "right") - 1
    named = (numbers - np.array([*firsts, 0], np.int64)[shard]).astype("<u4").view(ROW)
    exchange.write(looked_at, named, shard, max(1, len(firsts)))
    return len(chosen)


def write_grams(location: Place, looked_at: Sequence[Place], shard: int, texts: Iterable[str], documents: int) -> int:
    """Write all grams of the shard's documents that are looked at, cut by row; returns how many documents that are.
    Memory: 24 bytes a gram of them."""
    chosen = set(exchange.read(looked_at, shard, ROW)[0]["row"].tolist())
    if not chosen:
        texts = ()
    found = list(distinct_grams((text for row, text in enumerate(texts) if row in chosen), WORDS))
    table = np.concatenate([np.empty(0, np.uint64), *found]).view(GRAM)
    row = np.repeat(np.array(sorted(chosen), np.int64), np.array([len(grams) for grams in found], np.int64))
    exchange.write(location, table, row, max(1, documents))
    return len(found)


def measure(found: Place, grams: Sequence[Place], firsts: Sequence[int], rule: Rule, location: Place) -> int:
    """Write what each pair of `found` shares. Memory: the grams of two documents."""
    pairs, _ = exchange.read([found], 0, PAIR)
    table = np.empty(len(pairs), MEASURED)
    table["one"], table["other"] = pairs["one"], pairs["other"]
    before, held = -1, np.empty(0, np.uint64)
    for index, (one, other, _) in enumerate(pairs.tolist()):
        if one != before:
            before, held = one, _grams(grams, firsts, one)
        table["shared"][index] = rule.of(held, _grams(grams, firsts, other))
    exchange.write(location, table, np.zeros(len(table), np.int64), 1)
    return len(table)


def find_groups(
    measured: Sequence[Place], known: Sequence[Place], firsts: Sequence[int], rule: Rule, verdicts: Place
) -> dict[str, Any]:
    """Join the pairs that belong together, and write the rows that go, cut by shard, as exact.VERDICT.

    Returns the number of groups, documents and bytes that go, and examples: what goes, for what, and the most that it
    shares with one of its group. Memory: some 300 bytes for each pair that belongs together, of the whole source.
    """
    pairs = np.concatenate([np.empty(0, MEASURED), *(exchange.read([path], 0, MEASURED)[0] for path in measured)])
    pairs = pairs[rule.holds(pairs["shared"])]
    numbers = distinct(np.concatenate([pairs["one"], pairs["other"]]))
    documents = _documents(known, firsts, numbers)
    one, other = (np.searchsorted(numbers, pairs[side]) for side in ("one", "other"))
    best = np.zeros(len(numbers))
    for side in (one, other):
        np.maximum.at(best, side, pairs["shared"])
    root = _joined(len(numbers), zip(one.tolist(), other.tolist(), strict=True))
    # The first of each group in this order stays.
    order = np.lexsort((documents["id"], -documents["grams"].astype(np.int64), root))
    first = order[_heads(root[order])]
    stays = np.empty(len(numbers), np.int64)
    stays[root[first]] = first
    gone = np.setdiff1d(order, first)
    shard = np.searchsorted(firsts, numbers[gone], "right") - 1
    rows = np.empty(len(gone), VERDICT)
    rows["row"] = numbers[gone] - np.array([*firsts, 0], np.int64)[shard]
    rows["size"] = documents["size"][gone]
    exchange.write(verdicts, rows, shard.astype(np.int64), max(1, len(firsts)))
    shown = gone[np.argsort(documents["id"][gone], kind="stable")][:EXAMPLES]
    return {
        "groups": len(first),
        "documents": len(gone),
        "bytes": int(rows["size"].sum()),
        "examples": [
            {"gone": _hex(documents["id"][i]), "kept": _hex(documents["id"][stays[root[i]]]), "shared": float(best[i])}
            for i in shown.tolist()
        ],
    }


def _sampled(grams: Grams) -> Grams:
    """The grams in the lowest part of the hash space, spread over all of it, as ranges of keys are cut."""
    return grams[grams < np.uint64(2**64 // SAMPLED)] * np.uint64(SAMPLED)


def _bands(grams: Grams) -> Grams:
    """A key for each band of minima of the grams under BANDS * MINIMA orders; none for no grams. Half of a gram is
    enough for an order, at a quarter of the cost: candidates are measured by all of it."""
    if not len(grams):
        return grams
    half, lowest = grams.astype(np.uint32), np.full(len(ORDERS[0]), 2**32 - 1, np.uint32)
    held = np.empty((len(lowest), min(ORDERED, len(half))), np.uint32)
    for start in range(0, len(half), ORDERED):
        some = half[start : start + ORDERED]
        order = held[:, : len(some)]
        np.bitwise_xor(ORDERS[0], some, out=order)
        order *= ORDERS[1]
        np.minimum(lowest, order.min(1), out=lowest)
    return mixed((lowest.reshape(BANDS, MINIMA) * PLACES).sum(1)) + BAND


def _orders() -> npt.NDArray[np.uint32]:
    """(2, BANDS * MINIMA, 1): what each order takes a gram's half with, and what it multiplies by."""
    numbers = runs(np.arange(1, 2 * BANDS * MINIMA + 1, dtype=np.uint64), 1).astype(np.uint32).reshape(2, -1, 1)
    numbers[1] |= np.uint32(1)  # an even factor would lose the highest bits
    return numbers


ORDERS = _orders()
PLACES = np.array([pow(MULTIPLIER, MINIMA - 1 - place, 1 << 64) for place in range(MINIMA)], np.uint64)
BAND = mixed(np.arange(1, BANDS + 1, dtype=np.uint64))  # so that equal minima of two bands are no key of both


def _common(some: Grams, all_of: Grams) -> int:
    place = np.minimum(np.searchsorted(all_of, some), len(all_of) - 1)
    return int((all_of[place] == some).sum())


def _grams(files: Sequence[Place], firsts: Sequence[int], number: int) -> Grams:
    shard = int(np.searchsorted(firsts, number, "right")) - 1
    rows, _ = exchange.read([files[shard]], number - firsts[shard], GRAM)
    found: Grams = rows["gram"]
    return found


def _documents(known: Sequence[Place], firsts: Sequence[int], numbers: npt.NDArray[Any]) -> exchange.Rows:
    """The DOCUMENT rows of some documents by their sorted numbers, one shard's in memory."""
    borders = [*np.searchsorted(numbers, firsts).tolist(), len(numbers)]
    found = [np.empty(0, DOCUMENT)]
    for shard, path in enumerate(known):
        start, end = borders[shard], borders[shard + 1]
        if end > start:
            rows, _ = exchange.read([path], 0, DOCUMENT)
            found.append(rows[numbers[start:end].astype(np.int64) - firsts[shard]])
    return np.concatenate(found)


def _joined(count: int, pairs: Iterable[tuple[int, int]]) -> npt.NDArray[np.int64]:
    """For each of `count` items one that stands for all that pairs connect it with (union-find)."""
    above = list(range(count))

    def top(item: int) -> int:
        while above[item] != item:
            above[item] = above[above[item]]
            item = above[item]
        return item

    for one, other in pairs:
        above[top(one)] = top(other)
    return np.array([top(item) for item in range(count)], np.int64)


def _hex(identifier: bytes) -> str:
    return identifier.ljust(16, b"\0").hex()
