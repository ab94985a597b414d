"""An n-gram model as one file that a process maps instead of reading it, and the scores it gives (section 2.1).

An ARPA file of two million n-grams takes a second to read; this one takes none, workers share its pages, and what is
in it is looked up for all tokens of many documents at once. `NgramModel` with its binary searches is the readable
twin.

A table an order, of rows (key, value), found by a multiplicative hash of the key and, where that row is taken, in one
of the rows behind it. An n-gram is known by the row that it lies in: its key is the row of all but its last piece, one
order lower, times the vocabulary, plus the last piece. Its value holds the log10 of its probability and of its
back-off, each as a whole number of 2^-24. Sums of whole numbers are exact, so a score does not depend on what other
documents it is measured with. They differ from KenLM's, whose sums are of single precision, in the sixth digit.

File, little-endian: 8 bytes "puna5gr\\n"; int64 each: format, vocabulary, bos, eos, digest of the pieces, order; for
each order from the second on log2 of its rows and the most steps behind the hash that an n-gram lies; zeros up to byte
240; int64 each: bytes and digest of the ARPA file that says the same, 0 in older files; (vocabulary, 2) int32 of the
unigrams, filled up to 16; the tables, (rows, 2) int64.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import xxhash

from puna import storage
from puna.data.quality.arpa import word
from puna.data.quality.ngram import Level, NgramModel
from puna.errors import InputError

MAGIC, FORMAT, HEAD = b"puna5gr\n", 1, 256
BESIDE = HEAD - 16  # where the head tells of the ARPA file
UNIT = 1 << 24  # parts of a log10; 128 of them fit into 32 bits, and -100 is the least there is
SPARE = 1.5  # rows for an n-gram, at least; twice as many at most, as their number is a power of two
FREE = -1  # the key of a row without an n-gram
MIX = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio
CHUNK = 1 << 16  # n-grams that are laid into their rows at once
LONGEST_ORDER = 12  # that the head has room for
MOST_BITS = 48  # log2 of a table's rows
Rows = npt.NDArray[np.int64]


class Table(NamedTuple):
    """The n-grams of one order."""

    rows: Rows
    """(2^bits, 2): key; low half log10 of the probability, high half of the back-off, both int32."""
    bits: int
    steps: int
    """The most rows behind the one its hash tells that an n-gram lies."""


class NgramTable:
    """A model whose tables lie in a file. Memory: the pages of the file that are read, shared by all processes."""

    def __init__(self, path: Path, pieces: Sequence[str], where: object) -> None:
        """InputError for a file that is no such model, was cut off, or is not over these pieces."""
        mend = "write or fetch it again, or take it away: the .arpa beside it says the same"
        size = path.stat().st_size
        data = np.memmap(path, np.uint8, "r") if size else np.empty(0, np.uint8)
        head: list[int] = np.frombuffer(data[8:HEAD].tobytes(), "<i8").tolist() if size >= HEAD else [0]
        if data[:8].tobytes() != MAGIC or head[0] < 1:
            raise InputError("is no table of n-grams", where=str(where), mend=mend)
        if head[0] > FORMAT:
            what = f"has format {head[0]} of tables of n-grams, this one reads {FORMAT}"
            raise InputError(what, where=str(where), mend="update puna")
        _, self.vocabulary, self.bos, self.eos, digest, self.order = head[:6]
        if (self.vocabulary, digest) != (len(pieces), _digest(pieces)):
            what = "is over the pieces of another tokenizer"
            raise InputError(what, where=str(where), mend="give the SentencePiece model that it was trained with")
        told = list(zip(head[6::2], head[7::2], strict=False))[: max(0, self.order - 1)]
        whole = 1 <= self.order <= LONGEST_ORDER and all(1 <= bits <= MOST_BITS and steps >= 0 for bits, steps in told)
        ends = np.cumsum([HEAD, _filled(8 * self.vocabulary), *(16 << bits for bits, _ in told if whole)])
        if not whole or int(ends[-1]) != size:
            raise InputError("is cut off or longer than it says", where=str(where), mend=mend)
        unigrams = data[HEAD : HEAD + 8 * self.vocabulary].view("<i4").reshape(-1, 2)
        self.log10 = unigrams[:, 0].astype(np.int64)
        self.backoff = unigrams[:, 1].astype(np.int64)
        self.tables = [
            Table(data[start:end].view("<i8").reshape(-1, 2), bits, min(steps, 1 << bits))
            for start, end, (bits, steps) in zip(ends[1:-1].tolist(), ends[2:].tolist(), told, strict=True)
        ]

    def scores(self, tokens: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """log10 of each token's probability in 2^-24, after the up to order - 1 tokens before it in its document:
        (tokens,) -> (tokens,). tokens: documents, each <s> pieces </s>; a <s> is given, not predicted: 0."""
        begins = tokens == self.bos
        scores = self.log10[tokens]
        backoff = self.backoff[tokens]  # of the n-gram that ends at a token
        rows = tokens.copy()  # where it lies
        known = np.ones(tokens.size, bool)  # whether it is one of the model
        after = np.flatnonzero(~begins)  # tokens behind one where an n-gram of the order below ends
        for table in self.tables:
            scores[after] += backoff[after - 1]
            asked = after[known[after]]  # without the n-gram that is shorter by its first piece there is none
            keys = rows[asked - 1] * self.vocabulary + tokens[asked]
            places, values = _find(table, keys)
            hit = np.flatnonzero(places >= 0)
            ends, found = asked[hit], values[hit]
            scores[ends] = found << 32 >> 32
            backoff[ends] = found >> 32
            rows[ends] = places[hit]
            known = np.zeros(tokens.size, bool)
            known[ends] = True
            after = ends + 1
            after = after[after < tokens.size]
            after = after[~begins[after]]
        scores[begins] = 0
        return scores


def says_the_same(location: storage.Location, arpa: storage.Location) -> bool:
    """Whether a table was written beside this ARPA file, as it is now; True for a table of before such was noted. Reads
    the ARPA file once, where it has the size of the one that was there."""
    with storage.open_read(location) as file:
        size, digest = np.frombuffer(file.read(HEAD)[BESIDE:].ljust(16, b"\0"), "<i8").tolist()
    return not size or (size == storage.size(arpa) and digest == _digest_of(arpa))


def write_table(
    model: NgramModel, location: storage.Location, pieces: Sequence[str], arpa: storage.Location | None = None
) -> None:
    """Write the model as a file that `NgramTable` maps. arpa: the file of the same model that lies beside it. Memory:
    beside the model the rows of its two largest orders, 16 bytes for each of 1.5 to 3 times their n-grams."""
    if model.order > LONGEST_ORDER:
        raise ValueError(f"a table has no room for order {model.order}")
    made: list[Table] = []
    with storage.create(location) as file:
        first = _units(model.levels[0])
        sizes = [_bits(level.keys.size) for level in model.levels[1:]]
        file.write(bytes(HEAD))
        file.write(first.astype("<i4").tobytes().ljust(_filled(8 * model.vocabulary), b"\0"))
        places = np.arange(model.vocabulary)
        for level, bits in zip(model.levels[1:], sizes, strict=True):
            context, last = np.divmod(level.keys, model.vocabulary)
            keys = places[context] * model.vocabulary + last
            del context, last
            table, places = _laid(keys, _units(level), bits)
            file.write(table.rows.astype("<i8", copy=False).data)
            made.append(table._replace(rows=table.rows[:0]))
        steps = [number for table in made for number in (table.bits, table.steps)]
        numbers = [FORMAT, model.vocabulary, model.bos, model.eos, _digest(pieces), model.order, *steps]
        file.seek(0)
        file.write(MAGIC + np.array(numbers, "<i8").tobytes())
        if arpa is not None:
            file.seek(BESIDE)
            file.write(np.array([storage.size(arpa), _digest_of(arpa)], "<i8").tobytes())
        file.seek(0, io.SEEK_END)


def _laid(keys: Rows, values: npt.NDArray[np.int32], bits: int) -> tuple[Table, Rows]:
    """A table with those n-grams, and the row of each: chunk by chunk, of those that ask for the same row the first
    takes it, and the others ask for the next."""
    rows = np.zeros((1 << bits, 2), np.int64)
    rows[:, 0] = FREE
    places = _home(keys, bits)
    steps = 0
    for start in range(0, keys.size, CHUNK):
        waiting = np.arange(start, min(start + CHUNK, keys.size))
        step = 0
        while waiting.size:
            at = places[waiting]
            free = np.flatnonzero(rows[at, 0] == FREE)
            taken, firsts = np.unique(at[free], return_index=True)
            settled = free[firsts]
            rows[taken, 0] = keys[waiting[settled]]
            waiting = np.delete(waiting, settled)
            # One that saw a free row and lost it to another sees it taken now, as all others do.
            places[waiting] = (places[waiting] + 1) & ((1 << bits) - 1)
            step += bool(waiting.size)
        steps = max(steps, step)
    rows[places, 1] = (values[:, 0].astype(np.int64) & 0xFFFFFFFF) | (values[:, 1].astype(np.int64) << 32)
    return Table(rows, bits, steps), places


def _find(table: Table, keys: Rows) -> tuple[Rows, Rows]:
    """The row of each key, -1 where there is none, and its value."""
    places = _home(keys, table.bits)
    found = table.rows.take(places, 0)
    waiting = np.flatnonzero((found[:, 0] != keys) & (found[:, 0] != FREE))
    for _ in range(table.steps):
        if not waiting.size:
            break
        places[waiting] = at = (places[waiting] + 1) & ((1 << table.bits) - 1)
        found[waiting] = row = table.rows.take(at, 0)
        waiting = waiting[(row[:, 0] != keys[waiting]) & (row[:, 0] != FREE)]
    places[found[:, 0] != keys] = -1
    return places, found[:, 1]


def _home(keys: Rows, bits: int) -> Rows:
    """The row that a key is looked for first."""
    home: Rows = (keys.view(np.uint64) * MIX >> np.uint64(64 - bits)).view(np.int64)
    return home


def _bits(count: int) -> int:
    return max(1, int(SPARE * count)).bit_length()


def _units(level: Level) -> npt.NDArray[np.int32]:
    """log10 of probability and back-off in 2^-24: (n-grams, 2)."""
    units = np.zeros((level.log10.size, 2), np.int32)
    units[:, 0] = np.rint(np.clip(level.log10, -127, 127) * UNIT)
    units[: level.backoff.size, 1] = np.rint(np.clip(level.backoff, -127, 127) * UNIT)
    return units


def _filled(size: int) -> int:
    return -(-size // 16) * 16


def _digest(pieces: Sequence[str]) -> int:
    return xxhash.xxh3_64_intdigest("\n".join(map(word, pieces)).encode()) >> 1


def _digest_of(location: storage.Location) -> int:
    return int(storage.digest(location).rpartition(":")[2], 16) >> 65
