"""Tables as text: Markdown, LaTeX and JSON. A wide one is turned, so that models stand beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from puna.evaluate.tables import MISSING, WIDE, WIDE_BRACKETED, Filled

LATEX = {"\\": r"\textbackslash{}", "±": r"$\pm$", "†": r"$\dagger$"} | {each: f"\\{each}" for each in "&%$#_{}"}
LATEX |= {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "*": r"$\cdot$"}


def markdown(found: Filled) -> str:
    head, *rows = grid(found)
    widths = [max(len(row[place]) for row in (head, *rows)) for place in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        first = f"| {cells[0]:{widths[0]}} |"
        return first + "".join(f" {cell:>{width}} |" for cell, width in zip(cells[1:], widths[1:], strict=True))

    rule = f"|{'-' * (widths[0] + 2)}|" + "".join(f"{'-' * (width + 1)}:|" for width in widths[1:])
    parts = [f"### Table {found.table.number}: {found.table.title}", "", line(head), rule, *map(line, rows), ""]
    parts += [f"- {note}" for note in notes(found)]
    return "\n".join(parts) + "\n"


def latex(found: Filled) -> str:
    head, *rows = grid(found)
    lines = [" & ".join(map(escaped, row)) + r" \\" for row in (head, *rows)]
    return "\n".join(
        [
            f"% Table {found.table.number}: {found.table.title}",
            rf"\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}",
            r"\hline",
            lines[0],
            r"\hline",
            *lines[1:],
            r"\hline",
            r"\end{tabular}",
            *(f"% {note}" for note in notes(found)),
            "",
        ]
    )


def as_json(found: Filled) -> dict[str, Any]:
    titles = [column.title for column in found.table.columns]
    return {
        "table": found.table.number,
        "title": found.table.title,
        "columns": titles,
        "rows": [{"name": row.name, "own": row.own, "cells": list(row.cells)} for row in found.rows],
        "values": [None if each is None else asdict(each) for each in found.values],
        "notes": list(found.notes),
    }


def grid(found: Filled) -> list[list[str]]:
    """Heading and rows, names first; of a table that is counted, how many items each value is of."""
    titles = [column.title for column in found.table.columns]
    lines = [["", *titles], *([row.name, *row.cells] for row in found.rows)]
    if found.table.counted and any(found.values):
        lines.append(["items", *("-" if each is None else f"{each.items:,}" for each in found.values)])
    most = WIDE_BRACKETED if found.table.bootstrapped else WIDE
    return [list(column) for column in zip(*lines, strict=True)] if len(titles) > most else lines


def notes(found: Filled) -> list[str]:
    absent = any(cell == MISSING for row in found.rows for cell in row.cells)
    more = [f'"{MISSING}": the paper has no such figure, or it was not read there.'] if absent else []
    return [*found.notes, *more]


def escaped(text: str) -> str:
    return "".join(LATEX.get(character, character) for character in text)
