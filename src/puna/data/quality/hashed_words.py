"""Text as the hashed runs of its words: what a linear model of pages sees, without a vocabulary.

A word is a run of letters, digits, underscores and of characters beyond ASCII that are no punctuation, in small
letters; text without spaces between words (Chinese, Thai) is one word up to its next mark. Runs of 1 to n words are
features; a feature is the number of a bucket, 2^bits of them (Weinberger et al. 2009, "Feature Hashing"; fastText does
the same). The definition belongs to the format of a trained model: VERSION is raised with it.

    word(b_0 ... b_k)  = sum over i of BYTES[b_i] * M^i                  modulo 2^64
    run(w_0 ... w_n-1) = mix(((w_0 * N + w_1) * N + ...) + n)            modulo 2^64
    bucket             = run >> (64 - bits)

All words of a batch are hashed at once: sums of BYTES[b] * M^place over the whole batch, differences of them at the
borders of words, and the power of M that a word's place brought taken out again by M's inverse.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

VERSION = 1
BATCH = 1 << 18  # bytes of text hashed at once, and one text more: what fits the processor's cache is fastest
M = 0x9E3779B97F4A7C15
M_INVERSE = pow(M, -1, 1 << 64)
N = 0xD6E8FEB86659FD93
Buckets = npt.NDArray[np.uint32]
Places = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Features:
    """What is seen of a text; a model is of no use with any other."""

    characters: int
    """Of each text only so many, from its beginning."""
    ngram: int
    """The longest run of words."""
    bits: int
    """Buckets: 2^bits."""

    def as_json(self) -> dict[str, int]:
        return {"version": VERSION, "characters": self.characters, "ngram": self.ngram, "bits": self.bits}


@dataclass(frozen=True)
class Runs:
    """All runs of words of a batch of texts."""

    buckets: tuple[Buckets, ...]
    """Runs of one word, of two, ..., in the order of the batch; of n words, (words - n + 1,), those that reach over the
    end of a text among them."""
    borders: Places
    """(texts + 1,): the first word of each text, and the number of all words."""

    def of(self, index: int) -> Buckets:
        """The buckets of one text: all runs of one word, then all of two, ..."""
        first, last = self.borders[index], self.borders[index + 1]
        return np.concatenate([found[first : max(first, last - n)] for n, found in enumerate(self.buckets)])

    def crossing(self, n: int) -> Places:
        """Which of the runs of n words reach over the end of a text."""
        places = (self.borders[1:-1, None] - np.arange(1, n)).ravel()
        return places[(places >= 0) & (places < len(self.buckets[n - 1]))]

    def lengths(self) -> Places:
        """How many runs each text has, (texts,)."""
        words = np.diff(self.borders)
        found: Places = np.sum([np.maximum(words - n, 0) for n in range(len(self.buckets))], axis=0)
        return found


def runs(texts: Sequence[str], features: Features) -> Runs:
    """The buckets of all runs of the texts. Memory: about 60 bytes for a byte of the texts' beginnings."""
    cut = [text[: features.characters] for text in texts]
    data, ends = _joined([text.lower() for text in cut])
    words, starts = _words(data)
    borders = np.concatenate([np.zeros(1, np.int64), np.searchsorted(starts, ends)])
    shift, run, found = np.uint64(64 - features.bits), words, []
    for n in range(1, features.ngram + 1):
        if n > 1:
            run = run[:-1] * np.uint64(N) + words[n - 1 :]
        found.append((_mixed(run + np.uint64(n)) >> shift).astype(np.uint32))
    return Runs(tuple(found), borders)


def _joined(texts: Sequence[str]) -> tuple[npt.NDArray[np.uint8], Places]:
    """The texts in UTF-8, a newline behind each, and where each ends, (texts,)."""
    whole = "\n".join([*texts, ""])
    data = np.frombuffer(whole.encode("utf-8", "replace"), np.uint8)
    if len(data) == len(whole):
        sizes = [len(text) + 1 for text in texts]
    else:
        sizes = [(len(text) if text.isascii() else len(text.encode("utf-8", "replace"))) + 1 for text in texts]
    return data, np.cumsum(np.array(sizes, np.int64))


def batches(texts: Iterable[str], characters: int, most: int = BATCH) -> Iterator[list[str]]:
    """The texts' beginnings in groups of about `most` characters, for `runs`."""
    group: list[str] = []
    size = 0
    for text in texts:
        group.append(text[:characters])
        size += len(group[-1])
        if size >= most:
            yield group
            group, size = [], 0
    if group:
        yield group


def _words(data: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.uint64], Places]:
    """The hash of each word and where it begins."""
    inside = WORD_BYTES[data]
    if data.size and int(data.max()) >= 0x80:
        _part_at_punctuation(data, inside)
    edges = np.flatnonzero(inside[1:] != inside[:-1]) + 1
    if inside.size and inside[0]:
        edges = np.concatenate([np.zeros(1, np.int64), edges])
    starts, ends = edges[0::2], edges[1::2]  # the last byte parts, so each word ends
    powers, inverses = _powers(1 << max(10, (len(data)).bit_length()))
    sums = np.zeros(len(data) + 1, np.uint64)
    np.cumsum(BYTES[data] * powers[: len(data)], out=sums[1:])
    return (sums[ends] - sums[starts]) * inverses[starts], starts


def _part_at_punctuation(data: npt.NDArray[np.uint8], inside: npt.NDArray[np.bool_]) -> None:
    """Take U+0080 to U+00BF, U+2000 to U+207F and U+3000 to U+303F, as UTF-8, out of the words."""
    at = np.flatnonzero(data == 0xC2)
    inside[at] = inside[at + 1] = False
    for lead, last in ((0xE2, 0x81), (0xE3, 0x80)):
        at = np.flatnonzero(data == lead)
        at = at[data[at + 1] <= last]
        inside[at] = inside[at + 1] = inside[at + 2] = False


def _mixed(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    values = values ^ (values >> np.uint64(32))
    values *= np.uint64(N)
    return values ^ (values >> np.uint64(32))


@lru_cache(maxsize=2)
def _powers(count: int) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    """M^i and M^-i for i below `count`."""
    made: list[Any] = []
    for base in (M, M_INVERSE):
        powers = np.full(count, base, np.uint64)
        powers[0] = 1
        made.append(np.multiply.accumulate(powers))
    return made[0], made[1]


def _bytes_table() -> npt.NDArray[np.uint64]:
    """A 64-bit number for each byte: the mixed multiples of M."""
    return _mixed(np.arange(1, 257, dtype=np.uint64) * np.uint64(M))


BYTES = _bytes_table()
WORD_BYTES = np.array([byte >= 0x80 or chr(byte).isalnum() or byte == 0x5F for byte in range(256)])
