"""Pages whose main text was marked by hand, and how near an extraction comes to it.

`tests/marks/commoncrawl.json` holds, for each page of the samples' `commoncrawl/CC-REAL-*.warc.gz` that was read, its
URL, encoding and the characters (start, end) of its main text within `rendered`, the page's plain text. Marked as main
are an article's headings and text, posts of a forum, steps of a recipe, what is said of a product; not menus, lists of
other pages, notices, comments of readers under an article, captions of share buttons, or what stands on every page of
the site. The rendering is made of regular expressions alone, so that no library that is measured decides what it holds.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import unescape
from pathlib import Path

from puna.data.web import warc

MARKS = Path(__file__).parent / "marks" / "commoncrawl.json"

UNSEEN = re.compile(
    r"<!--.*?-->|<(script|style|noscript|svg|template|head|iframe|select|textarea)\b[^>]*>.*?</\1\s*>"
    r"|<!--.*|<(?:script|style)\b.*",
    re.DOTALL | re.IGNORECASE,
)
BLOCK = re.compile(
    r"</?(?:address|article|aside|blockquote|body|br|button|caption|center|dd|details|dialog|div|dl|dt|fieldset"
    r"|figcaption|figure|footer|form|h[1-6]|header|hr|html|legend|li|main|menu|nav|ol|option|p|pre|section|summary"
    r"|table|tbody|td|tfoot|th|thead|tr|ul)\b[^<>]*>",
    re.IGNORECASE,
)
TAG = re.compile(r"</?[a-zA-Z!?][^<>]*>")


@dataclass(frozen=True)
class Marked:
    """One page of which the main text is known."""

    url: str
    encoding: str
    ranges: tuple[tuple[int, int], ...]

    def main(self, html: bytes) -> str:
        """Its main text, a line for each range."""
        text = self.rendered(html)
        return "\n".join(text[start:end] for start, end in self.ranges)

    def rendered(self, html: bytes) -> str:
        """The text that the ranges count in."""
        return rendered(html.decode(self.encoding, "replace"))


def marked() -> Iterator[Marked]:
    for page in json.loads(MARKS.read_text()):
        yield Marked(page["url"], page["encoding"], tuple((start, end) for start, end in page["main"]))


def records_of(samples: Path) -> Iterator[tuple[Marked, bytes]]:
    """Each marked page with the block of the first record that holds it."""
    pages = {page.url: page for page in marked()}
    for file in sorted((samples / "commoncrawl").glob("CC-REAL-*.warc.gz")):
        for record in warc.records(file, 0, file.stat().st_size, 1 << 23):
            assert isinstance(record, warc.WarcRecord)
            page = pages.pop(record.headers.get("warc-target-uri", ""), None)
            if page is not None:
                yield page, record.block


def body_of(block: bytes) -> bytes:
    """What follows the HTTP headers."""
    return block.partition(b"\r\n\r\n")[2]


def rendered(html: str) -> str:
    """The text of a page, a line for each block of it, with single spaces; empty lines are left out."""
    text = TAG.sub("", BLOCK.sub("\n", UNSEEN.sub(" ", html).replace("\n", " ").replace("\r", " ")))
    lines = (" ".join(unescape(line).split()) for line in text.split("\n"))
    return "\n".join(line for line in lines if line)


def f1(found: str, wanted: str) -> float:
    """Harmonic mean of precision and recall over the words of two texts, as multisets."""
    a, b = (Counter(re.findall(r"\w+", text.replace("\xad", "").lower())) for text in (found, wanted))
    common = (a & b).total()
    return 2 * common / max(1, a.total() + b.total()) if common or a or b else 1.0


def mean_f1(found: Mapping[str, str], wanted: Mapping[str, str]) -> float:
    """Mean over the pages of `wanted`, by URL."""
    return sum(f1(found.get(url, ""), text) for url, text in wanted.items()) / len(wanted)
