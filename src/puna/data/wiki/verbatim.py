"""Comments, references and verbatim tags of wikitext, in one walk over the page's tags (fast reader)."""

from __future__ import annotations

import re

from puna.data.entities import unescape
from puna.data.wiki import tidy
from puna.data.wiki.marks import VOID, UnsureError
from puna.data.wiki.words import CODE, FORMULAS, GONE, HIDDEN, names

VERBATIM = names(
    """nowiki|math|chem|ce|pre|source|syntaxhighlight|gallery|timeline|imagemap|score|hiero|graph|templatedata|inputbox
categorytree|section|ref"""
)
BEGIN = re.compile(r"<(!--|[a-zA-Z]+)")
END = re.compile(r"</([a-zA-Z0-9]*)")
REST = re.compile(r"(?:[ \t][^<>]*|/)?>")


def without_verbatim(text: str, kept: list[str]) -> str:
    """Comments and references are gone, code and formulas are in `kept`, and the number of each where it stood."""
    out: list[str] = []
    last = 0
    for found in BEGIN.finditer(text):
        start = found.start()
        if start < last:
            continue
        name = found[1]
        if name == "!--":
            end = text.find("-->", start + 4)
            if end < 0:
                raise UnsureError
            out += (text[last:start], VOID)
            last = end + 3
            continue
        if name not in VERBATIM and (name := name.lower()) not in VERBATIM:
            continue
        rest = REST.match(text, found.end())
        if rest is None:
            raise UnsureError
        if rest[0].endswith("/>"):
            out += (text[last:start], VOID)
            last = rest.end()
            continue
        end, after = _closing(text, name, rest.end())
        out += (text[last:start], _verbatim(name, rest[0], text[rest.end() : end], kept))
        last = after
    out.append(text[last:])
    return "".join(out)


def _verbatim(name: str, attributes: str, inside: str, kept: list[str]) -> str:
    if name == "ref":
        if _broken(inside):
            raise UnsureError
        return VOID
    if name in GONE or (attributes != ">" and HIDDEN.search(attributes)):
        return VOID
    if name in FORMULAS:
        return tidy.formula(inside, kept) or VOID
    if name in CODE:
        return tidy.code(inside, kept) or VOID
    return tidy.keep(unescape(inside), kept)


def _broken(inside: str) -> bool:
    """Whether what a reference holds may reach beyond its end."""
    if inside.count("{{") != inside.count("}}") or inside.count("[[") != inside.count("]]") or "<ref" in inside:
        return True
    ends = END.findall(inside) if "</" in inside else []
    return any(not name or f"<{name}" not in inside for name in ends if name != "ref")


_CLOSINGS = {name: re.compile(rf"</{name}\s*>", re.IGNORECASE) for name in VERBATIM}


def _closing(text: str, name: str, start: int) -> tuple[int, int]:
    """Where the end tag of `name` begins and ends."""
    found = _CLOSINGS[name].search(text, start)
    if found is None or "\n" in found[0]:
        raise UnsureError
    return found.span()
