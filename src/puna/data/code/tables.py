"""The public dataset of GitHub on BigQuery as it is exported: tables `contents` and `licenses`, in JSON lines, CSV or
Parquet, whole or packed by gzip.

    contents    id, size, content, binary, copies, sample_repo_name, sample_path, ...: a file of a repository once
    licenses    repo_name, license: `mit`, `apache-2.0`, `bsd-3-clause`, `gpl-2.0`, ...

`sample_repo_name` is one of the repositories that hold the same file, so no join with the table `files` is needed. A
table may be exported in thousands of files, named by it or in a folder named by it.

Memory: of licences 10 bytes a repository (33 MB for the 3.3 million of the dataset, some 300 MB while they are read; at
most MAX_REPOSITORIES), as hashes of 64 bits: that two of 3.3 million share one has a chance below one in a million. Of
contents one line of at most MAX_LINE bytes, or BATCH rows of one row group, of at most MAX_ROW_GROUP bytes.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, BinaryIO, cast

import numpy as np
import numpy.typing as npt
import xxhash

from puna import storage
from puna.errors import InputError

NAMED = re.compile(r"(^|/)(contents|licenses)([-_.\d][^/]*)?(/[^/]+)?\.(parquet|jsonl?|csv)(\.gz)?$")
CONTENTS = ("content", "binary", "size", "sample_repo_name", "sample_path")
MAX_LINE = 32_000_000  # bytes; the dataset has no content above 1 MB
MAX_ROW_GROUP = 2_000_000_000
MAX_REPOSITORIES = 20_000_000
BATCH = 128  # rows
BROKEN = (EOFError, OSError, ValueError, zlib.error, csv.Error)


@dataclass(frozen=True)
class Row:
    """One row, or why it cannot be read. `lost`: stored bytes that went with it."""

    place: str
    values: Mapping[str, Any]
    broken: str = ""
    lost: int = 0


def table_of(name: str) -> str:
    """Which table a file belongs to: contents, licenses, or "" for none."""
    found = NAMED.search(name)
    return found[2] if found else ""


def rows(location: str, columns: Sequence[str], start: int = 0, end: int | None = None) -> Iterator[Row]:
    """The rows of a table's file, of those lines or row groups that begin in the bytes from `start` to `end`."""
    with ExitStack() as stack:
        raw = stack.enter_context(storage.open_read(location))
        stored = raw.seek(0, io.SEEK_END)
        raw.seek(0)
        try:
            magic = raw.read(4)
            raw.seek(0)
            if magic == b"PAR1":
                yield from _parquet(raw, columns, start, stored if end is None else end)
                return
            file, packed = raw, magic[:2] == b"\x1f\x8b"
            if packed:
                file = cast(BinaryIO, stack.enter_context(gzip.GzipFile(fileobj=raw, mode="rb")))
            if _is_csv(location):
                yield from _csv(file)
            else:
                yield from _json(file, start, None if packed else end)
        except BROKEN as error:
            reason = " ".join(str(error).split())[:120] or type(error).__name__
            yield Row("", {}, f"the table cannot be read on: {reason}", max(0, stored - raw.tell()))


def cuts(location: str, step: int) -> list[int]:
    """Bytes at which a table's file may be cut into parts, 0 first; JSON lines, which any byte cuts, every `step`."""
    with storage.open_read(location) as raw:
        magic = raw.read(4)
        if magic == b"PAR1":
            return _groups(raw)
        if magic[:2] == b"\x1f\x8b" or _is_csv(location):
            return [0]
        return list(range(0, max(1, raw.seek(0, io.SEEK_END)), step))


class Licences:
    """Repository -> its licence, in 10 bytes each."""

    def __init__(self, locations: Sequence[str]) -> None:
        names: dict[str, int] = {}
        hashes, codes = [np.empty(0, np.uint64)], [np.empty(0, np.uint16)]
        count = 0
        for location in locations:
            some: list[tuple[int, int]] = []
            for row in rows(location, ("repo_name", "license")):
                if row.broken:
                    raise InputError(row.broken, where=location, mend="export the table anew")
                name, licence = row.values.get("repo_name"), row.values.get("license")
                if isinstance(name, str) and isinstance(licence, str):
                    some.append((_hash(name), names.setdefault(licence, len(names))))
            count += len(some)
            if count > MAX_REPOSITORIES or len(names) > 60_000:
                raise InputError(f"more than {MAX_REPOSITORIES:,} rows of licences", where=location)
            hashes.append(np.array([one for one, _ in some], np.uint64))
            codes.append(np.array([code for _, code in some], np.uint16))
        all_hashes, all_codes = np.concatenate(hashes), np.concatenate(codes)
        order = np.lexsort((all_codes, all_hashes))
        self._hashes: npt.NDArray[np.uint64] = all_hashes[order]
        self._codes: npt.NDArray[np.uint16] = all_codes[order]
        self._names = list(names)

    def of(self, repository: str) -> str:
        """An SPDX expression of all licences that the table gives it; "" when it has none."""
        wanted = np.uint64(_hash(repository))
        first, last = np.searchsorted(self._hashes, wanted, "left"), np.searchsorted(self._hashes, wanted, "right")
        found = sorted({self._names[code] for code in self._codes[first:last]})
        return " AND ".join(found)


