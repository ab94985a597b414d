"""The document: one page, file or paper of text, and the Parquet shards that documents lie in.

A document's id is the hash of where it was published (source, dump, native key), so it depends on no shard, task or
folder, and nothing in a document loses its origin. Shards are plain Parquet with zstd, which DuckDB, Polars and
`datasets` open directly; equal documents give equal bytes.
"""

from __future__ import annotations

import ctypes
import multiprocessing
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from puna import storage
from puna.errors import InputError
from puna.formats import DOCUMENTS, PARQUET_KEY, documents_number
from puna.storage import Location

GIVEN_BACK = 1 << 20
ROW_GROUP_BYTES = 8_000_000  # bytes of text in one row group: what a streaming reader holds at once
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a document was published, in names that hold on any machine."""

    dump: str
    """The dump as its publisher named it: a file name, or a package and its version."""
    key: str
    """The record's own key in the dump: a page id, a path in an archive."""
    file: str
    """The file of the dump that holds the record."""
    offset: int
    """Byte of that file at which reading must start to meet the record: of the record, or of its compressed stream."""
    url: str
    title: str
    date: str
    licence: str


@dataclass(frozen=True, slots=True)
class Document:
    id: str
    """32 hex digits: `document_id`."""
    source: str
    group: str
    """What is held out together: the page id of Wikipedia, the package of code."""
    language: str
    text: str
    origin: Origin


def document_id(source: str, dump: str, key: str) -> str:
    """128-bit xxh3 in 32 hex digits over the three names in UTF-8, each behind its length (8 bytes, little-endian)."""
    state = xxhash.xxh3_128()
    for name in (source, dump, key):
        data = name.encode("utf-8", "surrogatepass")
        state.update(len(data).to_bytes(8, "little") + data)
    return state.hexdigest()


_ORIGIN = [("dump", pa.string()), ("key", pa.string()), ("file", pa.string()), ("offset", pa.int64())]
_ORIGIN += [(name, pa.string()) for name in ("url", "title", "date", "licence")]
_FIELDS = [(name, pa.string()) for name in ("id", "source", "group", "language", "text")]
SCHEMA = pa.schema([*_FIELDS, ("origin", pa.struct(_ORIGIN))], metadata={PARQUET_KEY: f"documents/{DOCUMENTS.version}"})


