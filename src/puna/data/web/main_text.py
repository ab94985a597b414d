"""The main text of a page: what resiliparse takes for it, trimmed to its prose, and looked for again where that is next
to nothing.

resiliparse judges elements by their place and their names, and keeps nearly all main text, but also teasers, bylines
and notices around it. So the lines that it gives are trimmed at both ends to the run of lines that holds the most prose
(the subsequence of the largest sum: a line of prose counts its length, any other costs a little), and the title is put
before it. What stands between prose stays: headings, lists, code. Measured against marks made by hand: docs/log.md.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from functools import partial
from itertools import accumulate

from resiliparse.extract.html2text import extract_plain_text
from resiliparse.parse.html import HTMLTree

MAX_TAGS = 300_000  # in a page: a tree takes about 300 bytes a tag
MAX_OPEN = 1000  # elements within each other: the time that parser and extraction take grows with the square of it
FEW = 2000  # start tags; with fewer the worst page takes about five seconds, and nothing is counted
MAX_ATTRIBUTES = 10_000  # of one tag, for the same reason
SMALL = 250_000  # characters; in fewer no tag has so many attributes that it takes a second

BESIDE = ("newsletter", "cookie", "print", "footer", "banner", "popup", "modal")
SKIPPED = [*(f'[class*="{name}" i]' for name in BESIDE), '[id*="sidebar" i]']  # beyond what resiliparse knows
extract = partial(extract_plain_text, list_bullets=False, alt_texts=False, comments=False)

NAME = re.compile(r"<(/?[A-Za-z][A-Za-z0-9]*)")
TAG = re.compile(r"""<[a-zA-Z](?:[^>"']++|"[^"]*+"|'[^']*+'|["'])*+""")
# Elements without content, and those that a next one of the same name closes.
NEVER_WITHIN_THEMSELVES = (
    "a area base body br button col dd dt embed head hr html img input li link meta nobr noscript optgroup option p"
    " param script select source style tbody td textarea tfoot th thead title tr track wbr"
)
NEVER_DEEP = frozenset(NEVER_WITHIN_THEMSELVES.split())
END = tuple(".!?…:;。！？»”\"“')）")
UNSEEN = re.compile(r"[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\xad\ufeff\ufffe\uffff]")  # soft hyphens among them


class HostilePageError(Exception):
    """A page that is built so that reading it would take too much time or memory."""


@dataclass(frozen=True, slots=True)
class Prose:
    """What makes a line prose, and when the main text is looked for again."""

    characters: int
    """A line of so many is prose; one of half as many, if it ends like a sentence."""
    cost: int
    """Characters of prose that must stand behind any other line to keep it."""
    again: int
    """A main text with fewer characters is looked for again: among what scripts show or replace, then in all."""


def parsed(html: str) -> HTMLTree:
    """Raises HostilePageError."""
    _refuse_hostile(html)
    return HTMLTree.parse(html)


def title(tree: HTMLTree) -> str:
    return " ".join(UNSEEN.sub("", tree.title or "").split())


def whole_text(tree: HTMLTree) -> str:
    """All text of a page, a line for each block of it."""
    return plain(extract(tree, main_content=False))


def plain(text: str) -> str:
    """Text without control characters, soft hyphens and empty lines, and with single spaces."""
    lines = (" ".join(line.split()) for line in UNSEEN.sub("", text).splitlines())
    return "\n".join(line for line in lines if line)


def main_text(tree: HTMLTree, heading: str, prose: Prose) -> str:
    """The main text of a page, a line for each block of it. `heading`: the page's title."""
    text = extract(tree, main_content=True, skip_elements=SKIPPED)
    if len(text) < prose.again:
        more = extract(tree, main_content=True, hidden_elements=True, noscript=True)
        text = more if len(more) > 1.5 * len(text) else text
        if len(text) * 5 < prose.again:
            text = extract(tree, main_content=False, noscript=True)
    return trimmed(plain(text), heading, prose)


def trimmed(text: str, heading: str, prose: Prose) -> str:
    """The run of lines with the most prose, behind the last line before it that is the title. All, if none is prose."""
    lines = text.split("\n")
    worth = [_worth(line, prose) for line in lines]
    sums = [0, *accumulate(worth)]
    start, end, best, low = 0, 0, 0, 0
    for at in range(1, len(sums)):
        if sums[at] - sums[low] > best:
            start, end, best = low, at, sums[at] - sums[low]
        if sums[at] <= sums[low]:
            low = at
    if best == 0:
        return text
    titles = (line for line in reversed(lines[:start]) if is_title(line, heading))
    return "\n".join([*([line] if (line := next(titles, "")) else []), *lines[start:end]])


def is_title(line: str, heading: str) -> bool:
    """Whether a line is the title of the page, which often has the site's name behind it."""
    return len(line) >= 8 and (line in heading or line.startswith(heading[:30] or line + "."))


def _worth(line: str, prose: Prose) -> int:
    size = len(line)
    if size >= prose.characters or (size * 2 >= prose.characters and line.endswith(END)):
        return size
    return -prose.cost


def _refuse_hostile(html: str) -> None:
    tags = html.count("<")
    if tags > MAX_TAGS:
        raise HostilePageError(f"a page of over {MAX_TAGS} tags")
    if tags > FEW and tags - html.count("</") > FEW and deepest(html) > MAX_OPEN:
        raise HostilePageError(f"a page that nests over {MAX_OPEN} elements")
    if len(html) > SMALL:
        large = (tag[0] for tag in TAG.finditer(html) if tag.end() - tag.start() > 2 * MAX_ATTRIBUTES)
        if any(len(tag.split(None, MAX_ATTRIBUTES)) > MAX_ATTRIBUTES for tag in large):
            raise HostilePageError(f"a tag of over {MAX_ATTRIBUTES} attributes")


def deepest(html: str) -> int:
    """How many elements are open at once in a page at most, of those that can stand within themselves; their number,
    where that alone is no more than MAX_OPEN."""
    names = NAME.findall(html)
    times = Counter(names)
    deep = {name for name in times if name[0] != "/" and name.lower() not in NEVER_DEEP}
    if (most := sum(times[name] for name in deep)) <= MAX_OPEN:
        return most
    open_of = dict.fromkeys(deep, 0)
    open_now = most = 0
    for name in names:
        if name in deep:
            open_of[name] += 1
            open_now += 1
            if open_now > most:
                most = open_now
        elif open_of.get(name[1:]):
            open_of[name[1:]] -= 1
            open_now -= 1
    return most
