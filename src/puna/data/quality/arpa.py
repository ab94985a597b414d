"""N-gram models as ARPA files, the text format that KenLM, SRILM and most others read and write.

Words of an ARPA file are separated by white space, and a piece may hold a line break or a tab (the tokenizer changes no
text), so `word` writes such characters, and the backslash itself, as \\u and four hex digits. Numbers have nine digits,
which is all that the single precision of those readers can tell apart.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import isfinite
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from puna import storage
from puna.data.quality.ngram import Floats, Ints, Level, NgramModel, find
from puna.errors import InputError

LINES = 65536  # lines held at once
UNLISTED = -100.0  # log10 of a piece that a file without <unk> does not list, as in KenLM


def write_arpa(model: NgramModel, location: storage.Location, pieces: Sequence[str]) -> None:
    """Write the model; `pieces` are the tokenizer's, in the order of their ids, with <s> and </s> where the model's
    are."""
    words = np.array([word(piece) for piece in pieces], dtype=object)
    if (len(words), words[model.bos], words[model.eos]) != (model.vocabulary, "<s>", "</s>"):
        raise ValueError("these are not the pieces that the model was trained on")
    with storage.create(location) as file:
        counts = [f"ngram {order}={level.keys.size}" for order, level in enumerate(model.levels, start=1)]
        file.write("\n".join(["\\data\\", *counts, ""]).encode())
        for order, level in enumerate(model.levels, start=1):
            file.write(f"\n\\{order}-grams:\n".encode())
            for first in range(0, level.keys.size, LINES):
                nodes = np.arange(first, min(first + LINES, level.keys.size))
                grams = [" ".join(row) for row in words[_pieces(model, order, nodes)]]
                lines = [f"{log10:.9g}\t{gram}" for log10, gram in zip(level.log10[nodes], grams, strict=True)]
                if level.backoff.size:
                    backoffs = level.backoff[nodes]
                    lines = [f"{line}\t{backoff:.9g}" for line, backoff in zip(lines, backoffs, strict=True)]
                file.write("".join(f"{line}\n" for line in lines).encode())
        file.write(b"\n\\end\\\n")


def read_arpa(location: storage.Location, pieces: Sequence[str]) -> NgramModel:
    """The model in an ARPA file over `pieces`. A piece that the file does not list gets the probability of <unk>.

    InputError, naming the line, for a file that is cut off, is malformed, or holds words that are no pieces.
    """
    ids = {word(piece).encode(): number for number, piece in enumerate(pieces)}
    bos, eos = ids[b"<s>"], ids[b"</s>"]
    levels: list[Level] = []
    with storage.open_read(location) as file:
        lines = _Lines(file, str(location))
        counts = _header(lines)
        if sum(counts) > storage.size(location):
            raise lines.error("more n-grams are announced than the file has bytes")
        for order, count in enumerate(counts, start=1):
            lines.expect(f"\\{order}-grams:")
            grams, log10, backoff = _section(lines, order, count, ids)
            if order == 1:
                grams, log10, backoff = _whole_vocabulary(grams, log10, backoff, len(pieces), ids.get(b"<unk>", -1))
            keys = _keys(lines, levels, grams, len(pieces))
            by_key = np.argsort(keys)
            if (np.diff(keys[by_key]) == 0).any():
                raise lines.error(f"an n-gram of order {order} stands twice above this line")
            backoff = backoff[by_key] if order < len(counts) else np.empty(0)
            levels.append(Level(keys[by_key], log10[by_key], backoff))
        lines.expect("\\end\\")
    return NgramModel(len(pieces), bos, eos, tuple(levels))


def word(piece: str) -> str:
    """The piece as one word of an ARPA file: a different one for every piece."""
    return "".join(f"\\u{ord(c):04x}" if c.isspace() or c < " " or c in "\\\x7f" else c for c in piece)


class _Lines:
    """The lines of a file that are not empty, and the number of the last one for messages."""

    def __init__(self, file: BinaryIO, where: str) -> None:
        self._lines = iter(file)
        self._where, self._number = where, 0
        self._again: bytes | None = None

    def next(self) -> bytes:
        if self._again is not None:
            line, self._again = self._again, None
            return line
        for line in self._lines:
            self._number += 1
            if stripped := line.strip():
                return stripped
        raise InputError("the file ends too early", where=self._where, mend="write or fetch it again")

    def put_back(self, line: bytes) -> None:
        self._again = line

    def expect(self, wanted: str) -> None:
        if (line := self.next()) != wanted.encode():
            raise self.error(f"{wanted} was expected, not {line[:40].decode(errors='replace')!r}")

    def error(self, what: str) -> InputError:
        return InputError(what, where=f"{self._where} line {self._number}")


def _header(lines: _Lines) -> list[int]:
    """How many n-grams of each order follow."""
    lines.expect("\\data\\")
    counts: list[int] = []
    while match := re.fullmatch(rb"ngram\s+(\d+)\s*=\s*(\d+)", line := lines.next()):
        counts.append(int(match[2]))
        if int(match[1]) != len(counts):
            raise lines.error("the orders do not follow each other")
    if not counts:
        raise lines.error("no counts of n-grams")
    lines.put_back(line)
    return counts


def _section(lines: _Lines, order: int, count: int, ids: dict[bytes, int]) -> tuple[Ints, Floats, Floats]:
    """The n-grams of one order: pieces (count, order), log10 of probability and of backoff (count,)."""
    grams = np.empty((count, order), np.int64)
    log10, backoff = np.empty(count), np.empty(count)
    for first in range(0, count, LINES):
        rows: list[list[int]] = []
        numbers: list[tuple[float, float]] = []
        for _ in range(first, min(first + LINES, count)):
            fields = lines.next().split()
            try:
                rows.append([ids[name] for name in fields[1 : order + 1]])
                pair = float(fields[0]), float(fields[order + 1]) if len(fields) == order + 2 else 0.0
                if not (pair[0] <= 0 and isfinite(pair[1])):  # no number is one too
                    raise ValueError
                numbers.append(pair)
            except KeyError as error:
                raise lines.error(f"{error.args[0].decode(errors='replace')!r} is no piece of the tokenizer") from None
            except ValueError:
                raise lines.error("is not a probability, an n-gram and a backoff") from None
            if not order + 1 <= len(fields) <= order + 2:
                raise lines.error(f"has {len(fields)} fields: {count} n-grams of order {order} were announced")
        last = first + len(rows)
        grams[first:last] = rows
        log10[first:last], backoff[first:last] = np.array(numbers).T
    return grams, log10, backoff


def _whole_vocabulary(
    grams: Ints, log10: Floats, backoff: Floats, vocabulary: int, unknown: int
) -> tuple[Ints, Floats, Floats]:
    """Unigrams for every piece: those that the file does not list are as likely as <unk>, as in KenLM."""
    listed = grams[:, 0]
    all_log10 = np.full(vocabulary, UNLISTED)
    if unknown in listed:
        all_log10[:] = log10[listed == unknown][0]
    all_log10[listed] = log10
    all_backoff = np.zeros(vocabulary)
    all_backoff[listed] = backoff
    return np.arange(vocabulary)[:, None], all_log10, all_backoff


def _keys(lines: _Lines, levels: Sequence[Level], grams: Ints, vocabulary: int) -> npt.NDArray[np.int64]:
    nodes = grams[:, 0]
    for column in range(1, grams.shape[1]):
        keys = nodes * vocabulary + grams[:, column]
        if column == len(levels):
            return keys
        nodes = find(levels[column].keys, keys)
        if (nodes < 0).any():
            raise lines.error(f"an n-gram of order {len(levels) + 1} above this line lacks its beginning")
    return nodes


def _pieces(model: NgramModel, order: int, nodes: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The pieces of some n-grams: (nodes,) -> (nodes, order)."""
    columns = []
    for level in reversed(model.levels[1:order]):
        nodes, last = np.divmod(level.keys[nodes], model.vocabulary)
        columns.append(last)
    return np.stack([nodes, *reversed(columns)], axis=1)
