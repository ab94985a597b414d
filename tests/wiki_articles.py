"""The articles of real Wikipedia dumps, and how alike two texts of one are."""

from __future__ import annotations

from collections import Counter
from functools import cache
from pathlib import Path

from lxml import etree

from puna.data.sources.wikipedia import _values, edition_of, language_of
from puna.data.wiki import dump


@cache
def articles(folder: Path) -> list[tuple[str, str, str]]:
    """(language, title, wikitext) of every page of a folder's dumps that is no redirect."""
    parser = etree.XMLParser(resolve_entities=False, no_network=True)
    found = []
    for dumped in sorted(path for path in folder.rglob("*wiki-*") if path.is_file()):
        language = language_of(edition_of(dumped.name, dump.head(str(dumped))))
        for one in dump.pages(str(dumped), 0, dumped.stat().st_size):
            assert isinstance(one, dump.Page)
            values = _values(etree.fromstring(one.xml, parser))
            if values["text"] and not values["redirect"]:
                found.append((language, values["title"], values["text"]))
    return found


def agreement(one: str, other: str) -> float:
    """F1 of the words of two texts."""
    a, b = Counter(one.split()), Counter(other.split())
    return 2 * (a & b).total() / max(1, a.total() + b.total()) if a or b else 1.0
