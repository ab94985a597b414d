"""Words of texts, found and numbered a whole batch at once: what a dictionary does word by word, without an object of
Python's for each.

A word of up to LONG bytes is its own key: LONG / 8 integers, zeros behind it, since no word has a zero byte. Keys lie
in an open-addressed table (Knuth, "The Art of Computer Programming", volume 3, 6.4), in which a round looks up every
word of the batch that has no number yet; where several new words, or the same one twice, find the same empty slot, one
gets it and the others look again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

LONG = 32  # bytes; longer words are seldom met twice
ROUNDS = 24  # of one lookup; words that were made to meet in a slot are not numbered
PARTS = LONG // 8
SPACES = b"\0\t\n\v\f\r "  # what parts words to fastText
INSIDE = np.array([byte not in SPACES for byte in range(256)])
MASKS = np.array([(1 << 8 * size) - 1 for size in range(9)], np.uint64)
FACTORS = np.array([0x9E3779B97F4A7C15, 0xD6E8FEB86659FD93, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9], np.uint64)
Places = npt.NDArray[np.int64]
Keys = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class Words:
    """The words of some texts, in order."""

    data: npt.NDArray[np.uint8]
    starts: Places
    """(words,): of each in `data`."""
    lengths: Places
    """(words,): in bytes, at least 1."""
    counts: Places
    """(texts,): of words in each."""

    def text(self, index: int) -> bytes:
        return self.data[self.starts[index] : self.starts[index] + self.lengths[index]].tobytes()


def words_of(texts: Sequence[bytes]) -> Words:
    """The runs of bytes that are no spaces. Memory: 24 bytes for a byte of text."""
    whole = b"\n".join([b"", *texts, bytes(LONG + 8)])
    data = np.frombuffer(whole, np.uint8)
    inside = INSIDE[data]
    edges = np.flatnonzero(inside[1:] != inside[:-1]) + 1
    starts, ends = edges[0::2], edges[1::2]
    borders = np.cumsum(np.fromiter((len(text) + 1 for text in texts), np.int64, len(texts)))
    counts = np.diff(np.searchsorted(starts, borders), prepend=0)
    return Words(data, starts, ends - starts, counts)


def keys_of(words: Words, chosen: Places) -> Keys:
    """(chosen, PARTS): of words that are not long."""
    size = len(words.data) // 8 - 1
    eights = np.empty((size, 8), np.uint64)
    for shift in range(8):
        eights[:, shift] = np.frombuffer(words.data, "<u8", size, shift)
    at_byte = eights.reshape(-1)
    starts, lengths = words.starts[chosen], words.lengths[chosen]
    keys = np.zeros((len(chosen), PARTS), np.uint64)
    keys[:, 0] = at_byte[starts] & MASKS[np.minimum(lengths, 8)]
    longer = np.flatnonzero(lengths > 8)
    for part in range(1, PARTS):
        keys[longer, part] = at_byte[starts[longer] + 8 * part] & MASKS[np.minimum(lengths[longer] - 8 * part, 8)]
        longer = longer[lengths[longer] > 8 * part + 8]
    return keys


class KnownWords:
    """Numbers of words, from 0 in the order in which they were met. Memory: 32 bytes a word, twice that after growing,
    and 8 to 16 for each of `most`."""

    def __init__(self, most: int) -> None:
        self.count = 0
        self._shift = np.uint64(64 - (2 * most).bit_length())
        self._slots = np.full(1 << (2 * most).bit_length(), -1, np.int32)
        self._keys = np.zeros((1 << 12, PARTS), np.uint64)
        self._first, self._kept = self._slots, 0

    def keep(self) -> None:
        """What is known now outlasts `forget`."""
        self._first, self._kept = self._slots.copy(), self.count

    def forget(self) -> None:
        self._slots, self.count = self._first.copy(), self._kept

    def numbers(self, keys: Keys) -> tuple[Places, Places]:
        """The number of each word, -1 for one that gets none, and which of the words were met for the first time, in
        the order of their new numbers."""
        if self.count + len(keys) > len(self._keys):
            grown = np.zeros((2 * (self.count + len(keys)), PARTS), np.uint64)
            grown[: self.count] = self._keys[: self.count]
            self._keys = grown
        slots, found = self._slots, np.full(len(keys), -1, np.int64)
        hashed = keys[:, 0] * FACTORS[0]
        for part in range(1, PARTS):
            hashed += keys[:, part] * FACTORS[part]
        hashed ^= hashed >> np.uint64(32)
        hashed *= FACTORS[1]
        slot = (hashed >> self._shift).astype(np.int64)
        todo, asked, new = np.arange(len(keys)), keys, []
        for _ in range(ROUNDS):
            number = slots[slot]
            empty = np.flatnonzero(number < 0)
            if len(empty):
                free = slot[empty]
                slots[free] = empty
                winners = empty[slots[free] == empty]
                numbers = np.arange(self.count, self.count + len(winners))
                self._keys[self.count : self.count + len(winners)] = asked[winners]
                slots[slot[winners]] = numbers
                self.count += len(winners)
                new.append(todo[winners])
                number[empty] = slots[free]
            apart = self._keys.take(number, axis=0)
            apart ^= asked
            other = apart[:, 0]
            for part in range(1, PARTS):
                other |= apart[:, part]
            same = other == 0
            found[todo[same]] = number[same]
            left = np.flatnonzero(~same)
            if not len(left):
                break
            todo, asked, slot = todo[left], asked[left], (slot[left] + 1) & (len(slots) - 1)
        return found, np.concatenate([np.empty(0, np.int64), *new])
