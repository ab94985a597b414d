"""The steps that only some recipes ask for: repeats within text, near duplicates, scores of quality.

A recipe without their keys has none of them, and its graph is that of the sources alone. Thresholds never reach a step
that scores: they are values of what judges, the held-out text and the documents.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from puna import storage
from puna.data import benchmark_grams, decontaminate
from puna.data.brought import Look
from puna.data.dedup import lines_step, near_step
from puna.data.judge import judge
from puna.data.quality import buckets, language, models, perplexity, references
from puna.data.quality import steps as quality
from puna.data.quality.labels import Pages
from puna.data.texts import texts_of
from puna.errors import InputError
from puna.recipe import Recipe
from puna.recipe_sources import Source, WebPages
from puna.space import Need
from puna.steps import Context, Step

STEPS = "lines near language lm perplexity buckets reference references benchmarks contamination common"
VERSIONS = dict.fromkeys(STEPS.split(), 1) | dict.fromkeys(("near", "language", "buckets", "benchmarks"), 2)
VERSIONS |= dict.fromkeys(("lm", "perplexity"), 3)
LOOK = Look()
Work = Callable[[Context], Any]
OF_SCORES = {"keep_buckets", "min_reference_score"}  # thresholds on what models of quality say
THRESHOLDS = {"min_characters", "languages", "min_language_score", *OF_SCORES}


def of_source(recipe: Recipe, name: str, look: Look = LOOK) -> list[Step]:
    """What is found within one source, behind `extract` and `duplicates`."""
    asked, behind = _found(recipe, name), (f"extract.{name}",)
    found = []
    if (step := f"lines.{name}") in asked:
        work = partial(lines_step.repeated_lines, recipe, name)
        space = partial(lines_step.lines_space, recipe, name)
        found.append(_step(step, work, ("{work}/*.lines",), behind, lines_step.values(recipe, name), space))
    if (step := f"near.{name}") in asked:
        work, space = partial(near_step.near_duplicates, recipe, name), partial(near_step.near_space, recipe, name)
        found.append(_step(step, work, ("{work}/near.verdicts",), behind, near_step.values(recipe, name), space))
    if (step := f"language.{name}") in asked:
        values = look.values(recipe, step, _language_model, partial(language.values, recipe))
        work, space = partial(_language, recipe, name), partial(language.language_space, name)
        found.append(_step(step, work, ("{work}/*.language",), text(recipe, name), values, space))
    return found


def of_models(recipe: Recipe, names: Sequence[str], look: Look = LOOK) -> list[Step]:
    """The n-gram models of the languages that web pages are judged in, and the scores of each source by them."""
    web = [name for name in names if _measured(recipe.sources[name])]
    if not web:
        return []
    learns = "wikipedia" in names and bool(quality.trained(recipe))
    told = look.values(recipe, "lm", _models, lambda: {"models": quality.brought(recipe)})
    graph = [
        _step(
            "lm",
            partial(_lm, recipe, learns, told.get("models")),
            tuple(f"{{work}}/{code}.{ending}" for code in quality.trained(recipe) for ending in models.ENDINGS),
            (*text(recipe, "wikipedia"), "duplicates.wikipedia") if learns else (),
            told | quality.lm_values(recipe) | (_of_others(recipe, "wikipedia") if learns else {}),
            partial(quality.lm_space, recipe),
        )
    ]
    for name in web:
        source = recipe.sources[name]
        assert isinstance(source, WebPages)
        others = any(code in recipe.lm.models for code in source.languages)
        graph += [
            _step(
                f"perplexity.{name}",
                partial(_perplexity, recipe, name),
                ("{work}/*.perplexity",),
                (*text(recipe, name), f"language.{name}", "lm"),
                {"languages": sorted(source.languages), "by": perplexity.scorer() if others else "tables"},
                partial(quality.measure_space, name),
            ),
            _step(
                f"buckets.{name}",
                partial(buckets.buckets, recipe, name),
                (f"{{work}}/{buckets.FILE}",),
                (f"language.{name}", f"perplexity.{name}"),
                buckets.values(source),
            ),
        ]
    return graph


def of_pages(recipe: Recipe, names: Sequence[str], look: Look = LOOK) -> list[Step]:
    """The classifier of pages that Wikipedia cites, and the scores of each source that asks for it."""
    web = [name for name in names if _classified(recipe.sources[name])]
    if not web:
        return []
    known = [step for name in web for step in (*text(recipe, name), f"duplicates.{name}", *_found(recipe, name))]
    rule = recipe.reference
    if rule.model is None and "wikipedia" in names:
        known.append("extract.wikipedia")
    return [
        _step(
            "reference",
            partial(_reference, recipe, web),
            references.OUTPUTS,
            tuple(dict.fromkeys(known)),
            look.values(recipe, "reference", _classifier, partial(references.values, rule, recipe.seed))
            | {name: _of_others(recipe, name) for name in web},
            partial(references.reference_space, rule, recipe, web),
        ),
        *(
            _step(
                f"references.{name}",
                partial(_references, recipe, name),
                ("{work}/*.reference",),
                (*text(recipe, name), "reference"),
                {},
                partial(references.references_space, name),
            )
            for name in web
        ),
    ]


def _step(
    name: str,
    work: Work,
    outputs: tuple[str, ...],
    needs: tuple[str, ...],
    values: Mapping[str, Any],
    space: Callable[[Context], Need] | None = None,
) -> Step:
    return Step(name, work, outputs, needs, values, version=VERSIONS[name.partition(".")[0]], space=space)


def _language_model(recipe: Recipe) -> Any:
    return recipe.data.language_model


def _models(recipe: Recipe) -> Any:
    return recipe.lm.models


def _classifier(recipe: Recipe) -> Any:
    return recipe.reference.model


def _told(source: Source) -> bool:
    return isinstance(source, WebPages) and bool(source.languages)


def _measured(source: Source) -> bool:
    return isinstance(source, WebPages) and bool(source.perplexity_percentiles)


def _language(recipe: Recipe, name: str, context: Context) -> dict[str, Any]:
    return language.language(recipe, name, texts_of(recipe, name, context).of, context)


def _lm(recipe: Recipe, learns: bool, brought: Any, context: Context) -> dict[str, Any]:
    counts = quality.lm(recipe, judge(recipe, "wikipedia", context) if learns else None, context)
    # What scores depend on are the models, those that are brought along too, which no step writes.
    made = {
        f"{code}.{ending}": storage.digest(context.scratch / f"{code}.{ending}")
        for code in quality.trained(recipe)
        for ending in ("model", "arpa", "ngrams")
    }
    context.produced = storage.digest_bytes(repr([sorted(made.items()), brought]).encode())
    return counts


def _perplexity(recipe: Recipe, name: str, context: Context) -> dict[str, Any]:
    return quality.measure(recipe, name, texts_of(recipe, name, context).of, context)


def _classified(source: Source) -> bool:
    return isinstance(source, WebPages) and source.min_reference_score is not None


def _reference(recipe: Recipe, names: Sequence[str], context: Context) -> dict[str, Any]:
    pages = {name: _pages(recipe, name, context) for name in names}
    return references.reference(recipe.reference, recipe, pages, context)


def _references(recipe: Recipe, name: str, context: Context) -> dict[str, Any]:
    return references.references(_pages(recipe, name, context), name, context)


def _pages(recipe: Recipe, name: str, context: Context) -> Pages:
    return Pages(texts_of(recipe, name, context).of, judge(recipe, name, context, scored=False).trainable)


def _of_others(recipe: Recipe, name: str) -> dict[str, Any]:
    """What the choice of documents that a model learns from depends on, beside steps."""
    rules = {key: value for key, value in thresholds(recipe, name).items() if key not in OF_SCORES}
    return rules | {"heldout": [recipe.heldout.share, recipe.sources[name].heldout_groups, recipe.seed]}


def judging(recipe: Recipe, name: str) -> tuple[str, ...]:
    """The steps here that the verdicts on a source stand on."""
    source = recipe.sources[name]
    measured = (f"perplexity.{name}", f"buckets.{name}") if _measured(source) else ()
    return (*_found(recipe, name), *measured, *((f"references.{name}",) if _classified(source) else ()))


def _found(recipe: Recipe, name: str) -> tuple[str, ...]:
    """The steps of `of_source`, by name: what they read from outside the run is not looked at for that."""
    source = recipe.sources[name]
    asked = {"lines": lines_step.policy(source), "near": near_step.rule(source), "language": _told(source)}
    return tuple(f"{step}.{name}" for step, wanted in asked.items() if wanted)


def text(recipe: Recipe, name: str) -> tuple[str, ...]:
    """The steps that tell which text of a source's documents stays."""
    return (f"extract.{name}", *([f"lines.{name}"] if lines_step.policy(recipe.sources[name]) else []))


