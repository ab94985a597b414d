"""Records of release files, read one by one: JSON lines, JSON, CSV, TSV and lists of labels, each plain or in gzip.

A file is cut into lines at "\\n" alone: U+0085 and U+2028 stand inside strings of real files. Whatever is not as the
release has it is one InputError that names file, record and key; a cut or garbled file gives no items beyond its
damage and never a traceback.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, NoReturn, cast

from puna import storage
from puna.errors import InputError
from puna.storage import Location

LONGEST = 64_000_000  # bytes of one record or of a file that is one value; the longest of the releases are far below
BLOCK = 1 << 20  # bytes of a long JSON file that are read at once
BETWEEN = re.compile(r"[ \t\r\n,]*")
MEND = "take the file as it was released, or leave it out"


@dataclass(frozen=True, slots=True)
class Record:
    """The values of one record, and where it stands, for whoever finds a value that is none."""

    values: Mapping[str, Any]
    where: str

    def text(self, key: str, *, empty: bool = False) -> str:
        """A text that is not blank, or one that may be (`empty`)."""
        value = self._value(key)
        if not isinstance(value, str) or not (empty or value.strip()):
            self.refuse(key, "a text")
        return self._valid(key, value)

    def texts(self, key: str, *, least: int = 1) -> tuple[str, ...]:
        """A list of at least `least` texts."""
        values = self._value(key)
        if not isinstance(values, list) or len(values) < least or not all(isinstance(value, str) for value in values):
            self.refuse(key, f"a list of {least} or more texts" if least else "a list of texts")
        return tuple(self._valid(key, value) for value in values)

    def number(self, key: str) -> int:
        value = self._value(key)
        if not isinstance(value, int) or isinstance(value, bool):
            self.refuse(key, "a whole number")
        return value

    def real(self, key: str) -> float | None:
        """A number, or None where the release has null or an empty cell."""
        value = self._value(key)
        if value is None or value == "":
            return None
        try:
            found = float(value)
        except (TypeError, ValueError, OverflowError):
            self.refuse(key, "a number")
        if isinstance(value, bool) or found != found:
            self.refuse(key, "a number")
        return found

    def truth(self, key: str) -> bool:
        value = self._value(key)
        if not isinstance(value, bool):
            self.refuse(key, "true or false")
        return value

    def part(self, key: str) -> Record:
        """A record within this one."""
        value = self._value(key)
        if not isinstance(value, dict):
            self.refuse(key, "an object")
        return Record(value, f"{self.where}, {key}")

    def parts(self, key: str) -> list[Record]:
        values = self._value(key)
        if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
            self.refuse(key, "a list of objects")
        return [Record(value, f"{self.where}, {key} {number}") for number, value in enumerate(values, 1)]

    def one_of(self, key: str, among: Sequence[str]) -> int:
        """The index of a text (or a whole number, as text) among those allowed."""
        value = self._value(key)
        value = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
        if value not in among:
            self.refuse(key, "one of " + ", ".join(among))
        return among.index(value)

    def refuse(self, key: str, wanted: str) -> NoReturn:
        value = self.values.get(key)
        shown = repr(value)[:60].encode("ascii", "backslashreplace").decode()
        what = f"{key} is {shown}, not {wanted}" if key in self.values else f"has no {key}"
        raise InputError(what, where=self.where, mend=MEND)

    def _value(self, key: str) -> Any:
        if key not in self.values:
            self.refuse(key, "")
        return self.values[key]

    def _valid(self, key: str, value: str) -> str:
        try:
            value.encode()
        except UnicodeEncodeError:
            self.refuse(key, "valid Unicode")
        return value


def json_lines(location: Location) -> Iterator[Record]:
    """The records of a file of JSON objects, one a line; empty lines are passed over."""
    for number, line in lines(location):
        if line.strip():
            where = f"{location}:{number}"
            yield Record(_object(line, where), where)


def json_file(location: Location) -> Any:
    """The value of a file that is one JSON value."""
    with _opened(location) as file:
        return _value(_bounded(file.read(LONGEST + 1), str(location)), str(location))


def beginning(location: Location, size: int) -> bytes:
    """The first bytes of a file, unpacked."""
    with _opened(location) as file:
        return bytes(file.read(size))


def json_object(location: Location) -> Record:
    """The record of a file that is one JSON object."""
    value = json_file(location)
    if not isinstance(value, dict):
        raise InputError("is not a JSON object", where=str(location), mend=MEND)
    return Record(value, str(location))


def json_list(location: Location, key: str = "") -> Iterator[Record]:
    """The objects in the list `key` of a file that is one long JSON object, one at a time; without a key, in the list
    that the file is."""
    decoder = json.JSONDecoder()
    with _opened(location) as raw:
        file = io.TextIOWrapper(cast(BinaryIO, raw), "utf-8-sig", newline="")
        text, number, wanted = file.read(BLOCK), 0, BLOCK
        begin = re.search(rf'"{key}"\s*:\s*\[', text) if key else re.match(r"\s*\[", text)
        if not begin:
            raise InputError(f"holds no list {key} at its beginning".replace("  ", " "), where=str(location), mend=MEND)
        at = begin.end()
        while True:
            at = BETWEEN.match(text, at).end()  # type: ignore[union-attr]  # it matches nothing, too
            if text.startswith("]", at):
                return
            where = f"{location}, {key or 'record'} {number + 1}"
            try:
                value, at = decoder.raw_decode(text, at)
            except RecursionError:
                raise InputError("is nested too deep", where=where, mend=MEND) from None
            except ValueError as error:
                more = file.read(wanted) if len(text) - at < LONGEST else ""
                if not more:
                    what = f"is cut short or not valid JSON ({error.args[0]})"
                    raise InputError(what, where=where, mend=MEND) from None
                text, at, wanted = text[at:] + more, 0, 2 * wanted  # doubled: a long object is not read again and again
                continue
            if not isinstance(value, dict):
                raise InputError("is not a JSON object", where=where, mend=MEND)
            number, wanted = number + 1, BLOCK
            yield Record(value, where)


def table(location: Location, *, names: Sequence[str] = (), tabs: bool = False) -> Iterator[Record]:
    """The rows of a CSV file (`tabs`: one of plain cells between tabs) by the names of their columns: those of its
    first row, or `names` where it has none. A byte order mark is passed over; cells may hold line breaks."""
    with _opened(location) as raw:
        file = io.TextIOWrapper(cast(BinaryIO, raw), "utf-8-sig", newline="")
        kind: dict[str, Any] = {"delimiter": "\t", "quoting": csv.QUOTE_NONE} if tabs else {"strict": True}
        rows = csv.reader(file, **kind)
        try:
            columns = list(names) or next(rows, [])
            for row in rows:
                where = f"{location}:{rows.line_num}"
                if not row:
                    continue
                if len(row) != len(columns):
                    raise InputError(f"has {len(row)} cells, not {len(columns)}", where=where, mend=MEND)
                yield Record(dict(zip(columns, row, strict=True)), where)
        except csv.Error as error:
            what = f"cannot be read as a table ({error})"
            raise InputError(what, where=f"{location}:{rows.line_num}", mend=MEND) from None


def labels(location: Location, among: Sequence[str]) -> list[int]:
    """The indices among the allowed labels of a file with one label a line."""
    found = [(number, line.strip()) for number, line in lines(location)]
    while found and not found[-1][1]:
        found.pop()
    return [Record({"label": line}, f"{location}:{number}").one_of("label", among) for number, line in found]


def lines(location: Location) -> Iterator[tuple[int, str]]:
    """The lines of a file with their numbers from 1, cut at "\\n" alone."""
    with _opened(location) as file:
        number = 0
        while line := file.readline(LONGEST + 1):
            number += 1
            where = f"{location}:{number}"
            try:
                text = _bounded(line, where).decode("utf-8-sig" if number == 1 else "utf-8")
                yield number, text.removesuffix("\n")
            except UnicodeDecodeError as error:
                raise InputError(f"is not UTF-8 ({error.reason})", where=where, mend=MEND) from None


@contextmanager
def _opened(location: Location) -> Iterator[Any]:
    """A file of bytes, unpacked where it is gzip. Damage met in the block, in packing or in characters, is told."""
    with storage.open_read(location) as raw:
        packed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        try:
            yield gzip.GzipFile(fileobj=raw) if packed else raw
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            what = f"is damaged or cut short ({' '.join(str(error).split())})"
            raise InputError(what, where=str(location), mend=MEND) from None
        except UnicodeDecodeError as error:
            raise InputError(f"is not UTF-8 ({error.reason})", where=str(location), mend=MEND) from None


def _bounded(data: bytes, where: str) -> bytes:
    if len(data) > LONGEST:
        raise InputError(f"has a record of more than {LONGEST:,} bytes", where=where, mend=MEND)
    return data


def _object(text: str, where: str) -> dict[str, Any]:
    value = _value(text, where)
    if not isinstance(value, dict):
        raise InputError("is not a JSON object", where=where, mend=MEND)
    return value


def _value(text: str | bytes, where: str) -> Any:
    try:
        return json.loads(text)
    except RecursionError:
        raise InputError("is nested too deep", where=where, mend=MEND) from None
    except ValueError as error:
        raise InputError(f"is cut short or not valid JSON ({error})", where=where, mend=MEND) from None
