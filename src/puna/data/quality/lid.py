"""Labels of texts by a fastText classifier, as fastText's predict gives its best (Joulin et al. 2016, "Bag of Tricks for
Efficient Text Classification"), several times as fast: a word that was met is not taken apart again.

    hidden(text) = mean of the rows of the text's words, of their character n-grams and of the end of the line
    p(label)     = softmax of output @ hidden, or the product of the turns in a Huffman tree of the labels

All n-grams of all new words of a batch are hashed at once (32-bit FNV-1a, byte by byte), and their rows added. What is
kept of a word is that sum, in whole units of the model (`classifier`), so that a text's sum is exact: a score does not
depend on what else was in the batch, nor on what was met before. The slow twin is fastText itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

import numpy as np
import numpy.typing as npt

from puna.data.quality.classifier import PREFIX, Classifier

BATCH = 1 << 17  # bytes of text that are scored at once
PIECE = 1 << 16  # bytes of words whose n-grams are hashed at once
LONG = 40  # bytes of a word: longer ones are seldom met twice, and not kept
MOST_BYTES = 48_000_000  # of kept words and their vectors
WORD_BYTES = 200  # of one word beside its vector: the text, and its place in the dictionary
AT_ONCE = 256  # texts whose labels are compared at once
TINY = 1e-5  # fastText takes logarithms of p + 1e-5
END = b"</s>"
END_WORD = re.compile(rb"(?<![^ \t\n\v\f\r])</s>(?![^ \t\n\v\f\r])")
SPACES = bytes.maketrans(b"\t\n\v\f\r", b"     ")
BASIS, PRIME = 2166136261, np.uint32(16777619)
SIGNED = np.arange(256, dtype=np.uint8).view(np.int8).astype(np.uint32)  # fastText hashes bytes as signed ones
Doubles = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]


class Scorer:
    """A classifier with the vectors of words that were met. Memory beside the classifier: 48 MB of words, then they are
    forgotten and met anew; about 40 MB for a batch of texts, and twice the longest text."""

    def __init__(self, model: Classifier) -> None:
        self.model = model
        self._words = _Words()
        columns = model.rows.shape[1]
        self._most = MOST_BYTES // (WORD_BYTES + 4 * columns)
        self._vectors = np.zeros((1 << 12, columns), np.float32)
        self._end = self._rows_of_words([END])[0] if model.words.get(END, -1) >= 0 else np.zeros(columns)
        self._edges = np.zeros(columns)
        if 0 < model.longest and model.shortest <= 1:
            self._edges = self._ngrams([b"<"])[0] + self._ngrams([b">"])[0]
        self._levels = _levels(model.counts) if model.hierarchical else []

    def best(self, texts: Iterable[str]) -> Iterator[tuple[npt.NDArray[np.int64], Doubles]]:
        """The number of the best label of each text, -1 where there is nothing to tell it by, and its probability; some
        texts at once, in order. Lone surrogates are read as "?"."""
        for sums in self._sums(texts):
            for first in range(0, len(sums), AT_ONCE):
                part = sums[first : first + AT_ONCE] + self._end
                count = part[:, -1]
                label, probability = self._best(part[:, :-1] * self.model.unit / np.maximum(count, 1)[:, None])
                label[count == 0], probability[count == 0] = -1, 0.0
                yield label, probability

    def _sums(self, texts: Iterable[str]) -> Iterator[Doubles]:
        """The sums of rows of some texts, without the end of the line: (texts, dimensions + 1), in units."""
        batch: list[bytes] = []
        size = 0
        for text in texts:
            data = text.encode("utf-8", "replace").replace(b"\0", b" ")
            if END in data and (end := END_WORD.search(data)):
                data = data[: end.start()]
            if size + len(data) > BATCH and batch:
                yield self._sums_of(batch)
                batch, size = [], 0
            if len(data) > BATCH:
                yield np.add.reduce([self._sums_of([piece]) for piece in _pieces(data)])
            else:
                batch.append(data)
                size += len(data) + 1
        if batch:
            yield self._sums_of(batch)

    def _sums_of(self, batch: Sequence[bytes]) -> Doubles:
        words = self._words
        if len(words) > self._most:
            words.clear()
        found = [data.split() for data in batch]
        for each in found:
            each.append(b"")  # which every text has, so that none is empty
        counts = np.fromiter(map(len, found), np.int64, len(found))
        known = len(words) or 1
        words.setdefault(b"", 0)
        total = int(counts.sum())
        places = np.fromiter(map(words.__getitem__, chain.from_iterable(found)), np.int64, total)
        self._learn(known)
        return _summed(self._vectors.take(places, axis=0, mode="wrap"), counts.cumsum() - counts)

    def _learn(self, known: int) -> None:
        """Vectors of the words that were met for the first time, behind the `known` ones, and of long ones at the end."""
        words = self._words
        size = len(self._vectors)
        needed = len(words) + len(words.long)
        if needed > size:
            self._vectors = np.resize(self._vectors, (max(needed, 2 * size), self._vectors.shape[1]))
        if words.new:
            self._vectors[known : len(words)] = self._rows_of_words(words.new)
        if words.long:
            self._vectors[: -len(words.long) - 1 : -1] = self._rows_of_words(words.long)
        words.new, words.long = [], []

    def _rows_of_words(self, words: Sequence[bytes]) -> Doubles:
        """The sum of the rows of each word: (words, dimensions + 1)."""
        model = self.model
        sums = np.zeros((len(words), model.rows.shape[1]))
        rows = np.fromiter((model.words.get(word, -2) for word in words), np.int64, len(words))
        listed = np.flatnonzero(rows >= 0)
        sums[listed] = model.rows[rows[listed]]
        if model.longest:
            apart = [
                index
                for index, row in enumerate(rows.tolist())
                if words[index] != END and (row >= 0 or (row == -2 and not words[index].startswith(PREFIX)))
            ]
            for first, last in _groups([len(words[index]) + 2 for index in apart]):
                group = [b"<" + words[index] + b">" for index in apart[first:last]]
                if len(group[0]) > PIECE:
                    added = self._ngrams_of_long(group[0])
                else:
                    added = self._ngrams(group)
                sums[apart[first:last]] += added - self._edges
        return sums

    def _ngrams_of_long(self, word: bytes) -> Doubles:
        """Of one word, cut: pieces overlap by what an n-gram reaches over a border, and overlaps are taken off again."""
        data = np.frombuffer(word, np.uint8)
        begins = np.append(np.flatnonzero((data & 0xC0) != 0x80), len(data))
        sums = np.zeros(self.model.rows.shape[1])
        for first in range(0, len(begins) - 1, PIECE // 4):
            cuts = [min(first + reach, len(begins) - 1) for reach in (PIECE // 4, PIECE // 4 + self.model.longest - 1)]
            sums += self._ngrams([word[begins[first] : begins[cuts[1]]]])[0]
            if cuts[0] < cuts[1]:
                sums -= self._ngrams([word[begins[cuts[0]] : begins[cuts[1]]]])[0]
        return sums

    def _ngrams(self, words: Sequence[bytes]) -> Doubles:
        """The sum of the rows of all n-grams of each word, none of which is empty: (words, dimensions + 1)."""
        model = self.model
        data = np.frombuffer(b"".join(words), np.uint8)
        lengths = np.fromiter(map(len, words), np.int64, len(words))
        starts = lengths.cumsum() - lengths
        begins, more = None, []
        if data.max() >= 0x80:
            begins = np.flatnonzero((data & 0xC0) != 0x80)
            sizes = np.diff(begins, append=len(data))
            more = [(size, np.flatnonzero(sizes > size)) for size in range(1, int(sizes.max()))]
            starts = np.searchsorted(begins, starts)
        count = len(data) if begins is None else len(begins)
        ends = np.append(starts[1:], count)
        left = np.repeat(ends, ends - starts) - np.arange(count)  # characters from each to the end of its word
        signed = SIGNED[data]
        leads = signed if begins is None else signed[begins]
        nothing = len(model.rows) - 1
        rows = np.full((count, model.longest - max(1, model.shortest) + 1), nothing, np.int32)
        hashed = np.full(count, BASIS, np.uint32)
        for n in range(1, min(model.longest, int((ends - starts).max())) + 1):
            hashed = hashed[: count - n + 1]
            hashed ^= leads[n - 1 :]
            hashed *= PRIME
            for size, wide in more:
                wide = wide[np.searchsorted(wide, n - 1) :]
                hashed[wide - (n - 1)] = (hashed[wide - (n - 1)] ^ signed[begins[wide] + size]) * PRIME  # type: ignore[index]
            if n >= model.shortest:
                bucket = hashed - hashed // np.uint32(model.buckets) * np.uint32(model.buckets)
                found = model.row_of[bucket] if model.row_of is not None else bucket.astype(np.int64) + len(model.words)
                rows[: len(hashed), n - max(1, model.shortest)] = np.where(left[: len(hashed)] >= n, found, nothing)
        flat = rows.reshape(-1)
        some = flat != nothing
        some[starts * rows.shape[1]] = True  # so that none is without
        kept = np.flatnonzero(some)
        return _summed(model.rows.take(flat[kept], axis=0), np.searchsorted(kept, starts * rows.shape[1]))

    def _best(self, hidden: Doubles) -> tuple[npt.NDArray[np.int64], Doubles]:
        """(texts, dimensions) -> the best label of each and its probability, (texts,) both. Sums go dimension by
        dimension and label by label, in the same order for however many texts."""
        logits = np.zeros((len(self.model.output), len(hidden)))
        for column, weights in zip(hidden.T, self.model.output.T, strict=True):
            logits += weights[:, None] * column
        if not self.model.hierarchical:
            turns = np.exp(logits - logits.max(axis=0))
            scores = np.log(turns / turns.cumsum(axis=0)[-1] + TINY)
        else:
            with np.errstate(over="ignore"):
                right = 1 / (1 + np.exp(-logits))
            lefts, rights = np.log(1 - right + TINY), np.log(right + TINY)
            scores = np.zeros((2 * len(self.model.labels) - 1, len(hidden)))
            for nodes, left, other in self._levels:
                turn = nodes - len(self.model.labels)
                scores[left] = scores[nodes] + lefts[turn]
                scores[other] = scores[nodes] + rights[turn]
            scores = scores[: len(self.model.labels)]
        label = scores.argmax(axis=0)
        return label, np.exp(scores[label, np.arange(len(hidden))])


class _Words(dict[bytes, int]):
    """The place of each word's vector; of a new one it is the next, of a long one, which is not kept, -1, -2, ..."""

    def __init__(self) -> None:
        super().__init__()
        self.new: list[bytes] = []
        self.long: list[bytes] = []

    def __missing__(self, word: bytes) -> int:
        if len(word) > LONG:
            self.long.append(word)
            return -len(self.long)
        self.new.append(word)
        place = self[word] = len(self)
        return place


