"""Which real pages the readers of wikitext read differently, one a line, with the F1 of their words.

    python benchmarks/wikipedia_differences.py [FOLDER]

FOLDER holds dumps (`wikipedia` below PUNA_SAMPLES when it is not given). Every article: the fast reader beside the
exact one, whole. Sections of articles without templates, tables and files: as Puna reads them beside
mwparserfromhell's strip_code, without the signs of items; at least 400 characters each.
"""

from __future__ import annotations

import argparse
import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import mwparserfromhell
from lxml import etree

from puna.data.sources.wikipedia import _values, edition_of, language_of
from puna.data.wiki import dump, scan, text

SHORTEST = 400  # characters of a section that is compared
REFERENCE = re.compile(r"<ref\b[^<>]*/>|<ref\b[^<>]*>[^<]*</ref>")
MARKED_UP = re.compile(r"\{\{|\{\||<(?!/?ref)|\[\[[^\]|]*:|https?:")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, help="dumps to read")
    folder = parser.parse_args().folder or Path(os.environ["PUNA_SAMPLES"]) / "wikipedia"
    pages = handed = sections = 0
    lowest = {"exact": 1.0, "strip_code": 1.0}
    for language, title, wikitext in articles(folder):
        pages += 1
        fast = scan.clean(wikitext, language=language)
        if fast is None:
            handed += 1
            print(f"{language} {title}: handed to the exact reader")
        elif fast != (exact := text.clean(wikitext, language=language)):
            lowest["exact"] = min(lowest["exact"], agreement(fast, exact))
            print(f"{language} {title}: {agreement(fast, exact):.4f} beside the exact reader")
        for section in re.split(r"(?m)^==.*$", wikitext):
            bare = REFERENCE.sub("", section)
            if len(section) < SHORTEST or MARKED_UP.search(bare):
                continue
            sections += 1
            ours = scan.clean(section, language=language) or text.clean(section, language=language)
            plain = mwparserfromhell.parse(bare).strip_code()
            found = agreement(re.sub(r"(?m)^- ", "", ours), plain)
            lowest["strip_code"] = min(lowest["strip_code"], found)
            if found < 1:
                print(f"{language} {title}: {found:.4f} beside strip_code, {ours[:30].splitlines()[0]!r}")
    print(f"{pages} pages, {handed} handed over; lowest F1 beside the exact reader {lowest['exact']:.4f}")
    print(f"{sections} sections without templates; lowest F1 beside strip_code {lowest['strip_code']:.4f}")


def agreement(one: str, other: str) -> float:
    """F1 of the words of two texts."""
    a, b = Counter(one.split()), Counter(other.split())
    return 2 * (a & b).total() / max(1, a.total() + b.total()) if a or b else 1.0


def articles(folder: Path) -> Iterator[tuple[str, str, str]]:
    """(language, title, wikitext) of every page of a folder's dumps that is no redirect."""
    parser = etree.XMLParser(resolve_entities=False, no_network=True)
    for dumped in sorted(path for path in folder.rglob("*wiki-*") if path.is_file()):
        language = language_of(edition_of(dumped.name, dump.head(str(dumped))))
        for one in dump.pages(str(dumped), 0, dumped.stat().st_size):
            if isinstance(one, dump.Page):
                values = _values(etree.fromstring(one.xml, parser))
                if values["text"] and not values["redirect"]:
                    yield language, values["title"], values["text"]


if __name__ == "__main__":
    main()
