"""Small classifiers in fastText's format, made from a seed: dense or quantised, pruned or not, of either softmax."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

WORDS = ("</s>", "the", "river", "Stadt", "und", "</x>", "日本", "é", "a", "town,")
LABELS = ("en", "de", "ja", "fr", "zh", "x")


def model(
    seed: int = 0,
    *,
    dimensions: int = 6,
    quantised: bool = False,
    pruned: bool = False,
    quantised_output: bool = False,
    loss: int = 1,
    shortest: int = 2,
    longest: int = 4,
    buckets: int = 400,
    ngrams: int = 1,
    words: tuple[str, ...] = WORDS,
    labels: tuple[str, ...] = LABELS,
) -> bytes:
    """pruned: a third of the buckets is kept; fastText reads that only of a quantised one."""
    random = np.random.default_rng(seed)
    kept = random.permutation(buckets)[: buckets // 3] if pruned else None
    behind = len(kept) if kept is not None else buckets
    made = struct.pack("<iiiiiii", 793712314, 12, dimensions, 5, 5, 1, 5)
    made += struct.pack("<iiiiiiid", ngrams, loss, 3, buckets, shortest, longest, 100, 0.1)
    made += struct.pack("<iiiqq", len(words) + len(labels), len(words), len(labels), 1000, behind if pruned else -1)
    counts = sorted((int(count) for count in random.integers(1, 500, len(labels))), reverse=True)
    entries = [(word, 5, 0) for word in words]
    entries += [(f"__label__{label}", count, 1) for label, count in zip(labels, counts, strict=True)]
    for word, count, kind in entries:
        made += word.encode() + b"\0" + struct.pack("<qb", count, kind)
    for row, bucket in enumerate(kept if kept is not None else ()):
        made += struct.pack("<ii", bucket, row)
    made += struct.pack("<?", quantised) + _matrix(random, len(words) + behind, dimensions, quantised)
    return made + struct.pack("<?", quantised_output) + _matrix(random, len(labels), dimensions, quantised_output)


def _matrix(random: Any, rows: int, columns: int, quantised: bool) -> bytes:
    if not quantised:
        return struct.pack("<qq", rows, columns) + random.normal(size=(rows, columns)).astype("<f4").tobytes()
    width = 4
    parts = -(-columns // width)
    made = struct.pack("<?qqi", True, rows, columns, rows * parts) + random.bytes(rows * parts)
    made += struct.pack("<iiii", columns, parts, width, columns - (parts - 1) * width)
    made += random.normal(size=columns * 256).astype("<f4").tobytes() + random.bytes(rows)
    return made + struct.pack("<iiii", 1, 1, 1, 1) + random.uniform(0.5, 2, 256).astype("<f4").tobytes()
