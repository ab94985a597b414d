"""What an evaluation leaves: the numbers of each task, the paper's tables with the model's row, how they are said."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from puna import storage
from puna.evaluate import writing
from puna.evaluate.run import Result
from puna.evaluate.tables import Filled, Table, filled, notes_of
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
    folder: Place, name: str, results: Sequence[Result], tables: Sequence[Table], *, digest: str, dtype: str
) -> list[Filled]:
    """Write results.json and, where tables are asked for, tables.md and tables.tex; the tables."""
    found = [filled(table, results, name) for table in tables]
    value = {"format": RESULTS.version, "model": name, "digest": digest, "dtype": dtype}
    text = json.dumps({**value, "results": [each.as_json() for each in results]}, ensure_ascii=False, indent=1)
    storage.write(folder / NAME, text.encode() + b"\n")
    whole = "\n".join(map(writing.markdown, found)) if found else as_text(results, ())
    storage.write(folder / TABLES, whole.encode())
    storage.write(folder / LATEX, "\n".join(map(writing.latex, found)).encode())
    return found


def as_json(folder: Place, name: str, results: Sequence[Result], tables: Sequence[Filled]) -> dict[str, Any]:
    return {
        "model": name,
        "folder": str(folder),
        "results": [each.as_json() for each in results],
        "tables": [writing.as_json(each) for each in tables],
    }


def as_text(results: Sequence[Result], tables: Sequence[Filled]) -> str:
    """The tables; without any a line for each task."""
    if tables:
        return "\n".join(map(writing.markdown, tables)).rstrip()
    lines = ["| task | shots | metric | value | items |", "|---|---:|---|---:|---:|"]
    for each in results:
        value = each.values.get(each.metric)
        told = "no score" if value is None else f"{value.mean:.4f}"
        if value is not None and value.error is not None:
            told += f" ± {value.error:.4f}"
        lines.append(f"| {PACK[each.task].title} | {each.shots} | {each.metric} | {told} | {each.items:,} |")
    return "\n".join([*lines, "", *(f"- {note}" for each in results for note in notes_of(each))]) + "\n"
