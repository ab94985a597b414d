"""Hashes of runs of n words: what "shares 13-grams" and "contains 5-grams" are measured with.

A word is a run of letters, digits or underscores, lower-cased. The definition is part of what a recipe means, so it has
a readable twin in the tests.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import xxhash

WORD = re.compile(r"\w+")
MULTIPLIER = 0x9E3779B97F4A7C15  # 2^64 / golden ratio, odd, so no word of a run is lost modulo 2^64


def gram_hashes(text: str, n: int) -> npt.NDArray[np.uint64]:
    """64-bit hashes of the runs of `n` words of `text`, in order; a shorter text is one run, an empty one none.

    h = mix(sum over k of word[i + k] * M^(n - 1 - k)) modulo 2^64, with word = xxh3_64 of its UTF-8 bytes.
    """
    return runs(word_hashes(text), n)


def word_hashes(text: str) -> npt.NDArray[np.uint64]:
    """64-bit hashes of the words of `text`, in order."""
    words = WORD.findall(text.lower())
    return np.fromiter(map(_word_hash, words), np.uint64, len(words))


def runs(values: npt.NDArray[np.uint64], n: int) -> npt.NDArray[np.uint64]:
    """Hashes of the runs of `n` of the `values`; of all of them where there are fewer."""
    if not len(values):
        return np.empty(0, np.uint64)
    n = min(n, len(values))
    total = np.zeros(len(values) - n + 1, np.uint64)
    for k in range(n):
        total = total * np.uint64(MULTIPLIER) + values[k : k + len(total)]
    return _mixed(total)


def grams_of_lengths(text: str, lengths: Collection[int]) -> tuple[npt.NDArray[np.uint64], dict[int, int]]:
    """Hashes of the runs of each of the lengths that the text has, as `gram_hashes` gives them, length by length in
    ascending order in one array; and where each length begins in it."""
    values = word_hashes(text)
    total = values
    found, begins, begin = [np.empty(0, np.uint64)], {}, 0
    for n in range(1, min(max(lengths, default=0), len(values)) + 1):
        if n > 1:
            total = total[:-1] * np.uint64(MULTIPLIER) + values[n - 1 :]
        if n in lengths:
            found.append(total)
            begins[n] = begin
            begin += len(total)
    return _mixed(np.concatenate(found)), begins


def shared_part(grams: npt.NDArray[np.uint64], known: npt.NDArray[np.uint64]) -> float:
    """The part of the distinct `grams` that stand in `known` (sorted, distinct), 0 when there are none."""
    distinct = np.unique(grams)
    if not len(distinct) or not len(known):
        return 0.0
    place = np.minimum(np.searchsorted(known, distinct), len(known) - 1)
    return float((known[place] == distinct).mean())


def _mixed(total: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    total ^= total >> np.uint64(32)
    total *= np.uint64(0xD6E8FEB86659FD93)
    return total ^ (total >> np.uint64(32))


@lru_cache(maxsize=200_000)
def _word_hash(word: str) -> int:
    return xxhash.xxh3_64_intdigest(word.encode("utf-8", "surrogatepass"))
