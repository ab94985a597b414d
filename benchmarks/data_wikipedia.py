"""How fast Wikipedia dumps become documents: MB of uncompressed XML a second, one thread.

    python benchmarks/data_wikipedia.py [--json FILE] [--quick] [FOLDER]

The pages of the dumps in FOLDER (`wikipedia` below PUNA_SAMPLES when it is not given) are put into one dump of a single
bz2 stream, as a large one is. Each round reads it from bz2 to Parquet, and then has mwparserfromhell parse the text of
the same articles and strip its code, without reading or writing anything: rounds in turn, so that what else the machine
does meets both. `wikipedia_clean` is the cleaning alone, over the same bytes of wikitext as the peer's. Seconds are CPU
seconds. `--quick`: one round, over a quarter of the articles.
"""

from __future__ import annotations

import argparse
import bz2
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mwparserfromhell
from lxml import etree

from form import metric
from puna.data.document import Document, write_documents
from puna.data.sources import locate, read, split
from puna.data.sources.wikipedia import _Reader, _values, language_of
from puna.data.wiki import dump as wikidump
from puna.data.wiki import scan
from puna.data.wiki import text as wikitext
from puna.data.wiki.words import sections
from puna.recipe import Wikipedia

PEER = "mwparserfromhell"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--quick", action="store_true", help="one round over a quarter of the articles")
    parser.add_argument("folder", nargs="?", type=Path, help="dumps to read")
    asked = parser.parse_args()
    folder = asked.folder or Path(os.environ["PUNA_SAMPLES"]) / "wikipedia"
    result = wikipedia(folder, quick=asked.quick)
    for name, figure in result.items():
        beside = "".join(f"  {peer} {value:.2f}" for peer, value in figure["peers"].items())
        ratios = "".join(f"  x{ratio['median']:.2f}" for ratio in figure["ratio"].values())
        print(f"{name:24} {figure['value']:9.3f} {figure['unit']}{beside}{ratios}")
    if asked.json:
        asked.json.write_text(json.dumps(result, indent=1) + "\n")


def wikipedia(folder: Path, *, quick: bool = False) -> dict[str, Any]:
    """Both speeds beside the peer's, and the share of articles that the fast reader hands to the exact one."""
    dumps = Wikipedia.model_validate({"inputs": [str(folder)], "share": 1, "languages": []})
    xml, pages = _articles(dumps)
    with tempfile.TemporaryDirectory() as scratch:
        dump = Path(scratch) / "enwiki-all.xml.bz2"
        dump.write_bytes(bz2.compress(b"<mediawiki>\n" + b"\n".join(xml) + b"</mediawiki>\n"))
        recipe = Wikipedia.model_validate({"inputs": [str(dump)], "share": 1})
        return _rounds(recipe, sum(map(len, xml)) / 1e6, pages, quick)


def _rounds(recipe: Wikipedia, xml: float, pages: list[tuple[str, str]], quick: bool) -> dict[str, Any]:
    ours, clean, peer = [], [], []
    taken = pages[::4] if quick else pages
    whole = sum(len(text.encode()) for _, text in pages) / 1e6
    size = sum(len(text.encode()) for _, text in taken) / 1e6
    for _ in range(1 if quick else 3):
        ours.append(xml / _seconds(lambda: _documents(recipe)))
        peer.append(size / _seconds(lambda: _stripped(taken)))
        clean.append(whole / _seconds(lambda: _cleaned(pages)))
    handed = sum(scan.clean(text, language=language) is None for language, text in pages) / len(pages)
    return {
        "wikipedia": _beside(ours, peer),
        "wikipedia_clean": _beside(clean, peer),
        "wikipedia_handed_over": metric(handed, "of articles"),
    }


def _beside(ours: list[float], peer: list[float]) -> dict[str, Any]:
    ratios = [one / other for one, other in zip(ours, peer, strict=True)]
    ratio = {PEER: {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios)}}
    return metric(statistics.median(ours), "MB/s", peers={PEER: statistics.median(peer)}, ratio=ratio)


def _seconds(work: Callable[[], None]) -> float:
    begun = time.process_time()
    work()
    return time.process_time() - begun


def _articles(recipe: Wikipedia) -> tuple[list[bytes], list[tuple[str, str]]]:
    """The XML of every page; (language, wikitext) of those that no rule leaves out before they are cleaned."""
    xml, found = [], []
    for entry in locate("wikipedia", recipe):
        language = language_of(entry.dump, wikidump.head(entry.location))
        reader = _Reader(entry, language, recipe)
        for page in wikidump.pages(entry.location, 0, entry.size):
            assert isinstance(page, wikidump.Page)
            xml.append(page.xml)
            values = _values(etree.fromstring(page.xml, reader.parser))
            if not reader._rule(values):
                found.append((language, values["text"]))
    return xml, found


def _documents(recipe: Wikipedia) -> None:
    inputs = locate("wikipedia", recipe)
    records = (record for task in split("wikipedia", inputs, recipe, 1 << 30) for record in read(task, inputs, recipe))
    with tempfile.TemporaryDirectory() as scratch:
        write_documents(Path(scratch) / "0.parquet", (one for one in records if isinstance(one, Document)))


def _cleaned(pages: list[tuple[str, str]]) -> None:
    dropped = sections(Wikipedia.model_fields["drop_sections"].default)
    for language, text in pages:
        if scan.clean(text, language=language, sections=dropped) is None:
            wikitext.clean(text, language=language, sections=dropped)


def _stripped(pages: list[tuple[str, str]]) -> None:
    for _, text in pages:
        mwparserfromhell.parse(text).strip_code()


METRICS: dict[str, Callable[[Path, bool], Any]] = {
    "wikipedia": lambda samples, quick: wikipedia(samples / "wikipedia", quick=quick)
}

if __name__ == "__main__":
    main()
