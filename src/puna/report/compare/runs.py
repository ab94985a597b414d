"""The runs of a comparison as it needs them: curves in tokens and in FLOP, what each cost, and which belong together.

Runs whose recipes differ in nothing but name and seeds are a group: one line of the legend, one size of the law.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from puna.cost import carbon
from puna.errors import InputError
from puna.model import flop
from puna.model.config import ModelConfig
from puna.recipe import Recipe
from puna.recipe_text import dotted, leaves, toml_value
from puna.recipe_values import takes
from puna.report import facts
from puna.report.facts import Facts, at, items, number
from puna.report.markup import amount
from puna.report.results import by_source
from puna.run import read_recipe
from puna.storage import Place

OWN = ("name", "seed", "train.seed")  # keys in which runs of one group may differ


@dataclass(frozen=True)
class Compared:
    """One run."""

    label: str
    where: str
    facts: Facts
    recipe: Recipe
    weights: int
    """That a token is multiplied with: all but the input embedding and the norms."""
    token_flop: int
    """FLOP of one training token."""
    tokenizer: str
    """Its digest; "" before there is one."""
    heldout: str
    """What tells this held-out text from another."""
    cloze: str
    """The same of the cloze items."""
    bits: dict[str, float]
    """Held-out bits per byte by source, "all" first; none before it was measured."""
    bytes_per_token: float | None
    """Of the training text in the mixture's shares."""
    energy: carbon.Account

    @property
    def tokens(self) -> float:
        return 0.0 if self.facts.curve is None else float(self.facts.curve.tokens[-1])

    @property
    def unfinished(self) -> str:
        """Where it is, of a run that has not ended; "" of one that has."""
        if self.facts.curve is None:
            return "has not trained yet"
        step, steps = float(self.facts.curve.step[-1]), number(self.facts.mixture, "steps")
        if steps is not None and step < steps:
            return f"is at step {step:,.0f} of {steps:,.0f}"
        return "" if "all" in self.bits else "has not been measured on held-out text yet"

    @property
    def seed(self) -> int:
        return self.recipe.training_seed

    def heldout_curve(self) -> tuple[np.ndarray, np.ndarray]:
        """Tokens and held-out bits per byte as training went on, and where that was not measured, at its end: (n,)."""
        curve = self.facts.curve
        if curve is None:
            return np.array([]), np.array([])
        told = {
            step: bits
            for line in self.facts.told
            if (step := number(line, "step")) is not None
            and (bits := number(line, "heldout", "all", "bits_per_byte")) is not None
        }
        read = dict(zip(curve.step.tolist(), curve.tokens.tolist(), strict=True))
        found = [(read[step], told[step]) for step in sorted(told) if step in read]
        if not found and "all" in self.bits:
            found = [(self.tokens, self.bits["all"])]
        return np.array([tokens for tokens, _ in found]), np.array([bits for _, bits in found])


@dataclass(frozen=True)
class Group:
    """Runs that differ in their seeds alone."""

    label: str
    runs: tuple[Compared, ...]

    @property
    def weights(self) -> int:
        return self.runs[0].weights

    @property
    def seeds(self) -> list[Compared]:
        """One run of each seed: the same one done again says nothing of how far seeds lie apart."""
        return list({(run.recipe.seed, run.seed): run for run in reversed(self.runs)}.values())[::-1]


def read(folders: Sequence[Place]) -> list[Compared]:
    """The runs in these folders, in that order. InputError: fewer than two, one that is none, the same one twice."""
    seen: dict[str, Place] = {}
    for folder in folders:
        same = str(folder.resolve()) if isinstance(folder, Path) else str(folder).rstrip("/")
        if same in seen:
            raise InputError("is given twice", where=str(folder), mend="name each run once")
        seen[same] = folder
    if len(folders) < 2:
        raise InputError("one run alone cannot be compared", mend="name two or more")
    asked = [read_recipe(folder) for folder in folders]  # all of them, before the first is read whole
    names = [folder.name for folder in folders]
    labels = [name if names.count(name) == 1 else str(folder) for name, folder in zip(names, folders, strict=True)]
    return [_read(*each) for each in zip(folders, labels, asked, strict=True)]


