"""The addresses that an article cites: pages that the classifier of web pages takes for good ones (section 2.1).

Taken are the addresses within <ref>, and those in templates of citations outside of it; not those of infoboxes, of
external links, or in comments. Only http and https count.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

from puna.data.entities import unescape

LONGEST = 2000  # characters of an address; longer ones are data
ADDRESS = re.compile(r"https?://[^\s\[\]<>\"|{}]+", re.IGNORECASE)
CITATION = re.compile(
    r"\{\{\s*(?:[Cc]it(?:e|ation|a|ace|ar|eer)\b|[Ll]iteratur\b|[Ii]nternetquelle|[Ll]ien web|[Oo]uvrage|"
    r"[Aa]rticle\s*\||[Cc]ytuj|[Ww]ebbref|[Кк]нига|[Сс]татья|[Цц]итат|[Kk]ilde\b)"
)
MARKS = re.compile(r"\{\{|\}\}")
ARCHIVED = re.compile(r"https?://(?:web\.)?archive\.org/web/[\d*]+[a-z_]*/(?=https?://)", re.IGNORECASE)
PARTS = re.compile(r"(https?)://(?:[^/?#@]*@)?([^/?#:@]+)(?::(\d+))?([/?][^#]*)?(?:#.*)?", re.IGNORECASE | re.DOTALL)
PORTS = {"http": "80", "https": "443"}


def references(wikitext: str) -> list[str]:
    """The addresses that a page cites, normalised, each once, in the page's order. Linear in the page."""
    found: dict[str, None] = {}
    outside: list[str] = []
    for inside in _in_tags(_without_comments(wikitext), outside):
        found.update(dict.fromkeys(map(normal, ADDRESS.findall(inside))))
    for inside in _in_citations("".join(outside)):
        found.update(dict.fromkeys(map(normal, ADDRESS.findall(inside))))
    found.pop("", None)
    return list(found)


def normal(address: str) -> str:
    """The form in which addresses are compared; empty for what is none.

    Entities decoded; an archive's copy stands for the page that it copies; scheme and host in lower case; user, default
    port and fragment gone; punctuation behind it, and a closing parenthesis that opens nowhere, left out; no path is
    the path /.
    """
    address = unescape(address) if "&" in address else address
    address = address.partition("''")[0]
    while "archive.org/" in address and (archived := ARCHIVED.match(address)):
        address = address[archived.end() :]
    address = address.rstrip(".,;:!?'\"")
    if address.endswith(")") and "(" not in address:
        address = address.rstrip(").,;:!?'\"")
    parts = PARTS.fullmatch(address) if len(address) <= LONGEST else None
    if parts is None or "." not in parts[2]:
        return ""
    scheme, host, port = parts[1].lower(), parts[2].lower().rstrip("."), parts[3]
    kept = f":{port}" if port and port != PORTS[scheme] else ""
    path = parts[4] or "/"
    return f"{scheme}://{host}{kept}{path if path[0] == '/' else f'/{path}'}"


def _without_comments(text: str) -> str:
    first, *rest = text.split("<!--")
    return first + "".join(piece.partition("-->")[2] for piece in rest)


def _in_tags(text: str, outside: list[str]) -> Iterator[str]:
    """What stands between <ref> and </ref>; the rest goes to `outside`."""
    first, *pieces = text.split("<ref")
    outside.append(first)
    for piece in pieces:
        begin = piece.find(">")
        if piece[:1] not in (" ", ">", "\n", "\t") or begin < 0 or piece[begin - 1 : begin] == "/":
            outside.append(piece)
            continue
        end = piece.find("</ref", begin)
        if end < 0:
            outside.append(piece)
            continue
        yield piece[begin + 1 : end]
        outside.append(piece[end:])


def _in_citations(text: str) -> Iterator[str]:
    """What stands in each template of a citation, up to its end or the next citation."""
    begins = [found.end() for found in CITATION.finditer(text)]
    for begin, following in pairwise([*begins, len(text)]):
        depth, end = 1, following
        for mark in MARKS.finditer(text, begin, following):
            depth += 1 if mark[0] == "{{" else -1
            if depth == 0:
                end = mark.start()
                break
        yield text[begin:end]
