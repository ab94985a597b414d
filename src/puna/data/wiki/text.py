"""Wikitext to readable text: the exact mode, by mwparserfromhell's parse of the whole page.

Kept: sentences, links as what a reader sees of them, headings as lines of their own between empty lines, list items
behind "- ", formulas as $...$, code as it is, the templates of `templates`. Dropped: all other templates (so
infoboxes, too), tables unless asked for, references, comments, files and their captions, categories, links to other
language editions, addresses, and the sections that the recipe names with all below them. What dropping leaves behind in
a sentence is mended in `tidy`.
"""

from __future__ import annotations

import re

import mwparserfromhell
from mwparserfromhell.nodes import (
    Argument,
    Comment,
    ExternalLink,
    Heading,
    HTMLEntity,
    Node,
    Tag,
    Template,
    Text,
    Wikilink,
)
from mwparserfromhell.parser import ParserError
from mwparserfromhell.wikicode import Wikicode

from puna.data.entities import unescape
from puna.data.wiki import tidy
from puna.data.wiki.templates import REMARKS, Arguments, normal, rule, subscript, superscript
from puna.data.wiki.words import (
    BLOCKS,
    BROKEN,
    CATEGORIES,
    CODE,
    CONTROLS,
    EDITION,
    FILES,
    FORMULAS,
    GONE,
    HIDDEN,
    NO_EDITIONS,
    names,
)

MAX_WORK = 20_000_000  # bytes times openings never closed: the parser reads to the end of the page for each of them

VOID = names("br|hr|li|dt|dd|p|wbr|img|td|th|tr|nowiki|ref|references")
OPENINGS = re.compile(r"\{\{|\}\}|\[\[|\]\]|\{\||\|\}|\[(?=http)|\]|<!--|-->|<(/?)([a-zA-Z]+)([^<>]*)(>?)")


class BrokenMarkupError(ValueError):
    """Markup that cannot be parsed in bounded time."""


def clean(
    wikitext: str, *, language: str = "en", sections: frozenset[str] = frozenset(), keep_tables: bool = False
) -> str:
    """The readable text of a page: paragraphs between single empty lines, no markup. `sections` are the titles, in
    lower case, of sections that are dropped.

    Raises BrokenMarkupError for a page that the parser refuses or would take unbounded time for.
    """
    wikitext = CONTROLS.sub("", wikitext)
    if _unclosed(wikitext) * len(wikitext) > MAX_WORK:
        raise BrokenMarkupError("markup that is opened and never closed")
    try:
        page = mwparserfromhell.parse(wikitext, skip_style_tags=True)
        reader = _Reader(language, keep_tables)
        text = reader.text(page)
    except (ParserError, RecursionError) as error:
        raise BrokenMarkupError(f"the parser gives up ({error.__class__.__name__})") from None
    return tidy.tidy(text, sections, reader.verbatim)


