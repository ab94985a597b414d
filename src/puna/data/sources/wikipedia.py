"""Wikipedia: `pages-articles` dumps as published, one document an article (section 2.1: 20 languages; hyperlinks,
comments and other formatting removed).

Rules, in order: `language` (a whole dump), `namespace` (articles are 0), `redirect`, `model` (not wikitext), `empty`,
`disambiguation`, `short`. A page that cannot be parsed is set aside by itself and the rest is read on. What an article
cites is kept beside it, for the classifier of web pages.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, cast
from urllib.parse import quote

from lxml import etree

from puna.data.document import Document, Origin, document_id
from puna.data.sources.records import EXAMPLE, Aside, Dropped, Input, Part, Record, SetAside, Task, group_parts, placed
from puna.data.wiki import scan
from puna.data.wiki import text as wikitext
from puna.data.wiki import words as wikiwords
from puna.data.wiki.dump import Damage, Page, borders, head, pages
from puna.data.wiki.references import references
from puna.data.wiki.templates import normal
from puna.recipe import Source, Wikipedia

LICENCE = "CC-BY-SA"
TRANSPARENT = {"simple": "en"}  # editions that are named by something else than their language
TEMPLATES = re.compile(r"\{\{\s*([^{}|<\n]+?)\s*(?=[|}<\n])")
# Dumps older than the <redirect> element say it in the text, each language with its own word.
REDIRECT = re.compile(r"\s*#\s*[^\s\[#*:]+\s*:?\s*\[\[[^\]\n]+\]\]\s*", re.IGNORECASE)


def split(inputs: Sequence[Input], recipe: Source, task_size: int) -> list[Task]:
    """Ranges of about `task_size` bytes as stored: streams of a bz2, stretches of plain XML, groups of small files."""
    parts = []
    for entry in inputs:
        cuts = borders(entry.location, task_size)
        parts += [Part(entry.declared, start, end) for start, end in pairwise(cuts)]
    return group_parts("wikipedia", parts, task_size)


def read(task: Task, inputs: Sequence[Input], recipe: Source) -> Iterator[Record | Aside]:
    """The records of a task's pages, in the order of the dumps; behind each article, the addresses that it cites."""
    known = {entry.declared: entry for entry in inputs}
    for part in task.parts:
        for record in _read_part(known[part.declared], part, cast(Wikipedia, recipe)):
            yield placed(record, part.declared)


def edition_of(file: str, beginning: bytes) -> str:
    """The name of a dump's edition, which is the first part of its host: by its published name (dewiki-...), else by
    what it says of itself, else `und`."""
    named = re.match(r"([a-z][a-z_]+?)wiki(?=[-_.\d])", file.rsplit("/", 1)[-1])
    said = re.search(rb"""<mediawiki\b[^>]*?\sxml:lang\s*=\s*["']([A-Za-z-]+)["']""", beginning)
    return named[1].replace("_", "-") if named else said[1].decode().lower() if said else "und"


def language_of(edition: str) -> str:
    return TRANSPARENT.get(edition, edition)


def _read_part(entry: Input, part: Part, recipe: Wikipedia) -> Iterator[Record | Aside]:
    reader = _Reader(entry, edition_of(entry.dump, head(entry.location)), recipe)
    if recipe.languages and reader.language not in (*recipe.languages, "und"):
        if part.start == 0:  # one record for the dump, however it is cut
            said = f"the dump's language is {reader.language}"
            yield Dropped("language", part.declared, entry.size, said, part.declared)
        return
    found = False
    for page in pages(entry.location, part.start, part.end):
        found = True
        yield from reader.read(page)
    if not found and part.start == 0 and part.end == entry.size:
        yield SetAside("the file is empty" if entry.size == 0 else "holds no <page>", part.declared, "", entry.size)


