"""What the card of a model tells, from the files of the run or of the finetuning that made it.

A file that is not there leaves its part unsaid; nothing is put in its place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow.compute as pc

from puna import storage
from puna.cost.carbon import Account, account
from puna.data.document import row_groups
from puna.errors import PunaError
from puna.evaluate import stored
from puna.evaluate.stored import Known
from puna.model.folder import find
from puna.report import facts as run_facts
from puna.report.facts import Facts, at, items, number
from puna.storage import Location, Place

DOCUMENTS = "documents"
LANGUAGE = 0.01  # of all documents, from which a language is one of the model's


@dataclass
class Text:
    """What a source's training documents say of themselves."""

    documents: int = 0
    languages: Counter[str] = field(default_factory=Counter)
    licences: Counter[str] = field(default_factory=Counter)
    """"" for a document that says none."""


@dataclass(frozen=True)
class ModelFacts:
    run: Facts | None = None
    """Of the run whose checkpoint it is."""
    newest: bool = False
    """Whether it is the run's newest checkpoint, of which the run's own measures are."""
    texts: Mapping[str, Text] = field(default_factory=dict)
    """By source."""
    carbon: Account | None = None
    finetuned: Mapping[str, Any] | None = None
    """finetune.json."""
    change: Mapping[str, Any] | None = None
    """What was measured before and after the finetuning."""
    origin: Mapping[str, Any] | None = None
    """origin.json of an imported model."""
    known: Known = field(default_factory=dict)
    """What benchmarks gave of these weights."""


def of(model: Location) -> ModelFacts:
    """What is known of a run, a checkpoint, a finetuning or an imported model. InputError for what is no model, and
    for a damaged table of benchmarks."""
    checkpoint, _ = find(model)
    known = stored.of(checkpoint)
    if checkpoint.parent.name == "checkpoints" and storage.is_file(checkpoint.parent.parent / "recipe.toml"):
        run = checkpoint.parent.parent
        read = run_facts.read(run)
        newest = read.checkpoint == checkpoint.name
        return ModelFacts(read, newest, {name: _text(run, name) for name in read.sources}, _carbon(run), known=known)
    if checkpoint.name == "model" and storage.is_file(checkpoint.parent / "finetune.json"):
        change = checkpoint.parent / "evaluations" / "finetune.json"
        return ModelFacts(
            finetuned=storage.read_json(checkpoint.parent / "finetune.json"),
            change=storage.read_json(change) if storage.is_file(change) else None,
            carbon=_carbon(checkpoint.parent),
            known=known,
        )
    origin = checkpoint / "origin.json"
    return ModelFacts(origin=storage.read_json(origin) if storage.is_file(origin) else None, known=known)


def bits(told: ModelFacts) -> list[tuple[str, float]]:
    """Of the run's newest checkpoint, by source."""
    if told.run is None or not told.newest or at(told.run.heldout, "checkpoint") != told.run.checkpoint:
        return []
    pairs = told.run.by_source(dict(items(told.run.heldout, "bits_per_byte")))
    return [(source, value) for source, each in pairs if (value := number(each, "model")) is not None]


def rations(run: Facts | None) -> list[tuple[str, Any]]:
    """What the mixture took of each source."""
    return run.by_source(dict(items(run.mixture, "sources"))) if run is not None else []


def languages(told: ModelFacts) -> list[str]:
    """Those of two or three letters that are not rare; of code there are none."""
    counted: dict[str, int] = {}
    for found in told.texts.values():
        for code, times in found.languages.items():
            if len(code) in (2, 3) and code.isascii() and code.islower():
                counted[code] = counted.get(code, 0) + times
    least = LANGUAGE * sum(counted.values())
    return sorted(code for code, times in counted.items() if times >= least)


def hardware(run: Facts | None) -> str:
    """The processors that it was trained on, each once."""
    segments = run.machine if run is not None else []
    named = (f"{at(one, 'cpu')}, {number(one, 'threads') or 0:.0f} threads" for one in segments if at(one, "cpu"))
    return "; ".join(dict.fromkeys(named))


def _text(run: Place, source: str) -> Text:
    """Of the documents that are there. Reads two narrow columns of them, a row group at a time."""
    found = Text()
    for shard in storage.listing(run / DOCUMENTS / source, "*.parquet"):
        for _, table in row_groups(shard, columns=["language", "origin.licence"]):
            found.documents += table.num_rows
            _add(found.languages, table.column("language"))
            _add(found.licences, pc.struct_field(table.column("origin"), "licence"))
    return found


def _add(counted: Counter[str], column: Any) -> None:
    for each in pc.value_counts(column).to_pylist():
        counted[each["values"] or ""] += each["counts"]


def _carbon(folder: Place) -> Account | None:
    """Of a run or a finetuning."""
    try:
        return account(folder)
    except PunaError:
        return None
