"""Labels of texts by a fastText classifier, as fastText's predict gives its best (Joulin et al. 2016, "Bag of Tricks
for Efficient Text Classification"), several times as fast: a word that was met is not taken apart again.

    hidden(text) = mean of the rows of the text's words, of their character n-grams and of the end of the line
    p(label)     = softmax of output @ hidden, or the product of the turns in a Huffman tree of the labels

All n-grams of all new words of a batch are hashed at once (32-bit FNV-1a, byte by byte), and their rows added. What is
kept of a word is that sum, in whole units of the model (`classifier`), so that a text's sum is exact: a score does not
depend on what else was in the batch, nor on what was met before. The slow twin is fastText itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import numpy as np
import numpy.typing as npt

from puna.data.quality.classifier import LONGEST_NGRAM, PREFIX, Classifier
from puna.data.quality.known_words import LONG, MASKS, Keys, KnownWords, Places, Words, keys_of, words_of

BATCH = 1 << 18  # bytes of text that are scored at once
PIECE = 1 << 17  # bytes of words whose n-grams are hashed at once
MOST_BYTES = 48_000_000  # of kept words and their vectors
WORD_BYTES = 48  # of one word beside its vector: its key, and its slots
LISTED = 4096  # of the classifier's own words are numbered at once
UNKNOWN, NONE = -2, -1  # a word that is not listed, and what is no word of a text
USUAL = 17  # columns of rows; with more, fewer bytes are taken at once
FEW = 128  # sums beside each other are worth it from so many on
AT_ONCE = 256  # texts whose labels are compared at once
TINY = 1e-5  # fastText takes logarithms of p + 1e-5
END = b"</s>"
LABEL = np.frombuffer(PREFIX + bytes(7), "<u8")
END_WORD = re.compile(rb"(?<![^ \t\n\v\f\r])</s>(?![^ \t\n\v\f\r])")
SPACES = bytes.maketrans(b"\t\n\v\f\r", b"     ")
BASIS, PRIME = 2166136261, np.uint32(16777619)
SIGNED = np.arange(256, dtype=np.uint8).view(np.int8).astype(np.uint32)  # fastText hashes bytes as signed ones
Doubles = npt.NDArray[np.float64]


class Scorer:
    """A classifier with the vectors of words that were met. Memory beside the classifier: 48 MB of words, twice that
    while they grow, then they are forgotten and met anew; the vectors of its own words; about 60 MB for a batch of
    texts, and twice the longest text."""

    def __init__(self, model: Classifier) -> None:
        self.model = model
        columns = model.rows.shape[1]
        self._batch, self._piece = (most * USUAL // max(USUAL, columns) for most in (BATCH, PIECE))
        self._edges = np.zeros(columns)
        if model.longest > 0 and model.shortest <= 1:
            self._edges = self._ngrams(*_joined([b"<"]))[0] + self._ngrams(*_joined([b">"]))[0]
        self._end = self._rows_of_words([END])[0] if model.words.get(END, -1) >= 0 else np.zeros(columns)
        self._levels = _levels(model.counts) if model.hierarchical else []
        self._vectors = np.zeros((1 << 12, columns), np.float32)
        self._most = MOST_BYTES // (WORD_BYTES + 4 * columns) + len(model.words)
        self._known = KnownWords(self._most)
        for first in range(0, len(model.words), LISTED):
            words = words_of(list(islice(model.words, first, first + LISTED)))
            self._vectors_of(words, listed=True)
        self._known.keep()

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
            if size + len(data) > self._batch and batch:
                yield self._sums_of(batch)
                batch, size = [], 0
            if len(data) > self._batch:
                yield np.add.reduce([self._sums_of([piece]) for piece in _pieces(data, self._batch)])
            else:
                batch.append(data)
                size += len(data) + 1
        if batch:
            yield self._sums_of(batch)

    def _sums_of(self, batch: Sequence[bytes]) -> Doubles:
        if self._known.count > self._most:
            self._known.forget()
        words = words_of(batch)
        rows = self._vectors_of(words)
        sums = np.zeros((len(batch), self._vectors.shape[1]))
        some = words.counts > 0
        if some.any():
            sums[some] = _summed(rows, (words.counts.cumsum() - words.counts)[some])
        return sums

    def _vectors_of(self, words: Words, *, listed: bool = False) -> npt.NDArray[np.float32]:
        """The sum of the rows of each word, (words, dimensions + 1). listed: they are the classifier's own; any other
        that is new has no row but those of its n-grams."""
        short = np.flatnonzero(words.lengths <= LONG)
        keys, count = keys_of(words, short), self._known.count
        number, new = self._known.numbers(keys)
        if self._known.count > len(self._vectors):
            grown = np.zeros((2 * self._known.count, self._vectors.shape[1]), np.float32)
            grown[:count] = self._vectors[:count]
            self._vectors = grown
        if len(new) and listed:
            self._vectors[count : self._known.count] = self._rows_of_words([words.text(i) for i in short[new].tolist()])
        elif len(new):
            for first, last in _groups(words.lengths[short[new]] + 2, self._piece):
                added = self._rows_of_ngrams(*_marked(words, short[new[first:last]]))
                added[_begin_as_labels(keys[new[first:last]])] = 0
                self._vectors[count + first : count + last] = added
        place = np.full(len(words.starts), -1, np.int64)
        place[short] = number
        rows = self._vectors.take(place, axis=0, mode="wrap")
        others = np.flatnonzero(place < 0)
        if len(others):
            rows[others] = self._rows_of_words([words.text(index) for index in others.tolist()])
        return rows

    def _rows_of_words(self, words: Sequence[bytes]) -> Doubles:
        """The sum of the rows of each word, whichever: (words, dimensions + 1)."""
        model = self.model
        sums = np.zeros((len(words), model.rows.shape[1]))
        rows = [model.words.get(word, NONE if word.startswith(PREFIX) else UNKNOWN) for word in words]
        listed = [index for index, row in enumerate(rows) if row >= 0]
        sums[listed] = model.rows[[rows[index] for index in listed]]
        apart = [index for index, row in enumerate(rows) if row != NONE and words[index] != END]
        for first, last in _groups(np.array([len(words[index]) + 2 for index in apart], np.int64), self._piece):
            group = [b"<" + words[index] + b">" for index in apart[first:last]]
            if len(group[0]) > self._piece:
                sums[apart[first]] += self._rows_of_long(group[0])
            else:
                sums[apart[first:last]] += self._rows_of_ngrams(*_joined(group))
        return sums

    def _rows_of_ngrams(self, data: npt.NDArray[np.uint8], lengths: Places) -> Doubles:
        """Of words between their marks."""
        if not self.model.longest:
            return np.zeros((len(lengths), self.model.rows.shape[1]))
        return self._ngrams(data, lengths) - self._edges

    def _rows_of_long(self, word: bytes) -> Doubles:
        """Of one word, cut: pieces overlap by what an n-gram reaches over a border; overlaps are taken off again."""
        sums = -self._edges
        if not self.model.longest:
            return sums
        begins = np.flatnonzero((np.frombuffer(word, np.uint8) & 0xC0) != 0x80)
        borders = np.append(begins, len(word)).tolist()
        for first in range(0, len(begins), self._piece // 4):
            end = min(first + self._piece // 4, len(begins))
            beyond = min(end + self.model.longest - 1, len(begins))
            sums = sums + self._ngrams(*_joined([word[borders[first] : borders[beyond]]]))[0]
            if end < beyond:
                sums = sums - self._ngrams(*_joined([word[borders[end] : borders[beyond]]]))[0]
        return sums

    def _ngrams(self, data: npt.NDArray[np.uint8], lengths: Places) -> Doubles:
        """The sum of the rows of all n-grams of each word, none of which is empty: (words, dimensions + 1)."""
        model = self.model
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
        left = np.minimum(left, LONGEST_NGRAM).astype(np.int8)
        signed = SIGNED.take(data)
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
                whole = np.flatnonzero(left[: len(hashed)] >= n)
                bucket = hashed[whole]
                bucket -= bucket // np.uint32(model.buckets) * np.uint32(model.buckets)
                place = bucket.astype(np.int64)
                found = model.row_of.take(place) if model.row_of is not None else place + model.own
                rows[whole, n - max(1, model.shortest)] = found
        flat = rows.reshape(-1)
        kept = np.flatnonzero(flat != nothing)
        firsts = np.searchsorted(kept, starts * rows.shape[1])
        return _summed_beside(model.rows, flat[kept].astype(np.int64), firsts)

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


def _joined(words: Sequence[bytes]) -> tuple[npt.NDArray[np.uint8], Places]:
    """Words one behind the other, and their lengths."""
    return np.frombuffer(b"".join(words), np.uint8), np.fromiter(map(len, words), np.int64, len(words))


def _marked(words: Words, chosen: Places) -> tuple[npt.NDArray[np.uint8], Places]:
    """Some of the words between "<" and ">", as `_joined`."""
    lengths = words.lengths[chosen] + 2
    ends = lengths.cumsum()
    data = words.data[np.repeat(words.starts[chosen] - 1 - ends + lengths, lengths) + np.arange(ends[-1])]
    data[ends - lengths], data[ends - 1] = ord("<"), ord(">")
    return data, lengths


def _begin_as_labels(keys: Keys) -> npt.NDArray[np.bool_]:
    """Whether each word begins as a label does, and so is none."""
    asked: npt.NDArray[np.bool_] = (keys[:, 0] == LABEL[0]) & (keys[:, 1] & MASKS[1] == LABEL[1])
    return asked


def _summed(rows: npt.NDArray[np.float32], starts: Places) -> Doubles:
    """The sums of rows from each start to the next; exact, so in any order."""
    sums: Doubles = np.add.reduceat(rows.astype(np.float64), starts, axis=0)
    return sums


def _summed_beside(table: npt.NDArray[np.float32], rows: Places, starts: Places) -> Doubles:
    """The same of rows of a table, of which there may be none behind a start. Many short sums go beside each other: the
    first row of each, the second of those that have one, ..., the longest sums first."""
    sizes = np.diff(starts, append=len(rows))
    sums = np.zeros((len(starts), table.shape[1]))
    if sizes.max() * FEW > len(rows):
        some = sizes > 0
        if some.any():
            sums[some] = _summed(table.take(rows, axis=0), starts[some])
        return sums
    order = np.argsort(-sizes, kind="stable")
    firsts = starts[order]
    for index, last in enumerate(np.searchsorted(-sizes[order], -np.arange(sizes.max())).tolist()):
        sums[:last] += table.take(rows[firsts[:last] + index], axis=0)
    back = np.empty_like(sums)
    back[order] = sums
    return back


def _pieces(data: bytes, size: int) -> Iterator[bytes]:
    """A long text cut at spaces into pieces of `size` bytes, longer where a word is."""
    data = data.translate(SPACES)
    at = 0
    while at < len(data):
        cut = len(data) if len(data) - at <= size else data.rfind(b" ", at, at + size) + 1
        if not cut:
            cut = data.find(b" ", at + size) + 1 or len(data)
        yield data[at:cut]
        at = cut


def _groups(sizes: Places, most: int) -> Iterator[tuple[int, int]]:
    """Runs of up to `most` bytes: the first and behind the last; what is larger by itself."""
    ends, first = sizes.cumsum(), 0
    while first < len(sizes):
        before = ends[first] - sizes[first]
        last = max(first + 1, int(np.searchsorted(ends, before + most, side="right")))
        yield first, last
        first = last


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
