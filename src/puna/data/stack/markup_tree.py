"""The slow, readable twin of markup.py: the tree that a parser makes of the HTML, turned into lines from the leaves up.

A block is a list of lines; BLANK in it asks for one empty line there, however many ask. A quote or an item takes the
lines of what it holds and puts its mark before them. Only well-formed HTML is the same tree for both.
"""

from __future__ import annotations

import re
from typing import Any

from lxml import html as lxml_html

from puna.data.entities import unescape
from puna.data.stack import markup
from puna.data.stack.layout import visible
from puna.data.stack.rows import unescaped

BLANK = None
Lines = list[str | None]
BREAK = "\n"  # within the text of a line; all other white space has become a space by then
PARAGRAPHS = {*markup.BLOCKS, "table"}


def text(body: str) -> str:
    """What `markup.text` gives for the same body."""
    source = unescaped(body)
    if "<" not in source:
        return visible(unescape(source))
    root = lxml_html.fragment_fromstring(source, create_parent="div")
    return "\n".join(line or "" for line in _trimmed(_lines(root, in_list=False)))


def _lines(element: Any, in_list: bool) -> Lines:
    """The lines of what an element holds."""
    lines: Lines = []
    number = int(element.get("start", "1")) if element.tag == "ol" else None
    held = _spaced(element.text or "")
    for child in element:
        if _is_inline(child):
            held += _inline(child)
        else:
            lines += _wrapped(held)
            lines += _block(child, in_list or element.tag in ("ul", "ol"), number)
            number = number + 1 if child.tag == "li" and number is not None else number
            held = ""
        held += _spaced(child.tail or "")
    return lines + _wrapped(held)


def _block(element: Any, in_list: bool, number: int | None) -> Lines:
    if element.tag == "hr":
        return [BLANK, markup.RULE, BLANK]
    if element.tag == "pre":
        code = element.text_content().expandtabs(4)
        lines = [line.rstrip() for line in code.split("\n")]
        while lines and not lines[0]:
            lines.pop(0)
        while lines and not lines[-1]:
            lines.pop()
        return [BLANK, *lines, BLANK]
    if element.tag == "tr":
        cells = [visible(_inline(cell)) for cell in element if cell.tag in ("td", "th")]
        return _wrapped(markup.CELLS.join(cells))
    inner = _lines(element, in_list or element.tag == "li")
    if element.tag in ("ul", "ol"):
        return inner if in_list else [BLANK, *inner, BLANK]
    if element.tag == "li":
        return _marked(inner, f"{number}. " if number is not None else "- ")
    if element.tag == "blockquote":
        lines = _trimmed(inner)
        return [BLANK, *(f"> {line}".rstrip() if line is not None else ">" for line in lines), BLANK]
    return [BLANK, *inner, BLANK] if element.tag in PARAGRAPHS else inner


def _marked(lines: Lines, mark: str) -> Lines:
    """An item: its mark before the first line, as many spaces before the others."""
    first = next((index for index, line in enumerate(lines) if line is not None), None)
    if first is None:
        return lines
    behind = [line if not line else " " * len(mark) + line for line in lines[first + 1 :]]
    return [*lines[:first], mark + str(lines[first]), *behind]


def _trimmed(lines: Lines) -> Lines:
    """Lines with one blank one wherever any number is asked for, and none at either end."""
    found: Lines = []
    wanted = False
    for line in lines:
        if line is BLANK:
            wanted = True
            continue
        if wanted and found:
            found.append("")
        found.append(line)
        wanted = False
    return found


def _is_inline(element: Any) -> bool:
    return not isinstance(element.tag, str) or not (
        element.tag in PARAGRAPHS
        or element.tag in markup.LINES
        or element.tag in ("hr", "pre", "tr", "ul", "ol", "li", "blockquote")
    )


def _inline(element: Any) -> str:
    """The words of an element within a line."""
    if not isinstance(element.tag, str) or element.tag in markup.SKIPPED:
        return ""
    if element.tag == "br":
        return BREAK if not any(above.tag in ("td", "th") for above in element.iterancestors()) else " "
    if element.tag == "img":
        said = str(element.get("alt", "")).strip()
        return "" if said.lower() in markup.SAYS_NOTHING else _spaced(said)
    words = _spaced(element.text or "")
    for child in element:
        words += _inline(child) + _spaced(child.tail or "")
    if element.tag in ("sub", "sup"):
        forms = markup.RAISED if element.tag == "sup" else markup.LOWERED
        if words.strip() and all(character in forms for character in words.strip()):
            return "".join(forms[character] for character in words.strip())
    return words


def _spaced(words: str) -> str:
    return re.sub(r"\s", " ", words)


def _wrapped(words: str) -> Lines:
    return [line for part in words.split(BREAK) if (line := visible(part))]
