"""Which text is held out, and how much of it a training document shares.

Held-out text is chosen by group (a Wikipedia page, a package), never by document, so that two files of one package do
not stand on both sides. The choice is a pure function of seed, source and group: it depends on no other document, so it
holds for any corpus, shard or order. A training document that shares too many of its 13-grams with held-out text is
dropped later, by the verdict on the score measured here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import xxhash

from puna.data.dedup.grams import batches, distinct, distinct_grams, runs, shared_part, words_of
from puna.data.dedup.lookup import Lookup


def is_held_out(source: str, group: str, *, share: float, groups: Sequence[str], seed: int) -> bool:
    """True for the named `groups` of a source, or, where none are named, for a seeded `share` of all groups."""
    if groups:
        return group in groups
    return xxhash.xxh3_64_intdigest(f"{seed}\0held out\0{source}\0{group}".encode()) < share * 2.0**64


def known_grams(texts: Iterable[str], n: int) -> npt.NDArray[np.uint64]:
    """The sorted distinct n-gram hashes of all held-out texts."""
    return distinct(np.concatenate([np.empty(0, np.uint64), *distinct_grams(texts, n)]))


def overlaps(texts: Iterable[str], known: Lookup, n: int) -> npt.NDArray[np.float32]:
    """For each text the part of its distinct n-grams that held-out text has too: `shared_part`.

    Most texts have none. All n-grams of a batch are looked for at once, and just those texts are counted that have one,
    or that have fewer than n words, which are one run.
    """
    found = [np.empty(0, np.float32)]
    for batch in batches(texts):
        words = words_of(batch)
        within, _ = words.within(known.holds(runs(words.hashes, n)), n)
        sizes = np.diff(words.borders)
        scores = np.zeros(len(batch), np.float32)
        for index in np.union1d(within, np.flatnonzero((sizes > 0) & (sizes < n))).tolist():
            scores[index] = shared_part(runs(words.of(index), n), known.hashes)
        found.append(scores)
    return np.concatenate(found)
