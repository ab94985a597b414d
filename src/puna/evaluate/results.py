"""What an evaluation leaves: the numbers of each task, the paper's tables with the model's row, how they are said."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from puna import storage
from puna.errors import InputError
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
    model stays as `earlier`, of lm-eval's tasks as `earlier_others`. None: of a step of a run, whose record has its
    energy, and whose files are its own."""
    found = [filled(table, results, name) for table in tables]
    value = {"format": RESULTS.version, "model": name, "digest": digest, "dtype": dtype}
    told = {"results": [each.as_json() for each in results], "others": [each.as_json() for each in other]}
    if energy is not None:
        before = kept(folder)
        same = all(before.get(name) == each for name, each in value.items())
        told["earlier"] = _not_now(told_of(before), results) if same else []
        told["earlier_others"] = _not_now(others_of(before), other) if same else []
        told["energy"] = [*before.get("energy", []), dict(energy)]
    text = json.dumps({**value, **told}, ensure_ascii=False, indent=1)
    storage.write(folder / NAME, text.encode() + b"\n")
    storage.write(folder / TABLES, as_text(results, found, other).encode())
    storage.write(folder / LATEX, "\n".join(map(writing.latex, found)).encode())
    return found


def _not_now(told: Sequence[Mapping[str, Any]], now: Sequence[Result] | Sequence[Other]) -> list[Any]:
    """What was told of what is not asked now; of two of one task, the first."""
    asked = {(each.task, each.shots) for each in now}
    known = {(each["task"], each["shots"]): each for each in reversed(told)}
    ordered = sorted(known, key=lambda key: (key[0], key[1] or 0))  # a group of lm-eval has no number of examples
    return [known[key] for key in ordered if key not in asked]


def kept(folder: Place) -> Mapping[str, Any]:
    """What results.json holds; nothing where there is none. InputError for a file that is damaged or another thing."""
    place = folder / NAME
    if not storage.is_file(place):
        return {}
    told = storage.read_json(place)
    if isinstance(told, dict):
        RESULTS.refuse_newer(told.get("format"), place)
    if not isinstance(told, dict) or not _is_kept(told):
        mend = "remove it: answers are kept beside it, and nothing is asked again"
        raise InputError("is no table of benchmarks", where=str(place), mend=mend)
    return told


def told_of(kept: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The results in what `kept` gives: those of the last call, then those of earlier ones."""
    return [*kept.get("results", []), *kept.get("earlier", [])]


def others_of(kept: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """As `told_of`, of tasks of lm-eval."""
    return [*kept.get("others", []), *kept.get("earlier_others", [])]


def _is_kept(told: Mapping[str, Any]) -> bool:
    lists = [told.get(name, []) for name in ("earlier", "others", "earlier_others", "energy")]
    if not all(isinstance(each, list) for each in [told.get("results"), *lists]):
        return False
    known: dict[str, Any] = {"task": str, "shots": int, "metric": str, "values": dict, "files": dict}
    other: dict[str, Any] = {"task": str, "shots": int | None, "values": dict}
    return all(_is_like(each, known) for each in told_of(told)) and all(
        _is_like(each, other) for each in others_of(told)
    )


def _is_like(each: object, known: Mapping[str, Any]) -> bool:
    if not isinstance(each, dict) or not all(isinstance(each.get(name), kind) for name, kind in known.items()):
        return False
    number = int | float
    return all(
        isinstance(value, dict)
        and isinstance(value.get("mean"), number)
        and isinstance(value.get("error"), number | None)
        for value in each["values"].values()
    )


def changed(folder: Place, plans: Sequence[Plan]) -> list[str]:
    """A line for each file that was another when these tasks were asked before: its numbers will not compare."""
    before = {each["task"]: each["files"] for each in reversed(told_of(kept(folder)))}
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
    """What was written to `folder`, with what stands there of earlier calls."""
    before = kept(folder)
    return {
        "model": name,
        "folder": str(folder),
        "results": [each.as_json() for each in results],
        "others": [each.as_json() for each in other],
        "earlier": before.get("earlier", []),
        "earlier_others": before.get("earlier_others", []),
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
        if value is not None and value.error:
            told += f" ± {value.error:.4f}"
        told += f" {FOUND}" if each.found else ""
        lines.append(f"| {PACK[each.task].title} | {each.shots} | {each.metric} | {told} | {each.items:,} |")
    return "\n".join([*lines, "", *(f"- {note}" for each in results for note in notes_of(each))]) + "\n"
