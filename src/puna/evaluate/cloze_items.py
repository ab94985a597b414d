"""The cloze items of a run, and what its n-gram model answers: made before the training, since neither needs a model.

The n-gram model of a source is that of the baselines (heldout.py): modified Kneser-Ney of the recipe's order over all
its training text, in the same pieces. It scores the pieces of a choice behind its passage as the model does
(encoded.py), and is left out where the baselines leave it out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from puna import storage, tokenizer
from puna.data.document import read_documents
from puna.data.quality.ngram import NgramModel
from puna.engine import Engine, map_tasks
from puna.evaluate import cloze
from puna.evaluate.cloze import Item, Text
from puna.evaluate.encoded import pair
from puna.evaluate.heldout import MOST_TRAINING_TEXT, ngram_model, training_bytes
from puna.formats import CLOZE_ITEMS
from puna.progress import say
from puna.recipe import Recipe
from puna.storage import Place
from puna.tokenizer import Tokenizer

NAME = "cloze_items.json"
FEW = 30  # items of a source, below which their accuracy says little


@dataclass(frozen=True, slots=True)
class Questions:
    """The items of a source, and what the n-gram model gives each choice."""

    items: tuple[Item, ...]
    ngram: tuple[tuple[float, ...], ...] | None
    """Nats, a row for each item; None where there is no such model."""


def make(folder: Place, recipe: Recipe, *, workers: int = 1, engine: Engine | None = None) -> dict[str, int]:
    """Make the items of every source with held-out text; writes evaluations/cloze_items.json.

    Reads heldout/, documents/ and tokenizer/ of the run. A source whose text gives few items or none is told in one
    line. A worker takes the memory of a baseline (heldout.py). Returns the number of items by source.
    """
    limit = recipe.evaluate.cloze_items
    names = sorted({path.parent.name for path in storage.listing(folder / "heldout", "*/*.parquet")}) if limit else []
    tasks = [_Task(name, training_bytes(folder, name)) for name in names]
    work = partial(_of_source, folder, recipe)
    sources = {}
    for task, found in map_tasks(work, tasks, workers=workers, label="cloze items", size=_size, engine=engine):
        count = len(found["items"])
        if found["held_out"] and count < min(FEW, limit):
            few = f"only {count} cloze items in its held-out text, too few to tell much"
            say(f"{task.source}: {few if count else 'no cloze item in its held-out text'}")
        if count:
            sources[task.source] = {name: value for name, value in found.items() if name != "held_out"}
    result = {"format": CLOZE_ITEMS.version, "rule": cloze.RULE, "seed": recipe.seed, "sources": sources}
    storage.write_json(folder / "evaluations" / NAME, result)
    return {name: len(found["items"]) for name, found in sources.items()}


def read(folder: Place) -> dict[str, Questions]:
    """The items of a run by source, in order of name."""
    location = folder / "evaluations" / NAME
    value = storage.read_json(location)
    CLOZE_ITEMS.refuse_newer(value.get("format"), location)
    return {name: _questions(value["sources"][name]) for name in sorted(value["sources"])}


def ngram_scores(model: NgramModel, encoding: Tokenizer, items: Sequence[Item]) -> list[list[float]]:
    """Nats of each item's choices behind its passage."""
    scores = []
    for item in items:
        pairs = [pair(encoding, choice) for choice in item.asked.choices]
        log10 = (model.log10_probabilities([*one.context, *one.choice])[len(one.context) :].sum() for one in pairs)
        scores.append([round(float(found) * math.log(10), 6) for found in log10])
    return scores


@dataclass(frozen=True, slots=True)
class _Task:
    """A worker reads the texts itself, so that a task is small to send."""

    source: str
    training_bytes: int


def _of_source(folder: Place, recipe: Recipe, task: _Task) -> dict[str, Any]:
    training, held = (_texts(folder / kind / task.source) for kind in ("documents", "heldout"))
    made = cloze.items(training, held, seed=recipe.seed, limit=recipe.evaluate.cloze_items)
    there = any(text.text for text in _texts(folder / "heldout" / task.source))
    result: dict[str, Any] = {"items": [asdict(item) for item in made], "held_out": there}
    if made and task.training_bytes <= MOST_TRAINING_TEXT:
        encoding = tokenizer.load(folder / "tokenizer" / "tokenizer.model")
        texts = (text.text for text in _texts(folder / "documents" / task.source))
        model = ngram_model(encoding, texts, recipe.evaluate.ngram_order)
        result["ngram"] = ngram_scores(model, encoding, made)
    return result


def _size(task: _Task) -> float:
    return 1.0 + task.training_bytes


def _questions(value: Any) -> Questions:
    items = tuple(
        Item(**one | {"choices": tuple(one["choices"]), "counts": tuple(one["counts"])}) for one in value["items"]
    )
    return Questions(items, tuple(map(tuple, value["ngram"])) if "ngram" in value else None)


def _texts(folder: Place) -> Iterator[Text]:
    for shard in storage.listing(folder, "*.parquet"):
        for document in read_documents(shard, ["id", "language", "text"]):
            yield Text(document.id, document.language, document.text)
