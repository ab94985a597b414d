"""The part of a paper that is kept (section 2.1: "we removed everything before the first section, as well as the
bibliography").

The text begins at the first \\section, or at a \\part or \\chapter before it. Bibliographies go wherever they stand:
`thebibliography` and its kin, \\bibliography and what belongs to it, and a section that is titled References, up to the
next heading or the end of its list. An appendix stays, unless the recipe says otherwise. What stands in verbatim text
is none of these.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from puna.data.latex.commands import NAMED
from puna.data.latex.comments import behind, behind_command
from puna.data.latex.definitions import SPACES, group_end, option_end
from puna.data.latex.words import (
    APPENDICES,
    BIBLIOGRAPHIES,
    BIBLIOGRAPHY,
    BIBLIOGRAPHY_TITLES,
    HEADINGS,
    VERBATIM,
    VERBATIM_COMMANDS,
)

PLACES = re.compile(
    r"\\(?:\\|("
    + "|".join((*HEADINGS, *BIBLIOGRAPHY, *sorted(VERBATIM_COMMANDS), "appendix", "begin", "bibitem"))
    + r")(?![A-Za-z@]))"
)
COMMANDS = re.compile(r"\\[A-Za-z]+\*?|[^\w\s]")
FRONT = re.compile(r"\\maketitle(?![A-Za-z])|\\end\s*\{abstract\}|\\endabstract(?![A-Za-z])")


def cut(
    text: str, *, keep_appendix: bool = True, keep_without_section: bool = False, verbatim: Collection[str] = VERBATIM
) -> str | None:
    """The part of a paper that is kept; None when it has no section. `keep_without_section`: such a paper is kept from
    its title and abstract on instead."""
    begin = first_section(text, verbatim)
    if begin is None:
        if not keep_without_section:
            return None
        begin = max((match.end() for match in FRONT.finditer(text)), default=0)
    return _without_bibliography(text, begin, keep_appendix, verbatim)


def first_section(text: str, verbatim: Collection[str] = VERBATIM) -> int | None:
    """Where the first heading stands."""
    at = 0
    missing: set[str] = set()
    while match := PLACES.search(text, at):
        at, name = match.end(), match[1]
        if name in HEADINGS:
            return match.start()
        at = _behind_verbatim(text, name, at, verbatim, missing)
    return None


def _without_bibliography(text: str, begin: int, keep_appendix: bool, verbatim: Collection[str]) -> str:
    out: list[str] = []
    pos = at = begin
    muted = False  # within a section of references
    missing: set[str] = set()
    while match := PLACES.search(text, at):
        start, at, name = match.start(), match.end(), match[1]
        named = NAMED.match(text, at) if name == "begin" else None
        if name == "appendix" or (named and named[1] in APPENDICES):
            if not keep_appendix:
                out.append("" if muted else text[pos:start])
                pos = len(text)
                break
            pos = start if muted else pos
            muted = False
        elif name in HEADINGS:
            references = is_bibliography(title_at(text, at))
            if references and not muted:
                out.append(text[pos:start])
            elif muted and not references:
                pos = start
            muted = references
        elif (named and named[1] in BIBLIOGRAPHIES) or name == "bibitem":
            if not muted:
                out.append(text[pos:start])
            muted = True
            if named:
                pos = at = behind(text, named[1], named.end(), missing) or len(text)
                muted = False
        elif name in BIBLIOGRAPHY:
            if not muted:
                out.append(text[pos:start])
            pos = at = _behind_arguments(text, at)
        else:
            at = _behind_verbatim(text, name, at, verbatim, missing)
    if not muted:
        out.append(text[pos:])
    return "".join(out).rstrip()


def title_at(text: str, at: int) -> str:
    """The title of a heading whose command ends at `at`."""
    at += text.startswith("*", at)
    at = SPACES.match(text, at).end()  # type: ignore[union-attr]
    at = max(at, option_end(text, at))
    end = group_end(text, SPACES.match(text, at).end())  # type: ignore[union-attr]
    return text[at:end] if 0 < end < at + 200 else ""


def is_bibliography(title: str) -> bool:
    return " ".join(COMMANDS.sub(" ", title).lower().split()) in BIBLIOGRAPHY_TITLES


def _behind_verbatim(text: str, name: str | None, at: int, verbatim: Collection[str], missing: set[str]) -> int:
    if name == "begin":
        named = NAMED.match(text, at)
        return behind(text, named[1], named.end(), missing) or at if named and named[1] in verbatim else at
    return behind_command(text, name, at) if name in VERBATIM_COMMANDS else at


def _behind_arguments(text: str, at: int) -> int:
    """Behind an argument in brackets and one in braces, where they follow."""
    at += text.startswith("*", at)
    at = max(at, option_end(text, at))
    return max(at, group_end(text, SPACES.match(text, at).end()))  # type: ignore[union-attr]
