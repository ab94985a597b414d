"""Mends what dropped markup leaves behind: empty parentheses, stray signs, headings over nothing, empty lines.

Works on text in which the places that matter are marked with control characters, which no page can hold: where a
template was dropped, headings, list items, and text to be left alone (code, formulas).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from puna.data.entities import unescape

GAP = "\x00"  # a template stood here
KEPT = "\x01"  # around the number of a text to be left alone
HEADING = "\x02"  # begins the line of a heading, before the digit of its level
BREAK = "\x03"  # a line end that stays one
INDENT = "\x04"  # wikitext's : and ;
ITEM = "\x05"  # wikitext's * and #

DEEPEST = 40  # nested parentheses that are mended, so that time stays linear in the line
SPACES = (
    "\u0085\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
)
NOTHING = "\u00ad\u200b\u200e\u200f\u2060\ufeff\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
LEADING = re.compile(rf"^[\s{INDENT}{ITEM}]+")
INNER = re.compile(r"\(([^()]*)\)|\[([^\[\]]*)\]")
MARKED = (ITEM, INDENT, HEADING, " ", "")
NOWIKI = re.compile(r"</?nowiki>")
VERBATIM = re.compile(f"{KEPT}(\\d+){KEPT}")
ALONE = re.compile(f"{KEPT}\\d+{KEPT}")
BROKEN_BEGIN = ("|", "!", "{")
BROKEN = ("{{", "}}", "[[", "]]", "<ref")
OPEN = re.compile(r"\{\{.*$|\}\}|<ref\b.*$")
OPEN_LINK = re.compile(r"\[\[(?:[^\[\]|]*\|)?|\]\]")
LEADS = (" ", INDENT, ITEM)
MISPLACED = re.compile(rf"{HEADING}\d|{ITEM}")
VARIANTS = re.compile(r"-\{(?:[^{}|]*\|)?(?:[a-z-]+:)?([^{};]*)[^{}]*\}-")  # one text for two scripts
SWITCH = re.compile(r"__[A-ZА-ЯÄÖÜ]+__")
WORD = re.compile(r"\w")
NOTE = re.compile(rf"(?<=[^\s({GAP}]){GAP}")  # behind a word it was a note
PIECES = re.compile(r"(?<=[;,])")
QUOTES = re.compile("'{2,}")
SPACE = re.compile("  +")
FIRST_SIGN = re.compile(r"\( *[,;:] *")
LAST_SIGN = re.compile(r" *[,;:]? *\)")
INNER_SPACE = re.compile(r"(?<=[(\[]) +|(?<=\w) +(?=\])")
EMPTY = re.compile(r"\((?:e\.g\.|i\.e\.|see|see also|cf\.?)?\)|\[ *\]|\" *\"(?!\w)")
STRAY_SPACE = re.compile(r" ([,.])(?![.\w])")
COMMAS = re.compile(r",(?: *,)+")
COMMA_STOP = re.compile(r", *\.(?!\w|\.)")
RESIDUE = ("{{", "}}", "[[", "]]", "{|", "|}", "|-", "'''", "<ref", "</ref")


@dataclass
class _Section:
    level: int
    title: str
    lines: list[str] = field(default_factory=list)


def tidy(text: str, dropped: frozenset[str], verbatim: Sequence[str]) -> str:
    """The text of a page without marks; `dropped` are titles of sections to leave out, in lower case."""
    text = _one_space(text)
    parts = []
    for section in _with_text(_kept(_sections(text), dropped)):
        parts += [section.title] * (section.level > 0) + _paragraphs(section.lines)
    text = "\n\n".join(parts)
    text = VERBATIM.sub(lambda number: verbatim[int(number[1])], text)
    text = _without_residue(text)
    return re.sub(r"\n[ \n]*\n", "\n\n", text).strip()


def keep(text: str, kept: list[str]) -> str:
    """The mark of a text that comes out untouched and goes to `kept`."""
    kept.append(text)
    return f"{KEPT}{len(kept) - 1}{KEPT}"


def formula(inside: str, kept: list[str]) -> str:
    """What stands for a formula, by what its tag holds; nothing for an empty one."""
    text = " ".join(unescape(inside).split())
    return keep(f"${text}$", kept) if text else ""


def code(inside: str, kept: list[str]) -> str:
    """What stands for a block of code, by what its tag holds; nothing for an empty one."""
    text = NOWIKI.sub("", inside).strip("\n")
    return f"\n{keep(unescape(text), kept)}\n" if text.strip() else ""


def _one_space(text: str) -> str:
    """The text without invisible signs, and with the plain space as its only one but the line's end."""
    text = text.replace("\t", " ")
    if text.isascii():
        return text
    for sign in NOTHING:
        text = text.replace(sign, "")
    for sign in SPACES:
        text = text.replace(sign, " ")
    return text


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
    broken = any(mark in text for mark in BROKEN)
    for raw in text.split("\n"):
        for index, piece in enumerate(raw.split(BREAK) if BREAK in raw else (raw,)):
            line = _without_quotes(piece) if "''" in piece else piece
            if broken or line[:1] in BROKEN_BEGIN:
                line = _without_broken(line)
            plain = line[:1] not in MARKED and not (line[0] == KEPT and ALONE.fullmatch(line))
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
    return OPEN_LINK.sub("", OPEN.sub("", line))


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
    lead = LEADING.match(line) if line[:1] in LEADS else None
    item = lead is not None and ITEM in lead[0]
    line = line[lead.end() :] if lead else line
    if HEADING in line or ITEM in line:
        line = MISPLACED.sub(" ", line)
    line = line.replace(INDENT, ": ")
    if "-{" in line:
        line = VARIANTS.sub(r"\1", line)
    if "__" in line:
        line = SWITCH.sub("", line)
    if GAP in line:
        line = _without_gaps(line)
    line = _without_empty(line)
    if not WORD.search(line):
        return ""
    return f"- {line}" if item else line


