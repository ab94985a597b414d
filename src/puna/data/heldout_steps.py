"""The steps around held-out text: its n-grams, of all sources together, and how much of them each document has.

What is held out is what every other verdict keeps, so that the measure of a run is text like that which it is trained
on. The comparison is a score; the verdict on it falls with the documents.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from typing import Any

import numpy as np
import pyarrow as pa

from puna import space, storage
from puna.data.dedup.grams import distinct
from puna.data.dedup.lookup import Lookup
from puna.data.document import read_column
from puna.data.heldout import known_grams, overlaps
from puna.data.judge import Judge, judge
from puna.data.outputs import files, held, kept, numbered, numbered_of, shards_of
from puna.data.texts import Texts, texts_of
from puna.errors import InputError
from puna.recipe import Recipe
from puna.space import Need
from puna.steps import Context
from puna.storage import Place


def heldout(recipe: Recipe, names: Sequence[str], context: Context) -> dict[str, Any]:
    counts: dict[str, Any] = {}
    for name in names:
        _refuse_nothing(name, context.counts(f"extract.{name}"))
        collect = partial(_collect_grams, judge(recipe, name, context), recipe.heldout.ngram, name)
        tasks = list(enumerate(shards_of(context, name)))
        label = f"  {name}: reading held-out text"
        results = context.map(collect, tasks, label=label, name=partial(numbered_of, name))
        count = {kind: sum(result[kind] for result in results) for kind in ("documents", "bytes")}
        if (recipe.heldout.share or recipe.sources[name].heldout_groups) and count["bytes"] < recipe.heldout.minimum:
            what = (
                f"held-out {name} text is {count['bytes']} bytes, less than heldout.minimum ({recipe.heldout.minimum})"
            )
            mend = "raise heldout.share or lower heldout.minimum, name heldout_groups, change seed, or give more text"
            raise InputError(what, mend=mend)
        counts[name] = count
    parts = [np.frombuffer(storage.read(path), "<u8") for path in storage.listing(context.scratch, "*.grams")]
    storage.write(context.scratch / "grams.bin", distinct(np.concatenate([np.empty(0, np.uint64), *parts])).tobytes())
    return counts


def heldout_space(recipe: Recipe, names: Sequence[str], context: Context) -> Need:
    size = shards = 0
    for name in names:
        of_all, found = kept(context, name), shards_of(context, name)
        chosen = sum(held(recipe, name, group) for shard in found for group in read_column(shard, "group"))
        size += chosen * of_all["bytes"] // max(1, of_all["documents"])
        shards += len(found)
    return space.grams(size, shards)


def _collect_grams(judge: Judge, n: int, name: str, task: tuple[int, Place], scratch: Place) -> dict[str, Any]:
    """The n-grams of one shard's held-out text, as scratch/SOURCE-NNNNN.grams."""
    index, shard = task
    judged = judge.judged(index, shard)
    texts = judged.table.filter(pa.array(judged.held))["text"].to_pylist()
    target = scratch / f"{name}-{index:05d}.grams"
    storage.write(target, known_grams(texts, n).astype("<u8").tobytes())
    size = int(judged.size[judged.held].sum())
    return {"documents": len(texts), "bytes": size, "files": [storage.below(target, scratch.parents[2])]}


def overlap(recipe: Recipe, name: str, context: Context) -> dict[str, Any]:
    known = files(context, "heldout", "grams.bin")[0]
    work = partial(_measure_overlap, texts_of(recipe, name, context), known, recipe.heldout.ngram)
    tasks = list(enumerate(shards_of(context, name)))
    results = context.map(work, tasks, label=f"  {name}: comparing with held-out text", name=numbered)
    return {"documents": sum(result["documents"] for result in results)}


def overlap_space(name: str, context: Context) -> Need:
    known = sum(output["size"] for output in context.records["heldout"]["outputs"].values())
    return space.scores(kept(context, name)["documents"], len(shards_of(context, name)), known, context.workers)


def _measure_overlap(texts: Texts, known: Place, n: int, task: tuple[int, Place], scratch: Place) -> dict[str, Any]:
    index, shard = task
    scores = overlaps(texts.of(index, shard), _opened(str(known)), n)
    target = scratch / f"{index:05d}.overlap"
    storage.write(target, scores.astype("<f4").tobytes())
    return {"documents": len(scores), "files": [storage.below(target, scratch.parents[2])]}


@lru_cache(maxsize=1)
def _opened(location: str) -> Lookup:
    """Hashes in a file, mapped, so that all workers share one copy of a local one; of a store's each has its own, once.
    The file's name holds a fingerprint, so what it holds never changes."""
    with storage.local_copy(location) as file:
        return Lookup(np.memmap(file, "<u8", "r") if storage.size(file) else np.empty(0, np.uint64))


def _refuse_nothing(name: str, counts: Mapping[str, Any]) -> None:
    """A source of which no document is left is an error, with the reason that took most of it."""
    if counts["kept"]["documents"]:
        return
    reasons = [f"{entry['file']}: {entry['reason']}" for entry in counts["set_aside"]["examples"]]
    for rule, found in sorted(counts["dropped"].items(), key=lambda item: -item[1]["documents"]):
        example = found["examples"][0]["text"] if found["examples"] else ""
        reasons.append(f"{found['documents']} dropped by the rule {rule!r}, such as {example[:120]!r}")
    why = "; ".join(reasons[:2]) or "the inputs hold no records"
    raise InputError(f"no document is left of it ({why})", where=name, mend="give it other inputs, or take it out")
