"""The report's tables of the paper, with the model's row, of the benchmarks that were present when the run ended; and
what `puna evaluate` asked of lm-eval's tasks."""

from __future__ import annotations

from typing import Any

from puna.evaluate.others import note as note_of
from puna.report.facts import Facts, at
from puna.report.markup import Html, count, element, fixed, join, paragraph, table

SAFETY = (11, 12, 13, 14)  # they have a section of their own


def asked(facts: Facts) -> Html:
    """Each table with its notes folded below it; where there is none, how to have some. Then other tasks."""
    found = at(facts.tables, "tables")
    sound = [one for one in found if grid_of(one)] if isinstance(found, list) else []
    shown = [shown_table(one, at(facts.tables, "model")) for one in sound if at(one, "table") not in SAFETY]
    none = paragraph(
        "None was asked: no benchmark's release files lay in the folder that the recipe names. ",
        element("code", "puna fetch --benchmarks"),
        " gets them; the same run then asks them, and nothing else again.",
    )
    return join(*(shown or [none]), _others(facts))


def _others(facts: Facts) -> Html:
    """Tasks of lm-eval that `puna evaluate` asked this model, in its last call or an earlier one."""
    if not facts.others:
        return Html("")
    lines = []
    for each in facts.others:
        shots = "-" if each.shots is None else each.shots
        for metric, value in each.values.items():
            lines.append([each.task, shots, metric, fixed(value.mean, 4), fixed(value.error, 4), count(each.items)])
    said = dict.fromkeys(f"{each.task}: {note_of(each)}." for each in facts.others)
    return join(
        element("h3", "Other tasks"),
        table(["task", "shots", "metric", "value", "standard error", "items"], lines),
        element("ul", *(element("li", each) for each in said), class_="note"),
    )


def grid_of(one: Any) -> list[list[str]]:
    """Heading and rows as text, none where the file is of another shape."""
    rows = at(one, "grid")
    sound = isinstance(rows, list) and rows and all(isinstance(row, list) and row for row in rows)
    return [[str(cell) for cell in row] for row in rows] if sound else []


def shown_table(one: Any, model: Any) -> Html:
    """One of the paper's tables: `table`, `title`, `grid` and `notes` of tables.json. The model's row is bold."""
    head, *rows = grid_of(one)
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
