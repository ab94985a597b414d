"""The report's tables of the paper, with the model's row, of the benchmarks that were present when the run ended."""

from __future__ import annotations

from typing import Any

from puna.report.facts import Facts, at
from puna.report.markup import Html, element, join, paragraph, table


def asked(facts: Facts) -> Html:
    """Each table with its notes folded below it; where there is none, how to have some."""
    found = at(facts.tables, "tables")
    shown = [_table(one, at(facts.tables, "model")) for one in found if _grid(one)] if isinstance(found, list) else []
    if not shown:
        return paragraph(
            "None was asked: no benchmark's release files lay in the folder that the recipe names. ",
            element("code", "puna fetch --benchmarks"),
            " gets them; the same run then asks them, and nothing else again.",
        )
    return join(*shown)


def _grid(one: Any) -> list[list[str]]:
    """Heading and rows as text, none where the file is of another shape."""
    rows = at(one, "grid")
    sound = isinstance(rows, list) and rows and all(isinstance(row, list) and row for row in rows)
    return [[str(cell) for cell in row] for row in rows] if sound else []


def _table(one: Any, model: Any) -> Html:
    head, *rows = _grid(one)
    own = head.index(model) if model in head else -1  # of a table that is turned, the model's column
    lines = [
        [element("strong", cell) if row[0] == model or place == own else cell for place, cell in enumerate(row)]
        for row in rows
    ]
    notes = at(one, "notes")
    said = [element("li", str(each)) for each in notes] if isinstance(notes, list) else []
    return join(
        element("h3", f"Table {at(one, 'table')}: {at(one, 'title')}"),
        table(head, lines),
        element("details", element("summary", "What is not as in the paper"), element("ul", *said, class_="note"))
        if said
        else Html(""),
    )
