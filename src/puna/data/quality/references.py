"""The steps `reference`, which trains the classifier of cited pages once, and `references.S`, the scores of a source.

A linear model tells pages that Wikipedia cites from random ones, and pages that look like the random ones are dropped
(paper, section 2.1). It learns from the run's own pages: those that its own Wikipedia cites, against others. A score is
the chance that a page is a cited one if both kinds were as many as in training; a threshold meets it in the verdicts.

Where the run has too few cited pages for that, nothing is trained: every score is NaN, the verdict keeps every page,
and counts, log and report say so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from puna import space, storage
from puna.data.outputs import files, kept, numbered, shards_of
from puna.data.quality import examples, labels, linear
from puna.data.quality.labels import Mask, Pages, Shard
from puna.data.quality.measured import STEPS, separates
from puna.errors import InputError
from puna.progress import say
from puna.recipe import Recipe
from puna.recipe_data import Reference
from puna.space import Need
from puna.steps import Context
from puna.storage import Place

OUTPUTS = ("{work}/reference.json", "{work}/reference.safetensors")
PER_PART = 500_000  # documents in a range of the exchange, 32 bytes each
CITATIONS = ".references.jsonl.zst"
ON_THE_WAY = ("cited-*.cited", "pages-*.pages", "*.labels", "*.examples", "*.words")


def values(rule: Reference, seed: int) -> dict[str, Any]:
    """What of a recipe the step `reference` depends on, beside the steps before; of a model that is brought along, what
    it is, whatever its name. Raises InputError for one that cannot be used."""
    if rule.model is None:
        return {"reference": rule.model_dump(mode="json", exclude={"model", "min_gain"}), "seed": seed}
    linear.load(rule.model, examples.features(rule))
    return {"model": storage.digest(rule.model)}


def reference(rule: Reference, recipe: Recipe, pages: Mapping[str, Pages], context: Context) -> dict[str, Any]:
    """Train the classifier on the pages of the given sources, or take the one that is brought along; its counts.

    counts: `off`, the reason why there is no classifier, or None; `articles`, `addresses`, `cited` (distinct), `pages`
    (distinct), `matched` (cited pages among them), `positives` and `negatives` chosen; and what examples.learn found:
    `training`, `calibration` and `test` with its figures (measured.measured)."""
    if rule.model is not None:
        return _brought(rule, rule.model, context)
    if "extract.wikipedia" not in context.records:
        mend = "give the recipe [sources.wikipedia], or reference.model, or take min_reference_score out"
        raise InputError("cited pages are told by a Wikipedia, and the recipe has none", where="reference", mend=mend)
    counts, found = _matched(rule, recipe, pages, context)
    reason = _too_few(rule, counts)
    counts["off"] = reason
    if reason:
        linear.write(context.scratch, None, counts)
        say(f"  WARNING: the classifier of cited pages is off: {reason}; min_reference_score drops nothing")
    else:
        counts |= _learnt(rule, recipe, pages, found, counts, context)
        _tell(rule, counts)
    for pattern in ON_THE_WAY:
        for file in storage.listing(context.scratch, pattern):
            storage.remove(file)
    return counts


def reference_space(rule: Reference, recipe: Recipe, names: Sequence[str], context: Context) -> Need:
    """Exchange files of addresses and of chosen pages, and the weights."""
    if rule.model is not None:
        return space.small(8 << rule.bits)
    documents = sum(kept(context, name)["documents"] for name in names)
    text = sum(kept(context, name)["bytes"] for name in names)
    shards = sum(len(shards_of(context, name)) for name in names)
    articles = context.records.get("extract.wikipedia", {}).get("outputs", {})
    cited = sum(found["size"] for name, found in articles.items() if name.endswith(CITATIONS))
    chosen = min(documents, int(rule.max_positives * (1 + rule.negatives_per_positive)))
    words = min(text, chosen * rule.characters) * 4 * rule.ngram // 2
    parts = _parts(recipe.data.partitions, documents)
    need = space.exchanged(documents, shards, parts, labels.PAGE.itemsize, labels.LABEL.itemsize, 1)
    more = 2 * words + 4 * cited + (8 << rule.bits)
    return Need(need.bytes + more, max(need.largest, words), need.here + more)


def references(pages: Pages, name: str, context: Context) -> dict[str, Any]:
    """Score a source's documents: {work}/NNNNN.reference, little-endian float32, (documents,), NaN where the classifier
    is off. counts: `documents`, `off`, and `histogram`, how many scores lie in each STEPSth from 0 to 1."""
    (model,) = files(context, "reference", "reference.json")
    work = partial(_score, pages, model)
    tasks = list(enumerate(shards_of(context, name)))
    results = context.map(work, tasks, label=f"  {name}: scoring by cited pages", name=numbered)
    documents, histogram = sum(result["documents"] for result in results), np.zeros(STEPS, np.int64)
    for result in results:
        histogram += result["histogram"]
    return {"documents": documents, "off": context.counts("reference")["off"], "histogram": histogram.tolist()}


def references_space(name: str, context: Context) -> Need:
    known = sum(output["size"] for output in context.records["reference"]["outputs"].values())
    return space.scores(kept(context, name)["documents"], len(shards_of(context, name)), known, context.workers)


def scores_of(location: Place) -> npt.NDArray[np.float32]:
    """(documents,) as `references` wrote them."""
    return np.frombuffer(storage.read(location), "<f4")


def below(scores: npt.NDArray[np.float32], minimum: float) -> Mask:
    """The verdict: documents that go. None of them where the classifier is off."""
    return scores < np.float32(minimum)


def complaint(name: str, counts: Mapping[str, Any], minimum: float) -> str | None:
    """What is wrong with a threshold, by the counts of `references`: that the rule is off, or drops nothing or all."""
    if counts["off"]:
        return f"{name}: min_reference_score drops nothing: {counts['off']}"
    if not counts["documents"]:
        return None
    sums = np.cumsum([0, *counts["histogram"]])
    dropped = int(sums[int(minimum * STEPS)])
    if not minimum or not int(sums[min(STEPS, int(minimum * STEPS) + 1)]):
        return f"{name}: min_reference_score = {minimum:g} drops none of {counts['documents']:,} documents"
    if dropped == counts["documents"]:
        return f"{name}: min_reference_score = {minimum:g} drops all of {counts['documents']:,} documents"
    return None


def _matched(
    rule: Reference, recipe: Recipe, pages: Mapping[str, Pages], context: Context
) -> tuple[dict[str, Any], list[Place]]:
    """The counts of cited and of all pages, and the files of labelled ones."""
    parts = _parts(recipe.data.partitions, sum(kept(context, name)["documents"] for name in pages))
    told = context.map(
        partial(labels.write_cited, parts),
        list(enumerate(files(context, "extract.wikipedia", CITATIONS))),
        label="  wikipedia: cited pages",
        name=lambda task: f"cited-{task[0]:05d}",
    )
    seen = context.map(
        partial(labels.write_pages, pages, recipe.seed, parts),
        _shards(pages, context),
        label="  addresses of web pages",
        name=lambda shard: f"pages-{shard.number:05d}",
    )
    most = (round(rule.max_positives * rule.negatives_per_positive), rule.max_positives)
    results = context.map(
        partial(labels.match, _made(context, told), _made(context, seen), most),
        list(range(parts)),
        label="  looking for cited pages",
        name=lambda part: f"part-{part:05d}",
    )
    counts: dict[str, Any] = {name: sum(one[name] for one in told) for name in ("articles", "addresses")}
    counts["trainable"] = sum(one["trainable"] for one in seen)
    counts |= {name: sum(one[name] for one in results) for name in ("cited", "captures", "pages", "matched")}
    return counts, _made(context, results)


def _learnt(
    rule: Reference,
    recipe: Recipe,
    pages: Mapping[str, Pages],
    found: list[Place],
    counts: Mapping[str, int],
    context: Context,
) -> dict[str, Any]:
    positives = min(counts["matched"], rule.max_positives)
    negatives = round(positives * rule.negatives_per_positive)
    shards = _shards(pages, context)
    choose = partial(labels.choose, found, negatives, positives, len(shards))
    (chosen,) = context.map(choose, ["chosen"], label="  choosing pages", name=str)
    cuts = examples.ranges(rule, chosen["positives"] + chosen["negatives"])
    words = context.map(
        partial(examples.write_words, pages, rule, recipe.seed, _made(context, [chosen])[0], cuts),
        shards,
        label="  words of cited and other pages",
        name=lambda shard: f"words-{shard.number:05d}",
    )
    context.map(
        partial(examples.gather, _made(context, words)),
        list(range(cuts)),
        label="  sorting them",
        name=lambda part: f"range-{part:05d}",
    )
    learn = partial(examples.learn, rule, cuts)
    (facts,) = context.map(learn, ["learnt"], label="  training the classifier of cited pages", name=str)
    facts = {name: value for name, value in facts.items() if name != "files"}
    return {"positives": chosen["positives"], "negatives": chosen["negatives"]} | facts


def _too_few(rule: Reference, counts: Mapping[str, int]) -> str | None:
    others = counts["pages"] - counts["matched"]
    if counts["matched"] < rule.min_positives:
        return (
            f"{counts['matched']:,} of {counts['pages']:,} pages are cited by Wikipedia ({counts['cited']:,} addresses "
            f"in {counts['articles']:,} articles), and reference.min_positives is {rule.min_positives:,}"
        )
    if not others:
        return f"all {counts['pages']:,} pages are cited by Wikipedia, which leaves none to tell them from"
    return None


def _tell(rule: Reference, counts: Mapping[str, Any]) -> None:
    test = counts["test"]
    learnt = f"{counts['positives']:,} cited pages and {counts['negatives']:,} others"
    better = separates(test, rule.min_gain)
    if better is None:
        say(
            f"  WARNING: the classifier of {learnt} could not be measured: {test['cited']:,} of the {test['pages']:,} "
            "pages kept for it are cited; raise reference.test_share"
        )
        return
    figures = f"average precision {test['average_precision']:.3f}, of guessing {test['base']:.3f}"
    if better:
        say(f"  classifier of {learnt}: {figures} on {test['hosts']:,} hosts not trained on")
    else:
        say(f"  WARNING: the classifier of {learnt} hardly tells them apart: {figures}")


def _brought(rule: Reference, location: str, context: Context) -> dict[str, Any]:
    model, facts = linear.load(location, examples.features(rule))
    facts = {name: value for name, value in facts.items() if name not in ("off", "brought")}
    off = None if model else "reference.model was trained on too few pages and holds no classifier"
    counts = facts | {"off": off, "brought": Path(location).name}
    linear.write(context.scratch, model, facts | {"brought": Path(location).name})
    say(f"  WARNING: {off}" if off else f"  the classifier of cited pages is {Path(location).name}, trained elsewhere")
    return counts


def _score(pages: Pages, location: Place, task: tuple[int, Place], scratch: Place) -> dict[str, Any]:
    index, shard = task
    model = linear.loaded(str(location))
    texts = pages.texts(index, shard)
    scores = model.scores(texts) if model else np.full(sum(1 for _ in texts), np.nan, np.float32)
    target = scratch / f"{index:05d}.reference"
    storage.write(target, scores.astype("<f4").tobytes())
    known = scores[~np.isnan(scores)].astype(np.float64)
    histogram = np.bincount(np.minimum((known * STEPS).astype(np.int64), STEPS - 1), minlength=STEPS)
    named = [storage.below(target, scratch.parents[2])]
    return {"documents": len(scores), "histogram": histogram.tolist(), "files": named}


def _shards(pages: Mapping[str, Pages], context: Context) -> list[Shard]:
    found = [(name, index, shard) for name in pages for index, shard in enumerate(shards_of(context, name))]
    return [Shard(number, *each) for number, each in enumerate(found)]


def _parts(partitions: int, documents: int) -> int:
    return max(partitions, -(-documents // PER_PART))


def _made(context: Context, results: list[Mapping[str, Any]]) -> list[Place]:
    return [context.folder / file for result in results for file in result["files"]]