def _summed(rows: npt.NDArray[np.float32], starts: Places) -> Doubles:
    """The sums of rows from each start to the next; exact, so in any order."""
    sums: Doubles = np.add.reduceat(rows.astype(np.float64), starts, axis=0)
    return sums


def _pieces(data: bytes) -> Iterator[bytes]:
    """A long text cut at spaces into pieces of BATCH bytes, longer where a word is."""
    data = data.translate(SPACES)
    at = 0
    while at < len(data):
        cut = len(data) if len(data) - at <= BATCH else data.rfind(b" ", at, at + BATCH) + 1
        if not cut:
            cut = data.find(b" ", at + BATCH) + 1 or len(data)
        yield data[at:cut]
        at = cut


def _groups(sizes: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Runs of about PIECE bytes: the first and behind the last; what is larger by itself."""
    first = total = 0
    for index, size in enumerate(sizes):
        if total + size > PIECE and index > first:
            yield first, index
            first, total = index, 0
        total += size
    if first < len(sizes):
        yield first, len(sizes)


def _levels(counts: Sequence[int]) -> list[tuple[Places, Places, Places]]:
    """The Huffman tree of the labels from its root down: on each level the inner nodes, and the two below each. Labels
    come by falling counts, as fastText sorts them; an inner node's row of the output is its number less the labels."""
    labels = len(counts)
    total = [*counts, *[10**15] * (labels - 1)]
    below: list[tuple[int, int]] = []
    leaf, node = labels - 1, labels
    for made in range(labels, 2 * labels - 1):
        pair = []
        for _ in range(2):
            if leaf >= 0 and (node >= made or total[leaf] < total[node]):
                pair.append(leaf)
                leaf -= 1
            else:
                pair.append(node)
                node += 1
        total[made] = total[pair[0]] + total[pair[1]]
        below.append((pair[0], pair[1]))
    levels, level = [], [2 * labels - 2] if labels > 1 else []
    while level:
        pairs = [below[inner - labels] for inner in level]
        levels.append((np.array(level), *(np.array(side) for side in zip(*pairs, strict=True))))
        level = [inner for pair in pairs for inner in pair if inner >= labels]
    return levels  # type: ignore[return-value]
