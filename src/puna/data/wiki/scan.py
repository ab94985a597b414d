"""Wikitext to readable text, fast: the twin of `text.clean`, by searches that run from one end of a page to the other.

What encloses is resolved from the inside out: comments, references and verbatim tags in one walk over the page's tags;
then templates that hold no other, tables, links and tags, again while something changes. Each sweep is linear in the
page, and sweeps are at most DEEPEST, so time is bounded by their product. What is resolved leaves control characters
behind, which no page can hold: those of `tidy` and of `marks`.

`clean` gives what the exact mode gives, or None where it is not sure to: markup that is left open, arguments of
templates, tags that cross. Such a page is read by the exact mode.
"""

from __future__ import annotations

import re

from puna.data.wiki import tidy
from puna.data.wiki.lines import ENTITY, LEFT, VOIDS, entity, lines, lines_behind, terms, without_sections
from puna.data.wiki.links import HEADED, OPEN_ADDRESS, SCHEME_ENDS, addresses, in_address, links
from puna.data.wiki.marks import DEEPEST, SEALED, SIGNS, TERM, VOID, UnsureError, opened
from puna.data.wiki.meanings import MEANINGS, NOTHING, UNKNOWN, remember
from puna.data.wiki.templates import Arguments, Rule, subscript, superscript
from puna.data.wiki.verbatim import without_verbatim
from puna.data.wiki.words import BLOCKS, BROKEN, CONTROLS, GONE, HIDDEN, names

CONTROL_BYTES = bytes((*range(9), *range(11, 32), 127))
TEMPLATE = re.compile(r"\{\{([^{}]*)\}\}")
LOOSE = re.compile(r"\{\{((?:[^{}]|\{(?![{|])|\}(?!\}))*)\}\}")
TABLE = re.compile(r"(?m)^\s?\{\||^[ \t]*\|\}(?!\})")
CLOSED = re.compile(r"<([a-zA-Z]+)(?: [^<>\n]*)?/>")
PAIR = re.compile(r"<([a-zA-Z][a-zA-Z0-9]*)( [^<>\n]*)?>([^<]*)</\1\s*>", re.IGNORECASE)
LONE = re.compile(r"<(?=[\s\d=.+\-−]|$)")
STRANGE = re.compile(r"<(?!/?[a-zA-Z][a-zA-Z0-9]*(?: [^<>\n]*)?/?>)")
UNSURE = GONE | names("li|dt|dd|td|th|tr|wbr|meta|link|img|div|blockquote|center|poem|ul|ol|dl") - {
    "references",
    "s",
    "del",
}
PARTED = re.compile(rf"{TERM}[^\n:]*[\[<][^\n:\]>]*:|{TERM}[^\n:]*<[^\n]*:")
BEGINNERS = tuple("=*#:;-")
WORK = re.compile(r"[\[<&\n:]")


def clean(
    wikitext: str, *, language: str = "en", sections: frozenset[str] = frozenset(), keep_tables: bool = False
) -> str | None:
    """What `text.clean` gives for a page; None where the page needs the exact mode."""
    try:
        reader = _Scanner(language, keep_tables)
        text = reader.page(_without_controls(wikitext), sections)
    except UnsureError:
        return None
    return tidy.tidy(text, sections, reader.verbatim)


def _without_controls(text: str) -> str:
    data = text.encode("utf-8", "surrogatepass")
    return CONTROLS.sub("", text) if len(data.translate(None, CONTROL_BYTES)) < len(data) else text


