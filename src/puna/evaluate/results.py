"""What an evaluation leaves: the numbers of each task, the paper's tables with the model's row, how they are said."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from puna import storage
from puna.evaluate import others, writing
from puna.evaluate.footnotes import FOUND, notes_of
from puna.evaluate.others import Other
from puna.evaluate.run import Plan, Result
from puna.evaluate.tables import Filled, Table, filled
from puna.evaluate.tasks import PACK
from puna.formats import RESULTS
from puna.storage import Place

NAME = "results.json"
TABLES = "tables.md"
LATEX = "tables.tex"


def folder_of(checkpoint: Place) -> Place:
    """Where answers and results of a model lie: in its run by checkpoint, else beside its weights."""
    if checkpoint.parent.name == "checkpoints":
        return checkpoint.parent.parent / "evaluations" / "benchmarks" / checkpoint.name
    return checkpoint / "benchmarks"


def name_of(checkpoint: Place) -> str:
    """What a model's row is called."""
    if checkpoint.parent.name == "checkpoints":
        return f"{checkpoint.parent.parent.name}, {checkpoint.name}"
    return checkpoint.name


def write(
    folder: Place,
    name: str,
    results: Sequence[Result],
    tables: Sequence[Table],
    other: Sequence[Other] = (),
    *,
    digest: str,
    dtype: str,
    energy: Mapping[str, float] | None = None,
) -> list[Filled]:
    """Write results.json and, where tables are asked for, tables.md and tables.tex; the tables. energy: what this call
    took (meter.py), kept behind that of earlier calls; with it, what results.json held of other tasks of the same
    model stays as `earlier`. None: of a step of a run, whose record has its energy, and whose files are its own."""
    found = [filled(table, results, name) for table in tables]
    value = {"format": RESULTS.version, "model": name, "digest": digest, "dtype": dtype}
    told = {"results": [each.as_json() for each in results], "others": [each.as_json() for each in other]}
    if energy is not None:
        before = storage.read_json(folder / NAME) if storage.is_file(folder / NAME) else {}
        told["earlier"] = _earlier(before, value, results)
        told["energy"] = [*before.get("energy", []), dict(energy)]
    text = json.dumps({**value, **told}, ensure_ascii=False, indent=1)
    storage.write(folder / NAME, text.encode() + b"\n")
    storage.write(folder / TABLES, as_text(results, found, other).encode())
    storage.write(folder / LATEX, "\n".join(map(writing.latex, found)).encode())
    return found


def _earlier(told: Mapping[str, Any], head: Mapping[str, Any], results: Sequence[Result]) -> list[Any]:
    """Results that the file held of the same model, of what was not asked now."""
    if any(told.get(name) != value for name, value in head.items()):
        return []
    now = {(each.task, each.shots) for each in results}
    before = [*told.get("results", []), *told.get("earlier", [])]
    known = {(each["task"], each["shots"]): each for each in reversed(before)}
    return [each for key, each in sorted(known.items()) if key not in now]


def changed(folder: Place, plans: Sequence[Plan]) -> list[str]:
    """A line for each file that was another when these tasks were asked before: its numbers will not compare."""
    if not storage.is_file(folder / NAME):
        return []
    told = storage.read_json(folder / NAME)
    RESULTS.refuse_newer(told.get("format"), folder / NAME)
    before = {each["task"]: each["files"] for each in told["results"]}
    found = []
    for plan in plans:
        known = before.get(plan.wanted.task.name, {})
        for name, digest in plan.items.digests.items():
            if known.get(name, digest) != digest:
                what = f"{name} is another file than when this was asked before; what changed in it is asked anew"
                found.append(f"{plan.wanted.task.title}: {what}")
    return list(dict.fromkeys(found))


def as_json(
    folder: Place, name: str, results: Sequence[Result], tables: Sequence[Filled], other: Sequence[Other] = ()
) -> dict[str, Any]:
    return {
        "model": name,
        "folder": str(folder),
        "results": [each.as_json() for each in results],
        "others": [each.as_json() for each in other],
        "tables": [writing.as_json(each) for each in tables],
    }


def as_text(results: Sequence[Result], tables: Sequence[Filled], found: Sequence[Other] = ()) -> str:
    """The tables, without any a line for each task; and the tasks of others."""
    parts = [writing.markdown(each) for each in tables] or ([_lines(results)] if results else [])
    return "\n".join([*parts, *([others.as_text(found)] if found else [])])


def _lines(results: Sequence[Result]) -> str:
    lines = ["| task | shots | metric | value | items |", "|---|---:|---|---:|---:|"]
    for each in results:
        value = each.values.get(each.metric)
        told = "no score" if value is None else f"{value.mean:.4f}"
        if value is not None and value.error is not None:
            told += f" ± {value.error:.4f}"
        told += f" {FOUND}" if each.found else ""
        lines.append(f"| {PACK[each.task].title} | {each.shots} | {each.metric} | {told} | {each.items:,} |")
    return "\n".join([*lines, "", *(f"- {note}" for each in results for note in notes_of(each))]) + "\n"
