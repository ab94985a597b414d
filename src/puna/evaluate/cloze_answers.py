"""What a run's model makes of its cloze items, beside its n-gram model and chance: the table that a run ends with.

A choice is scored by its log-probability behind the passage and nothing else (norm `none`): all four are about equally
frequent, so that there is nothing to set it against. Of equal choices the first is taken, as in ranking.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from puna import generate, storage
from puna.evaluate import cloze, cloze_items
from puna.evaluate.answering import Answered, Model, answers
from puna.evaluate.cloze import CHOICES, most_frequent
from puna.evaluate.cloze_items import Questions
from puna.evaluate.ranking import best, both
from puna.evaluate.run import Value, mean
from puna.evaluate.task import Asked, Norm
from puna.formats import CLOZE
from puna.generate.packed import pack
from puna.model import device
from puna.progress import progress
from puna.storage import Place

NAME = "cloze.json"
NORM: Norm = "none"


def evaluate(folder: Place, asked_for: device.Asked = "cpu") -> dict[str, Any]:
    """Ask the run's newest checkpoint its cloze items, in f32; writes evaluations/cloze.json and returns it. asked_for:
    the recipe's `train.device`.

    InputError when the run has no checkpoint or no items.
    """
    questions = cloze_items.read(folder)
    picked: dict[str, list[int]] = {}
    cut: dict[str, int] = {}
    loaded = generate.load(folder, device=device.chosen(asked_for))
    if questions:
        model = Model(pack(loaded.model), loaded.tokenizer)
        with progress("cloze items", sum(len(each.items) for each in questions.values()), "items") as bar:
            for source, each in questions.items():
                asked: dict[str, Asked] = {item.key: item.asked for item in each.items}
                found: dict[str, Answered] = {}
                for one in answers(model, asked, alone=False):
                    found[one.key] = one
                    bar.advance()
                picked[source] = [best(*both(asked[key], found[key].answer), NORM) for key in asked]
                cut[source] = sum(one.cut for one in found.values())
    result = {
        "format": CLOZE.version,
        "rule": cloze.RULE,
        "norm": NORM,
        "checkpoint": loaded.folder.name,
        "results": results(questions, picked, cut),
        "picked": picked,
    }
    storage.write_json(folder / "evaluations" / NAME, result)
    return result


def results(
    questions: dict[str, Questions], picked: dict[str, list[int]], cut: dict[str, int]
) -> dict[str, dict[str, Any]]:
    """By source, and for `all`, in which every item counts alike: `items`, how many of them were `cut`, and the mean
    and standard error of `model`, `ngram`, `frequency` and `chance`, and of `difference`: model less n-gram, item by
    item.

    picked: the model's choice of each item. The error of `chance` is that of somebody who guesses.
    """
    columns: dict[str, dict[str, list[float]]] = {}
    for source, each in questions.items():
        right = [item.right for item in each.items]
        of = {"model": _right(picked[source], right), "frequency": [most_frequent(item) for item in each.items]}
        if each.ngram is not None:
            of["ngram"] = _right([_likeliest(row) for row in each.ngram], right)
            of["difference"] = [one - other for one, other in zip(of["model"], of["ngram"], strict=True)]
        columns[source] = of
    shared = [name for name in next(iter(columns.values()), {}) if all(name in of for of in columns.values())]
    if columns:
        columns["all"] = {name: [value for of in columns.values() for value in of[name]] for name in shared}
    cut = cut | {"all": sum(cut.values())}
    return {source: _told(of, cut[source]) for source, of in columns.items()}


def chance(items: int) -> Value:
    """What guessing gives."""
    share = 1 / CHOICES
    return Value(share, math.sqrt(share * (1 - share) / items), items)


def _told(of: dict[str, list[float]], cut: int) -> dict[str, Any]:
    items = len(of["model"])
    values = {name: mean(column) for name, column in of.items()} | {"chance": chance(items)}
    told = {name: {"mean": value.mean, "error": value.error} for name, value in values.items()}
    return {"items": items, "cut": cut, **told}


def _right(picked: Sequence[int], right: Sequence[int]) -> list[float]:
    return [float(one == other) for one, other in zip(picked, right, strict=True)]


def _likeliest(scores: Sequence[float]) -> int:
    return max(range(len(scores)), key=lambda index: scores[index])
