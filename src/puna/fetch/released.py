"""The releases of the paper's benchmarks: who publishes them, on what terms, at which addresses (`benchmarks.toml`)."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from urllib.parse import urlsplit

from puna.errors import InputError
from puna.fetch.file import checked_name
from puna.testsets import BENCHMARKS


@dataclass(frozen=True)
class ReleaseFile:
    """A file as it is published."""

    url: str
    sha256: str = ""
    """Hex digits, where they are known for sure; else the first one seen holds."""
    size: int | None = None
    """Bytes, where published."""
    known: str = ""
    """Where `sha256` was published."""
    keep: tuple[str, ...] = ()
    """Of an archive: the members that are unpacked, as patterns whose `*` stands for one part of a path."""

    @property
    def name(self) -> str:
        return checked_name(urlsplit(self.url).path.rpartition("/")[2], self.url)


@dataclass(frozen=True)
class Release:
    """What one publisher gives: the files of a benchmark, or of two in one archive."""

    name: str
    benchmarks: tuple[str, ...]
    published_by: str
    licence: str
    source: str
    """Where the addresses were found."""
    files: tuple[ReleaseFile, ...]
    condition: str = ""
    """What must be accepted before anything is fetched."""
    connections: int = 1

    @property
    def base(self) -> str:
        """An address of its host."""
        return self.files[0].url


def releases() -> dict[str, Release]:
    """All releases by name, in the order of the paper."""
    told = tomllib.loads((resources.files("puna.fetch") / "benchmarks.toml").read_text("utf-8"))
    return {name: _release(name, values) for name, values in told.items()}


def chosen(names: Sequence[str], among: Mapping[str, Release]) -> list[Release]:
    """The releases that hold these benchmarks (none: all). A release's own name does as well, such as race."""
    for name in names:
        if name not in among and name not in BENCHMARKS:
            raise InputError(f"{name} is no benchmark", mend=f"take one of {', '.join(among)}")
    return [each for each in among.values() if not names or {each.name, *each.benchmarks} & set(names)]


def _release(name: str, values: Mapping[str, object]) -> Release:
    told = dict(values)
    files = told.pop("files")
    benchmarks = told.pop("benchmarks")
    assert isinstance(files, list)
    assert isinstance(benchmarks, list)
    made = tuple(ReleaseFile(**{**file, "keep": tuple(file.get("keep", ()))}) for file in files)
    return Release(name=name, benchmarks=tuple(benchmarks), files=made, **told)  # type: ignore[arg-type]
