"""How fast Wikipedia dumps become documents: MB of uncompressed XML a second, one thread.

The pages of the samples are put into one dump of a single bz2 stream, as a large one is. Each round reads it from bz2
to Parquet, and then has mwparserfromhell parse the text of the same articles and strip its code, without reading or
writing anything. `wikipedia_clean` is the cleaning alone, over the same wikitext as the peer's;
`wikipedia_handed_over` is the share of articles that the fast reader hands to the exact one. `--quick`: one round, and
for the peer a quarter of the articles.
"""

from __future__ import annotations

import bz2
import tempfile
from pathlib import Path
from typing import Any

import mwparserfromhell
from lxml import etree

from form import metric
from puna.data.sources import locate
from puna.data.sources.wikipedia import _Reader, _values, edition_of
from puna.data.wiki import dump as wikidump
from puna.data.wiki import scan
from puna.data.wiki import text as wikitext
from puna.data.wiki.words import sections
from puna.recipe import Wikipedia
from turns import extraction, speeds


def wikipedia(samples: Path, quick: bool) -> dict[str, Any]:
    xml, pages = _articles(
        Wikipedia.model_validate({"inputs": [str(samples / "wikipedia")], "share": 1, "languages": []})
    )
    taken = pages[::4] if quick else pages
    rounds = 1 if quick else 3
    peers = {"mwparserfromhell": lambda: _stripped(taken)}
    with tempfile.TemporaryDirectory() as scratch:
        dump = Path(scratch) / "enwiki-all.xml.bz2"
        dump.write_bytes(bz2.compress(b"<mediawiki>\n" + b"\n".join(xml) + b"</mediawiki>\n"))
        run = extraction("wikipedia", Wikipedia.model_validate({"inputs": [str(dump)], "share": 1}), 1 << 30)
        whole = speeds(sum(map(len, xml)), run, peers, rounds, peer_size=_size(taken))
    handed = sum(scan.clean(text, language=language) is None for language, text in pages) / len(pages)
    return {
        "wikipedia": whole,
        "wikipedia_clean": speeds(_size(pages), lambda: _cleaned(pages), peers, rounds, peer_size=_size(taken)),
        "wikipedia_handed_over": metric(handed, "of articles"),
    }


def _size(pages: list[tuple[str, str]]) -> int:
    return sum(len(text.encode()) for _, text in pages)


def _articles(recipe: Wikipedia) -> tuple[list[bytes], list[tuple[str, str]]]:
    """The XML of every page; (language, wikitext) of those that no rule leaves out before they are cleaned."""
    xml, found = [], []
    for entry in locate("wikipedia", recipe):
        reader = _Reader(entry, edition_of(entry.dump, wikidump.head(entry.location)), recipe)
        for page in wikidump.pages(entry.location, 0, entry.size):
            assert isinstance(page, wikidump.Page)
            xml.append(page.xml)
            values = _values(etree.fromstring(page.xml, reader.parser))
            if not reader._rule(values):
                found.append((reader.language, values["text"]))
    return xml, found


def _cleaned(pages: list[tuple[str, str]]) -> None:
    dropped = sections(Wikipedia.model_fields["drop_sections"].default)
    for language, text in pages:
        if scan.clean(text, language=language, sections=dropped) is None:
            wikitext.clean(text, language=language, sections=dropped)


def _stripped(pages: list[tuple[str, str]]) -> None:
    for _, text in pages:
        mwparserfromhell.parse(text).strip_code()


METRICS = {"wikipedia": wikipedia}
