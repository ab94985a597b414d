"""Licence headers off the top of a source file, and nothing else.

The paper removes boilerplate such as headers with regular expressions; the known trap is one that eats shebangs,
`#include`, `#pragma` and Markdown titles too. So only comments at the very top are looked at, in the way the language
writes them, paragraph by paragraph: a line that gives notice of copyright goes, and the text of a licence from where it
begins to the end of its paragraph. What else a comment says stays, as do a `#!` line, an encoding line and instructions
to tools.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from puna.data.code.languages import COMMENTS, Comments

NOTICE = re.compile(
    r"^\W*(portions?\s+)?(copyright\b|\(c\)\s|©)|copyright\s*(\(c\)|©|\d{4})|\(c\)\s*\d{4}|all rights reserved|"
    r"SPDX-[A-Za-z-]+:|^\W*licen[cs]e\s*:",
    re.IGNORECASE,
)
LICENCE = re.compile(
    r"(this|the)\s+(source(\s+code)?|software|file|code|program|module|package|work|project|library)\s+(form\s+)?is\s+"
    r"((hereby|also|dual[- ]?)\s+)*(licen[cs]ed|distributed|released|provided|made available|free software|subject to|"
    r"governed|covered)|"
    r"licen[cs]ed\s+(to|under|according)|(distributed|released|available|used?)\s+under\s+(the\s+)?"
    r"(terms|.{0,40}licen[cs]e)|"
    r"under\s+the\s+terms\s+of|(use of this|governed by an?).{0,60}licen[cs]e|see\s+(the\s+)?(file\s+)?"
    r"(licen[cs]e|copying|notice)(\.\w+)?\b|licen[cs]e\s+(file|agreements?|text|information|terms)\b|"
    r"permission\s+(is\s+hereby\s+granted|to\s+use,?\s+copy)|redistribution\s+and\s+use|redistributions\s+(of|in)\s|"
    r"(neither\s+)?the\s+names?\s+of\s+.{0,60}(nor|may\s+not)\s|above\s+copyright\s+notice|unless\s+required\s+by\s+applicable\s+law|"
    r"(provided|is|are)\s+[\"'`]+as[ -]is|in\s+no\s+event\s+shall|without\s+(any\s+)?(express|warrant)|"
    r"warrant(y|ies)\s+of|may\s+not\s+use\s+this\s+file|obtain\s+a\s+copy\s+of\s+the\s+licen[cs]e|"
    r"(apache|opensource)\.org/licenses|"
    r"gnu\s+(lesser|library|affero|general)|mozilla\s+public\s+licen[cs]e",
    re.IGNORECASE,
)
CLOSED = re.compile(
    r"GNU (Lesser |Library |Affero )?General Public Licen[cs]e|Mozilla Public Licen[cs]e|\b[AL]?GPLv?\d"
)
TOOL = re.compile(
    r"\s*(-\*-|vim?:|ex:|noqa\b|@(ts-|flow|jsx|format|jest)|<reference|\+build\b|go:\w|eslint|jshint|global\s|shellcheck\s|"
    r"clang-format|NOLINT|swiftlint:|rubocop:|frozen_string_literal:|warn_indent:|LANGUAGE\s|OPTIONS_GHC|syntax\s*=|"
    r"(mypy|type|typed|ruff|pylint|flake8|isort|fmt|pyright|cython|distutils|yapf|pragma|pytype|pyre-\w+|(en)?coding)\s*[:=])",
    re.IGNORECASE,
)
CODING = re.compile(r"[ \t\f]*#.*?coding[:=][ \t]*[-\w.]+")
SPDX = re.compile(r"^[\s#/*;%<!\-\"'.]*SPDX-License-Identifier:[ \t]*([^\r\n]*)", re.MULTILINE)
LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")
# What may stand above a header: declarations that a language wants in its first lines.
OPENING = re.compile(r"<\?(xml|php)\b[^>]*(\?>)?$|<!DOCTYPE\b[^>]*>$|[\"']use strict[\"'];?$", re.IGNORECASE)
HEAD = 4_000  # characters in which a file says what its own licence is
WINDOW = 4_000  # characters in which most headers end, so that no more is cut into lines


@dataclass
class _Comment:
    """A run of comment lines: (number of the line, what it says)."""

    lines: list[tuple[int, str]] = field(default_factory=list)
    whole: bool = False  # one comment with a beginning and an end, which cannot lose its first or last line alone


def without_header(text: str, extension: str = ".py") -> str:
    """`text` without what the comments at its top say of copyright and licence. Only whole comment lines go, and blank
    lines that would be left where a whole comment stood."""
    window = text.rfind("\n", 0, WINDOW) + 1
    if 0 < window < len(text):
        start = text[:window]
        head = LINE.findall(start) if "\r" in start else [f"{line}\n" for line in start[:-1].split("\n")]
        comments, end = _comments(head, extension)
        begin = COMMENTS.get(extension, Comments()).begin
        if end < len(head) and not (begin and head[end].lstrip("\ufeff \t\f").startswith(begin)):
            return _without(head, comments, end) + text[window:]
    return without_any_header(text, extension)


def without_any_header(text: str, extension: str = ".py") -> str:
    """As `without_header`, over all lines of the text, however long its header."""
    lines = LINE.findall(text)
    return _without(lines, *_comments(lines, extension))


def _without(lines: list[str], comments: list[_Comment], end: int) -> str:
    gone: set[int] = set()
    for comment in comments:
        gone |= _legal(comment)
    if not gone:
        return "".join(lines)
    gone = _with_blanks(gone, lines[:end])
    return "".join(line for number, line in enumerate(lines) if number not in gone)


def spdx_line(text: str) -> str:
    """The SPDX expression that a file names for itself in its head, or "". Where there are several, all are meant."""
    if "SPDX-License" not in text[:HEAD]:
        return ""
    found = [re.sub(r"(\*/|-->|\"\"\"|#+)\s*$", "", said).strip() for said in SPDX.findall(text[:HEAD])]
    return found[0] if len(found) == 1 else " AND ".join(f"({one})" for one in dict.fromkeys(found))


def is_closed(text: str) -> bool:
    """Whether a file's head names a copyleft licence, whatever its package says."""
    head = text[:HEAD]
    return ("GPL" in head or "Licen" in head) and CLOSED.search(re.sub(r"[\s#*/;%]+", " ", head)) is not None


