"""Which items of a benchmark stand in the documents that a run trained on.

The measure is that of decontamination (data/decontaminate.py), with the values of the run's own recipe: an item is
found where a document shares one of its 13-grams, unless more than ten documents have it. What a benchmark quotes, such
as a passage of Wikipedia, does not count. Whoever evaluates sees the number of such items, and the score without them.

One pass over the documents asks for all benchmarks that were not looked for yet; its answer is kept in the run, and
holds as long as the files of the benchmark, the documents and the recipe's values stay the same. Memory: 21 bytes an
n-gram of the items (13 more while they are sorted), and a row group of text. All documents of the run are looked at,
also those whose tokens a training that ended early did not come to.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from puna import recipe, storage, testsets
from puna.data.benchmark_grams import GRAM, Known, indexed, item_rows
from puna.data.decontaminate import search
from puna.data.document import read_column
from puna.errors import InputError
from puna.evaluate.chosen import Items
from puna.evaluate.run import Plan
from puna.formats import OVERLAP
from puna.progress import progress, say
from puna.recipe_data import Decontaminate
from puna.storage import Place

NAME = "overlap.json"


def compared(plans: list[Plan], checkpoint: Place) -> list[Plan]:
    """The plans with the items that were found in the documents of the run of `checkpoint`; as they are where it is of
    no run, or the run has none."""
    run = checkpoint.parent.parent
    shards = storage.listing(run / "documents", "*/*.parquet") if checkpoint.parent.name == "checkpoints" else []
    if not shards or not plans:
        return plans
    found = _kept(run, {plan.wanted.task.benchmark: plan.items for plan in plans}, shards)
    made = [replace(plan, found=found[plan.wanted.task.benchmark] & plan.questions.keys()) for plan in plans]
    for line in dict.fromkeys(_said(plan) for plan in made if plan.found):
        say(line)
    return made


def _said(plan: Plan) -> str:
    what = (
        f"{len(plan.found or ()):,} of {len(plan.questions):,} items share text with documents that this run trained on"
    )
    return f"{plan.wanted.task.title}: {what}; the score without them stands below its table"


def look(items: Mapping[str, Items], shards: list[Place], values: Decontaminate) -> dict[str, frozenset[str]]:
    """By benchmark the keys of items that are found in the shards of documents."""
    rows, lengths = [np.empty(0, GRAM)], set()
    owners: list[tuple[str, str]] = []
    for benchmark, own in items.items():
        for key, item in own.asked.items():
            texts = testsets.BENCHMARKS[benchmark].texts(item)
            found, those = item_rows(texts, len(owners), values.ngram, values.shortest)
            rows.append(found)
            lengths |= those
            owners.append((benchmark, key))
    known = Known(*indexed(np.concatenate(rows)), np.empty(0, "u1"), sorted(lengths))
    del rows
    counts = np.zeros(len(known.hashes), np.uint32)
    size = sum(map(storage.size, shards))
    with progress("comparing with training documents", size, "bytes") as bar:
        for shard in shards if len(counts) else []:
            for hits, _ in search(read_column(shard, "text"), known):
                counts[np.searchsorted(known.hashes, hits["hash"])] += 1
            bar.advance(storage.size(shard))
    most = values.common or len(counts) + (1 << 31)
    telling = known.hashes[(counts > 0) & (counts <= most)]
    numbers = {int(owner) >> 1 for gram in telling for owner in known.owners(int(gram)) if not owner & 1}
    met: dict[str, set[str]] = {benchmark: set() for benchmark in items}
    for number in numbers:
        benchmark, key = owners[number]
        met[benchmark].add(key)
    return {benchmark: frozenset(keys) for benchmark, keys in met.items()}


def _kept(run: Place, items: Mapping[str, Items], shards: list[Place]) -> dict[str, frozenset[str]]:
    """`look`, for those benchmarks whose answer the run does not hold."""
    values = _values(run)
    location = run / "evaluations" / "benchmarks" / NAME
    known = _read(location)
    marks = {name: _mark(own, run, shards, values) for name, own in items.items()}
    left = {name: own for name, own in items.items() if known.get(name, {}).get("of") != marks[name]}
    if left:
        for name, keys in look(left, shards, values).items():
            known[name] = {"of": marks[name], "items": sorted(keys)}
        text = json.dumps({"format": OVERLAP.version, "benchmarks": known}, ensure_ascii=False)
        storage.write(location, text.encode() + b"\n")
    return {name: frozenset(known[name]["items"]) for name in items}


def _values(run: Place) -> Decontaminate:
    """How the run's recipe compares; as recipes do by default where it is none that this version reads."""
    try:
        return recipe.load(str(run / "recipe.toml")).decontaminate
    except InputError:
        return Decontaminate()


def _mark(items: Items, run: Place, shards: list[Place], values: Decontaminate) -> str:
    """Tells what an answer was of."""
    lies = [(storage.below(shard, run), storage.size(shard)) for shard in shards]
    manifest = run / "tokens" / "manifest.json"
    whole = storage.digest(manifest) if storage.is_file(manifest) else ""
    told = [sorted(items.digests.items()), lies, whole, values.ngram, values.shortest, values.common]
    return storage.digest_bytes(json.dumps(told).encode())


def _read(location: Place) -> dict[str, Any]:
    """What was found before; nothing where the file is of another form, which is then written anew."""
    if not storage.is_file(location):
        return {}
    try:
        told = storage.read_json(location)
        OVERLAP.refuse_newer(told["format"], location)
        return {
            name: {"of": str(one["of"]), "items": list(map(str, one["items"]))}
            for name, one in told["benchmarks"].items()
        }
    except (TypeError, KeyError, AttributeError):
        return {}
