"""An n-gram model as one file that a process maps instead of reading it, and the scores it gives (section 2.1).

An ARPA file of two million n-grams takes a second to read; this one takes none, workers share its pages, and what is
in it is looked up for all tokens of many documents at once. `NgramModel` with its binary searches is the readable
twin.

An order is a table of hashes. An n-gram is known by the row it lies in: its key is the row of all but its last piece,
one order lower, times the vocabulary, plus the last piece. Multiplied by an odd number modulo a power of two, a key
becomes another number and no two the same one; divided by a constant, that number is the row where the n-gram is looked
for first, its home, and a rest. N-grams lie in the order of their homes, each in its home or the first free row behind
(Celis, "Robin Hood hashing", 1986), so one that is not there is missed as soon as a row is free or another home begins.
A row's tag tells the rest and how far behind its home it lies, which is all of the key: 4 bytes instead of 8.

Beside the tags lie log10 of the probability and, below the highest order, of the back-off, each as a whole number of
2^-24. Sums of whole numbers are exact, so a score does not depend on what other documents it is measured with. They
differ from KenLM's, whose sums are of single precision, in the sixth digit.

File, little-endian: 8 bytes "puna5gr\\n"; int64 each: format, vocabulary, bos, eos, digest of the pieces, order; for
each order from the second on the homes and the most rows behind its home that an n-gram lies; zeros up to byte 240;
int64 each: bytes and digest of the ARPA file that says the same, 0 where there was none; (vocabulary, 2) int32 of the
unigrams; for each order its tags, (rows,) uint32, and its values, (rows, 2) int32 or (rows, 1) for the highest; each
filled up to 16. Rows are homes and steps and one more, which is free.
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

MAGIC, FORMAT, HEAD = b"puna5gr\n", 2, 256
BESIDE = HEAD - 16  # where the head tells of the ARPA file
UNIT = 1 << 24  # parts of a log10; 128 of them fit into 32 bits, and -100 is the least there is
SPARE = 4 / 3  # rows for an n-gram
FREE = 0  # the tag of a row without an n-gram
NEAR = 8  # bits of a tag that tell how far behind its home an n-gram lies, plus 1
DISTANCE, FARTHEST, RESTS = np.uint32((1 << NEAR) - 1), (1 << NEAR) - 1, 1 << (32 - NEAR)
MIX = np.uint64(0x9E3779B97F4A7C15)  # odd: 2^64 over the golden ratio
CROWDED = 1 << 12  # homes for an n-gram that are not passed, whatever keys there are
LONGEST_ORDER = 12  # that the head has room for
Rows = npt.NDArray[np.int64]


class Table(NamedTuple):
    """The n-grams of one order."""

    tags: npt.NDArray[np.uint32]
    """(rows,): rest times 2^NEAR, plus how far behind its home the n-gram lies, plus 1; FREE without one."""
    values: npt.NDArray[np.int32]
    """(rows, 2): log10 of the probability and of the back-off; (rows, 1) in the highest order."""
    bits: int
    """Keys are below 2^bits."""
    homes: int
    steps: int
    """The most rows behind its home that an n-gram lies."""


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
        if head[0] < FORMAT:
            raise InputError(
                f"has format {head[0]} of tables of n-grams, which is no longer read", where=str(where), mend=mend
            )
        if head[0] > FORMAT:
            what = f"has format {head[0]} of tables of n-grams, this one reads {FORMAT}"
            raise InputError(what, where=str(where), mend="update puna")
        _, self.vocabulary, self.bos, self.eos, digest, self.order = head[:6]
        if (self.vocabulary, digest) != (len(pieces), _digest(pieces)):
            what = "is over the pieces of another tokenizer"
            raise InputError(what, where=str(where), mend="give the SentencePiece model that it was trained with")
        self.tables: list[Table] = []
        start = HEAD + _filled(8 * self.vocabulary)
        unigrams = data[HEAD : HEAD + 8 * self.vocabulary]
        keys = self.vocabulary**2
        for level, homes, steps in zip(range(2, self.order + 1), head[6::2], head[7::2], strict=False):
            rows, bits = homes + steps + 1, (keys - 1).bit_length()
            if not (0 <= steps < FARTHEST and 0 < homes < size and _divisor(bits, homes) <= RESTS):
                break
            width = 1 if level == self.order else 2
            ends = [start, start + _filled(4 * rows), start + _filled(4 * rows) + _filled(4 * width * rows)]
            tags, values = data[start : start + 4 * rows], data[ends[1] : ends[1] + 4 * width * rows]
            if ends[2] > size:
                break
            self.tables.append(Table(tags.view("<u4"), values.view("<i4").reshape(-1, width), bits, homes, steps))
            start, keys = ends[2], rows * self.vocabulary
        if not 1 <= self.order <= LONGEST_ORDER or len(self.tables) != self.order - 1 or start != size:
            raise InputError("is cut off or longer than it says", where=str(where), mend=mend)
        self.log10, self.backoff = unigrams.view("<i4").reshape(-1, 2).T.astype(np.int64)

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
            hit, places = _find(table, rows[asked - 1] * self.vocabulary + tokens[asked])
            ends = asked[hit]
            values = table.values.take(places, 0)
            scores[ends] = values[:, 0]
            backoff[ends] = values[:, -1]  # what the highest order has there is not asked
            rows[ends] = places
            known = np.zeros(tokens.size, bool)
            known[ends] = True
            after = np.flatnonzero(known[:-1] & ~begins[1:]) + 1
        scores[begins] = 0
        return scores


def says_the_same(location: storage.Location, size: int, digest: str) -> bool:
    """Whether a table was written beside an ARPA file of this many bytes and this digest, as `storage.digest` gives it;
    True where there was none when it was written."""
    with storage.open_read(location) as file:
        known = np.frombuffer(file.read(HEAD)[BESIDE:].ljust(16, b"\0"), "<i8").tolist()
    return not known[0] or known == [size, _number(digest)]


def write_table(
    model: NgramModel, location: storage.Location, pieces: Sequence[str], arpa: storage.Location | None = None
) -> None:
    """Write the model as a file that `NgramTable` maps. arpa: the file of the same model that lies beside it. Memory:
    beside the model 50 bytes for an n-gram of its largest order."""
    if model.order > LONGEST_ORDER:
        raise ValueError(f"a table has no room for order {model.order}")
    told: list[int] = []
    with storage.create(location) as file:
        file.write(bytes(HEAD))
        file.write(_units(model.levels[0]).astype("<i4").tobytes().ljust(_filled(8 * model.vocabulary), b"\0"))
        places, rows = np.arange(model.vocabulary), model.vocabulary
        for order, level in enumerate(model.levels[1:], start=2):
            keys = places[level.keys // model.vocabulary]
            keys *= model.vocabulary
            keys += level.keys % model.vocabulary
            table, places = _laid(keys, rows * model.vocabulary)
            del keys
            rows, width = table.tags.size, 1 if order == model.order else 2
            file.write(table.tags.astype("<u4", copy=False).tobytes().ljust(_filled(4 * rows), b"\0"))
            values = np.zeros((rows, width), "<i4")
            values[places] = _units(level)[:, :width]
            file.write(values.tobytes().ljust(_filled(values.nbytes), b"\0"))
            told += (table.homes, table.steps)
            del table, values
        numbers = [FORMAT, model.vocabulary, model.bos, model.eos, _digest(pieces), model.order, *told]
        file.seek(0)
        file.write(MAGIC + np.array(numbers, "<i8").tobytes())
        if arpa is not None:
            file.seek(BESIDE)
            file.write(np.array([storage.size(arpa), _number(storage.digest(arpa))], "<i8").tobytes())
        file.seek(0, io.SEEK_END)


def _laid(keys: Rows, end: int) -> tuple[Table, Rows]:
    """A table of those n-grams, whose keys are below `end`, without their values, and the row of each. Homes are more
    than asked where tags have too few bits for rests, or for the distances."""
    bits = (end - 1).bit_length()
    homes = max(1, int(SPARE * keys.size), -(-(1 << bits) // RESTS))
    while True:
        home, tags = _home(keys, bits, homes)
        order = np.argsort(home, kind="stable")
        places = home[order] - np.arange(keys.size)
        np.maximum.accumulate(places, out=places)
        places += np.arange(keys.size)
        apart = (places - home[order]).astype(np.uint32)
        steps = int(apart.max(initial=0))
        if steps < FARTHEST:
            break
        homes *= 2
        if homes > CROWDED * keys.size:
            raise ValueError(f"{keys.size} n-grams have nearly the same hash")
    del home
    laid = np.full(homes + steps + 1, FREE, np.uint32)
    laid[places] = tags[order] + apart
    del tags, apart
    rows = np.empty_like(places)
    rows[order] = places
    return Table(laid, np.empty((0, 0), np.int32), bits, homes, steps), rows


def _find(table: Table, keys: Rows) -> tuple[Rows, Rows]:
    """Which of the keys there are, and the row of each: (found,), (found,)."""
    places, tags = _home(keys, table.bits, table.homes)
    waiting = np.arange(keys.size)
    hits, rows = [], []
    for step in range(1, table.steps + 2):
        seen = table.tags.take(places)
        same = seen == tags
        hit = np.flatnonzero(same)
        hits.append(waiting[hit])
        rows.append(places[hit])
        # What lies less far behind its home than this row lies behind ours has a later home, as all that follows.
        left = np.flatnonzero(~same & (seen & DISTANCE >= step))
        if not left.size:
            break
        waiting, places, tags = waiting[left], places[left] + 1, tags[left] + np.uint32(1)
    return np.concatenate(hits), np.concatenate(rows)


def _home(keys: Rows, bits: int, homes: int) -> tuple[Rows, npt.NDArray[np.uint32]]:
    """The home of each key, and its tag there."""
    divisor = np.uint64(_divisor(bits, homes))
    mixed = keys.view(np.uint64) * MIX
    mixed &= np.uint64((1 << bits) - 1)
    home = mixed // divisor
    mixed -= home * divisor
    tags = mixed.astype(np.uint32)
    tags <<= np.uint32(NEAR)
    tags += np.uint32(1)
    return home.view(np.int64), tags


def _divisor(bits: int, homes: int) -> int:
    return -(-(1 << bits) // homes)


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


def _number(digest: str) -> int:
    return int(digest.rpartition(":")[2], 16) >> 65