class _Scanner:
    """Resolves the markup of one page; holds what must come out untouched."""

    def __init__(self, language: str, keep_tables: bool) -> None:
        self.language, self.keep_tables = language, keep_tables
        self.verbatim: list[str] = []

    def page(self, text: str, sections: frozenset[str]) -> str:
        text = without_verbatim(text, self.verbatim)
        if "{{{" in text:
            raise UnsureError
        text = self._enclosed(text)
        text = self._inline(without_sections(lines(text), sections))
        return opened(text).replace(VOID, "")

    def _enclosed(self, text: str) -> str:
        """Templates and tables are resolved from the inside out."""
        for _ in range(DEEPEST):
            if "{{" in text:
                text, count = TEMPLATE.subn(self._template, text)
                if count:
                    continue
            before = text
            if "{|" in text or "|}" in text:
                text = self._without_tables(text)
            if "{{" in text:
                text = LOOSE.sub(self._template, text)
            if text == before:
                break
        if "{{" in text or "}}" in text or "{|" in text or "|}" in text:
            raise UnsureError
        return text

    def _without_tables(self, text: str) -> str:
        """Tables in which nothing is open are dropped, outer ones with all in them."""
        if self.keep_tables:
            raise UnsureError
        out: list[str] = []
        last = depth = begin = 0
        for found in TABLE.finditer(text):
            if found[0].endswith("{|"):
                begin = begin if depth else found.end() - 2
                depth += 1
            elif depth:
                depth -= 1
                if depth == 0 and "{{" not in (inside := text[begin : found.end()]) and "}}" not in inside:
                    if text.startswith(BEGINNERS, found.end()):
                        raise UnsureError
                    out += (text[last:begin], "\n")
                    last = found.end()
        return "".join([*out, text[last:]])

    def _template(self, found: re.Match[str]) -> str:
        content = found[1]
        name, bar, rest = content.partition("|")
        known = MEANINGS.get(name)
        if known is None:
            known = remember(name)
        if known is NOTHING:
            return VOID
        if known is UNKNOWN:
            return self._remark(content) if "date" in rest else tidy.GAP
        if in_address(found):
            raise UnsureError
        if ":" not in name:
            return self._said(known, self._given(rest) if bar else Arguments([], {}, self.language), found)
        value = self._argument(name.partition(":")[2]).strip()
        return tidy.GAP if tidy.GAP in value else self._said(known, Arguments([value], {}, self.language), found)

    def _said(self, known: Rule, given: Arguments, found: re.Match[str]) -> str:
        text = known(given)
        if "\n" in text and found.string.startswith("=", found.string.rfind("\n", 0, found.start()) + 1):
            raise UnsureError
        return (text.translate(SEALED) if SIGNS.search(text) else text) or VOID

    def _given(self, rest: str) -> Arguments:
        given = Arguments([], {}, self.language)
        for part in links(rest).split("|") if "[" in rest else rest.split("|"):
            if "<" in part and (tags := CLOSED.sub("", VOIDS.sub("", part))).count("<") != 2 * tags.count("</"):
                raise UnsureError
            key, equals, value = part.partition("=")
            if not equals:
                given.positional.append(self._argument(part))
                continue
            if "<" in key or "//" in key or "\n=" in part:
                raise UnsureError
            key = key.replace(VOID, "").strip()
            given.named[key.lower()] = self._argument(value).strip()
            if key == str(len(given.positional) + 1):
                given.positional.append(given.named[key.lower()])
        return given

    def _argument(self, value: str) -> str:
        if WORK.search(value):
            value = self._inline(lines_behind(value))
        if VOID in value:
            value = value.replace(VOID, "")
        return opened(value)

    def _remark(self, content: str) -> str:
        """VOID for an editor's remark: all that it is given is a date and reasons."""
        rest = content.partition("|")[2]
        parts = (links(rest) if "[" in rest else rest).split("|")
        keys = [part.partition("=") for part in parts]
        dated = any(key.replace(VOID, "").strip().lower() == "date" for key, equals, _ in keys if equals)
        return VOID if dated and all(equals for _, equals, _ in keys) else tidy.GAP

    def _inline(self, text: str) -> str:
        """Links, addresses, tags and entities as what a reader sees of them."""
        addressed = any(scheme in text for scheme in SCHEME_ENDS)
        if addressed and HEADED.search(text):
            raise UnsureError
        if addressed:
            text = addresses(text)
        if "[" in text:
            if "<[" in text or (TERM in text and PARTED.search(text)):
                raise UnsureError
            text = links(text)
            if addressed and OPEN_ADDRESS.search(text):
                raise UnsureError
        if "<" in text:
            if "<<" in text or (TERM in text and PARTED.search(text)):
                raise UnsureError
            text = self._tags(text)
        if "<" in text:
            text = BROKEN.sub(VOID, text)
        if "&" in text:
            text = ENTITY.sub(entity, text)
        return terms(text) if TERM in text else text

    def _tags(self, text: str) -> str:
        text = VOIDS.sub(tidy.BREAK, LONE.sub("\x0f", text))
        if "<" not in text:
            return text
        text = CLOSED.sub(VOID, text)
        for _ in range(DEEPEST):
            text, count = PAIR.subn(_pair, text)
            if not count:
                break
        if STRANGE.search(text) or any(name.lower() in UNSURE for name in LEFT.findall(text)):
            raise UnsureError
        return text


def _pair(found: re.Match[str]) -> str:
    name, attributes, inside = found[1].lower(), found[2], found[3]
    if name in GONE or (attributes and HIDDEN.search(attributes)):
        return VOID
    if name in ("sup", "sub"):
        inside = inside.replace(VOID, "").strip()
        shifted = (superscript if name == "sup" else subscript)(opened(inside))
        return inside if shifted == opened(inside) else shifted
    if name == "li":
        return f"\n{tidy.ITEM}{inside}\n"
    if name == "table":
        raise UnsureError
    if name == "poem":
        inside = inside.strip("\n").replace("\n", tidy.BREAK)
    return f"\n\n{inside}\n\n" if name in BLOCKS else inside