def _without_gaps(line: str) -> str:
    """Drop what told about a dropped template: in parentheses the part that only introduced it."""
    line = NOTE.sub("", line)
    for _ in range(DEEPEST):
        previous = line
        line = INNER.sub(_without_labels, line)
        if line == previous:
            break
    return line.replace(GAP, "")


def _without_labels(group: re.Match[str]) -> str:
    begin, end = group[0][0], group[0][-1]
    inside = group[0][1:-1]
    if GAP not in inside:
        return group[0]
    kept = ""
    for piece in PIECES.split(inside):
        words = piece.replace(GAP, " ").rstrip(" ;,").split()
        if GAP not in piece or (len(words) > 1 and not words[-1].endswith(":")):
            kept += piece.replace(GAP, "")
    kept = kept.strip(" ;,")
    return f"{begin}{kept}{end}" if kept else ""


def _without_empty(line: str) -> str:
    """Each rule runs where the signs stand without which it finds nothing."""
    line = SPACE.sub(" ", line) if "  " in line else line
    if "( " in line or "(," in line or "(;" in line or "(:" in line:
        line = FIRST_SIGN.sub("(", line)
    if " )" in line or ",)" in line or ";)" in line or ":)" in line:
        line = LAST_SIGN.sub(")", line)
    if "( " in line or "[ " in line or " ]" in line:
        line = INNER_SPACE.sub("", line)
    if "()" in line or ".)" in line or "(see" in line or "(cf)" in line or "[" in line or '"' in line:
        line = EMPTY.sub("", line)
        line = SPACE.sub(" ", line) if "  " in line else line
    if "," in line or " ." in line:
        line = STRAY_SPACE.sub(r"\1", line) if " ," in line or " ." in line else line
        line = COMMAS.sub(",", line) if ",," in line or ", ," in line else line
        line = COMMA_STOP.sub(".", line) if ",." in line or ", ." in line else line
    line = line.strip()
    return line[1:].strip() if line[:1] in ",.;:" and line[1:2] in ("", " ") else line


def _without_quotes(line: str) -> str:
    """A line without the marks of bold and italic; an apostrophe before them stays (L'''amour'')."""
    runs = [(found.start(), len(found[0])) for found in QUOTES.finditer(line)]
    # As MediaWiki reads a run: two marks are italic, three bold, five both; what is more was meant as apostrophes.
    marks = [2 if n == 2 else 3 if n in (3, 4) else 5 for _, n in runs]
    bold, italic = sum(n != 2 for n in marks), sum(n != 3 for n in marks)
    if bold % 2 and italic % 2:
        threes = [i for i, n in enumerate(marks) if n == 3]
        words = [i for i in threes if WORD.match(line, runs[i][0] - 1, runs[i][0])]
        best = [i for i in words if runs[i][0] == 1 or not WORD.match(line, runs[i][0] - 2)] or words
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
