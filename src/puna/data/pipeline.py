"""The graph of data steps: raw dumps in, documents without repeats and held-out text out (section 2.1).

For each source S (what crosses sources stands under the name without one):

    inputs.S          which files, of which version: another version is another input
    split.S           the tasks, cut by what the format allows
    extract.S         clean documents, what each rule dropped, what could not be read
    duplicates.S      exact repeats, found by one exchange over all shards
    heldout           the n-grams of held-out text, of all sources together
    overlap.S         how much of each document's n-grams held-out text has: a score, no verdict
    documents.S       the verdicts; documents sorted by id in shards of even size, so that nothing of tasks or workers
                      is left in them
    notice.github     which repositories documents of code came from, under which licences
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
import numpy.typing as npt

from puna import space, storage
from puna.data import exclude, extract, verdicts
from puna.data.dedup import exact
from puna.data.document import read_column
from puna.data.heldout import known_grams, overlaps
from puna.data.notice import notice, notice_space
from puna.data.outputs import files, held, kept, numbered, numbered_of, shards_of
from puna.data.sources import Input, as_json, from_json, split
from puna.errors import InputError
from puna.formats import INPUTS
from puna.recipe import Recipe, Source
from puna.space import Need
from puna.steps import Context, Step
from puna.storage import Place

CHOOSING = {"sites"}  # values of a source by which inputs are chosen: split sees them
OF_SOME_SOURCES = {"notice": 1}  # versions of steps that a recipe without their source does not have
NOT_CLEANING = {"inputs", "share", "max_epochs", "heldout_groups"}  # values of a source that extraction never sees


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


def steps(recipe: Recipe, inputs: Mapping[str, Located]) -> list[Step]:
    """The data steps of a recipe in order; `inputs` are the located inputs of each source that has any."""
    graph: list[Step] = []
    for name, entries in inputs.items():
        cleaning = recipe.sources[name].model_dump(mode="json", exclude=NOT_CLEANING, exclude_defaults=True)
        graph += [
            Step(
                f"inputs.{name}",
                partial(_inputs, name, entries),
                (f"inputs/{name}.json",),
                values={"inputs": entries.seen},
                space=partial(_inputs_space, entries),
            ),
            Step(
                f"split.{name}",
                partial(_split, recipe, name, entries),
                ("{work}/tasks.json",),
                (f"inputs.{name}",),
                {"task_size": recipe.data.task_size} | recipe.sources[name].model_dump(mode="json", include=CHOOSING),
                space=partial(_inputs_space, entries),
            ),
            Step(
                f"extract.{name}",
                partial(_extract, recipe, name, entries),
                ("{work}/*.parquet", "{work}/*.jsonl.zst"),
                (f"inputs.{name}", f"split.{name}"),
                cleaning | {"shard_size": recipe.data.shard_size},
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
        ]
    chosen, excluded = _choice(recipe, inputs), exclude.entries(recipe.data.exclude)
    before = tuple(f"{step}.{name}" for name in inputs for step in ("extract", "duplicates"))
    graph.append(
        Step(
            "heldout",
            partial(_heldout, recipe, tuple(inputs)),
            ("{work}/grams.bin",),
            before,
            chosen | {"ngram": recipe.heldout.ngram, "minimum": recipe.heldout.minimum},
            space=partial(_heldout_space, recipe, tuple(inputs)),
        )
    )
    for name in inputs:
        graph += [
            Step(
                f"overlap.{name}",
                partial(_overlap, recipe, name),
                ("{work}/*.overlap",),
                (f"extract.{name}", "heldout"),
                {"ngram": recipe.heldout.ngram},
                space=partial(_overlap_space, name),
            ),
            Step(
                f"documents.{name}",
                partial(verdicts.documents, recipe, excluded, name),
                (f"documents/{name}/*.parquet", f"heldout/{name}/*.parquet"),
                (f"extract.{name}", f"duplicates.{name}", f"overlap.{name}"),
                {
                    "heldout": {"share": chosen["share"], "seed": recipe.seed, "groups": chosen["groups"][name]},
                    "max_overlap": recipe.heldout.max_overlap,
                    "shard_size": recipe.data.shard_size,
                }
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


def _inputs(name: str, inputs: Located, context: Context) -> list[dict[str, Any]]:
    known = [_declared(entry) | {"digest": entry.digest} for entry in inputs.there()]
    value = {"format": INPUTS.version, "source": name, "inputs": known}
    storage.write_json(context.folder / "inputs" / f"{name}.json", value)
    return known


def _inputs_space(inputs: Located, context: Context) -> Need:
    names = [path for entry in inputs.entries for path in (entry.declared, *(member for member, _ in entry.members))]
    return space.small(1_000 * len(inputs.entries) + sum(40 + len(name.encode()) for name in names))


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


def _heldout(recipe: Recipe, names: Sequence[str], context: Context) -> dict[str, Any]:
    counts: dict[str, Any] = {}
    for name in names:
        _refuse_nothing(name, context.counts(f"extract.{name}"))
        verdicts = tuple(files(context, f"duplicates.{name}", ".verdicts"))
        collect = partial(_collect_grams, recipe, name, verdicts)
        tasks = list(enumerate(shards_of(context, name)))
        label = f"  {name}: reading held-out text"
        results = context.map(collect, tasks, label=label, name=partial(numbered_of, name))
        count = {kind: sum(result[kind] for result in results) for kind in ("documents", "bytes")}
        if (recipe.heldout.share or recipe.sources[name].heldout_groups) and count["bytes"] < recipe.heldout.minimum:
            what = (
                f"held-out {name} text is {count['bytes']} bytes, less than heldout.minimum ({recipe.heldout.minimum})"
            )
            raise InputError(what, mend="raise heldout.share, name heldout_groups, or choose another seed")
        counts[name] = count
    parts = [np.frombuffer(storage.read(path), "<u8") for path in storage.listing(context.scratch, "*.grams")]
    storage.write(context.scratch / "grams.bin", np.unique(np.concatenate([np.empty(0, "<u8"), *parts])).tobytes())
    return counts


def _heldout_space(recipe: Recipe, names: Sequence[str], context: Context) -> Need:
    size = shards = 0
    for name in names:
        of_all, found = kept(context, name), shards_of(context, name)
        chosen = sum(held(recipe, name, group) for shard in found for group in read_column(shard, "group"))
        size += chosen * of_all["bytes"] // max(1, of_all["documents"])
        shards += len(found)
    return space.grams(size, shards)


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


def _collect_grams(
    recipe: Recipe, name: str, verdicts: Sequence[Place], task: tuple[int, Place], scratch: Place
) -> dict[str, Any]:
    """The n-grams of one shard's held-out text, as scratch/SOURCE-NNNNN.grams."""
    index, shard = task
    gone = set(exact.dropped_rows(verdicts, index).tolist())
    rows = enumerate(zip(read_column(shard, "group"), read_column(shard, "text"), strict=True))
    texts = [text for row, (group, text) in rows if row not in gone and held(recipe, name, group)]
    target = scratch / f"{name}-{index:05d}.grams"
    storage.write(target, known_grams(texts, recipe.heldout.ngram).astype("<u8").tobytes())
    size = sum(len(text.encode()) for text in texts)
    return {"documents": len(texts), "bytes": size, "files": [storage.below(target, scratch.parents[2])]}