class _Reader:
    """Reads nodes as text with the marks of `tidy` in it; holds what must come out untouched."""

    def __init__(self, language: str, keep_tables: bool) -> None:
        self.language, self.keep_tables = language, keep_tables
        self.verbatim: list[str] = []

    def text(self, code: Wikicode | None) -> str:
        return "" if code is None else "".join(self._node(node) for node in code.nodes)

    def _node(self, node: Node) -> str:
        match node:
            case Text():
                return BROKEN.sub("", str(node.value))
            case Wikilink():
                return self._link(node)
            case Template():
                return self._template(node)
            case Tag():
                return self._tag(node)
            case Heading():
                title = self.text(node.title).replace(tidy.BREAK, " ")
                return f"\n{tidy.HEADING}{node.level}{' '.join(title.split())}\n"
            case HTMLEntity():
                return _character(node)
            case ExternalLink():
                return self.text(node.title) if node.brackets and node.title is not None else tidy.GAP
            case Argument():
                return self.text(node.default)
            case Comment():
                return ""
        return ""

    def _link(self, link: Wikilink) -> str:
        title = self.text(link.title).strip()
        prefix, colon, _ = title.partition(":")
        if colon and prefix:
            word = prefix.strip().lower()
            if word in FILES or word in CATEGORIES or (EDITION.fullmatch(prefix) and word not in NO_EDITIONS):
                return ""
        shown = self.text(link.text).strip("\n") if link.text is not None else ""
        return shown if shown.strip() else title.lstrip(":")

    def _template(self, template: Template) -> str:
        name = normal(str(template.name))
        function, colon, _ = name.partition(":")
        if colon and (known := rule(function)):
            value = self.text(template.name).partition(":")[2].strip()
            return tidy.GAP if tidy.GAP in value else known(Arguments([value], {}, self.language))
        known = rule(name)
        if known is None:
            return "" if name in REMARKS or _is_remark(template) else tidy.GAP
        given = Arguments([], {}, self.language)
        for param in template.params:
            if param.showkey:
                key = str(param.name).strip()
                given.named[key.lower()] = self.text(param.value).strip()
                if key == str(len(given.positional) + 1):
                    given.positional.append(given.named[key])
            else:
                given.positional.append(self.text(param.value))
        return known(given)

    def _tag(self, tag: Tag) -> str:
        name = str(tag.tag).strip().lower()
        if tag.wiki_markup in ("*", "#", ":", ";"):
            return tidy.ITEM if tag.wiki_markup in "*#" else tidy.INDENT
        if name in ("br", "hr"):
            return tidy.BREAK
        if name in GONE or tag.contents is None or any(HIDDEN.search(str(a)) for a in tag.attributes):
            return ""
        if name == "table":
            return self._table(tag) if self.keep_tables else "\n"
        if name in FORMULAS:
            return tidy.formula(str(tag.contents), self.verbatim)
        if name in CODE:
            return tidy.code(str(tag.contents), self.verbatim)
        if name == "nowiki":
            return tidy.keep(unescape(str(tag.contents)), self.verbatim)
        inside = self.text(tag.contents)
        if name == "sup":
            return superscript(inside.strip())
        if name == "sub":
            return subscript(inside.strip())
        if name == "li":
            return f"\n{tidy.ITEM}{inside}\n"
        if name == "poem":
            inside = inside.strip("\n").replace("\n", tidy.BREAK)
        return f"\n\n{inside}\n\n" if name in BLOCKS else inside

    def _table(self, table: Tag) -> str:
        """A table's rows as lines, cells between bars."""
        rows: list[list[str]] = [[]]
        for tag in table.contents.filter_tags(recursive=False):
            if tag.tag == "tr":
                cells = tag.contents.filter_tags(recursive=False, matches=lambda inner: inner.tag in ("td", "th"))
                rows.append([" ".join(self.text(cell.contents).split()) for cell in cells])
            elif tag.tag in ("td", "th") and not str(tag.contents).startswith("+"):  # a caption
                rows[0].append(" ".join(self.text(tag.contents).split()))
        lines = (" | ".join(cell for cell in row if cell) for row in rows)
        return "\n\n" + tidy.BREAK.join(line for line in lines if line) + "\n\n"


def _is_remark(template: Template) -> bool:
    """Whether all that it is given is a date and reasons, as with the editors' {{dubious|date=May 2020}}."""
    names = {str(param.name).strip().lower() for param in template.params if param.showkey}
    return "date" in names and all(param.showkey for param in template.params)


def _character(entity: HTMLEntity) -> str:
    try:
        return CONTROLS.sub("", str(entity.normalize()))
    except ValueError:
        return ""


def _unclosed(wikitext: str) -> int:
    """How many templates, links, tables, comments and tags are opened and never closed."""
    pairs = {"{{": "}}", "[[": "]]", "{|": "|}", "[": "]", "<!--": "-->"}
    ends = {end: begin for begin, end in pairs.items()}
    open_now: dict[str, int] = {}
    lost = 0
    for found in OPENINGS.finditer(wikitext):
        mark = found[0]
        if found[2] is not None:
            if not found[4]:
                lost += 1
                continue
            if found[3].endswith("/") or (name := found[2].lower()) in VOID - {"nowiki", "ref", "p"}:
                continue
            mark, begins = f"<{name}", not found[1]
        else:
            begins = mark in pairs
            mark = ends.get(mark, mark)
        if begins:
            open_now[mark] = open_now.get(mark, 0) + 1
        elif open_now.get(mark):
            open_now[mark] -= 1
    return lost + sum(open_now.values())
