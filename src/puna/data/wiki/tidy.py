"""Mends what dropped markup leaves behind: empty parentheses, stray signs, headings over nothing, empty lines.

Works on text in which the places that matter are marked with control characters, which no page can hold: where a
template was dropped, headings, list items, and text to be left alone (code, formulas).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

GAP = "\x00"  # a template stood here
KEPT = "\x01"  # around the number of a text to be left alone
HEADING = "\x02"  # begins the line of a heading, before the digit of its level
BREAK = "\x03"  # a line end that stays one
INDENT = "\x04"  # wikitext's : and ;
ITEM = "\x05"  # wikitext's * and #

SPACES = str.maketrans(
    dict.fromkeys("\t\u00a0\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000", " ")
)
NOTHING = dict.fromkeys(
    map(ord, "\u00ad\u200b\u200e\u200f\u2060\ufeff\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
)
LEADING = re.compile(rf"^[\s{INDENT}{ITEM}]+")
INNER = re.compile(r"\(([^()]*)\)|\[([^\[\]]*)\]")
RESIDUE = ("{{", "}}", "[[", "]]", "{|", "|}", "|-", "'''", "<ref", "</ref")


@dataclass
class _Section:
    level: int
    title: str
    lines: list[str] = field(default_factory=list)


def tidy(text: str, dropped: frozenset[str], verbatim: Sequence[str]) -> str:
    """The text of a page without marks; `dropped` are titles of sections to leave out, in lower case."""
    text = text.translate(NOTHING).translate(SPACES)
    parts = []
    for section in _with_text(_kept(_sections(text), dropped)):
        parts += [section.title] * (section.level > 0) + _paragraphs(section.lines)
    text = "\n\n".join(parts)
    text = re.sub(f"{KEPT}(\\d+){KEPT}", lambda number: verbatim[int(number[1])], text)
    text = _without_residue(text)
    return re.sub(r"\n[ \n]*\n", "\n\n", text).strip()


def _sections(text: str) -> list[_Section]:
    found = [_Section(0, "")]
    for line, begins in _joined(text):
        if line.startswith(HEADING):
            found.append(_Section(int(line[1]), _line(line[2:])))
        elif sound := _line(line):
            found[-1].lines += ["", sound] if begins else [sound]
    return found


def _joined(text: str) -> Iterator[tuple[str, bool]]:
    """(line, whether an empty one stood before it). As MediaWiki reads it, plain lines that follow one another are one
    line; list items, indented lines and those behind a <br> are lines of their own."""
    held, begins, joins = "", True, False
    for raw in text.split("\n"):
        for index, piece in enumerate(raw.split(BREAK)):
            line = _without_broken(_without_quotes(piece))
            plain = line[:1] not in (ITEM, INDENT, HEADING, " ", "") and not re.fullmatch(f"{KEPT}\\d+{KEPT}", line)
            if plain and joins and index == 0:
                held += f" {line}"
                continue
            if held:
                yield held, begins
                begins = False
            held, joins = line.strip(f" {GAP}") and line, plain
            begins = begins or not raw.strip(f" {GAP}")
    yield held, begins


def _without_broken(line: str) -> str:
    """A line without markup that is not whole: templates, references, links and rows of tables never closed."""
    if line.startswith(("|", "!", "{|")) and KEPT not in line:
        return ""
    line = re.sub(r"\{\{.*$|\}\}|<ref\b.*$", "", line)
    return re.sub(r"\[\[(?:[^\[\]|]*\|)?|\]\]", "", line)


def _kept(sections: list[_Section], dropped: frozenset[str]) -> list[_Section]:
    """The sections that are not dropped, nor below one that is."""
    kept: list[_Section] = []
    below = 7
    for section in sections:
        if section.level > below:
            continue
        below = section.level if section.title.lower().rstrip(":") in dropped else 7
        if below == 7:
            kept.append(section)
    return kept


def _with_text(sections: list[_Section]) -> list[_Section]:
    """The sections with text in them or below them."""
    kept: list[_Section] = []
    for section in reversed(sections):
        if any(section.lines) or (kept and kept[-1].level > section.level):
            kept.append(section)
    return kept[::-1]


def _paragraphs(lines: list[str]) -> list[str]:
    """Lines between empty ones."""
    return [part.strip("\n") for part in "\n".join(lines).split("\n\n") if part.strip()]


def _line(line: str) -> str:
    """One line without marks and gaps; empty when no word is left."""
    lead = LEADING.match(line)
    item = lead is not None and ITEM in lead[0]
    line = line[lead.end() :] if lead else line
    line = re.sub(rf"{HEADING}\d|{ITEM}", " ", line).replace(INDENT, ": ")
    line = re.sub(r"-\{(?:[^{}|]*\|)?(?:[a-z-]+:)?([^{};]*)[^{}]*\}-", r"\1", line)  # one text for two scripts
    line = re.sub(r"__[A-ZА-ЯÄÖÜ]+__", "", line)
    if GAP in line:
        line = _without_gaps(line)
    line = _without_empty(line)
    if not re.search(r"\w", line):
        return ""
    return f"- {line}" if item else line


def _without_gaps(line: str) -> str:
    """Drop what told about a dropped template: in parentheses the part that only introduced it."""
    line = re.sub(rf"(?<=[^\s({GAP}]){GAP}", "", line)  # behind a word it was a note
    previous = ""
    while previous != line:
        previous = line
        line = INNER.sub(_without_labels, line)
    return line.replace(GAP, "")


def _without_labels(group: re.Match[str]) -> str:
    begin, end = group[0][0], group[0][-1]
    inside = group[0][1:-1]
    if GAP not in inside:
        return group[0]
    kept = ""
    for piece in re.split(r"(?<=[;,])", inside):
        words = piece.replace(GAP, " ").rstrip(" ;,").split()
        if GAP not in piece or (len(words) > 1 and not words[-1].endswith(":")):
            kept += piece.replace(GAP, "")
    kept = kept.strip(" ;,")
    return f"{begin}{kept}{end}" if kept else ""


def _without_empty(line: str) -> str:
    line = re.sub(r" +", " ", line)
    line = re.sub(r"\(\s*[,;:]\s*", "(", line)
    line = re.sub(r"\s*[,;:]?\s*\)", ")", line)
    line = re.sub(r"(?<=[(\[])\s+|(?<=\w)\s+(?=\])", "", line)
    line = re.sub(r"\((?:e\.g\.|i\.e\.|see|see also|cf\.?)?\)|\[\s*\]|\"\s*\"(?!\w)", "", line)
    line = re.sub(r" +", " ", line)
    line = re.sub(r" ([,.])(?![.\w])", r"\1", line)
    line = re.sub(r",(?:\s*,)+", ",", line)
    line = re.sub(r",\s*\.(?!\w|\.)", ".", line)
    return re.sub(r"^[,.;:](?!\S)", "", line.strip()).strip()


def _without_quotes(line: str) -> str:
    """A line without the marks of bold and italic; an apostrophe before them stays (L'''amour'')."""
    runs = [(m.start(), len(m[0])) for m in re.finditer("'{2,}", line)]
    if not runs:
        return line
    # As MediaWiki reads a run: two marks are italic, three bold, five both; what is more was meant as apostrophes.
    marks = [2 if n == 2 else 3 if n in (3, 4) else 5 for _, n in runs]
    bold, italic = sum(n != 2 for n in marks), sum(n != 3 for n in marks)
    if bold % 2 and italic % 2:
        threes = [i for i, n in enumerate(marks) if n == 3]
        best = [i for i in threes if re.search(r"(^|[^\w])\w$", line[: runs[i][0]])] or [
            i for i in threes if re.search(r"\w$", line[: runs[i][0]])
        ]
        if best or threes:
            marks[(best or threes)[0]] = 2
    out, last = [], 0
    for (start, length), mark in zip(runs, marks, strict=True):
        out += [line[last:start], "'" * (length - mark)]
        last = start + length
    return "".join([*out, line[last:]])


def _without_residue(text: str) -> str:
    """Nothing that reads as wiki markup is left: where code or a formula holds it, a space parts it."""
    for mark in RESIDUE:
        while mark in text:
            text = text.replace(mark, f"{mark[0]} {mark[1:]}")
    return text
