"""The rows of a Posts.xml, cut out of its bytes before any XML is parsed.

In XML no attribute may hold a bare <, so every < begins something, and a row is what lies between two of them. So
memory is one row, a broken row costs that row only, and no document type is ever read: an entity bomb has nowhere to
declare itself, and a row that uses one is invalid.

`fields` is the fast way from a row to its values: the form in which the publisher writes, cut at the quotes. Whatever
has another form goes through `parsed`, its twin, which asks an XML parser. Both give the same for every row. Values
stay escaped as in the file, since most are never looked at and bodies are read as they are (markup.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from lxml import etree

MAX_ROW = 4_000_000  # bytes of one row; a post has at most 30,000 characters, of which each may be written in six
HEAD = 4096  # bytes of a row that is too large, kept to tell which one it was

# As the publisher writes them, between two values.
NAMES = {
    f" {name}=": name
    for name in (
        "Id", "PostTypeId", "AcceptedAnswerId", "ParentId", "CreationDate", "DeletionDate", "Score", "ViewCount",
        "Body", "OwnerUserId", "OwnerDisplayName", "LastEditorUserId", "LastEditorDisplayName", "LastEditDate",
        "LastActivityDate", "Title", "Tags", "AnswerCount", "CommentCount", "FavoriteCount", "ClosedDate",
        "CommunityOwnedDate", "ContentLicense",
    )
}  # fmt: skip
# What XML refuses in a row or reads as something else: the parser shall say which.
UNUSUAL = bytes(range(32))
NO_CHARACTERS = (b"\xef\xbf\xbe", b"\xef\xbf\xbf")
STRANGE = re.compile(rb"&(?!(?:lt|gt|amp|quot|#xA|#xD);)")  # a reference that the publisher does not use
ESCAPES = (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&quot;"), ("\n", "&#xA;"), ("\r", "&#xD;"))
OPAQUE = {b"!--": b"-->", b"![CDATA[": b"]]>", b"!DOCTYPE": b">"}
SPACE = b" \t\r\n"


class RowError(Exception):
    """A row that is no valid XML; `str()` is the reason."""


@dataclass(frozen=True, slots=True)
class BadRow:
    """What cannot be a row, with its beginning."""

    reason: str
    head: bytes


@dataclass
class End:
    """How a file of posts ended: `problem` is empty when it was whole."""

    problem: str = "holds no <posts>"


def cut(blocks: Iterable[bytes], end: End) -> Iterator[bytes | BadRow]:
    """The rows in blocks of UTF-8, in order, each from behind its `<row` to before its `/>`."""
    held, empty, skipping, closing = b"", True, False, b""
    for block in blocks:
        empty = False
        if skipping:
            found = block.find(b"<")
            if found < 0:
                continue
            block, skipping = block[found:], False
        first, *pieces = (held + block).split(b"<")
        if not pieces:
            held = first[-HEAD:]  # nothing but text so far
            continue
        held = b"<" + pieces.pop()
        for piece in pieces:
            closing, found_row = _piece(piece, closing, end)
            if found_row is not None:
                yield found_row
        if len(held) > MAX_ROW:
            if not closing:
                yield BadRow(f"a row is larger than {MAX_ROW} bytes", held[1:HEAD])
            held, skipping = b"", True
    if held.startswith(b"<"):
        _, found_row = _piece(held[1:], closing, end)
        if found_row is not None and not end.problem:
            yield found_row  # else the file breaks off within it
    if empty:
        end.problem = "the file is empty"


def fields(row: bytes) -> dict[str, str]:
    """The attributes of a row, their values escaped. RowError for what is no XML."""
    try:
        parts = row.decode().split('"')
    except UnicodeDecodeError:
        return parsed(row)
    names = parts[:-1:2]
    if (
        len(row.translate(None, UNUSUAL)) < len(row)
        or not (row.isascii() or (NO_CHARACTERS[0] not in row and NO_CHARACTERS[1] not in row))
        or b">" in row
        or STRANGE.search(row)
        or len(parts) % 2 == 0
        or parts[-1].strip(" ")
    ):
        return parsed(row)
    try:
        values = {NAMES[name]: value for name, value in zip(names, parts[1::2], strict=True)}
    except KeyError:
        return parsed(row)
    return values if len(values) == len(names) else parsed(row)  # else a name stands twice


def parsed(row: bytes) -> dict[str, str]:
    """What `fields` gives, by an XML parser that knows no entity but XML's own five."""
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=True, recover=False)
    try:
        element: Any = etree.fromstring(b'<?xml version="1.0" encoding="utf-8"?><row' + row + b"/>", parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        raise RowError(f"invalid XML: {' '.join(str(error).split())[:200]}") from None
    return {str(name): escaped(str(value)) for name, value in element.attrib.items()}


def escaped(text: str) -> str:
    """A text as the publisher writes it into an attribute."""
    for character, reference in ESCAPES:
        text = text.replace(character, reference)
    return text


def unescaped(value: str) -> str:
    """The text of a value: XML's references resolved."""
    if "&" in value:
        for character, reference in reversed(ESCAPES):
            value = value.replace(reference, character)
    return value


def head_key(head: bytes) -> str:
    """What is known of a row that could not be read, for people."""
    found = re.search(rb"""(?<![A-Za-z])Id\s*=\s*["']\s*(\d{1,20})""", head[:HEAD])
    return f"post {found[1].decode()}" if found else ""


def _piece(piece: bytes, closing: bytes, end: End) -> tuple[bytes, bytes | BadRow | None]:
    """Judge what stands from one < to the next: (what ends the comment or the like that is open now, a row or None)."""
    if closing:
        return (b"" if closing in piece else closing), None
    if piece.startswith(b"row") and piece[3:4] in SPACE:
        piece = piece.rstrip(SPACE)
        if piece.endswith(b"/>"):
            return b"", piece[3:-2]
        if piece.endswith(b">"):
            return b"", piece[3:-1]
        return b"", BadRow("a row has no end", piece[:HEAD])
    if piece.startswith(b"!"):
        for begin, close in OPAQUE.items():
            if piece.startswith(begin):
                close = b"]>" if begin == b"!DOCTYPE" and b"[" in piece else close
                return (b"" if close in piece else close), None
    if piece.startswith(b"posts"):
        end.problem = "the file ends without </posts>: it is cut short"
    elif piece.startswith(b"/posts"):
        end.problem = ""
    elif not piece.startswith((b"?", b"/row")):
        return b"", BadRow("is no row of posts", piece[:HEAD])
    return b"", None
