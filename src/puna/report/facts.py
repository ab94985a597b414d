"""What a run's files say, read for the report.

Every file may be absent (the run has not got that far), and a value inside one may be missing or of another shape (an
older version wrote it): then the page says less, it never fails. `at` and `number` are how the sections ask.
"""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from puna import recipe as recipes
from puna import storage
from puna.cost.carbon import Account, asked_later, of_records
from puna.data import exclude
from puna.data.exclude import Exclusions
from puna.errors import PunaError
from puna.evaluate import stored
from puna.evaluate.others import Other
from puna.evaluate.stored import Known
from puna.formats import refuse_newer
from puna.model.weights import digest, read_tensors
from puna.storage import Place

OWN_STEP = "report"  # its record is written after the page, and would make the next page differ


@dataclass(frozen=True)
class Curve:
    """The training lines of metrics.jsonl, one element a line; a step trained again after a restart counts once.

    What a line does not tell, or is not finite, is NaN.
    """

    step: np.ndarray
    tokens: np.ndarray  # trained on so far, this step included
    loss: np.ndarray  # nats per token
    learning_rate: np.ndarray
    seconds: np.ndarray  # since the line before
    rate: np.ndarray  # tokens per second
    skipped: int  # steps that were not taken, since loss or gradient was not finite, or the loss a spike

    def __len__(self) -> int:
        return len(self.step)


@dataclass(frozen=True)
class Facts:
    """All that the page tells, as read."""

    name: str = "without a name"
    recipe_text: str = ""
    recipe: dict[str, Any] = field(default_factory=dict)
    records: dict[str, dict[str, Any]] = field(default_factory=dict)  # each step after those it needs
    begun: tuple[str, ...] = ()  # steps that have begun and not ended
    machine: list[dict[str, Any]] = field(default_factory=list)
    parameters: int | None = None
    resolved: dict[str, Any] = field(default_factory=dict)  # recipe.toml with every default, counts as numbers
    manifest: Any = None
    mixture: Any = None
    heldout: Any = None
    baselines: Any = None
    samples: Any = None
    cloze: Any = None
    cloze_items: Any = None
    tables: Any = None  # the paper's, with the model's row
    benchmarks: Any = None
    """Along the training, what `puna evaluate --watch` measured."""
    benchmarked: Known = field(default_factory=dict)
    """What is known of the newest checkpoint (evaluate/stored.py)."""
    others: tuple[Other, ...] = ()
    """The same of lm-eval's tasks, as it was asked last and before."""
    checkpoint: str = ""
    """The newest one's name."""
    carbon: Account | None = None
    finetuned: tuple[tuple[str, Any], ...] = ()
    """What was measured of each finetuning of the newest checkpoint that lies beside the run, by its folder's name."""
    curve: Curve | None = None
    told: list[dict[str, Any]] = field(default_factory=list)  # lines of metrics.jsonl that are no plain step
    unreadable: tuple[str, ...] = ()
    hidden: Exclusions | None = None  # documents that no example may show; None: the list cannot be read

    def counts(self, step: str) -> Any:
        """What the done-record of `step` counted, or None."""
        return at(self.records.get(step), "counts")

    @property
    def sources(self) -> list[str]:
        """Every source that the recipe or a record names, in the recipe's order."""
        asked = [name for name, value in items(self.recipe, "sources") if isinstance(value, dict)]
        done = {name for step in ("inputs", "extract", "documents", "tokens") for name in self._counted(step)}
        return list(dict.fromkeys([*asked, *sorted(done)]))

    def per_source(self, step: str) -> list[tuple[str, Any]]:
        """What a step counted for each source, as one step for all (`tokens`) or as one each (`extract.github`)."""
        return self.by_source(self._counted(step))

    def _counted(self, step: str) -> dict[str, Any]:
        each = {name.partition(".")[2]: self.counts(name) for name in self.records if name.startswith(f"{step}.")}
        return dict(items(self.counts(step))) | each

    def by_source(self, value: Any) -> list[tuple[str, Any]]:
        """The pairs of a table whose keys are sources, "all" first and then in the recipe's order."""
        place = {name: index for index, name in enumerate(["all", *self.sources])}
        return sorted(items(value), key=lambda pair: (place.get(pair[0], len(place)), pair[0]))


