"""Markup of the report: elements that escape what is put into them, and numbers that carry their unit.

Prompts, samples, file names and keys come from outside. Only `Html` is taken as markup; any other value is escaped, and
characters that are invisible or change the direction of what follows are set as their code (U+202E), so that nothing in
a sample can hide, run, or rearrange the page.
"""

from __future__ import annotations

import html
import unicodedata
from collections.abc import Callable, Iterable, Sequence

from puna import progress

# Control, format (bidirectional marks, joiners), surrogate, private, unassigned, line and paragraph separators.
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_SET_AS_THEY_ARE = "\n\t"
_NO_CLOSING_TAG = frozenset({"meta", "br"})
NONE = "–"


class Html(str):
    """Text that is markup already."""

    __slots__ = ()


def element(tag: str, *children: object, **attributes: object) -> Html:
    """`<tag attributes>children</tag>`; children that are not Html are escaped.

    Attributes may be named as Python allows: `class_`, `aria_label`.
    """
    named = {name.rstrip("_").replace("_", "-"): value for name, value in attributes.items()}
    opening = f"<{tag}" + "".join(f' {name}="{plain(str(value))}"' for name, value in named.items()) + ">"
    return Html(opening if tag in _NO_CLOSING_TAG else f"{opening}{join(*children)}</{tag}>")


def join(*parts: object, between: str = "") -> Html:
    """The parts one after another, those that are not Html escaped."""
    return Html(html.escape(between).join(part if isinstance(part, Html) else shown(str(part)) for part in parts))


def shown(text: str) -> Html:
    """`text` for the body of the page: escaped, with unseen characters set as their codes."""
    return Html(_replaced(text, html.escape, lambda code: f'<span class="code">{code}</span>'))


def plain(text: str) -> str:
    """`text` for an attribute: escaped, with unseen characters set as their codes in brackets."""
    return _replaced(text, html.escape, lambda code: f"[{code}]")


def visible(text: str) -> str:
    """`text` with unseen characters set as their codes in brackets, not escaped: for matplotlib, which escapes it."""
    return _replaced(text, str, lambda code: f"[{code}]").replace("\n", " ").replace("\t", " ")


def _replaced(text: str, seen: Callable[[str], str], unseen: Callable[[str], str]) -> str:
    return "".join(unseen(f"U+{ord(c):04X}") if is_unseen(c) else seen(c) for c in text)


def is_unseen(character: str) -> bool:
    return character not in _SET_AS_THEY_ARE and unicodedata.category(character) in _UNSEEN


def table(head: Sequence[object], rows: Iterable[Sequence[object]], *, words: int = 1, kind: str = "") -> Html:
    """A table whose first `words` columns hold words and whose others hold numbers, set flush right.

    A row of one cell is the heading of the rows below it.
    """
    titles = [element("th", title, scope="col", **_column(index, words)) for index, title in enumerate(head)]
    body = []
    for row in rows:
        if len(row) == 1:
            body.append(element("tr", element("th", row[0], colspan=len(head), scope="rowgroup"), class_="group"))
            continue
        cells = [element("td", value, **_column(index, words)) for index, value in enumerate(row)]
        body.append(element("tr", element("th", row[0], scope="row"), *cells[1:]))
    whole = element("table", element("thead", element("tr", *titles)), element("tbody", *body), class_=kind)
    return element("div", whole, class_="scroll")


def _column(index: int, words: int) -> dict[str, object]:
    return {} if index < words else {"class_": "n"}


def bar(share: float | None) -> Html:
    """A thin bar as wide as `share` (0 to 1) of its cell; the number beside it says the same in figures."""
    width = f"width:{100 * min(1.0, max(0.0, share or 0.0)):.2f}%"
    return element("span", element("i", style=width), class_="bar", aria_hidden="true")


def paragraph(*parts: object) -> Html:
    return element("p", *parts)


def note(*parts: object) -> Html:
    """A remark in small type under a table or a figure."""
    return element("p", *parts, class_="note")


def absent(what: str, file: str) -> Html:
    """What a section says when the run has not got that far."""
    return element("p", f"Not there yet: {what} (", element("code", file), ").", class_="absent")


def count(value: float | None, unit: str = "") -> str:
    """A whole number with separators: 12,345 documents."""
    return NONE if value is None else _unit(f"{value:,.0f}", unit)


def amount(value: float | None, unit: str = "") -> str:
    """A number in three figures with a decimal prefix: 3.15 M parameters, 1.40 T tokens."""
    if value is None:
        return NONE
    for prefix in ("", "k", "M", "B", "T"):
        if abs(value) < 999.5 or prefix == "T":
            break
        value /= 1000
    places = 0 if not prefix or abs(value) >= 99.95 else 1 if abs(value) >= 9.995 else 2
    return _unit(f"{value:,.{places}f}", f"{prefix} {unit}".strip())


def fixed(value: float | None, places: int, unit: str = "") -> str:
    return NONE if value is None else _unit(f"{value:,.{places}f}", unit)


def size(value: float | None) -> str:
    """Bytes in decimal units: 3.4 MB."""
    return NONE if value is None else progress.size(value).replace(" ", "\u00a0")


def percent(share: float | None) -> str:
    """A share (0 to 1) in percent: 12.3 %; what is there but rounds to nothing is < 0.1 %."""
    if share is None:
        return NONE
    return "<\u00a00.1\u00a0%" if 0 < share < 0.0005 else _unit(f"{100 * share:.1f}", "%")


def seconds(value: float | None) -> str:
    """A length of time: 0.8 s, 3 min 20 s, 2 h 05 min."""
    if value is None:
        return NONE
    if 0 < value < 0.05:
        return "<\u00a00.1\u00a0s"
    return _unit(f"{value:.1f}", "s") if value < 9.95 else progress.seconds(value).replace(" ", "\u00a0")


def _unit(figures: str, unit: str) -> str:
    return f"{figures} {unit}".strip().replace(" ", "\u00a0")
