"""What stands at the beginnings of lines in wikitext: headings, items, rules, and the sections under headings."""

from __future__ import annotations

import re
from html.entities import entitydefs

from puna.data.entities import unescape
from puna.data.wiki import tidy
from puna.data.wiki.marks import TERM, UnsureError
from puna.data.wiki.words import BLOCKS, CONTROLS

LINE = re.compile(r"\n(?:[*#:;]+|-{4,}|=[^\n]*)")
VOIDS = re.compile(r"</?(?:br|hr)(?: [^<>\n]*)?/?>", re.IGNORECASE)
LEFT = re.compile(r"</?([a-zA-Z]+)")
ENTITY = re.compile(r"&(?:#[xX]([0-9a-fA-F]+)|#([0-9]+)|([0-9a-zA-Z]+));")
IN_NO_LINE = BLOCKS | {"li"}


def without_sections(text: str, dropped: frozenset[str]) -> str:
    """The text without what `tidy` drops in any case, so that nothing is resolved there."""
    first, *pieces = text.split(f"\n{tidy.HEADING}")
    kept, below = [first], 7
    for piece in pieces:
        level, title = int(piece[0]), piece[1:].partition("\n")[0]
        if level > below:
            continue
        below = level if title.strip("' ").lower().rstrip(":") in dropped else 7
        if below == 7:
            kept.append(piece)
    return f"\n{tidy.HEADING}".join(kept)


def lines(text: str) -> str:
    """Headings, items and rules at the beginnings of lines become marks."""
    return LINE.sub(_line, f"\n{text}")[1:]


def lines_behind(text: str) -> str:
    """As `lines`, where the text's own beginning is not a line's."""
    return LINE.sub(_line, text)


def _line(found: re.Match[str]) -> str:
    signs = found[0][1:]
    if signs[0] == "-":
        return f"\n{tidy.BREAK}"
    if signs[0] == "=":
        return _heading(signs)
    marks = "".join(tidy.ITEM if sign in "*#" else tidy.INDENT for sign in signs)
    return f"\n{marks}{TERM}" if signs[-1] == ";" else f"\n{marks}"


def _heading(line: str) -> str:
    end = line.rfind("=") + 1
    closed = end - len(line[:end].rstrip("="))
    if closed == end:
        if "<" in line:
            raise UnsureError
        return f"\n{line}"
    if "<" in line[end:]:
        raise UnsureError
    opened = len(line) - len(line.lstrip("="))
    level = min(opened, closed, 6)
    written = line[level : end - level]
    title = VOIDS.sub(" ", written)
    if "[" in written and title != written:
        raise UnsureError
    title = title.replace(tidy.BREAK, " ")
    if any(name.lower() in IN_NO_LINE for name in LEFT.findall(title)):
        raise UnsureError
    return f"\n\n{tidy.HEADING}{level}{' '.join(title.split())}\n{line[end:]}"


def terms(text: str) -> str:
    return re.sub(f"{TERM}([^\n:]*):", rf"\1{tidy.INDENT}", text).replace(TERM, "")


def entity(found: re.Match[str]) -> str:
    sixteen, ten, name = found.groups()
    if name:
        return CONTROLS.sub("", unescape(found[0])) if name in entitydefs else found[0]
    digits = sixteen or ten
    number = int(digits, 16 if sixteen else 10) if len(digits) < 9 else 0
    if not 1 <= number <= 0x10FFFF:
        return found[0]
    return CONTROLS.sub("", chr(number))
