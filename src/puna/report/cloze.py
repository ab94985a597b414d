"""The report's table of cloze items: which of four words comes next, by the model, its n-gram model and chance."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from puna.report import figures
from puna.report.facts import Facts, at, items, number
from puna.report.markup import NONE, Html, absent, count, element, join, note, paragraph, table
from puna.report.results import labels

ROWS = ("model", "ngram", "frequency", "chance")
EXAMPLES = 2  # of a source


def asked(facts: Facts) -> Html:
    """The picture, the table behind it, some of the items, and what they are."""
    found = _by_source(facts)
    if not found:
        if at(facts.cloze, "results") == {}:
            return paragraph("The held-out text gives no items, or the recipe asks for none.")
        return absent("cloze items of held-out text", "evaluations/cloze.json")
    names = labels(facts) | {"frequency": "most frequent", "chance": "chance"}
    rows = [name for name in ROWS if any(number(row, name, "mean") is not None for row in found.values())]
    panels = [
        figures.Shares(source, [(number(row, name, "mean"), number(row, name, "error")) for name in rows])
        for source, row in found.items()
    ]
    head = ["% right", *found]
    lines: list[list[object]] = [[names[name], *(_percent(row, name) for row in found.values())] for name in rows]
    if any(number(row, "difference", "mean") is not None for row in found.values()):
        less = [f"this model less {names['ngram']}", *(_percent(row, "difference", "+") for row in found.values())]
        lines.append(list(less))
    lines.append(["items", *(count(number(row, "items")) for row in found.values())])
    return join(
        element("figure", figures.shares([names[name] for name in rows], panels)),
        table(head, lines),
        note(*_how(facts, found)),
        _examples(facts),
    )


def _by_source(facts: Facts) -> dict[str, Any]:
    """Of a run with one source, that source alone: "all" says the same."""
    found = {source: row for source, row in facts.by_source(at(facts.cloze, "results")) if number(row, "items")}
    return {source: row for source, row in found.items() if source != "all"} if len(found) == 2 else found


def _percent(row: Any, name: str, sign: str = "") -> str:
    mean, error = number(row, name, "mean"), number(row, name, "error")
    if mean is None:
        return NONE
    return f"{100 * mean:{sign}.1f}" + ("" if error is None else f"\u00a0±\u00a0{100 * error:.1f}")


def _how(facts: Facts, found: dict[str, Any]) -> list[str]:
    said = [
        "A passage of held-out text breaks off, and one of four words comes next: the text's own, or one of three that "
        "are about as frequent in the training text of that source, of the same case, and like it not in the passage. "
        "The likeliest behind the passage is taken. ",
    ]
    if at(facts.cloze, "checkpoint"):
        said.append(f"The model is the checkpoint {at(facts.cloze, 'checkpoint')}. ")
    said.append(
        "The n-gram model was trained on the training text of the source. Most frequent: always the one of the four "
        "that the training text has most often; what it has above chance is what frequency alone tells. ± is one "
        "standard error over items, and of chance that of somebody who guesses. For all, every item counts alike."
    )
    cut = number(found.get("all") or next(iter(found.values())), "cut")
    if cut:
        said.append(f" {count(cut)} passages did not fit the model's context, and lost their beginning.")
    return said


def _examples(facts: Facts) -> Html:
    """The first items of each source, with what was answered; none where documents are asked to be hidden."""
    if facts.hidden is None or facts.hidden.entries:
        return Html("")
    shown = [
        element("li", *_example(source, item, at(facts.cloze, "picked", source), place, ngram))
        for source, known in items(facts.cloze_items, "sources")
        for place, (item, ngram) in enumerate(_first(known))
    ]
    opened = element("ul", *shown, class_="note")
    return element("details", element("summary", "Some of the items"), opened) if shown else Html("")


def _first(known: Any) -> Iterable[tuple[Any, Any]]:
    made, scores = at(known, "items"), at(known, "ngram")
    several = made[:EXAMPLES] if isinstance(made, list) else []
    rows = scores[:EXAMPLES] if isinstance(scores, list) else []
    return [(item, rows[place] if place < len(rows) else None) for place, item in enumerate(several)]


def _example(source: str, item: Any, picked: Any, place: int, ngram: Any) -> list[object]:
    choices = at(item, "choices")
    if not isinstance(choices, list):
        return [source]
    right, by_model = number(item, "right"), picked[place] if isinstance(picked, list) and place < len(picked) else None
    by_ngram = ngram.index(max(ngram)) if _is_scores(ngram) else None
    told = [element("strong", str(choice)) if index == right else str(choice) for index, choice in enumerate(choices)]
    parts: list[object] = [f"{source}: … {str(at(item, 'passage') or '')[-120:]} "]
    for index, word in enumerate(told):
        by = [who for who, what in (("model", by_model), ("n-gram", by_ngram)) if what == index]
        parts += [" / " if index else "[", word, f" ({', '.join(by)})" if by else ""]
    return [*parts, "]"]


def _is_scores(ngram: Any) -> bool:
    return isinstance(ngram, list) and bool(ngram) and all(isinstance(value, int | float) for value in ngram)
