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

import numpy as np

from puna import storage, tokenizer
from puna.data.document import read_column, read_documents
from puna.data.quality import ngram
from puna.engine import Engine, map_tasks
from puna.evaluate import cloze
from puna.evaluate.cloze import Item, Text
from puna.evaluate.encoded import pair
from puna.evaluate.heldout import MOST_TRAINING_TEXT
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
    work = partial(_of_source, folder, recipe.seed, limit, recipe.evaluate.ngram_order)
    size = partial(_size, folder)
    found = dict(map_tasks(work, names, workers=workers, label="cloze items", size=size, engine=engine))
    for name in names:
        count = len(found[name]["items"])
        if count < min(FEW, limit):
            said = (
                f"gives {count} cloze items only, so that their accuracy says little"
                if count
                else "gives no cloze item"
            )
            say(f"{name}: its held-out text {said}; heldout.share and heldout_groups hold more of it out")
    result = {"format": CLOZE_ITEMS.version, "rule": cloze.RULE, "seed": recipe.seed, "limit": limit}
    result |= {"sources": {name: found[name] for name in names if found[name]["items"]}}
    storage.write_json(folder / "evaluations" / NAME, result)
    return {name: len(found[name]["items"]) for name in names}


def read(folder: Place) -> dict[str, Questions]:
    """The items of a run by source, in order of name."""
    location = folder / "evaluations" / NAME
    value = storage.read_json(location)
    CLOZE_ITEMS.refuse_newer(value.get("format"), location)
    return {name: _questions(value["sources"][name]) for name in sorted(value["sources"])}


def ngram_scores(
    encoding: Tokenizer, training: Sequence[Sequence[int]], items: Sequence[Item], order: int
) -> list[list[float]]:
    """Nats of each item's choices behind its passage, by an n-gram model of the ids of training texts."""
    pieces = {"vocabulary": encoding.vocabulary, "bos": encoding.bos, "eos": encoding.eos}
    model = ngram.train(training, order=order, **pieces)
    scores = []
    for item in items:
        row = []
        for choice in item.asked.choices:
            one = pair(encoding, choice)
            found = model.log10_probabilities(np.array([*one.context, *one.choice]))
            row.append(round(float(found[len(one.context) :].sum()) * math.log(10), 6))
        scores.append(row)
    return scores


def _of_source(folder: Place, seed: int, limit: int, order: int, name: str) -> dict[str, Any]:
    held, training = folder / "heldout" / name, folder / "documents" / name
    made = cloze.items(_texts(training), _texts(held), seed=seed, limit=limit)
    result: dict[str, Any] = {"items": [asdict(item) for item in made]}
    if made and _size(folder, name) <= MOST_TRAINING_TEXT:
        encoding = tokenizer.load(folder / "tokenizer" / "tokenizer.model")
        texts = (text for shard in storage.listing(training, "*.parquet") for text in read_column(shard, "text"))
        result["ngram"] = ngram_scores(encoding, encoding.encode_batch(texts), made, order)
    return result


def _questions(value: Any) -> Questions:
    items = tuple(
        Item(**one | {"choices": tuple(one["choices"]), "counts": tuple(one["counts"])}) for one in value["items"]
    )
    return Questions(items, tuple(map(tuple, value["ngram"])) if "ngram" in value else None)


def _texts(folder: Place) -> Iterator[Text]:
    for shard in storage.listing(folder, "*.parquet"):
        for document in read_documents(shard, ["id", "language", "text"]):
            yield Text(document.id, document.language, document.text)