class DocumentWriter:
    """A shard that grows by documents and stands at its location only when the block ends well."""

    def __init__(self, location: Location, *, row_group_bytes: int = ROW_GROUP_BYTES) -> None:
        self.location, self.count = location, 0
        self.bytes = 0  # of text, so far
        self._limit, self._flushed = row_group_bytes, 0
        self._rows: list[tuple[str, ...]] = []
        self._origins: list[tuple[str | int, ...]] = []
        self._open = ExitStack()

    def __enter__(self) -> DocumentWriter:
        file = self._open.enter_context(storage.create(self.location))
        self._parquet = self._open.enter_context(_parquet_writer(file))
        self._open.push(self._finish)
        return self

    def __exit__(self, *error: Any) -> None:
        self._open.__exit__(*error)

    def write(self, document: Document) -> None:
        """Add a document. What is not valid Unicode in it (lone surrogates) is written as U+FFFD."""
        text, origin = valid(document.text), document.origin
        names = (document.id, document.source, document.group, document.language)
        self._rows.append((*map(valid, names), text))
        values = (getattr(origin, name) for name, _ in _ORIGIN)
        self._origins.append(tuple([valid(value) if isinstance(value, str) else value for value in values]))
        self.count += 1
        self.bytes += utf8_size(text)
        if self.bytes - self._flushed >= self._limit:
            self._flush()

    def _finish(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            origin = pa.StructArray.from_arrays(
                _columns(self._origins, _ORIGIN), fields=list(SCHEMA.field("origin").type)
            )
            columns = [*_columns(self._rows, _FIELDS), origin]
            self._parquet.write_table(pa.Table.from_arrays(columns, schema=SCHEMA))
        self._rows, self._origins, self._flushed = [], [], self.bytes


def _columns(rows: list[tuple[Any, ...]], fields: list[tuple[str, pa.DataType]]) -> list[pa.Array]:
    columns = zip(*rows, strict=True)
    return [pa.array(values, kind) for (_, kind), values in zip(fields, columns, strict=True)]


def write_documents(
    location: Location, documents: Iterable[Document], *, row_group_bytes: int = ROW_GROUP_BYTES
) -> int:
    """Write one shard, whole or not at all; the number of documents in it."""
    with DocumentWriter(location, row_group_bytes=row_group_bytes) as writer:
        for document in documents:
            writer.write(document)
    return writer.count


def write_table(location: Location, table: pa.Table) -> None:
    """Write a table with SCHEMA's columns as one shard, in row groups of about ROW_GROUP_BYTES of text."""
    table = table.select(SCHEMA.names).cast(SCHEMA).combine_chunks()
    rows = max(1, len(table) * ROW_GROUP_BYTES // max(1, table["text"].nbytes))
    with storage.create(location) as file, _parquet_writer(file) as writer:
        writer.write_table(table, row_group_size=rows)


def read_documents(location: Location, columns: Sequence[str] | None = None) -> Iterator[Document]:
    """The documents of a shard in order, one row group in memory. Fields that are not in `columns` are left empty.

    Raises InputError for a file that is missing, damaged, or of a format that this version does not read.
    """
    nothing = {name: "" for name, _ in _FIELDS}
    no_origin: dict[str, Any] = {name: 0 if name == "offset" else "" for name, _ in _ORIGIN}
    for table in _row_groups(location, columns):
        for row in table.to_pylist():
            origin = Origin(**(no_origin | row.pop("origin", {})))
            yield Document(**(nothing | row), origin=origin)


def read_column(location: Location, name: str) -> Iterator[Any]:
    """The values of one column of a shard in order, one row group in memory."""
    for table in _row_groups(location, [name]):
        yield from table[name].to_pylist()


def read_table(location: Location, columns: Sequence[str] | None = None) -> pa.Table:
    """A whole shard, or some of its columns, as a table."""
    give_back()
    tables = list(_row_groups(location, columns))
    wanted = SCHEMA.names if columns is None else columns
    return pa.concat_tables(tables) if tables else SCHEMA.empty_table().select(wanted)


@lru_cache(maxsize=1)
def give_back() -> bool:
    """Have each block of GIVEN_BACK bytes or more given back to the system when it is freed, in a worker process, where
    the C library can; whether it will be. The allocators keep half as much again of a shard's tables for later. Not in
    a process that goes on to other work, which would be slower for it."""
    if multiprocessing.parent_process() is None or not hasattr(ctypes.CDLL(None), "mallopt"):
        return False
    pa.set_memory_pool(pa.system_memory_pool())
    trim_threshold, mmap_threshold = -1, -3  # glibc's malloc.h
    return all(ctypes.CDLL(None).mallopt(which, GIVEN_BACK) for which in (trim_threshold, mmap_threshold))


def row_groups(
    location: Location, columns: Sequence[str] | None = None, rows: Sequence[int] | None = None
) -> Iterator[tuple[int, pa.Table]]:
    """(number of its first row, table) of each row group of a shard, in order. rows: sorted; only the row groups that
    hold one of them are read. Raises InputError as `read_documents`."""
    with storage.open_read(location) as raw:
        file = _sound(location, lambda: pq.ParquetFile(raw, page_checksum_verification=True))
        found = documents_number((file.schema_arrow.metadata or {}).get(PARQUET_KEY, b""))
        if found is None:
            raise InputError("is not a shard of documents", where=str(location))
        DOCUMENTS.refuse_newer(found, location)
        first = 0
        for index in range(file.num_row_groups):
            end = first + file.metadata.row_group(index).num_rows
            if rows is None or bisect_left(rows, end) > bisect_left(rows, first):
                table = _sound(location, lambda index=index: file.read_row_group(index, columns=columns))  # type: ignore[misc]
                yield first, table
            first = end


def valid(text: str) -> str:
    """`text` with every lone surrogate as U+FFFD and every pair of them as the character it means."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def utf8_size(text: str) -> int:
    """Bytes of valid text in UTF-8, counted without a copy where each character is one."""
    return len(text) if text.isascii() else len(text.encode())


def _parquet_writer(file: Any) -> pq.ParquetWriter:
    return pq.ParquetWriter(file, SCHEMA, compression="zstd", write_page_checksum=True)


def _row_groups(location: Location, columns: Sequence[str] | None) -> Iterator[pa.Table]:
    return (table for _, table in row_groups(location, columns))


def _sound(location: Location, read: Callable[[], T]) -> T:
    try:
        return read()
    except (pa.ArrowException, OSError) as error:
        what = f"cannot be read as a shard of documents ({str(error).splitlines()[0]})"
        raise InputError(what, where=str(location), mend="run the data steps again") from None
