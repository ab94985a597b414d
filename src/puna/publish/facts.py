"""What the card of a data set tells, from a run's own files and from reading the data set back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from puna import storage
from puna.inspect import Funnel
from puna.recipe import Recipe
from puna.storage import Place


@dataclass
class Part:
    """A split of a source. bytes: of text in UTF-8; size: of the files."""

    shards: int = 0
    rows: int = 0
    bytes: int = 0
    size: int = 0


@dataclass
class Counts:
    """A source: what became of its records, and what was read back of the data set."""

    funnel: Funnel
    inputs: list[Mapping[str, Any]]
    train: Part = field(default_factory=Part)
    test: Part = field(default_factory=Part)
    languages: Counter[str] = field(default_factory=Counter)
    licences: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Facts:
    """All that the card tells. mixture: tokens/mixture.json, where the run got so far. excluded: how many entries
    data.exclude has. masked: what data.mask takes out."""

    name: str
    sources: Mapping[str, Counts]
    heldout: bool
    """Whether what is held out is in it."""
    mixture: Mapping[str, Any] | None
    excluded: int
    masked: tuple[str, ...]
    near: tuple[str, ...]
    """Sources whose near duplicates were looked for."""
    decontaminated: tuple[str, ...]
    """Benchmarks whose text was looked for."""
    marked: bool
    """Whether what was found of them was marked, and stays."""


def of_run(folder: Place, recipe: Recipe, funnels: Mapping[str, Funnel], excluded: int, heldout: bool) -> Facts:
    """What a run's files say, with nothing read back yet."""
    sources = {}
    for name, funnel in funnels.items():
        path = folder / "inputs" / f"{name}.json"
        sources[name] = Counts(funnel, storage.read_json(path)["inputs"] if storage.is_file(path) else [])
    mixture = folder / "tokens" / "mixture.json"
    looked_for = {name for funnel in funnels.values() for name in _benchmarks(funnel)}
    return Facts(
        name=" ".join(recipe.name.split()),
        sources=sources,
        heldout=heldout,
        mixture=storage.read_json(mixture) if storage.is_file(mixture) else None,
        excluded=excluded,
        masked=tuple(recipe.data.mask),
        near=tuple(name for name, funnel in funnels.items() if "near" in funnel.quality),
        decontaminated=tuple(sorted(looked_for)),
        marked=recipe.decontaminate.action == "mark",
    )


def _benchmarks(funnel: Funnel) -> Iterator[str]:
    found = funnel.quality.get("contamination", {})
    yield from found.get("benchmarks", {}) if isinstance(found, dict) else ()