def licences(locations: tuple[str, ...]) -> Licences:
    """As told by the files of the table `licenses`; a worker reads them once, and anew when one was replaced."""
    return _licences(locations, tuple(map(storage.look, locations)))


@lru_cache(maxsize=1)
def _licences(locations: tuple[str, ...], seen: tuple[storage.Look | None, ...]) -> Licences:
    return Licences(locations)


def _is_csv(location: str) -> bool:
    return re.search(r"\.csv(\.gz)?$", location) is not None


def _hash(name: str) -> int:
    return xxhash.xxh3_64_intdigest(name.encode("utf-8", "surrogatepass"))


def _json(file: BinaryIO, start: int, end: int | None) -> Iterator[Row]:
    place = start
    if start:  # the line that holds the byte before belongs to the part before
        file.seek(start - 1)
        place = start - 1 + _pass_line(file)
    while (end is None or place < end) and (line := file.readline(MAX_LINE)):
        begun, place = place, place + len(line)
        if len(line) == MAX_LINE and not line.endswith(b"\n"):
            place += (more := _pass_line(file))
            yield Row(f"byte {begun}", {}, f"a line of more than {MAX_LINE:,} bytes", len(line) + more)
            continue
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except (ValueError, RecursionError) as error:
            yield Row(f"byte {begun}", {}, f"not a JSON line: {' '.join(str(error).split())[:100]}", len(line))
            continue
        if isinstance(values, dict):
            yield Row(f"byte {begun}", values)
        else:
            yield Row(f"byte {begun}", {}, "not a JSON object", len(line))


def _pass_line(file: BinaryIO) -> int:
    """Bytes up to and with the next newline, which are not kept."""
    passed = 0
    while block := file.readline(1 << 20):
        passed += len(block)
        if block.endswith(b"\n"):
            break
    return passed


def _csv(file: BinaryIO) -> Iterator[Row]:
    csv.field_size_limit(MAX_LINE)
    reader = csv.reader(_lines(file))
    names = next(reader, [])
    while True:
        place = f"line {reader.line_num + 1}"
        try:
            values = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield Row(place, {}, f"not a row of CSV: {error}")
            continue
        if len(values) == len(names):
            yield Row(place, dict(zip(names, values, strict=True)))
        elif values:
            yield Row(place, {}, f"a row of {len(values)} fields where the table has {len(names)}")


def _lines(file: BinaryIO) -> Iterator[str]:
    while line := file.readline(MAX_LINE):
        yield line.decode("utf-8", "surrogateescape").replace("\0", "\ufffd")


def _parquet(raw: BinaryIO, columns: Sequence[str], start: int, end: int) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(raw)
        wanted = [name for name in columns if name in file.schema_arrow.names]
        for group, begun in enumerate(_groups(raw)):
            if not start <= begun < end:
                continue
            if file.metadata.row_group(group).total_byte_size > MAX_ROW_GROUP:
                yield Row(f"row group {group}", {}, f"a row group of more than {MAX_ROW_GROUP:,} bytes")
                continue
            row = 0
            for batch in file.iter_batches(BATCH, row_groups=[group], columns=wanted):
                for values in batch.to_pylist():
                    yield Row(f"row {row} of group {group}", values)
                    row += 1
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise ValueError(str(error)) from None


def _groups(raw: BinaryIO) -> list[int]:
    """Where each row group begins, the first at 0; a file that is no Parquet is one part, which says so when read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        metadata = pq.ParquetFile(raw).metadata
        starts = []
        for index in range(metadata.num_row_groups):
            group = metadata.row_group(index)
            columns = [group.column(number) for number in range(group.num_columns)]
            places = [place for c in columns for place in (c.dictionary_page_offset, c.data_page_offset) if place]
            starts.append(min(places, default=0) if index else 0)
    except (pa.ArrowException, OSError, ValueError):
        return [0]
    return starts or [0]