class _Reader:
    """Turns pages of one dump into records."""

    def __init__(self, entry: Input, edition: str, recipe: Wikipedia) -> None:
        self.entry, self.edition, self.recipe = entry, edition, recipe
        self.language = language_of(edition)
        self.sections = wikiwords.sections(recipe.drop_sections)
        self.parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, remove_comments=True)

    def read(self, page: Page | Damage) -> Iterator[Record | Aside]:
        if isinstance(page, Damage):
            yield SetAside(page.reason, self.entry.declared, _key_in(page.xml), page.size)
            return
        try:
            root = etree.fromstring(page.xml, self.parser)
        except (etree.XMLSyntaxError, ValueError) as error:
            yield SetAside(f"invalid XML: {_one_line(error)}", self.entry.declared, _key_in(page.xml))
            return
        values = _values(root)
        if not values["id"].isascii() or not values["id"].isdigit() or not values["title"]:
            yield SetAside("a page without title or id", self.entry.declared, _key_in(page.xml))
            return
        try:
            judged = self._judge(values, page.offset)
        except wikitext.BrokenMarkupError as error:
            yield SetAside(str(error), self.entry.declared, f"page {values['id']} ({values['title']})")
            return
        yield judged
        if isinstance(judged, Document) and (urls := references(values["text"])):
            yield Aside("references", {"page": values["id"], "urls": urls})

    def _judge(self, values: dict[str, str], offset: int) -> Document | Dropped:
        raw = values["text"]
        rule = self._rule(values)
        if rule:
            return Dropped(rule, values["id"], len(raw.encode()), f"{values['title']}: {raw}"[:EXAMPLE])
        text = self._cleaned(raw)
        if len(text) < max(1, self.recipe.min_characters):
            return Dropped("short", values["id"], len(raw.encode()), f"{values['title']}: {text}"[:EXAMPLE])
        return self._document(values, text, offset)

    def _cleaned(self, raw: str) -> str:
        """A page's text by the recipe's parser; the exact one also reads what the fast one is not sure of."""
        text = None
        if self.recipe.parser == "fast":
            text = scan.clean(raw, language=self.language, sections=self.sections, keep_tables=self.recipe.keep_tables)
        if text is None:
            text = wikitext.clean(
                raw, language=self.language, sections=self.sections, keep_tables=self.recipe.keep_tables
            )
        return text

    def _rule(self, values: dict[str, str]) -> str:
        """The rule by which a page is left out before its text is cleaned; empty when there is none."""
        raw = values["text"]
        if values["ns"] not in ("0", ""):
            return "namespace"
        if values["redirect"] or REDIRECT.fullmatch(raw.split("\n", 1)[0]):
            return "redirect"
        if values["model"] not in ("wikitext", ""):
            return "model"
        if not raw.strip():
            return "empty"
        if self.recipe.drop_disambiguation and _is_disambiguation(values["title"], raw):
            return "disambiguation"
        return ""

    def _document(self, values: dict[str, str], text: str, offset: int) -> Document:
        key, title, dump = values["id"], values["title"], self.entry.dump
        site = f"https://{self.edition}.wikipedia.org/wiki/" if self.edition != "und" else ""
        url = site + quote(title.replace(" ", "_"), safe="/:,()!*'@;") if site else ""
        origin = Origin(dump, key, self.entry.declared, offset, url, title, values["timestamp"], LICENCE)
        return Document(document_id("wikipedia", dump, key), "wikipedia", key, self.language, text, origin)


def _values(root: Any) -> dict[str, str]:
    """What a <page> says, by element; of several revisions the last one."""
    values = dict.fromkeys(("title", "id", "ns", "redirect", "model", "timestamp", "text"), "")
    for child in root:
        name = etree.QName(child).localname if isinstance(child.tag, str) else ""
        if name == "redirect":
            values[name] = child.get("title") or "unknown"
        elif name == "revision":
            for inner in child:
                name = etree.QName(inner).localname if isinstance(inner.tag, str) else ""
                if name in ("model", "timestamp", "text"):
                    values[name] = inner.text or ""
        elif name in ("title", "id", "ns"):
            values[name] = (child.text or "").strip()
    return values


def _is_disambiguation(title: str, raw: str) -> bool:
    bracketed = re.search(r"\(([^()]+)\)$", title)
    if bracketed and bracketed[1].lower() in wikiwords.DISAMBIGUATED:
        return True
    if "__DISAMBIG__" in raw:
        return True
    found = (normal(name) for name in TEMPLATES.findall(raw))
    return any(name in wikiwords.DISAMBIGUATION or name.endswith(" disambiguation") for name in found)


def _key_in(xml: bytes) -> str:
    """What is known of a page that could not be read."""
    number = re.search(rb"<id>\s*(\d{1,20})\s*</id>", xml)
    title = re.search(rb"<title>([^<]{1,200})", xml)
    words = [f"page {number[1].decode()}"] if number else []
    words += [f"({title[1].decode('utf-8', 'replace').strip()})"] if title else []
    return " ".join(re.sub(r"[\x00-\x1f]", "?", word) for word in words)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:EXAMPLE]
