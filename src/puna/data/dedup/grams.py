"""Hashes of runs of n words: what "shares 13-grams" and "contains 5-grams" are measured with.

A word is a run of letters, digits or underscores, lower-cased. The definition is part of what a recipe means, so it has
a readable twin in the tests. M is MULTIPLIER, and all is modulo 2^64:

    word    its UTF-8 bytes, eight at a time, the last filled with zeros: h = mix(h * M + eight), from h = 0;
            of a word longer than LONG bytes, xxh3_64 of them
    run     mix(sum over k of word[i + k] * M^(n - 1 - k))

All words of a batch of texts are hashed at once: a word is no object of Python's. A word of up to eight bytes is one
load of eight bytes from where it begins, so that what grows with the text is little more than the search for borders.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import xxhash

WORD = re.compile(r"\w+")
MULTIPLIER = 0x9E3779B97F4A7C15  # 2^64 / golden ratio, odd, so no word of a run is lost modulo 2^64
LONG = 64  # bytes
BATCH = 1 << 18  # bytes of text hashed at once: what fits the processor's cache is fastest
WORD_BYTES = bytes(byte >= 0x80 or chr(byte).isalnum() or byte == 0x5F for byte in range(256))
KEPT = np.array([2 ** (8 * count) - 1 for count in range(9)], np.uint64)  # of the first bytes of eight
CODES = 0x110000
T = TypeVar("T", bound=np.generic)
Hashes = npt.NDArray[np.uint64]
Places = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Words:
    """The words of a batch of texts."""

    hashes: Hashes
    """Of all words, text by text."""
    borders: Places
    """(texts + 1,): the first word of each text, and the number of all words."""

    def of(self, index: int) -> Hashes:
        """The hashes of one text's words."""
        return self.hashes[self.borders[index] : self.borders[index + 1]]

    def within(self, places: Places, n: int) -> tuple[Places, Places]:
        """(text, place) of those runs of n words that lie in one text, of runs at `places` of the whole batch."""
        text = np.searchsorted(self.borders, places, "right") - 1
        inside = places + n <= self.borders[text + 1]
        return text[inside], places[inside]


def gram_hashes(text: str, n: int) -> Hashes:
    """64-bit hashes of the runs of `n` words of `text`, in order; a shorter text is one run, an empty one none."""
    return runs(words_of([text]).hashes, n)


def distinct_grams(texts: Iterable[str], n: int) -> Iterator[Hashes]:
    """For each text the sorted distinct `gram_hashes`."""
    for batch in batches(texts):
        words = words_of(batch)
        whole, borders = runs(words.hashes, n), words.borders.tolist()
        for first, last in pairwise(borders):
            yield distinct(whole[first : last - n + 1] if last - first >= n else runs(words.hashes[first:last], n))


def batches(texts: Iterable[str], most: int = BATCH) -> Iterator[list[str]]:
    """The texts in groups of about `most` characters, one text more at most."""
    group: list[str] = []
    size = 0
    for text in texts:
        group.append(text)
        size += len(text)
        if size >= most:
            yield group
            group, size = [], 0
    if group:
        yield group


def words_of(texts: Sequence[str]) -> Words:
    """The words of all texts. Memory: the texts three times, 8 bytes a word, and 30 bytes for each of BATCH; a stretch
    without a space is not parted."""
    pieces = [b"", *(_lowered(text) for text in texts), b""]
    ends = np.cumsum(np.array([len(piece) + 1 for piece in pieces], np.int64))
    data = b" ".join(pieces)  # so a space stands before each text and behind it
    del pieces
    found, starts, begin = [np.empty(0, np.uint64)], [np.empty(0, np.int64)], 0
    while begin < len(data) - 1:
        end = len(data) - 1
        if end - begin > BATCH:
            end = max(data.rfind(b" ", begin + 1, begin + BATCH), 0) or data.find(b" ", begin + BATCH)
        hashes, places = _words(data[begin : end + 1])
        found.append(hashes)
        starts.append(places + begin)
        begin = end
    borders = np.searchsorted(np.concatenate(starts), ends[:-1])
    return Words(np.concatenate(found), borders)


def runs(values: Hashes, n: int) -> Hashes:
    """Hashes of the runs of `n` of the `values`; of all of them where there are fewer."""
    n = min(n, len(values))
    return mixed(_sums(values, n)) if n else np.empty(0, np.uint64)