def _overlap(recipe: Recipe, name: str, context: Context) -> dict[str, Any]:
    known = files(context, "heldout", "grams.bin")[0]
    work = partial(_measure_overlap, known, recipe.heldout.ngram)
    tasks = list(enumerate(shards_of(context, name)))
    results = context.map(work, tasks, label=f"  {name}: comparing with held-out text", name=numbered)
    return {"documents": sum(result["documents"] for result in results)}


def _overlap_space(name: str, context: Context) -> Need:
    known = sum(output["size"] for output in context.records["heldout"]["outputs"].values())
    return space.scores(kept(context, name)["documents"], len(shards_of(context, name)), known, context.workers)


def _measure_overlap(known: Place, n: int, task: tuple[int, Place], scratch: Place) -> dict[str, Any]:
    index, shard = task
    scores = overlaps(read_column(shard, "text"), _mapped(str(known)), n)
    target = scratch / f"{index:05d}.overlap"
    storage.write(target, scores.astype("<f4").tobytes())
    return {"documents": len(scores), "files": [storage.below(target, scratch.parents[2])]}


@lru_cache(maxsize=1)
def _mapped(location: str) -> npt.NDArray[np.uint64]:
    """Hashes in a file, mapped, so that all workers share one copy of a local one; of a store's each has its own, once.
    The file's name holds a fingerprint, so what it holds never changes."""
    with storage.local_copy(location) as file:
        return np.memmap(file, "<u8", "r") if storage.size(file) else np.empty(0, np.uint64)
