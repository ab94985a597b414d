"""A made web whose pages differ in style by whether a made Wikipedia cites them, and the steps that read both."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import zstandard

from puna import recipe as recipes
from puna import storage
from puna.data.document import Document, Origin, document_id, read_column, read_documents, write_documents
from puna.data.quality import references as steps_of
from puna.data.quality.labels import Pages
from puna.recipe_data import Reference
from puna.steps import Context, Step, run_steps
from puna.storage import Place

SHARED = [
    "the", "of", "and", "a", "to", "in", "is", "was", "for", "with", "on", "as", "by", "at", "from", "it", "that",
]  # fmt: skip
SOBER = ["survey", "archive", "measured", "council", "century", "river", "species", "treaty", "census", "journal"]
LOUD = ["buy", "cheap", "click", "casino", "offer", "deal", "free", "winner", "discount", "bonus"]
LIKENESS = 0.7  # share of a page's words of style that are of its own kind
Made = tuple[Document, bool]  # and whether an article cites it


def web(cited: int = 200, others: int = 300, *, hosts: int = 90, seed: int = 1) -> list[Made]:
    """Pages of many hosts; of a host some are cited and some are not."""
    chance = random.Random(seed)
    made = []
    for number in range(cited + others):
        sober = number < cited
        url = f"https://www.host{chance.randrange(hosts)}.example.org/{number}/?utm_source=x"
        origin = Origin("CC-MAIN-2020-05", f"<{number}>", "0.warc.gz", 0, url, "", "", "")
        identifier = document_id("commoncrawl", "CC-MAIN-2020-05", f"<{number}>")
        made.append((Document(identifier, "commoncrawl", str(number), "en", _text(chance, sober), origin), sober))
    chance.shuffle(made)
    return made


def _text(chance: random.Random, sober: bool) -> str:
    own, other = (SOBER, LOUD) if sober else (LOUD, SOBER)
    words = []
    for _ in range(chance.randint(30, 120)):
        style = own if chance.random() < LIKENESS else other
        words.append(chance.choice(SHARED if chance.random() < 0.6 else style))
    return " ".join(words)


def texts(index: int, shard: Place) -> Iterator[str]:
    return read_column(shard, "text")


def all_rows(index: int, shard: Place) -> np.ndarray[Any, Any]:
    return np.ones(sum(1 for _ in read_column(shard, "id")), bool)


def but_for(gone: frozenset[str], index: int, shard: Place) -> np.ndarray[Any, Any]:
    return np.array([identifier not in gone for identifier in read_column(shard, "id")], bool)


ALL = Pages(texts, all_rows)


def run(
    folder: Path,
    made: Sequence[Made],
    rule: Reference,
    *,
    shards: int = 3,
    workers: int = 1,
    partitions: int = 3,
    pages: Pages = ALL,
    sources: tuple[str, ...] = ("commoncrawl",),
    wikipedia: bool = True,
    also: Sequence[str] = (),
) -> tuple[dict[str, Any], dict[str, float]]:
    """The counts of the step `reference`, and the score of each document by its id."""
    recipe = recipes.load("laptop", ["seed=3", f"data.partitions={partitions}"])
    given = dict.fromkeys(sources, pages)
    cites = [document.origin.url.replace("https://www.", "http://") for document, cited in made if cited]
    graph = [Step("extract.wikipedia", partial(_articles, [*cites, *also]), ("{work}/*",))] if wikipedia else []
    for number, name in enumerate(sources):
        part = [document for document, _ in made[number :: len(sources)]]
        graph.append(Step(f"extract.{name}", partial(_pages, part, shards), ("{work}/*",)))
    graph.append(
        Step(
            "reference",
            partial(steps_of.reference, rule, recipe, given),
            steps_of.OUTPUTS,
            tuple(step.name for step in graph),
            steps_of.values(rule, recipe.seed),
            space=partial(steps_of.reference_space, rule, recipe, sources),
        )
    )
    graph += [
        Step(
            f"references.{name}",
            partial(steps_of.references, pages, name),
            ("{work}/*.reference",),
            (f"extract.{name}", "reference"),
            space=partial(steps_of.references_space, name),
        )
        for name in sources
    ]
    place = storage.place(folder)
    done = run_steps(place, graph, workers=workers)
    scores = {}
    for name in sources:
        found = sorted(done[f"extract.{name}"]["outputs"])
        for shard, file in zip(found, sorted(done[f"references.{name}"]["outputs"]), strict=True):
            values = steps_of.scores_of(place / file).tolist()
            scores |= dict(zip((one.id for one in read_documents(place / shard, ["id"])), values, strict=True))
    return done["reference"]["counts"] | {"scored": done[f"references.{sources[0]}"]["counts"]}, scores


def model(folder: Path) -> Path:
    """The classifier that a run wrote."""
    (found,) = folder.glob("work/reference/*/reference.json")
    return found


def _articles(cites: Sequence[str], context: Context) -> dict[str, Any]:
    for index in range(2):
        lines = "".join(json.dumps({"page": str(n), "urls": [url]}) + "\n" for n, url in enumerate(cites[index::2]))
        data = zstandard.ZstdCompressor().compress(lines.encode())
        storage.write(context.scratch / f"{index:05d}.references.jsonl.zst", data)
    return {"kept": {"documents": 2, "bytes": 2}}


def _pages(documents: Sequence[Document], shards: int, context: Context) -> dict[str, Any]:
    for index in range(shards):
        part = documents[index * len(documents) // shards : (index + 1) * len(documents) // shards]
        write_documents(context.scratch / f"{index:05d}.parquet", part, row_group_bytes=5_000)
    size = sum(len(document.text.encode()) for document in documents)
    return {"kept": {"documents": len(documents), "bytes": size}}
