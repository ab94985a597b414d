"""Answers meet their question: rows sorted by question, in memory while they fit, else through runs on disk.

Rows come in the order of a dump, in which an answer may stand anywhere behind its question. They are gathered up to
BUFFER bytes, sorted, and written as a run to a file without a name in the local temporary folder, which the system
removes with the process, however that ends. Runs are merged FAN_IN at a time, so that files and memory stay few for any
number of rows. Runs are packed: on disk lies about a third of the XML, twice that while runs are merged.

The order is that of (question, kind, id, place in the dump): the same for any BUFFER, and for a site in memory.
"""

from __future__ import annotations

import heapq
import struct
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import groupby
from typing import IO, Any

import zstandard

from puna.errors import telling_full_disk

BUFFER = 100_000_000  # bytes of rows, with what Python needs around them, that a worker holds
FAN_IN = 64  # runs that are merged at once, each with an open file and about 300 kB
ROW = 250  # bytes that Python takes for a row beside the row's own
ENTRY = struct.Struct("<QQQI")  # question and kind, id, place in the dump, length of the row
LEVEL = 1  # of zstd: 400 MB/s

Key = tuple[int, int, int]
"""2 * question (+ 1 for an answer), the post's id, its place in the dump."""
Keyed = tuple[Key, bytes]


def by_question(rows: Iterable[tuple[int, int, int, bytes]], buffer: int | None = None) -> Iterator[list[Keyed]]:
    """Rows given as (question, 0 or 1 for an answer, id, row), question by question in order of their ids: questions
    first, then answers, each by id, and what has one id twice in the order of the dump.

    PunaError, one line, when the temporary folder is full.
    """
    with ExitStack() as opened:
        runs = _Runs(opened)
        held: list[Keyed] = []
        size, limit = 0, BUFFER if buffer is None else buffer
        for place, (question, kind, number, row) in enumerate(rows):
            held.append(((2 * question + kind, number, place), row))
            size += len(row) + ROW
            if size >= limit:
                held.sort()
                runs.add(held)
                held, size = [], 0
        held.sort()
        ordered: Iterable[Keyed] = runs.merged(held) if runs else held
        for _, group in groupby(ordered, key=lambda keyed: keyed[0][0] // 2):
            yield list(group)


class _Runs:
    """Sorted runs on disk. Those of level n are merged from FAN_IN of level n - 1."""

    def __init__(self, opened: ExitStack) -> None:
        self.opened = opened
        self.levels: list[list[IO[bytes]]] = []

    def __bool__(self) -> bool:
        return bool(self.levels)

    def add(self, rows: Iterable[Keyed], level: int = 0) -> None:
        if len(self.levels) == level:
            self.levels.append([])
        self.levels[level].append(self._written(rows))
        if len(self.levels[level]) == FAN_IN:
            files, self.levels[level] = self.levels[level], []
            self.add(heapq.merge(*map(_read, files)), level + 1)
            for file in files:
                file.close()

    def merged(self, held: list[Keyed]) -> Iterator[Keyed]:
        """All runs, and what was never written, in one order."""
        files = [file for level in self.levels for file in level]
        return heapq.merge(*map(_read, files), held)

    def _written(self, rows: Iterable[Keyed]) -> IO[bytes]:
        with telling_full_disk(tempfile.gettempdir()):
            file = self.opened.enter_context(tempfile.TemporaryFile(prefix="puna-"))
            with zstandard.ZstdCompressor(LEVEL).stream_writer(file, closefd=False) as packed:
                for (order, number, place), row in rows:
                    packed.write(ENTRY.pack(order, number, place, len(row)) + row)
            file.flush()
        return file


def _read(file: IO[bytes]) -> Iterator[Keyed]:
    file.seek(0)
    reader: Any = zstandard.ZstdDecompressor().stream_reader(file, closefd=False)
    held, at = b"", 0
    while True:
        if len(held) - at < ENTRY.size:
            held, at = held[at:] + reader.read(1 << 17), 0
            if not held:
                return
        order, number, place, length = ENTRY.unpack_from(held, at)
        at += ENTRY.size
        while len(held) - at < length:
            held, at = held[at:] + reader.read(max(1 << 17, length)), 0
        yield (order, number, place), held[at : at + length]
        at += length
