"""Result files: the figures of one command, with commit, machine and date, and how old they are.

Each lies in results/ as NAME.json and is written by benchmarks/record.py alone. `sources` holds digests of the modules
that the figures follow from: where one differs from what is installed, the figure is of other code than this, and that
is said wherever it is shown.
"""

from __future__ import annotations

import datetime
import functools
import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from puna.errors import InputError

FORMAT = 1
LARGEST = 100_000  # bytes of a result file
RESULTS = Path(__file__).with_name("results")
PACKAGE = Path(__file__).parents[1]
CODE = (".py", ".toml", ".json", ".cpp")  # endings of what a figure can follow from


@dataclass(frozen=True)
class Result:
    name: str
    command: str
    commit: str
    """40 hex digits."""
    machine: Mapping[str, Any]
    """processor, cores, memory_bytes, system, python and versions of what computes."""
    date: datetime.date
    """When the command ran, in UTC."""
    seconds: float
    figures: Mapping[str, float]
    sources: Mapping[str, str]
    """File or folder of the package to its digest as it was."""

    def age_days(self, today: datetime.date) -> int:
        return (today - self.date).days

    def changed(self) -> list[str]:
        """What the figures follow from that is no longer as it was when they were recorded."""
        return [source for source, told in self.sources.items() if digest(source) != told]

    def on(self) -> str:
        """The machine in a few words."""
        name, cores, memory = (self.machine.get(key) for key in ("processor", "cores", "memory_bytes"))
        gigabytes = f"{memory / 1e9:.0f} GB" if isinstance(memory, int) else "memory unknown"
        return f"{name}, {cores} cores, {gigabytes}"

    def as_json(self, today: datetime.date) -> dict[str, Any]:
        return {
            "name": self.name,
            "command": self.command,
            "commit": self.commit,
            "machine": dict(self.machine),
            "date": self.date.isoformat(),
            "age_days": self.age_days(today),
            "changed": self.changed(),
            "figures": dict(self.figures),
        }


def read(name: str, folder: Path = RESULTS) -> Result:
    """The result of that name. InputError when it is missing, damaged or of a newer Puna."""
    where = f"results/{name}.json"
    mend = f"python benchmarks/record.py {name}"
    try:
        with (folder / f"{name}.json").open("rb") as file:
            data = file.read(LARGEST + 1)
    except OSError as error:
        raise InputError(f"no result can be read ({type(error).__name__})", where=where, mend=mend) from error
    if len(data) > LARGEST:
        raise InputError(f"holds more than {LARGEST:,} bytes, and is no result", where=where, mend=mend)
    try:
        found = json.loads(data)
        version = found["format"]
        if isinstance(version, int) and version > FORMAT:
            raise InputError(f"is of a newer Puna (format {version})", where=where, mend="update puna")
        return _checked(name, found)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError) as error:
        what = f"is no whole result ({type(error).__name__}: {error})"
        raise InputError(what[:200], where=where, mend=mend) from error


def _checked(name: str, found: Mapping[str, Any]) -> Result:
    """The record, each field of its kind; ValueError, TypeError or KeyError where one is not."""
    if found["format"] != FORMAT or found["name"] != name:
        raise ValueError(f"format {found['format']!r}, name {found['name']!r}")
    texts = {key: found[key] for key in ("command", "commit")}
    if not all(isinstance(text, str) and text.isprintable() for text in texts.values()):
        raise ValueError("command or commit is no line of text")
    if not re.fullmatch("[0-9a-f]{40}", found["commit"]):
        raise ValueError("commit is not 40 hex digits")
    figures = {str(key): _number(value) for key, value in found["figures"].items()}
    machine = {str(key): value for key, value in found["machine"].items()}
    if not figures or not machine or not all(map(_told, (*machine, *machine.values()))):
        raise ValueError("figures or machine are missing, or no plain values")
    sources = {str(key): str(value) for key, value in found["sources"].items()}
    date = datetime.datetime.fromisoformat(found["date"]).date()
    seconds = float(_number(found["seconds"]))
    return Result(name, **texts, machine=machine, date=date, seconds=seconds, figures=figures, sources=sources)


def _told(value: object) -> bool:
    """Whether a value of the machine can be shown: a number, nothing, or a short text in one line."""
    return value is None or isinstance(value, int | float) or (isinstance(value, str) and value.isprintable())


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{value!r} is no number")
    return value


@functools.cache
def digest(source: str) -> str:
    """Of a file of the package as it is installed, or of the code in a folder of it; "" of what is not there."""
    files = [PACKAGE / source]
    if not source.endswith(CODE):
        files = sorted(path for path in Path(PACKAGE / source).rglob("*") if path.suffix in CODE)
    told = hashlib.sha256()
    try:
        for file in files:
            told.update(file.relative_to(PACKAGE).as_posix().encode() + b"\0" + file.read_bytes())
    except OSError:
        return ""
    return told.hexdigest()[:16] if files else ""


def filled(template: str, result: Result) -> str:
    """`template` with the result's figures in it. InputError when one is missing."""
    try:
        return template.format_map(result.figures)
    except (KeyError, ValueError) as error:
        mend = f"python benchmarks/record.py {result.name}"
        what = f"does not fit the text that shows it ({type(error).__name__}: {error})"
        raise InputError(what, where=f"results/{result.name}.json", mend=mend) from error
