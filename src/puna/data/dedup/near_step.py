"""The step `near.SOURCE`: which documents go as near duplicates of others, over all shards of a source.

{work}/near.verdicts    rows that go, cut by shard: exact.dropped_rows reads them
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import accumulate
from typing import Any

from puna import space, storage
from puna.data.dedup import near
from puna.data.dedup.near import Rule
from puna.data.document import read_column
from puna.data.outputs import kept, numbered, shards_of
from puna.progress import say
from puna.recipe import Recipe
from puna.recipe_sources import Books, Source, WebPages
from puna.space import Need
from puna.steps import Context
from puna.storage import Place

RANGE = 50_000_000  # bytes of text a range of keys: half a million, 15 MB of them, and 350 MB of pairs at the worst
KEYS = 32  # bytes of keys and pairs for 100 bytes of text: a gram in 16 is a key, a word has 6 bytes


def rule(source: Source) -> Rule | None:
    """What a source asks for; None: nothing."""
    if isinstance(source, Books) and source.max_containment is not None:
        return Rule("containment", source.max_containment)
    if isinstance(source, WebPages) and source.near == "minhash":
        return Rule("similarity", source.min_similarity)
    return None


def values(recipe: Recipe, name: str) -> dict[str, Any]:
    """The values that the step depends on, for one that has a rule."""
    asked = rule(recipe.sources[name])
    return {"partitions": recipe.data.partitions} | ({asked.measure: asked.limit} if asked else {})


def near_duplicates(recipe: Recipe, name: str, context: Context) -> dict[str, Any]:
    """The step's work. Counts: documents that take part, `candidates` (pairs that were measured), `groups`, and what
    goes: `gone` documents and their bytes; `examples` with ids and the measured figure."""
    asked = rule(recipe.sources[name])
    assert asked is not None
    shards, folder = list(enumerate(shards_of(context, name))), context.scratch
    parts = list(range(_partitions(recipe, name, context)))

    def made(kind: str, tasks: Sequence[Any]) -> list[Place]:
        return [folder / f"{index:05d}.{kind}" for index in range(len(tasks))]

    def run(function: Any, tasks: Sequence[Any], kind: str, said: str) -> list[Any]:
        named = (lambda task: f"{kind}-{numbered(task)}") if tasks is shards else (lambda part: f"{kind}-{part:05d}")
        return context.map(function, tasks, label=f"  {name}: {said}", name=named)

    keys, known, grams = made("keys", shards), made("known", shards), made("grams", shards)
    pairs, found, looked_at, measured = (made(k, parts) for k in ("pairs", "candidates", "chosen", "measured"))
    written = run(partial(_keys, asked, len(parts)), shards, "keys", "hashing words")
    documents = [result["documents"] for result in written]
    firsts = [0, *accumulate(documents)][: len(shards)]
    run(partial(_pairs, keys, firsts, len(parts)), parts, "pairs", "pairing documents")
    run(partial(_candidates, pairs, known, firsts, asked), parts, "candidates", "choosing pairs")
    run(partial(_grams, looked_at, documents), shards, "grams", "hashing words of pairs")
    results = run(partial(_measure, grams, firsts, asked), parts, "measured", "measuring pairs")
    groups = partial(_groups, measured, known, firsts, asked)
    (counts,) = context.map(groups, [None], label=f"  {name}: joining pairs", name=lambda _: "groups")
    for path in [*keys, *known, *grams, *pairs, *found, *looked_at, *measured]:
        storage.remove(path)
    if sum(documents) and not any(result["keys"] for result in written):
        say(f"  {name}: none of {sum(documents):,} documents has a word; is that the text?")
    return {
        "documents": sum(documents),
        "candidates": sum(result["pairs"] for result in results),
        "groups": counts["groups"],
        "gone": {"documents": counts["documents"], "bytes": counts["bytes"]},
        "examples": counts["examples"],
    }


def near_space(recipe: Recipe, name: str, context: Context) -> Need:
    """Were every document looked at, all of its grams are written too, 8 bytes for 5 of text."""
    of_all, shards, parts = kept(context, name), len(shards_of(context, name)), _partitions(recipe, name, context)
    rows = of_all["bytes"] // 100 + near.BANDS * of_all["documents"] + of_all["documents"]
    written = of_all["bytes"] // space.WORD * near.GRAM.itemsize // max(1, rows)
    return space.exchanged(rows, 4 * shards, 4 * parts, near.KEY.itemsize, written + KEYS, context.workers)


def _partitions(recipe: Recipe, name: str, context: Context) -> int:
    return max(recipe.data.partitions, -(-kept(context, name)["bytes"] // RANGE))


def _keys(asked: Rule, parts: int, task: tuple[int, Place], scratch: Place) -> dict[str, Any]:
    index, shard = task
    target, known = scratch / f"{index:05d}.keys", scratch / f"{index:05d}.known"
    pairs = zip(read_column(shard, "id"), read_column(shard, "text"), strict=True)
    documents, keys = near.write_keys(target, known, pairs, asked, parts)
    return {"documents": documents, "keys": keys, "files": _below(scratch, target, known)}


def _pairs(keys: Sequence[Place], firsts: Sequence[int], parts: int, part: int, scratch: Place) -> dict[str, Any]:
    target = scratch / f"{part:05d}.pairs"
    return {"pairs": near.write_pairs(keys, part, firsts, target, parts), "files": _below(scratch, target)}


def _candidates(
    pairs: Sequence[Place], known: Sequence[Place], firsts: Sequence[int], asked: Rule, part: int, scratch: Place
) -> dict[str, Any]:
    found, looked_at = scratch / f"{part:05d}.candidates", scratch / f"{part:05d}.chosen"
    count = near.candidates(pairs, part, known, firsts, asked, found, looked_at)
    return {"pairs": count, "files": _below(scratch, found, looked_at)}


def _grams(
    looked_at: Sequence[Place], documents: Sequence[int], task: tuple[int, Place], scratch: Place
) -> dict[str, Any]:
    index, shard = task
    target = scratch / f"{index:05d}.grams"
    count = near.write_grams(target, looked_at, index, read_column(shard, "text"), documents[index])
    return {"documents": count, "files": _below(scratch, target)}


def _measure(grams: Sequence[Place], firsts: Sequence[int], asked: Rule, part: int, scratch: Place) -> dict[str, Any]:
    found, target = scratch / f"{part:05d}.candidates", scratch / f"{part:05d}.measured"
    return {"pairs": near.measure(found, grams, firsts, asked, target), "files": _below(scratch, target)}


def _groups(
    measured: Sequence[Place], known: Sequence[Place], firsts: Sequence[int], asked: Rule, task: None, scratch: Place
) -> dict[str, Any]:
    target = scratch / "near.verdicts"
    return near.find_groups(measured, known, firsts, asked, target) | {"files": _below(scratch, target)}


def _below(scratch: Place, *files: Place) -> list[str]:
    return [storage.below(file, scratch.parents[2]) for file in files]
