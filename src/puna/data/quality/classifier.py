"""The file of a fastText classifier, read without fastText: what `lid` asks for the language of a text.

A file is a header, the words and labels, the buckets of character n-grams that pruning left, and two matrices, each of
which may be product-quantised (Joulin et al. 2016, "FastText.zip"): rows of small codes, each of which names one of 256
centroids for a few of the dimensions. Read are version 12, a softmax or a hierarchical one, single words.

Weights are kept as whole numbers of a unit, the power of two by which the largest of the model takes 24 bits: a sum of
fewer than 2^29 rows is then exact, in whatever order and company they are added.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from mmap import ACCESS_READ, mmap
from typing import Any

import numpy as np
import numpy.typing as npt

from puna import storage
from puna.errors import InputError
from puna.storage import Location

MAGIC, VERSION = 793712314, 12
SUPERVISED, HIERARCHICAL, SOFTMAX = 3, 1, 3
PREFIX = b"__label__"
LONGEST_LABEL = 12  # bytes, without the prefix: what a row of scores has room for
CENTROIDS = 256
BITS = 24
ENTRY = struct.Struct("<qb")
MEND = "name another in data.language_model"
MOST_WEIGHTS, MOST_BUCKETS, MOST_LABELS = 1 << 26, 1 << 23, 4096
MOST_DIMENSIONS, LONGEST_NGRAM = 1024, 16
Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int32]


class OtherModelError(Exception):
    """A sound file of a kind that only fastText reads: word n-grams, another loss, or larger than the limits here."""


@dataclass(frozen=True)
class Classifier:
    words: dict[bytes, int]
    """The row of each word; -1 for what is a label and so no word of a text."""
    own: int
    """Words that have a row."""
    labels: tuple[bytes, ...]
    """Without their prefix."""
    counts: tuple[int, ...]
    """(labels,): in training; the tree of a hierarchical softmax is made of them."""
    rows: Floats
    """(words + n-grams + 1, dimensions + 1) in whole units. The last column is 1: it counts the rows of a sum. The last
    row is 0, for what pruning left out."""
    unit: float
    output: npt.NDArray[np.float64]
    """(labels, dimensions)"""
    hierarchical: bool
    shortest: int
    longest: int
    """Characters of an n-gram; 0: words alone."""
    buckets: int
    row_of: Rows | None
    """(buckets,): of the n-grams in each, the last row where none is left; None: the bucket's own, behind the words."""


def load(location: Location) -> Classifier:
    """Raises InputError for a file that is no classifier of fastText's, is cut short or contradicts itself, and
    OtherModelError for one that is sound and not for us. Memory: 4 bytes a weight, 256 MB at most, 32 MB for buckets,
    and the words; no size that a file announces is believed before it is found to hold as many bytes."""
    with storage.local_copy(location) as path, path.open("rb") as file:
        if not path.stat().st_size:
            raise InputError("cannot be read as a fastText model (it is empty)", where=str(location), mend=MEND)
        return parse(mmap(file.fileno(), 0, access=ACCESS_READ), str(location))


