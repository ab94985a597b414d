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

from puna.data.dedup.grams import gram_hashes, shared_part


def is_held_out(source: str, group: str, *, share: float, groups: Sequence[str], seed: int) -> bool:
    """True for the named `groups` of a source, or, where none are named, for a seeded `share` of all groups."""
    if groups:
        return group in groups
    return xxhash.xxh3_64_intdigest(f"{seed}\0held out\0{source}\0{group}".encode()) < share * 2.0**64


def known_grams(texts: Iterable[str], n: int) -> npt.NDArray[np.uint64]:
    """The sorted distinct n-gram hashes of all held-out texts."""
    found = [gram_hashes(text, n) for text in texts]
    return np.unique(np.concatenate(found)) if found else np.empty(0, np.uint64)


def overlaps(texts: Iterable[str], known: npt.NDArray[np.uint64], n: int) -> npt.NDArray[np.float32]:
    """For each text the part of its distinct n-grams that held-out text has too."""
    return np.fromiter((shared_part(gram_hashes(text, n), known) for text in texts), np.float32)
