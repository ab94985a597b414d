"""Exact duplicates of whole documents (the paper: Github, "at the file level"), within one source.

Of the documents with the same text the one with the smallest id stays: a rule that no order of shards or workers can
change. Texts are compared by their 128-bit xxh3.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import xxhash

from puna.data.dedup import exchange
from puna.storage import Place

ROW = np.dtype([("high", "<u8"), ("low", "<u8"), ("id", "S32"), ("row", "<u4"), ("size", "<u8")])
VERDICT = np.dtype([("row", "<u4"), ("size", "<u8")])


def write_hashes(location: Place, documents: Iterable[tuple[str, str]], partitions: int) -> int:
    """Write a row for each (id, text) of one shard, cut by ranges of the text's hash; return how many."""
    rows = []
    for row, (identifier, text) in enumerate(documents):
        data = text.encode()
        value = xxhash.xxh3_128_intdigest(data)
        rows.append((value >> 64, value & (1 << 64) - 1, identifier.encode(), row, len(data)))
    table = np.array(rows, ROW)
    exchange.write(location, table, exchange.ranges(table["high"], partitions), partitions)
    return len(rows)


def find_repeats(hashes: Sequence[Place], partition: int, verdicts: Place) -> tuple[int, int]:
    """Judge one hash range of all shards: write which rows go, cut by shard; return their documents and bytes."""
    rows, shards = exchange.read(hashes, partition, ROW)
    order = np.lexsort((rows["id"], rows["low"], rows["high"]))
    rows, shards = rows[order], shards[order]
    again = np.zeros(len(rows), bool)
    again[1:] = (rows["high"][1:] == rows["high"][:-1]) & (rows["low"][1:] == rows["low"][:-1])
    gone = np.empty(int(again.sum()), VERDICT)
    gone["row"], gone["size"] = rows["row"][again], rows["size"][again]
    exchange.write(verdicts, gone, shards[again], max(1, len(hashes)))
    return len(gone), int(gone["size"].sum())


def dropped_rows(verdicts: Sequence[Place], shard: int) -> npt.NDArray[np.uint32]:
    """The rows of one shard that go, sorted."""
    rows, _ = exchange.read(verdicts, shard, VERDICT)
    return np.sort(rows["row"])
