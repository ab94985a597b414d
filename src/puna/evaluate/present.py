"""The benchmarks that are present when a run ends: asked of its model, and shown in the paper's tables.

Files that lie in `evaluate.benchmarks` are read where they lie, as `puna evaluate` reads them (and `puna fetch
--benchmarks` leaves them). Of each task at most `evaluate.benchmark_items` items are asked, so that a run takes minutes
longer and not hours. Left out is what needs something from outside (programs, toxicity), what draws many samples of an
item (maj1@k), and what has too few examples there, which is said.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from puna import storage, testsets
from puna.errors import InputError
from puna.evaluate.task import Prompt
from puna.evaluate.tasks import PACK
from puna.formats import RESULTS
from puna.progress import say
from puna.recipe import Evaluate, Recipe
from puna.storage import Place

if TYPE_CHECKING:
    from puna.evaluate.run import Plan, Result
    from puna.evaluate.tables import Table

FOLDER = ("evaluations", "tables")
NAME = "tables.json"
ANSWER = 24_000  # bytes of one that is kept at most, but for free text of characters that take many bytes


def present(recipe: Recipe) -> dict[str, Any] | None:
    """What decides an evaluation beside the model: `items`, `files` with size and time, `tasks` with version. None
    where there is no benchmark; InputError for a folder that the recipe names, and that holds none."""
    asked = recipe.evaluate
    if not asked.benchmarks:
        return None
    folder = storage.place(asked.benchmarks)
    try:
        found = testsets.find(folder).files
    except InputError as error:
        if asked.benchmarks == Evaluate.model_fields["benchmarks"].default:
            return None
        mend = 'name the folder of benchmarks, or "" for none'
        raise InputError("holds no file of a benchmark", where=f"evaluate.benchmarks: {folder}", mend=mend) from error
    there = {name for name, _ in found}
    tasks = {name: task.version for name, task in PACK.items() if task.benchmark in there and not task.needs}
    seen = {storage.below(path, folder): storage.look(path) for _, path in found}
    files = {name: [look.size, str(look.stamp)] for name, look in seen.items() if look}
    return {"items": asked.benchmark_items, "files": files, "tasks": tasks} if tasks else None


def evaluate(run: Place, recipe: Recipe) -> dict[str, Any]:
    """Ask the run's newest checkpoint what is present; writes results.json, tables.* and answers to evaluations/tables.

    A process that is killed loses what was under way: answers are kept as they come. Returns what the last screen says.
    """
    from puna import generate
    from puna.evaluate import results
    from puna.evaluate import run as running
    from puna.evaluate.answering import Model
    from puna.evaluate.tables import TABLES
    from puna.evaluate.writing import grid, notes
    from puna.generate.packed import pack
    from puna.model import device

    plans = _plans(recipe)
    loaded = generate.load(run, device=device.chosen(recipe.train.device))
    folder = run.joinpath(*FOLDER)
    digest = running.model_digest(loaded.folder, loaded.tokenizer.digest, "f32")
    found = running.evaluate(plans, Model(pack(loaded.model), loaded.tokenizer), folder, digest)
    tables = [each for table in TABLES.values() if (each := _as_asked(table, found)).columns]
    name = results.name_of(loaded.folder)
    filled = results.write(folder, name, found, tables, digest=digest, dtype="f32")
    shown = [
        {"table": each.table.number, "title": each.table.title, "grid": grid(each), "notes": notes(each)}
        for each in filled
    ]
    storage.write_json(folder / NAME, {"format": RESULTS.version, "model": name, "tables": shown})
    rows = [
        {"task": each.task, "shots": each.shots, "metric": each.metric, "items": each.items}
        | {"mean": each.value.mean, "error": each.value.error}
        for each in found
    ]
    return {"results": rows}


def _as_asked(table: Table, found: Sequence[Result]) -> Table:
    """A table of the paper with those of its columns that were asked."""
    asked = {(each.task, each.shots) for each in found}
    return replace(table, columns=tuple(each for each in table.columns if (each.task, each.shots) in asked))


def _plans(recipe: Recipe) -> list[Plan]:
    """What can be asked of each task, with as many examples as the paper shows."""
    from puna.evaluate.chosen import Folder
    from puna.evaluate.run import Wanted, plan

    data, there = storage.place(recipe.evaluate.benchmarks), present(recipe)
    if there is None:
        what = "holds no file of a benchmark any more"
        raise InputError(what, where=str(data), mend='bring them back, or set evaluate.benchmarks=""')
    folder, plans = Folder(data), []
    for name in there["tasks"]:
        for shots in PACK[name].shots:
            try:
                (one,) = plan([Wanted(PACK[name], shots)], folder, limit=recipe.evaluate.benchmark_items)
            except InputError as error:
                say(f"{name}, {shots}-shot is left out: {error.what}")
                continue
            _, asked = next(iter(one.questions.values()))
            if not isinstance(asked, Prompt) or asked.samples == 1:
                plans.append(one)
    return plans