def groups(runs: Sequence[Compared]) -> list[Group]:
    """The runs by what their recipes say beside name and seeds, smallest first.

    A group is named by its weights where these tell all groups apart, else by its first run.
    """
    found: dict[tuple[tuple[str, str], ...], list[Compared]] = {}
    for run in runs:
        found.setdefault(tuple((key, value) for key, value in said(run) if key not in OWN), []).append(run)
    several = sorted(found.values(), key=lambda group: (group[0].weights, group[0].label))
    sizes = [amount(group[0].weights) for group in several]
    by_size = len(set(sizes)) == len(sizes) > 1
    return [
        Group(size if by_size else group[0].label, tuple(sorted(group, key=lambda run: run.seed)))
        for size, group in zip(sizes, several, strict=True)
    ]


def differences(several: Sequence[Group]) -> list[tuple[str, list[str]]]:
    """The recipe's keys in which groups differ, and what each says; "" where a recipe has no such key."""
    values = [dict(said(group.runs[0])) for group in several]
    keys = dict.fromkeys(key for each in values for key in each if key not in OWN)
    rows = [(key, [each.get(key, "") for each in values]) for key in keys]
    return [(key, row) for key, row in rows if len(set(row)) > 1]


def said(run: Compared) -> list[tuple[str, str]]:
    """Every key of the recipe, and its value as a recipe writes it."""
    return [
        (dotted(key), "unset" if value is None else toml_value(value, takes(field.annotation, field.metadata).unit))
        for key, value, field in leaves(run.recipe)
    ]


def _read(folder: Place, label: str, recipe: Recipe) -> Compared:
    found = facts.read(folder)
    pieces = number(found.records.get("tokenizer"), "counts", "pieces")
    shape = ModelConfig.from_recipe(recipe, int(pieces or recipe.tokenizer.pieces))
    return Compared(
        label=label,
        where=str(folder),
        facts=found,
        recipe=recipe,
        weights=flop.matmul_weights(shape),
        token_flop=flop.token_flop(shape, recipe.train.context),
        tokenizer=str(at(found.manifest, "tokenizer") or ""),
        heldout=_heldout(found),
        cloze=_items(found),
        bits={name: values["model"] for name, values in by_source(found).items() if "model" in values},
        bytes_per_token=_bytes_per_token(found),
        energy=carbon.of_records(recipe.carbon, found.records),
    )


def _heldout(found: Facts) -> str:
    """The digests of the shards of held-out text; where no record names them, its documents and bytes."""
    digests = {
        name: at(value, "digest")
        for record in found.records.values()
        for name, value in items(record, "outputs")
        if name.startswith("heldout/")
    }
    sizes = [at(found.heldout or found.baselines, key) for key in ("documents", "bytes")]
    return json.dumps(digests or sizes, sort_keys=True, default=str)


def _items(found: Facts) -> str:
    """What was asked, without what models made of it."""
    asked: list[Any] = []
    for source, known in items(found.cloze_items, "sources"):
        made = at(known, "items")
        keys = ("document", "stretch", "choices", "right")
        asked += [[source, *(at(one, key) for key in keys)] for one in made] if isinstance(made, list) else []
    return json.dumps(asked, default=str)


def _bytes_per_token(found: Facts) -> float | None:
    """Bytes of text that a training token stands for, in the shares in which the sources were read."""
    tokens = bytes_read = 0.0
    for source, planned in items(found.mixture, "sources"):
        windows = number(planned, "windows")
        known = [number(found.manifest, "sources", source, key) for key in ("bytes", "tokens")]
        if windows is None or known[0] is None or not known[1]:
            return None
        tokens += windows
        bytes_read += windows * known[0] / known[1]
    return bytes_read / tokens if tokens and bytes_read else None