def runs_of_lengths(values: Hashes, lengths: Collection[int]) -> Iterator[tuple[int, Hashes]]:
    """(n, `runs`) for each n of the lengths that the values have, in ascending order."""
    total = values
    for n in range(1, min(max(lengths, default=0), len(values)) + 1):
        if n > 1:
            total = total[:-1] * np.uint64(MULTIPLIER)
            total += values[n - 1 :]
        if n in lengths:
            yield n, mixed(total)


def distinct(values: npt.NDArray[T]) -> npt.NDArray[T]:
    """The sorted distinct values. numpy's `unique` hashes them first, at ten times the cost and more (docs/log.md)."""
    ordered = np.sort(values)
    if not len(ordered):
        return ordered
    first = np.ones(len(ordered), bool)
    np.not_equal(ordered[1:], ordered[:-1], out=first[1:])
    return ordered[first]


def shared_part(grams: Hashes, known: Hashes) -> float:
    """The part of the distinct `grams` that stand in `known` (sorted, distinct), 0 when there are none."""
    each = distinct(grams)
    if not len(each) or not len(known):
        return 0.0
    place = np.minimum(np.searchsorted(known, each), len(known) - 1)
    return float((known[place] == each).mean())


def mixed(values: Hashes) -> Hashes:
    """The values spread over all 64 bits, one to one."""
    values = values ^ (values >> np.uint64(32))
    values *= np.uint64(0xD6E8FEB86659FD93)
    values ^= values >> np.uint64(32)
    return values


def _sums(values: Hashes, n: int) -> Hashes:
    """sum over k of values[i + k] * M^(n - 1 - k), by doubling."""
    if n == 1:
        return values
    half = n // 2
    low = _sums(values, half)
    total = low[: len(values) - 2 * half + 1] * np.uint64(pow(MULTIPLIER, half, 1 << 64))
    total += low[half:]
    if n % 2:
        total = total[:-1] * np.uint64(MULTIPLIER)
        total += values[n - 1 :]
    return total


def _lowered(text: str) -> bytes:
    return text.encode().lower() if text.isascii() else text.lower().encode("utf-8", "surrogatepass")


def _words(data: bytes) -> tuple[Hashes, Places]:
    """The hash of each word and where it begins, of text that begins and ends with a space."""
    padded = np.frombuffer(data + bytes(8), np.uint8)
    inside = np.frombuffer(data.translate(WORD_BYTES), np.bool_)
    if not data.isascii():
        inside = _parted(padded, inside)
    edges = np.flatnonzero(inside[1:] != inside[:-1]) + 1
    starts, ends = edges[0::2], edges[1::2]
    eights = np.ndarray((len(data),), "<u8", padded, strides=(1,))  # those that begin at each byte
    lengths = ends - starts
    hashes = mixed(eights[starts] & KEPT[np.minimum(lengths, 8)])
    longer = np.flatnonzero(lengths > 8)
    for at in range(8, LONG, 8):
        longer = longer[lengths[longer] > at]
        if not len(longer):
            break
        value = eights[starts[longer] + at] & KEPT[np.minimum(lengths[longer] - at, 8)]
        hashes[longer] = mixed(hashes[longer] * np.uint64(MULTIPLIER) + value)
    for word in longer[lengths[longer] > LONG].tolist():
        hashes[word] = xxhash.xxh3_64_intdigest(data[starts[word] : ends[word]])
    return hashes, starts


def _parted(padded: npt.NDArray[np.uint8], inside: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """A copy of `inside`, in which characters beyond ASCII that are in no word are not."""
    at = np.flatnonzero(padded >= 0xC0)
    lead = padded[at].astype(np.uint32)
    two, three, four = (padded[at + k].astype(np.uint32) & 0x3F for k in (1, 2, 3))
    code = (lead & 0x1F) << 6 | two
    wide, widest = lead >= 0xE0, lead >= 0xF0
    code[wide] = (lead[wide] & 0xF) << 12 | two[wide] << 6 | three[wide]
    code[widest] = (lead[widest] & 7) << 18 | two[widest] << 12 | three[widest] << 6 | four[widest]
    parts = ~_in_words()[code]
    inside = inside.copy()
    for k, those in enumerate((parts, parts, parts & wide, parts & widest)):
        inside[at[those] + k] = False
    return inside


@lru_cache(maxsize=1)
def _in_words() -> npt.NDArray[np.bool_]:
    """Whether a character is one of WORD's, by its code point: a megabyte."""
    every = np.arange(CODES, dtype="<u4").tobytes().decode("utf-32-le", "surrogatepass")
    found = np.zeros(CODES, bool)
    for run in WORD.finditer(every):
        found[run.start() : run.end()] = True
    return found