def thresholds(recipe: Recipe, name: str) -> dict[str, Any]:
    """The values of a source that its judge sees and no score does; nothing for a source that is not judged so."""
    source = recipe.sources[name]
    chosen = source.model_dump(mode="json", include=THRESHOLDS & source.LATER, exclude_defaults=True)
    if not _told(source):  # a score that stands for nothing is no value
        chosen.pop("min_language_score", None)
    if not _measured(source):
        chosen.pop("keep_buckets", None)
    return chosen


def _benchmarks(recipe: Recipe, look: Look) -> benchmark_grams.Benchmarks | None:
    if look.names_only:
        return benchmark_grams.Benchmarks((), ()) if recipe.decontaminate.benchmarks else None
    try:
        return benchmark_grams.locate(recipe)
    except InputError as missing:
        values = look.recorded(recipe, "benchmarks", lambda one: one.decontaminate.benchmarks, missing)
        return benchmark_grams.Benchmarks((), tuple(values["files"]), missing)


def of_benchmarks(recipe: Recipe, names: Sequence[str], look: Look = LOOK) -> list[Step]:
    """What of benchmarks is in the documents of all sources, where the recipe names any."""
    located = _benchmarks(recipe, look)
    if located is None:
        return []
    compared = [
        _step(
            f"contamination.{name}",
            partial(decontaminate.contamination, recipe, name),
            ("{work}/*.contamination", "{work}/*.shared", "{work}/*.jsonl.zst"),
            (*text(recipe, name), f"duplicates.{name}", "benchmarks"),
            {"partitions": recipe.data.partitions},
            partial(decontaminate.contamination_space, recipe, name),
        )
        for name in names
    ]
    return [
        _step(
            "benchmarks",
            partial(benchmark_grams.benchmarks, recipe, located),
            ("{work}/known.*",),
            (),
            benchmark_grams.benchmarks_values(recipe, located),
            partial(benchmark_grams.benchmarks_space, located),
        ),
        *compared,
        _step(
            "common",
            partial(decontaminate.common, recipe, names),
            ("{work}/common.bin",),
            ("benchmarks", *(step.name for step in compared)),
            decontaminate.common_values(recipe),
            partial(decontaminate.common_space, names),
        ),
    ]
