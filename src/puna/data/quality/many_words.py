"""The pieces of many texts at once: each distinct word is cut once, and its number stands for it from then on.

The same tokens as `Pieces.cut` of each text's `sentence`, which is the readable twin. Words come again, and looking
each up in a dictionary costs more than all else that is done with it. So the words of a batch are found in its bytes:
one of 16 bytes at most is two whole numbers of 64 bits, and all are looked up at once in a table of such pairs,
compared as they are and not by a hash. A longer word is looked up in a dictionary.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import numpy as np
import numpy.typing as npt

from puna.data.quality.sentences import Pieces, sentence, spaced

REMEMBERED = 200_000  # words; more are forgotten together, before the next batch
LANE = 8  # bytes in one whole number; a word in two of them is looked up in the table
MASKS = np.array([(1 << 8 * count) - 1 for count in range(LANE + 1)], np.uint64)
MIX = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F], np.uint64)  # odd, as xxHash's primes
Ints = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]


class ManyWords:
    """Memory: some 100 bytes for each of REMEMBERED words, and 40 for a byte of the batch."""

    _ids: Ints  # of all words' pieces, one after another
    _start: Ints  # where those of a word begin
    _length: Ints  # and how many they are
    _low: Words
    _high: Words
    _rows: npt.NDArray[np.int32]  # the numbers of short words, each behind the row that its bytes tell; -1: free

    def __init__(self, pieces: Pieces) -> None:
        self.pieces = pieces
        self._forget()

    def tokens(self, texts: Sequence[str]) -> tuple[Ints, Ints]:
        """The texts one after another, each <s> pieces </s>, and the tokens of each: (tokens,), (texts,)."""
        if not texts:
            return np.empty(0, np.int64), np.empty(0, np.int64)
        if not self.pieces.by_word:
            cut = [[self.pieces.bos, *self.pieces.cut(sentence(text)), self.pieces.eos] for text in texts]
            return np.array([*chain.from_iterable(cut)], np.int64), np.array([*map(len, cut)], np.int64)
        if self._start.size > REMEMBERED:
            self._forget()
        data = b"".join((b"\n", "\n".join(map(spaced, texts)).encode(), b"\n"))
        numbers, ends = self._numbers(data)
        # Two words more a text: number 0 is <s>, number 1 </s>.
        begins = np.append(0, ends[:-1]) + 2 * np.arange(len(texts))
        last = ends + 2 * np.arange(len(texts)) + 1
        whole = np.zeros(numbers.size + 2 * len(texts), np.int64)
        inside = np.ones(whole.size, bool)
        inside[begins] = inside[last] = False
        whole[inside], whole[last] = numbers, 1
        lengths = self._length[whole]
        after = np.cumsum(lengths)
        places = np.repeat(self._start[whole] - after + lengths, lengths) + np.arange(after[-1])
        return self._ids[places], np.diff(after[last], prepend=0)

    def _numbers(self, data: bytes) -> tuple[Ints, Ints]:
        """The number of each word in lines of bytes, and how many words there are up to the end of each line. data: a
        line break, and lines that end with one."""
        held = np.frombuffer(data, np.uint8)
        inside = held > 32
        edges = np.flatnonzero(inside[1:] != inside[:-1]) + 1
        starts, stops = edges[::2], edges[1::2]
        ends = np.searchsorted(starts, np.flatnonzero(held == 10)[1:])
        lengths = stops - starts
        padded = np.zeros(held.size + 2 * LANE, np.uint8)
        padded[: held.size] = held
        at_any = np.ndarray((held.size + LANE,), "<u8", padded, 0, (1,))
        low = at_any[starts] & MASKS[np.minimum(lengths, LANE)]
        high = at_any[starts + LANE] & MASKS[np.clip(lengths - LANE, 0, LANE)]
        numbers = self._find(low, high)
        long = np.flatnonzero(lengths > 2 * LANE)
        spelled = [data[start:stop] for start, stop in zip(starts[long].tolist(), stops[long].tolist(), strict=True)]
        new = [word for word in dict.fromkeys(spelled) if word not in self._long]
        numbers[long] = 0
        missing = np.flatnonzero(numbers < 0)
        by_word = missing[np.lexsort((high[missing], low[missing]))]
        differs = np.ones(by_word.size, bool)
        differs[1:] = (low[by_word[1:]] != low[by_word[:-1]]) | (high[by_word[1:]] != high[by_word[:-1]])
        firsts = by_word[differs]
        spans = zip(starts[firsts].tolist(), stops[firsts].tolist(), strict=True)
        self._learn([data[start:stop] for start, stop in spans], low[firsts], high[firsts], new)
        numbers[missing] = self._find(low[missing], high[missing])
        numbers[long] = [self._long[word] for word in spelled]
        return numbers, ends

    def _find(self, low: Words, high: Words) -> Ints:
        """The number of each short word, -1 where it has none."""
        places = self._home(low, high)
        numbers = self._rows[places].astype(np.int64)
        waiting = np.flatnonzero(numbers >= 0)
        waiting = waiting[
            (self._low[numbers[waiting]] != low[waiting]) | (self._high[numbers[waiting]] != high[waiting])
        ]
        while waiting.size:
            places[waiting] = (places[waiting] + 1) & (self._rows.size - 1)
            numbers[waiting] = found = self._rows[places[waiting]]
            other = (self._low[found] != low[waiting]) | (self._high[found] != high[waiting])
            waiting = waiting[other & (found >= 0)]
        return numbers

    def _learn(self, short: list[bytes], low: Words, high: Words, long: list[bytes]) -> None:
        if not short and not long:
            return
        cut = self.pieces.cut_words([word.decode() for word in (*short, *long)])
        lengths = np.fromiter(map(len, cut), np.int64, len(cut))
        first = self._start.size
        self._long.update((word, first + len(short) + index) for index, word in enumerate(long))
        self._start = np.append(self._start, self._ids.size + np.cumsum(lengths) - lengths)
        self._length = np.append(self._length, lengths)
        self._ids = np.append(self._ids, np.fromiter(chain.from_iterable(cut), np.int64, int(lengths.sum())))
        none = np.zeros(len(long), np.uint64)
        self._low, self._high = np.concatenate((self._low, low, none)), np.concatenate((self._high, high, none))
        numbers = np.arange(first, first + len(short))
        if 2 * self._start.size > self._rows.size:
            self._rows = np.full(1 << (4 * self._start.size).bit_length(), -1, np.int32)
            numbers = np.flatnonzero(self._low)  # a short word has a byte that is not 0
        self._lay(numbers)

    def _lay(self, numbers: Ints) -> None:
        """Give each of these words the first free row behind the one its bytes tell."""
        places = self._home(self._low[numbers], self._high[numbers])
        while numbers.size:
            free = np.flatnonzero(self._rows[places] < 0)
            taken, firsts = np.unique(places[free], return_index=True)
            settled = free[firsts]
            self._rows[taken] = numbers[settled]
            numbers = np.delete(numbers, settled)
            places = (np.delete(places, settled) + 1) & (self._rows.size - 1)

    def _home(self, low: Words, high: Words) -> Ints:
        mixed = (low * MIX[0] ^ high * MIX[1] >> np.uint64(7)) * MIX[1]
        home: Ints = (mixed >> np.uint64(65 - self._rows.size.bit_length())).view(np.int64)
        return home

    def _forget(self) -> None:
        self._rows = np.full(1 << 12, -1, np.int32)
        self._long: dict[bytes, int] = {}
        self._ids = np.array([self.pieces.bos, self.pieces.eos], np.int64)
        self._start, self._length = np.arange(2), np.ones(2, np.int64)
        self._low = self._high = np.zeros(2, np.uint64)