def read(folder: Place) -> Facts:
    """Read the run at `folder`; files that are not there are None or empty, damaged ones are listed in `unreadable`.

    Raises Newer when a newer Puna wrote one of them: what it means is not known here.
    """
    refuse_newer(folder)
    unreadable: list[str] = []
    asked = _resolved(folder / "recipe.toml")

    def json_of(*parts: str) -> Any:
        path = folder.joinpath(*parts)
        try:
            return storage.read_json(path) if storage.is_file(path) else None
        except (OSError, PunaError, RecursionError):
            unreadable.append("/".join(parts))
            return None

    text, recipe = "", {}
    try:
        if storage.is_file(folder / "recipe.toml"):
            text = storage.read(folder / "recipe.toml").decode()
            recipe = tomllib.loads(text)
    except (OSError, ValueError, PunaError):
        unreadable.append("recipe.toml")
    found = [json_of("records", path.name) for path in storage.listing(folder / "records", "*.json")]
    named = [value for value in found if isinstance(at(value, "step"), str) and value["step"] != OWN_STEP]
    records = _in_order({value["step"]: value for value in named if "counts" in value})
    machine = json_of("machine.json")
    segments = machine if isinstance(machine, list) else at(machine, "segments") or [machine]
    pieces = number(records.get("tokenizer"), "counts", "pieces")
    checkpoints = [path.parent for path in storage.listing(folder / "checkpoints", "*/checkpoint.json")]
    benchmarked: Known = {}
    others: list[Other] = []
    try:
        if checkpoints:
            benchmarked, others = stored.read(checkpoints[-1])
    except (OSError, PunaError):
        unreadable.append("results.json of the benchmarks")
    return Facts(
        name=str(at(recipe, "name") or folder.name),
        recipe_text=text,
        recipe=recipe,
        records=records,
        begun=tuple(value["step"] for value in named if "counts" not in value),
        machine=[
            {key: value for key, value in segment.items() if key != "format"}
            for segment in segments
            if isinstance(segment, dict)
        ],
        parameters=asked.model.parameters(int(pieces or asked.tokenizer.pieces)) if asked else None,
        resolved=asked.model_dump(mode="json") if asked else {},
        manifest=json_of("tokens", "manifest.json"),
        mixture=json_of("tokens", "mixture.json"),
        heldout=json_of("evaluations", "heldout.json"),
        baselines=json_of("evaluations", "baselines.json"),
        samples=json_of("evaluations", "samples.json"),
        cloze=json_of("evaluations", "cloze.json"),
        cloze_items=json_of("evaluations", "cloze_items.json"),
        tables=json_of("evaluations", "tables", "tables.json"),
        benchmarks=json_of("evaluations", "benchmarks", "curve.json"),
        benchmarked=benchmarked,
        others=tuple(others),
        checkpoint=checkpoints[-1].name if checkpoints else "",
        carbon=of_records(asked.carbon, {**records, **asked_later(folder)}) if asked else None,
        finetuned=tuple(_finetuned(folder, checkpoints[-1])) if checkpoints else (),
        curve=_curve(folder / "metrics.jsonl"),
        told=_told(folder / "metrics.jsonl"),
        unreadable=tuple(unreadable),
        hidden=_hidden(asked),
    )


def _finetuned(folder: Place, checkpoint: Place) -> Iterator[tuple[str, Any]]:
    """Finetunings beside the run, of a model of its name and with these very weights."""
    beside = [] if storage.is_remote(folder) else storage.listing(folder.absolute().parent, "*/finetune.json")
    found = []
    for path in beside:
        with suppress(OSError, PunaError, RecursionError):
            base, file = at(storage.read_json(path), "model"), path.parent / "evaluations" / "finetune.json"
            if at(base, "name") == folder.absolute().name and storage.is_file(file):
                found.append((path.parent.name, at(base, "digest"), storage.read_json(file)))
    if found:
        with suppress(OSError, PunaError):
            own = digest(read_tensors(checkpoint / "model.safetensors"))
            yield from ((name, measured) for name, base, measured in found if base == own)


def _hidden(asked: Any) -> Exclusions | None:
    """What `data.exclude` names; None when the list cannot be read any more."""
    try:
        return Exclusions(exclude.entries(asked.data.exclude)) if asked else None
    except PunaError:
        return None


def at(value: Any, *keys: str) -> Any:
    """value[key][key]..., or None where there is no such thing."""
    for key in keys:
        if not isinstance(value, dict) or key not in value:
            return None
        value = value[key]
    return value


def number(value: Any, *keys: str) -> float | None:
    """The finite number at `keys` inside `value`, or None; a number written as text ("0.045") counts."""
    found = at(value, *keys)
    if isinstance(found, bool) or not isinstance(found, int | float | str):
        return None
    try:
        made = float(found)
    except (ValueError, OverflowError):
        return None
    return made if math.isfinite(made) else None


def total(values: Iterable[float | None]) -> float | None:
    """The sum of what is there; None when nothing is."""
    there = [value for value in values if value is not None]
    return sum(there) if there else None


def items(value: Any, *keys: str) -> list[tuple[str, Any]]:
    """The pairs of the table at `keys`, none when there is no table."""
    found = at(value, *keys)
    return list(found.items()) if isinstance(found, dict) else []


def _resolved(path: Place) -> recipes.Recipe | None:
    """The recipe of the run, where it is one that this version reads."""
    try:
        return recipes.load(str(path))
    except PunaError:
        return None


def _in_order(records: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Each record after those of the steps that it needs, by name where that leaves a choice."""
    left, placed = dict(sorted(records.items())), {}
    while left:
        ready = [step for step, record in left.items() if not left.keys() & dict(items(record, "inputs")).keys()]
        for step in ready or list(left):  # steps that need each other are never written, but a file may be damaged
            placed[step] = left.pop(step)
    return placed


def _lines(path: Place) -> Iterator[Any]:
    """The values in the lines of metrics.jsonl."""
    with suppress(OSError, PunaError), storage.open_read(path) as file:
        for text in file:
            with suppress(ValueError):  # the half line of a killed process
                yield json.loads(text)


def _told(path: Place) -> list[dict[str, Any]]:
    """Lines that tell of spikes or held-out loss."""
    return [line for line in _lines(path) if at(line, "spike") is not None or at(line, "heldout") is not None]


def _curve(path: Place) -> Curve | None:
    lines: dict[int, dict[str, Any]] = {}
    for line in _lines(path):
        step = number(line, "step")
        if step is not None and (number(line, "tokens") or 0) > 0 and "loss" in line:
            lines[int(step)] = line
    if not lines:
        return None
    ordered = [lines[step] for step in sorted(lines)]

    def column(name: str) -> np.ndarray:
        values = (number(line, name) for line in ordered)
        return np.array([math.nan if value is None else value for value in values])

    return Curve(
        step=column("step"),
        tokens=column("tokens"),
        loss=column("loss"),
        learning_rate=column("learning_rate"),
        seconds=column("seconds"),
        rate=column("tokens_per_second"),
        skipped=sum(bool(at(line, "skipped")) for line in ordered),
    )