def _comments(lines: list[str], extension: str) -> tuple[list[_Comment], int]:
    """The comments above the first line that is neither comment nor blank, and the number of that line."""
    mark, begin, close = COMMENTS.get(extension, Comments())
    found: list[_Comment] = []
    number = 0
    while number < len(lines):
        line = lines[number].strip("﻿ \t\f\r\n") if number == 0 else lines[number].strip()
        first = number < 2 and (line.startswith("#!") or (mark == "#" and CODING.match(lines[number])))
        first = first or OPENING.match(line) is not None
        if not line or first:
            found.append(_Comment())
        elif begin and line.startswith(begin):
            last = next((n for n in range(number, len(lines)) if close in lines[n]), None)
            if last is None or lines[last].partition(close)[2].strip():
                break  # it never ends, or code stands behind it
            if any(begin in held for held in lines[number + 1 : last + 1]):
                break  # one in another: some languages end it later
            said = [
                (n, lines[n].replace(begin, "").replace(close, "").strip(" \t\r\n*")) for n in range(number, last + 1)
            ]
            found.append(_Comment(said, whole=True))
            number = last
        elif mark and line.startswith(mark) and not (begin and line.startswith(begin[:3]) and len(begin) > 2):
            if not found or found[-1].whole:
                found.append(_Comment())
            found[-1].lines.append((number, line[len(mark) :].strip("#/;%*! \t")))
        else:
            break
        number += 1
    return found, number


def _legal(comment: _Comment) -> set[int]:
    """The lines of a comment that go."""
    gone: set[int] = set()
    paragraph: list[tuple[int, str]] = []
    for number, said in [*comment.lines, (-1, "")]:
        if re.search(r"\w", said) and not TOOL.match(said):
            paragraph.append((number, said))
            continue
        gone |= _legal_lines(paragraph)
        paragraph = []
    if not gone:
        return gone
    left = [number for number, said in comment.lines if number not in gone and re.search(r"\w", said)]
    bare = [number for number, said in comment.lines if not re.search(r"\w", said)]
    if not left:
        return {number for number, _ in comment.lines}
    if comment.whole:
        return gone - {comment.lines[0][0], comment.lines[-1][0]}
    # Bare comment lines stay where they part what is left.
    return gone | {n for n in bare if n < left[0] or n > left[-1] or n - 1 in gone}


def _legal_lines(paragraph: list[tuple[int, str]]) -> set[int]:
    """Of one paragraph: the notices, and everything from where the text of a licence begins."""
    text, ends = "", []
    for _, said in paragraph:
        text += f"{said} "
        ends.append(len(text))
    found = LICENCE.search(text)
    begin = found.start() if found else len(text)
    return {number for (number, said), end in zip(paragraph, ends, strict=True) if end > begin or NOTICE.search(said)}


def _with_blanks(gone: set[int], head: list[str]) -> set[int]:
    """The lines that go, with the blank ones that then stand at the top or behind another blank one."""
    all_gone = set(gone)
    blank_before = True
    for number, line in enumerate(head):
        if number in gone:
            continue
        blank = not line.strip()
        if blank and blank_before and number > min(gone):
            all_gone.add(number)
        blank_before = blank
    return all_gone
