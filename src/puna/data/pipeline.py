"""The graph of data steps: raw dumps in, documents without repeats and held-out text out (section 2.1).

For each source S (what crosses sources stands under the name without one):

    inputs.S          which files, of which version: another version is another input
    split.S           the tasks, cut by what the format allows
    extract.S         clean documents, what each rule dropped, what could not be read
    duplicates.S      exact repeats, found by one exchange over all shards
    ...               what a recipe asks for beside: asked.py
    heldout           the n-grams of held-out text, of all sources together
    overlap.S         how much of each document's n-grams held-out text has: a score, no verdict
    documents.S       the verdicts; documents sorted by id in shards of even size, so that nothing of tasks or workers
                      is left in them
    notice.github     which repositories documents of code came from, under which licences
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from puna import space, storage
from puna.data import asked, exclude, extract, heldout_steps, verdicts
from puna.data.brought import Look
from puna.data.dedup import exact
from puna.data.document import read_column
from puna.data.notice import notice, notice_space
from puna.data.outputs import files, kept, numbered, shards_of
from puna.data.sources import Input, as_json, from_json, split
from puna.data.sources.inputs import passed_over
from puna.errors import InputError
from puna.formats import INPUTS
from puna.progress import say
from puna.recipe import Recipe, Source
from puna.space import Need
from puna.steps import Context, Step
from puna.storage import Place

CHOOSING = {"sites"}  # values of a source by which inputs are chosen: split sees them
OF_SOME_SOURCES = {"notice": 1, **asked.VERSIONS}  # versions of steps that a recipe without their source does not have


@dataclass(frozen=True)
class Located:
    """The inputs of one source. `seen`: what a look at them tells, which is what "the same inputs" means: another time
    is enough to read them again and compare digests. `missing`: why they are not there, when only records of them are.
    """

    entries: tuple[Input, ...]
    seen: list[dict[str, Any]]
    missing: InputError | None = None

    def there(self) -> tuple[Input, ...]:
        """The inputs, for a step that must read them."""
        if self.missing:
            raise self.missing
        return self.entries


def look(entries: Sequence[Input]) -> Located:
    """What can be told of located inputs without reading them."""
    seen = []
    for entry in entries:
        found = None if entry.members else storage.look(entry.location)
        seen.append(_declared(entry) | {"modified": found.stamp if found else None})
    return Located(tuple(entries), seen)


def raw_bytes(source: Source, located: Located) -> dict[str, int]:
    """Bytes of each input, by its declared name; of a package, those of the files that are read."""
    endings = _endings(source)
    return {
        entry.declared: sum(size for path, size in entry.members if path.endswith(endings))
        if entry.members
        else entry.size
        for entry in located.entries
    }


def steps(recipe: Recipe, inputs: Mapping[str, Located], look: Look = asked.LOOK) -> list[Step]:
    """The data steps of a recipe in order; `inputs` are the located inputs of each source that has any."""
    graph: list[Step] = []
    for name, entries in inputs.items():
        source = recipe.sources[name]
        cleaning = source.model_dump(mode="json", exclude=set(source.LATER), exclude_defaults=True)
        graph += [
            Step(
                f"inputs.{name}",
                partial(_inputs, recipe, name, entries),
                (f"inputs/{name}.json",),
                values={"inputs": entries.seen},
                space=partial(_inputs_space, entries),
            ),
            Step(
                f"split.{name}",
                partial(_split, recipe, name, entries),
                ("{work}/tasks.json",),
                (f"inputs.{name}",),
                {"task_size": recipe.data.task_size} | source.model_dump(mode="json", include=CHOOSING),
                space=partial(_inputs_space, entries),
            ),
            Step(
                f"extract.{name}",
                partial(_extract, recipe, name, entries),
                ("{work}/*.parquet", "{work}/*.jsonl.zst"),
                (f"inputs.{name}", f"split.{name}"),
                cleaning | {"shard_size": recipe.data.shard_size},
                version=2,
                space=partial(_extract_space, recipe, name, entries),
            ),
            Step(
                f"duplicates.{name}",
                partial(_duplicates, recipe, name),
                ("{work}/*.verdicts",),
                (f"extract.{name}",),
                {"partitions": recipe.data.partitions},
                space=partial(_duplicates_space, recipe, name),
            ),
            *asked.of_source(recipe, name, look),
        ]
    chosen, excluded = _choice(recipe, inputs), exclude.entries(recipe.data.exclude)
    judging = {name: (f"extract.{name}", f"duplicates.{name}", *asked.judging(recipe, name)) for name in inputs}
    thresholds = {name: asked.thresholds(recipe, name) for name in inputs}
    compared = asked.of_benchmarks(recipe, tuple(inputs), look)
    names = tuple(inputs)
    graph += [*asked.of_models(recipe, names, look), *asked.of_pages(recipe, names, look), *compared]
    graph.append(
        Step(
            "heldout",
            partial(heldout_steps.heldout, recipe, tuple(inputs)),
            ("{work}/grams.bin",),
            tuple(step for name in inputs for step in judging[name]),
            chosen
            | {"ngram": recipe.heldout.ngram, "minimum": recipe.heldout.minimum}
            | {name: values for name, values in thresholds.items() if values},
            version=2,
            space=partial(heldout_steps.heldout_space, recipe, tuple(inputs)),
        )
    )
    for name in inputs:
        graph += [
            Step(
                f"overlap.{name}",
                partial(heldout_steps.overlap, recipe, name),
                ("{work}/*.overlap",),
                (*asked.text(recipe, name), "heldout"),
                {"ngram": recipe.heldout.ngram},
                space=partial(heldout_steps.overlap_space, name),
            ),
            Step(
                f"documents.{name}",
                partial(verdicts.documents, recipe, excluded, name),
                (f"documents/{name}/*.parquet", f"heldout/{name}/*.parquet"),
                (*judging[name], f"overlap.{name}", *([f"contamination.{name}", "common"] if compared else [])),
                {
                    "heldout": {"share": chosen["share"], "seed": recipe.seed, "groups": chosen["groups"][name]},
                    "max_overlap": recipe.heldout.max_overlap,
                    "shard_size": recipe.data.shard_size,
                }
                | thresholds[name]
                | ({"decontaminate": verdicts.allowed(recipe)} if compared else {})
                | verdicts.on_request(recipe, excluded),
                space=partial(verdicts.documents_space, recipe, name),
            ),
        ]
    if "github" in inputs:
        graph.append(
            Step(
                "notice.github",
                notice,
                ("notices/github.txt",),
                ("extract.github", "documents.github"),
                version=OF_SOME_SOURCES["notice"],
                space=notice_space,
            )
        )
    return graph


def bad_share(records: Mapping[str, Mapping[str, Any]], recipe: Recipe) -> list[str]:
    """A line for each source of which more could not be read than the recipe allows, by records or by stored bytes."""
    lines = []
    for step, record in records.items():
        if step.startswith("extract."):
            counts, allowed = record["counts"], recipe.data.max_bad_share
            if extract.unread_share(counts) > allowed:
                said = extract.unread(counts)
                lines.append(f"{step.removeprefix('extract.')}: {said} (data.max_bad_share is {allowed:g})")
    return lines


def _declared(entry: Input) -> dict[str, Any]:
    return {"declared": entry.declared, "dump": entry.dump, "version": entry.version, "size": entry.size}


def _choice(recipe: Recipe, inputs: Mapping[str, Located]) -> dict[str, Any]:
    groups = {name: recipe.sources[name].heldout_groups for name in inputs}
    return {"share": recipe.heldout.share, "seed": recipe.seed, "groups": groups}


def _inputs(recipe: Recipe, name: str, inputs: Located, context: Context) -> list[dict[str, Any]]:
    known = [_declared(entry) | {"digest": entry.digest} for entry in inputs.there()]
    value = {"format": INPUTS.version, "source": name, "inputs": known}
    storage.write_json(context.folder / "inputs" / f"{name}.json", value)
    if others := passed_over(name, recipe.sources[name]):
        what = f"{len(others):,} more files or links in what inputs names are not read"
        say(f"  {name}: {what} (docs/sources/{name}.md says how dumps are named), such as {others[0]}")
    return known


def _inputs_space(inputs: Located, context: Context) -> Need:
    names = [path for entry in inputs.entries for path in (entry.declared, *(member for member, _ in entry.members))]
    return space.small(1_000 * len(inputs.entries) + sum(40 + len(os.fsencode(name)) for name in names))


def _split(recipe: Recipe, name: str, inputs: Located, context: Context) -> dict[str, Any]:
    tasks = split(name, inputs.there(), recipe.sources[name], recipe.data.task_size)
    storage.write_json(context.scratch / "tasks.json", as_json(tasks))
    return {"tasks": len(tasks)}


def _extract(recipe: Recipe, name: str, inputs: Located, context: Context) -> dict[str, Any]:
    (plan,) = files(context, f"split.{name}", "tasks.json")
    tasks = from_json(storage.read_json(plan))
    work = partial(extract.extract, inputs.there(), recipe.sources[name], recipe.data.shard_size)
    results = context.map(work, tasks, label=f"  {name}: reading and cleaning", name=lambda task: task.name)
    return extract.total(results) | {"tasks": len(tasks)}


def _extract_space(recipe: Recipe, name: str, inputs: Located, context: Context) -> Need:
    (plan,) = files(context, f"split.{name}", "tasks.json")
    raw: Counter[str] = Counter()
    for task in from_json(storage.read_json(plan)):
        for declared, size in extract.stored(inputs.there(), task, _endings(recipe.sources[name])):
            raw[declared] += size
    return space.extracted(raw, recipe.data.shard_size, context.workers)


def _endings(source: Source) -> tuple[str, ...]:
    return tuple(getattr(source, "extensions", [""]))


def _duplicates(recipe: Recipe, name: str, context: Context) -> dict[str, Any]:
    shards = shards_of(context, name)
    hashes = [context.scratch / f"{index:05d}.hashes" for index in range(len(shards))]
    work = partial(_write_hashes, recipe.data.partitions)
    context.map(work, list(enumerate(shards)), label=f"  {name}: hashing", name=numbered)
    judge = partial(_find_repeats, hashes)
    parts = list(range(recipe.data.partitions))
    results = context.map(judge, parts, label=f"  {name}: finding repeats", name=lambda part: f"part-{part:05d}")
    return {"documents": sum(r["documents"] for r in results), "bytes": sum(r["bytes"] for r in results)}


def _duplicates_space(recipe: Recipe, name: str, context: Context) -> Need:
    documents, shards, parts = kept(context, name)["documents"], len(shards_of(context, name)), recipe.data.partitions
    return space.exchanged(
        documents, shards, parts, exact.ROW.itemsize, exact.VERDICT.itemsize, workers=context.workers
    )


def _write_hashes(partitions: int, task: tuple[int, Place], scratch: Place) -> dict[str, Any]:
    index, shard = task
    pairs = zip(read_column(shard, "id"), read_column(shard, "text"), strict=True)
    target = scratch / f"{index:05d}.hashes"
    documents = exact.write_hashes(target, pairs, partitions)
    return {"documents": documents, "files": [storage.below(target, scratch.parents[2])]}


def _find_repeats(hashes: Sequence[Place], part: int, scratch: Place) -> dict[str, Any]:
    target = scratch / f"{part:05d}.verdicts"
    documents, size = exact.find_repeats(hashes, part, target)
    return {"documents": documents, "bytes": size, "files": [storage.below(target, scratch.parents[2])]}
