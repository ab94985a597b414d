"""The report's view of what the data cost: each stage's input, work and rate per core, and where the time went."""

from __future__ import annotations

from puna import cost
from puna.cost import Part
from puna.report.facts import Facts
from puna.report.markup import Html, absent, bar, element, fixed, join, note, percent, seconds, size, table


def stages(facts: Facts) -> Html:
    """A row for each stage of the data, and under a line to open the same by source."""
    found = cost.stages(facts.records)
    whole = sum(part.seconds for part in found.values())
    if not found:
        return absent("a stage of the data that tells its work", "records/")
    head = ["stage", "read", "work", "MB/s per core", "share", ""]
    rows = [_row(part, whole) for part in found.values()]
    rows.append([element("strong", "all"), "", seconds(whole), "", "", ""])
    said = note(
        "Read: stored bytes of dumps up to the cleaning, bytes of clean text behind it. Work is the time of all tasks ",
        "on all processes, also of attempts that were interrupted; more processes than cores make it longer.",
    )
    return join(table(head, rows, kind="shares costs"), said, _by_source(found, whole))


def _row(part: Part, whole: float) -> list[object]:
    share = part.seconds / whole if whole else None
    rate = None if part.rate is None else part.rate / 1e6
    places = 0 if rate is None or rate >= 99.5 else 1 if rate >= 9.95 else 2
    return [part.label, size(part.bytes), seconds(part.seconds), fixed(rate, places), percent(share), bar(share)]


def _by_source(found: dict[str, Part], whole: float) -> Html:
    """Stages that have more than one source; nothing where none has."""
    rows: list[list[object]] = []
    for part in found.values():
        if len(part.sources) > 1:
            rows += [[part.label], *(_row(one, whole) for one in part.sources.values())]
    if not rows:
        return Html("")
    head = ["source", "read", "work", "MB/s per core", "share", ""]
    return element("details", element("summary", "The same by source"), table(head, rows, kind="shares costs"))
