"""Answers meet their question: rows sorted by question, in memory while they fit, else through runs on disk.

Rows come in the order of a dump, in which an answer may stand anywhere behind its question. They are gathered up to
BUFFER bytes, sorted, and written as a run to a file without a name in the local temporary folder, which the system
removes with the process, however that ends. Runs are merged FAN_IN at a time, so that files and memory stay few for any
number of rows. Runs are packed: on disk lies about 35 % of the XML, and what FAN_IN runs take once more while
they are merged.

The order is that of (question, kind, id, place in the dump): the same for any BUFFER, and for a site in memory.
"""

from __future__ import annotations

import heapq
import struct
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from typing import IO, Any

import zstandard

from puna.errors import telling_full_disk

BUFFER = 100_000_000  # bytes of rows, with what Python needs around them, that a worker holds
FAN_IN = 64  # runs that are merged at once, each with an open file and about 300 kB
ROW = 250  # bytes that Python takes for a row beside the row's own
ENTRY = struct.Struct("<QQQI")  # question and kind, id, place in the dump, length of the row
LEVEL = 1  # of zstd: 400 MB/s
MAX_QUESTION = 32_000_000  # bytes of rows that come as one question; the most answered ones have 2 MB

Key = tuple[int, int, int]
"""2 * question (+ 1 for an answer), the post's id, its place in the dump."""
Keyed = tuple[Key, bytes]


class Join:
    """Takes rows in any order and gives them back question by question. PunaError, one line, when the temporary folder
    is full. To be used as a context: its end removes what lies on disk.

    buffer: bytes of rows that are held in memory; BUFFER when not given.
    """

    def __init__(self, buffer: int | None = None) -> None:
        self.limit = BUFFER if buffer is None else buffer
        self.held: list[Keyed] = []
        self.size = self.place = 0
        self.opened = ExitStack()
        self.levels: list[list[IO[bytes]]] = []  # sorted runs; those of level n are merged from FAN_IN of level n - 1

    def __enter__(self) -> Join:
        return self

    def __exit__(self, *error: object) -> None:
        self.opened.close()

    def add(self, question: int, kind: int, number: int, row: bytes) -> None:
        """Take a row. kind: 0 for a question, 1 for an answer; number: the post's own id. Ids are below 2**63."""
        self.held.append(((2 * question + kind, number, self.place), row))
        self.place += 1
        self.size += len(row) + ROW
        if self.size >= self.limit:
            self.held.sort()
            self._add_run(self.held, 0)
            self.held, self.size = [], 0

    def questions(self) -> Iterator[list[Keyed]]:
        """The rows of each question, in order of the questions' ids: the question first, then answers by id, and what
        has one id twice in the order of the dump. A question of more than MAX_QUESTION bytes comes in several lists."""
        self.held.sort()
        files = [file for level in self.levels for file in level]
        yield from _grouped(heapq.merge(*map(_read, files), self.held) if files else self.held)

    def _add_run(self, rows: Iterable[Keyed], level: int) -> None:
        if len(self.levels) == level:
            self.levels.append([])
        self.levels[level].append(self._written(rows))
        if len(self.levels[level]) == FAN_IN:
            files, self.levels[level] = self.levels[level], []
            self._add_run(heapq.merge(*map(_read, files)), level + 1)
            for file in files:
                file.close()

    def _written(self, rows: Iterable[Keyed]) -> IO[bytes]:
        with telling_full_disk(tempfile.gettempdir()):
            file = tempfile.TemporaryFile(prefix="puna-")  # noqa: SIM115 - the context closes it
            self.opened.enter_context(file)
            with zstandard.ZstdCompressor(LEVEL).stream_writer(file, closefd=False) as packed:
                for (order, number, place), row in rows:
                    packed.write(ENTRY.pack(order, number, place, len(row)) + row)
            file.flush()
        return file


def _grouped(rows: Iterable[Keyed]) -> Iterator[list[Keyed]]:
    group: list[Keyed] = []
    question, size = -1, 0
    for keyed in rows:
        if keyed[0][0] >> 1 != question or size > MAX_QUESTION:
            if group:
                yield group
            group, question, size = [], keyed[0][0] >> 1, 0
        group.append(keyed)
        size += len(keyed[1])
    if group:
        yield group


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