def parse(data: bytes | mmap, where: str) -> Classifier:
    """`load`, of what the file holds."""
    file = _File(data, where)
    if file.take("<i") != (MAGIC,):
        raise file.error("it does not begin as one")
    version, dimensions, _, _, _, _, ngrams, loss, kind, buckets, shortest, longest, _, _ = file.take("<i12id")
    if version != VERSION:
        raise file.error(f"version {version}, where {VERSION} is read")
    if kind != SUPERVISED:
        raise file.error("it is no classifier")
    size, n_words, n_labels, _, n_kept = file.take("<iiiqq")
    if min(n_words, n_labels - 1) < 0 or n_words + n_labels != size:
        raise file.error(f"{n_words} words and {n_labels} labels are no {size} entries")
    entries = file.entries(n_words, n_labels)
    labels = tuple(label.removeprefix(PREFIX) for label, _ in entries[n_words:])
    for label in labels:
        told = label.decode(errors="backslashreplace")
        if len(label) > LONGEST_LABEL or told.encode() != label:
            raise file.error(f"its label {told[:40]!r} is no UTF-8 text of {LONGEST_LABEL} bytes or fewer")
    words = {word: index for index, (word, _) in reversed(list(enumerate(entries[:n_words])))}
    kept = file.array("<i4", 2 * max(0, n_kept)).reshape(-1, 2)
    rows = file.matrix(quantised=bool(file.take("<B")[0]))
    output = file.matrix(quantised=bool(file.take("<B")[0]))
    behind = n_kept if n_kept >= 0 else buckets if longest > 0 or ngrams > 1 else 0
    if rows.columns != dimensions or output.columns != dimensions or dimensions < 1:
        raise file.error(f"matrices of {rows.columns} and {output.columns} columns, where {dimensions} are announced")
    if output.rows != n_labels or behind < 0 or rows.rows < n_words + behind:
        raise file.error(f"{rows.rows} and {output.rows} rows are too few or too many")
    if longest > 0 and (buckets < 1 or shortest < 0):
        raise file.error("its n-grams have no buckets")
    if len(kept) and not ((kept >= 0) & (kept < [[max(1, buckets), rows.rows - n_words]])).all():
        raise file.error("pruned n-grams lie outside of it")
    too_large = max(rows.rows + 1, output.rows) * (dimensions + 1) > MOST_WEIGHTS or buckets > MOST_BUCKETS
    too_large |= dimensions > MOST_DIMENSIONS or n_labels > MOST_LABELS or longest > LONGEST_NGRAM
    if too_large or ngrams > 1 or loss not in (HIERARCHICAL, SOFTMAX):
        raise OtherModelError
    table = np.zeros((rows.rows + 1, dimensions + 1), np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        table[:-1, :-1] = rows.weights()
        last, most = output.weights().astype(np.float64), float(np.abs(table).max())
    if not np.isfinite(most) or not np.isfinite(last).all():
        raise file.error("a weight is no number")
    exponent = int(np.frexp(most)[1]) - BITS if most else 0
    np.rint(np.ldexp(table, -exponent, out=table), out=table)
    table[:-1, -1] = 1
    row_of = None
    if n_kept >= 0 and longest > 0:
        row_of = np.full(buckets, rows.rows, np.int32)
        row_of[kept[:, 0]] = kept[:, 1] + n_words
    return Classifier(
        {**dict.fromkeys((label for label, _ in entries[n_words:]), -1), **words},
        n_words,
        labels,
        tuple(count for _, count in entries[n_words:]),
        table,
        2.0**exponent,
        last,
        loss == HIERARCHICAL,
        shortest,
        longest if longest >= max(1, shortest) else 0,
        buckets,
        row_of,
    )


@dataclass(frozen=True)
class _Matrix:
    rows: int
    columns: int
    values: Floats | None
    """(rows, columns) of one that is not quantised."""
    codes: npt.NDArray[np.uint8]
    """(rows, parts)"""
    centroids: Floats
    """(columns * 256,): of each part all its centroids."""
    width: int
    """Columns of a part; the last may have fewer."""
    norms: Floats | None
    """(rows,)"""

    def weights(self) -> Floats:
        """(rows, columns)"""
        if self.values is not None:
            return self.values
        made = np.empty((self.rows, self.columns), np.float32)
        for part, first in enumerate(range(0, self.columns, self.width)):
            last = min(self.columns, first + self.width)
            table = self.centroids[CENTROIDS * first : CENTROIDS * last].reshape(CENTROIDS, -1)
            made[:, first:last] = table[self.codes[:, part]]
        return made if self.norms is None else made * self.norms[:, None]


class _File:
    """What is read from a file's beginning to its end, never beyond."""

    def __init__(self, data: bytes | mmap, where: str) -> None:
        self._data, self._where, self._at = data, where, 0

    def error(self, why: str) -> InputError:
        return InputError(f"cannot be read as a fastText model ({why})", where=self._where, mend=MEND)

    def checked(self, count: int, size: int) -> int:
        """`count`, if so many things of `size` bytes can follow."""
        if not 0 <= count * size <= len(self._data) - self._at:
            raise self.error("it is cut short")
        return count

    def take(self, form: str) -> tuple[Any, ...]:
        self.checked(1, struct.calcsize(form))
        found = struct.unpack_from(form, self._data, self._at)
        self._at += struct.calcsize(form)
        return found

    def array(self, kind: str, count: int) -> npt.NDArray[Any]:
        self.checked(count, np.dtype(kind).itemsize)
        found = np.frombuffer(self._data, kind, count, self._at) if count else np.empty(0, kind)
        self._at += found.nbytes
        return found

    def entries(self, words: int, labels: int) -> list[tuple[bytes, int]]:
        """The words, then the labels, each with its count."""
        self.checked(words + labels, ENTRY.size + 1)
        data, at, found = self._data, self._at, []
        for index in range(words + labels):
            end = data.find(b"\0", at)
            if end < 0 or end + 1 + ENTRY.size > len(data):
                raise self.error("it is cut short")
            count, label = ENTRY.unpack_from(data, end + 1)
            if label != (index >= words):
                raise self.error("words and labels are mixed")
            found.append((data[at:end], count))
            at = end + 1 + ENTRY.size
        self._at = at
        return found

    def matrix(self, *, quantised: bool) -> _Matrix:
        with_norms = quantised and bool(self.take("<B")[0])
        rows, columns = self.take("<qq")
        nothing = np.empty((0, 0), np.uint8), np.empty(0, np.float32)
        if min(rows, columns) < 0:
            raise self.error("a matrix has less than no rows")
        if not quantised:
            values = self.array("<f4", rows * columns).reshape(rows, columns)
            return _Matrix(rows, columns, values, *nothing, 1, None)
        (size,) = self.take("<i")
        codes = self.array("u1", size)
        centroids, parts, width = self._centroids(columns)
        if size != rows * parts:
            raise self.error(f"{size} codes are not {parts} for each of {rows} rows")
        norms = None
        if with_norms:
            code = self.array("u1", rows)
            norms = self._centroids(1)[0][code]
        return _Matrix(rows, columns, None, codes.reshape(rows, parts), centroids, width, norms)

    def _centroids(self, columns: int) -> tuple[Floats, int, int]:
        """Those of a quantiser, the parts it cuts a row into, and their width."""
        found, parts, width, last = self.take("<iiii")
        if found != columns or width < 1 or parts != -(-columns // width) or last != columns - (parts - 1) * width:
            raise self.error("a quantiser is of another size than its matrix")
        return self.array("<f4", columns * CENTROIDS), parts, width
