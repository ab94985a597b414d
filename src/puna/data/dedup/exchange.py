"""The one exchange of global steps: rows go from shards to ranges of a key, and verdicts go back.

A writing task sorts its rows by a key and cuts them at the borders of P equal ranges; a reading task takes one range
from every file. Memory is one range, whatever the corpus. One file a task and one read a file and range, so that the
same works on a folder and on an object store.

    file: b"PUNAXCH1", uint64 P, uint64 row size, uint64 offsets[P + 1] in rows, rows       (little-endian)
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from puna import storage
from puna.errors import InputError
from puna.storage import Place

MAGIC = b"PUNAXCH1"
ROWS = 1 << 16  # that are put into their order at once
Rows = npt.NDArray[np.void]


def ranges(keys: npt.NDArray[np.uint64], partitions: int) -> npt.NDArray[np.int64]:
    """The range in 0..partitions-1 of each 64-bit key: its high 32 bits times `partitions`, shifted back."""
    return (((keys >> np.uint64(32)) * np.uint64(partitions)) >> np.uint64(32)).astype(np.int64)


def write(location: Place, rows: Rows, partition: npt.NDArray[np.int64], partitions: int) -> None:
    """Write structured `rows`, each to its `partition`; rows of one partition keep their order. Memory beside them: 16
    bytes a row."""
    order = np.argsort(partition, kind="stable")
    offsets = np.zeros(partitions + 1, "<u8")
    np.cumsum(np.bincount(partition, minlength=partitions), out=offsets[1:])
    with storage.create(location) as file:
        file.write(MAGIC + np.array([partitions, rows.dtype.itemsize], "<u8").tobytes() + offsets.tobytes())
        for start in range(0, len(order), ROWS):
            file.write(rows[order[start : start + ROWS]].tobytes())


def read(locations: Iterable[Place], partition: int, dtype: Any) -> tuple[Rows, npt.NDArray[np.int64]]:
    """All rows of one partition, file by file, and for each row the index of its file."""
    found: list[Rows] = [np.empty(0, dtype)]
    files: list[npt.NDArray[np.int64]] = [np.empty(0, np.int64)]
    for index, location in enumerate(locations):
        rows = _read_one(location, partition, np.dtype(dtype))
        found.append(rows)
        files.append(np.full(len(rows), index, np.int64))
    return np.concatenate(found), np.concatenate(files)


def _read_one(location: Place, partition: int, dtype: np.dtype[Any]) -> Rows:
    with storage.open_read(location) as file:
        head = file.read(len(MAGIC) + 16)
        partitions, width = (
            np.frombuffer(head[len(MAGIC) :], "<u8").tolist() if len(head) == len(MAGIC) + 16 else (0, 0)
        )
        if head[: len(MAGIC)] != MAGIC or width != dtype.itemsize or not partition < partitions:
            raise InputError("is damaged or of another format", where=str(location), mend="delete it and run again")
        file.seek(len(head) + 8 * partition)
        start, end = np.frombuffer(file.read(16), "<u8").tolist()
        file.seek(len(head) + 8 * (partitions + 1) + start * width)
        data = file.read((end - start) * width)
    if len(data) != (end - start) * width:
        raise InputError("is cut short", where=str(location), mend="delete it and run again")
    return np.frombuffer(data, dtype)
