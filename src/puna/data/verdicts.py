"""The step `documents.SOURCE`: every verdict on a source's documents, and the shards that they end up in."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from puna import space, storage
from puna.data import route
from puna.data.fates import FATES
from puna.data.judge import judge
from puna.data.outputs import files, kept, numbered, shards_of
from puna.data.quality import references
from puna.errors import InputError
from puna.progress import say
from puna.recipe import Recipe
from puna.space import Need
from puna.steps import Context


def documents(recipe: Recipe, excluded: tuple[str, ...], name: str, context: Context) -> dict[str, Any]:
    shards = shards_of(context, name)
    parts = _parts(recipe, name, context)
    rule = route.Verdict(
        judge=judge(recipe, name, context, excluded),
        overlaps=tuple(files(context, f"overlap.{name}", ".overlap")),
        max_overlap=recipe.heldout.max_overlap,
        parts=parts,
        mask=tuple(recipe.data.mask),
        benchmarks=_benchmarks(recipe, name, context),
    )
    results = context.map(partial(route.send, rule), list(enumerate(shards)), label=f"  {name}: sorting", name=numbered)
    gather = partial(route.gather, context.folder, name, len(shards))
    context.map(gather, [None, *range(parts)], label=f"  {name}: writing", name=lambda part: f"part-{part}")
    route.tidy(context.scratch, len(shards))
    counts = route.total(results)
    _complain(recipe, name, context)
    if not counts["dropped"]["excluded"]["documents"]:
        _refuse_nothing(name, counts)
    if excluded:
        asked = counts["dropped"]["excluded"]["documents"]
        if not counts["training"]["documents"] and asked:
            what = f"no {name} document is left to train on: data.exclude names {asked:,} of them"
            raise InputError(what, where="data.exclude", mend="take entries out, or the source")
        named = f"{counts['named']:,} of {len(excluded):,} entries of data.exclude"
        say(f"  {name}: {asked:,} documents left out, by {named}")
    return counts


def _refuse_nothing(name: str, counts: Mapping[str, Any]) -> None:
    """A source of which rules leave no document is an error, with the rule that took most of it."""
    gone = {rule: found["documents"] for rule, found in counts["dropped"].items() if rule != "excluded"}
    if counts["training"]["documents"] or counts["heldout"]["documents"] or not any(gone.values()):
        return
    rule = max(gone, key=lambda one: gone[one])
    what = f"no document is left of it: {gone[rule]:,} of {sum(gone.values()):,} went by {rule} ({FATES[rule]})"
    raise InputError(what, where=name, mend="loosen that rule, give it other inputs, or take the source out")


def _complain(recipe: Recipe, name: str, context: Context) -> None:
    """Say it of a threshold that drops nothing, or everything, and of a language that no page is in."""
    if f"language.{name}" in context.records:
        told = context.counts(f"language.{name}")["languages"]
        if unmet := [code for code in getattr(recipe.sources[name], "languages", []) if code not in told]:
            codes = ", ".join(unmet)
            say(f"  WARNING: {name}: no page is in {codes} of its languages; codes are the model's, such as en and de")
    if f"references.{name}" in context.records:
        minimum = getattr(recipe.sources[name], "min_reference_score", None) or 0.0
        if said := references.complaint(name, context.counts(f"references.{name}"), minimum):
            say(f"  WARNING: {said}")


def on_request(recipe: Recipe, excluded: tuple[str, ...]) -> dict[str, Any]:
    """What is left out and masked on request; nothing when nothing is, so that these keys changed no earlier run."""
    mask = {"mask": sorted(recipe.data.mask)} if recipe.data.mask else {}
    digest = storage.digest_bytes("\n".join(excluded).encode())
    return mask | ({"exclude": f"{len(excluded)} entries, {digest}"} if excluded else {})


def allowed(recipe: Recipe) -> dict[str, Any]:
    """What a document may share with benchmarks, and what becomes of one that shares more."""
    return recipe.decontaminate.model_dump(mode="json", include={"max_shared", "quoted", "action"})


def _benchmarks(recipe: Recipe, name: str, context: Context) -> route.Benchmarks | None:
    if "common" not in context.records:
        return None
    shared = tuple(files(context, f"contamination.{name}", ".shared"))
    (common,) = files(context, "common", "common.bin")
    return route.Benchmarks(shared, common, recipe.data.partitions, **allowed(recipe))


def documents_space(recipe: Recipe, name: str, context: Context) -> Need:
    outputs = context.records[f"extract.{name}"]["outputs"].values()
    shards, parts = len(shards_of(context, name)), _parts(recipe, name, context)
    written = sum(output["size"] for output in outputs)
    return space.routed(written, shards, parts, recipe.data.shard_size, context.workers)


def _parts(recipe: Recipe, name: str, context: Context) -> int:
    return max(1, -(-kept(context, name)["bytes"] // recipe.data.shard_size))
