"""The HTML of posts as plain text, in one pass: section 2.1 removes the tags, and what they say must not go with them.

Paragraphs, headings, quotes, lists, code and tables are blocks with a blank line between them; items of a list stand
line under line unless they hold paragraphs. Items begin with "- " or their number, quoted lines with "> ", what is
within an item is indented by the item's mark; code keeps its lines and spaces; cells are parted by " | "; a rule is
"---". Links become their text and images what they say of themselves, `sub` and `sup` of digits the characters for
that. Formulas between $ are text and stay.

The input is the body as a dump's XML holds it: tags stand between &lt; and &gt;, references of the HTML have an
escaped & of their own. Its slow twin, markup_tree.py, resolves the XML, and asks a parser of HTML for the tree.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from puna.data.stack.layout import Page, one_line, resolved

RAISED = dict(zip("0123456789+-−=()ni", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻⁼⁽⁾ⁿⁱ", strict=True))
LOWERED = dict(zip("0123456789+-−=()", "₀₁₂₃₄₅₆₇₈₉₊₋₋₌₍₎", strict=True))
# What editors put in where the author says nothing.
SAYS_NOTHING = {"enter image description here", "alt text", "image", "image description", "img"}
RULE = "---"
CELLS = " | "
MAX_TAG = 4_000  # characters of a tag in which attributes are looked for
SKIPPED = ("script", "style", "iframe", "object", "svg", "noscript", "template")
BLOCKS = ("p", "div", "h1", "h2", "h3", "h4", "h5", "h6", "table", "details", "summary", "dl", "section", "article")
LINES = ("dt", "dd", "thead", "tbody", "tfoot", "caption")
NAME = re.compile(r"/?[A-Za-z][A-Za-z0-9]*")
ALT = re.compile(r"""\balt\s*=\s*(?:&quot;(.*?)&quot;|'([^']*)')""", re.DOTALL)
INLINES = ("a", "em", "strong", "code", "b", "i", "span", "kbd")  # tags that part no lines
# Bounded, so that one without an end costs little.
INLINE = re.compile(rf"&lt;/?(?:{'|'.join(INLINES)})(?: [^&]{{0,300}}(?:&(?!gt;)[^&]{{0,300}}){{0,12}})?(?<!--)&gt;")
PARAGRAPH, END_PARAGRAPH = "&lt;p&gt;", "&lt;/p&gt;&#xA;"
BETWEEN = f"{END_PARAGRAPH}&#xA;{PARAGRAPH}"
START = re.compile(r"""\bstart\s*=\s*(?:&quot;|'|)(\d{1,9})""")
COMMENT = "--&gt;"
NOTHING = {"", "&#xA;", "&#xA;&#xA;", "&#xD;&#xA;", "&#xD;&#xA;&#xD;&#xA;", "&#xA;&#xA;&#xA;", " "}


def text(body: str) -> str:
    """The text of a post's body, escaped as in the XML; "" when it says nothing."""
    if "&lt;" not in body:
        return one_line(body)
    body = INLINE.sub("", body)
    # Most bodies are paragraphs with nothing in them but what parts no lines.
    paragraphs = body.removeprefix(PARAGRAPH).removesuffix(END_PARAGRAPH).split(BETWEEN)
    if "&lt;" not in "".join(paragraphs):
        return "\n\n".join([line for paragraph in paragraphs if (line := one_line(paragraph))])
    page = Page()
    held = page.held
    # So is most of the others: such paragraphs need no look at their tags.
    for number, chunk in enumerate(body.split(END_PARAGRAPH)):
        if page.within_line or page.waiting:
            chunk = END_PARAGRAPH + chunk
        else:
            if number or chunk.startswith(PARAGRAPH):
                if held:
                    page.flush()
                page.blank = True
            chunk = (chunk.removeprefix("&#xA;") if number else chunk).removeprefix(PARAGRAPH)
        if page.within_line or page.waiting or held or "&lt;" in chunk:
            chunk, *pieces = chunk.split("&lt;")
            if chunk:
                held.append(chunk)
            _act(page, pieces)
        elif line := one_line(chunk):
            page.line(line)
    page.close(0)
    return "\n".join(page.lines)


def _act(page: Page, pieces: Sequence[str]) -> None:
    """Do what tags ask for; each piece is what stands from behind one &lt; to the next."""
    held = page.held
    for piece in pieces:
        tag, _, words = piece.partition("&gt;")
        act = None if page.waiting else ACTS.get(tag)
        if act is None:
            words = _unusual(page, piece)
        elif act is not _inline:
            act(page, tag)
        if words and (held or words not in NOTHING):
            held.append(words)


def _unusual(page: Page, piece: str) -> str:
    """Act on a tag with attributes, or of a rare name; the words behind it."""
    if page.waiting == COMMENT:
        _, found, words = piece.partition(COMMENT)
        page.waiting = "" if found else COMMENT
        return words
    tag, closed, words = piece.partition("&gt;")
    if page.waiting:
        if not tag.lower().startswith(page.waiting):
            return ""
        page.waiting = ""
        return words
    if tag.startswith("!--"):
        _, found, words = piece.partition(COMMENT)
        page.waiting = "" if found else COMMENT
        return words
    if not (tag[:1].isalpha() or tag[:1] in ("/", "!", "?")):
        return "&lt;" + piece  # a < that begins nothing
    while tag.count("&quot;") % 2 and closed and len(tag) < MAX_TAG:  # a > within an attribute
        more, closed, words = words.partition("&gt;")
        tag += "&gt;" + more
    name = NAME.match(tag)
    plain = name[0].lower() if name else ""
    if plain in SKIPPED and not tag.endswith("/"):
        page.waiting = f"/{plain}"
        return ""
    ACTS.get(plain, _inline)(page, tag)
    return words


Act = Callable[[Page, str], None]


def _inline(page: Page, tag: str) -> None:
    """Tags that part no lines."""


def _within_line(act: Act) -> Act:
    """What an act is in code and in rows of tables, which are lines of their own: at most a space."""

    def acting(page: Page, tag: str) -> None:
        if not page.within_line:
            act(page, tag)
        elif page.row:
            page.held.append(" ")

    return acting


def _block(page: Page, tag: str) -> None:
    page.flush()
    page.blank = True


def _line(page: Page, tag: str) -> None:
    page.flush()


_paragraph = _within_line(_block)


def _break(page: Page, tag: str) -> None:
    if page.code:
        page.held.append("&#xA;")
    elif page.row:
        page.held.append(" ")
    else:
        page.flush()


def _rule(page: Page, tag: str) -> None:
    _block(page, tag)
    page.line(RULE)
    page.blank = True


def _quote(page: Page, tag: str) -> None:
    _block(page, tag)
    page.enter("quote", mark="> ")


def _end_quote(page: Page, tag: str) -> None:
    page.flush()
    page.leave("quote")
    page.blank = True


def _list(page: Page, tag: str) -> None:
    page.flush()
    page.blank = page.blank or not page.in_list()
    start = START.search(tag, 0, MAX_TAG)
    page.enter("list", (int(start[1]) if start else 1) if tag[:2].lower() == "ol" else -1)


def _end_list(page: Page, tag: str) -> None:
    page.flush()
    page.leave("list")
    page.blank = page.blank or not page.in_list()


def _item(page: Page, tag: str) -> None:
    page.flush()
    for depth in range(len(page.open) - 1, -1, -1):
        name, number, indent, bullet = page.open[depth]
        if name == "item":
            page.close(depth)
        if name == "list":
            page.open[depth] = (name, number + 1 if number >= 0 else -1, indent, bullet)
            page.enter("item", mark=f"{number}. " if number >= 0 else "- ")
            return
        if name == "quote":
            break
    page.enter("item", mark="- ")


def _end_item(page: Page, tag: str) -> None:
    page.flush()
    page.leave("item")


def _code(page: Page, tag: str) -> None:
    _block(page, tag)
    page.code = page.within_line = True


def _end_code(page: Page, tag: str) -> None:
    page.end_code()


def _row(page: Page, tag: str) -> None:
    if not page.code:
        page.flush()
        page.row, page.within_line = 1, True


def _end_row(page: Page, tag: str) -> None:
    if page.row:
        page.row, page.within_line = 0, False
        page.flush()


def _cell(page: Page, tag: str) -> None:
    if page.row == 2:
        page.held.append(CELLS)
    elif page.row:
        page.row = 2


def _end_table(page: Page, tag: str) -> None:
    _end_row(page, tag)
    if not page.code:
        _block(page, tag)


def _script(page: Page, tag: str) -> None:
    page.marks.append(len(page.held))


def _end_script(page: Page, tag: str) -> None:
    """Digits and signs as the characters for them; anything else stays on the line."""
    if not page.marks:
        return
    mark = page.marks.pop()
    forms = RAISED if "p" in tag else LOWERED
    if len(page.held) - mark > 3:
        return
    inner = resolved("".join(page.held[mark:])).strip()
    if inner and all(character in forms for character in inner):
        page.held[mark:] = ["".join(forms[character] for character in inner)]


def _image(page: Page, tag: str) -> None:
    said = ALT.search(tag, 0, MAX_TAG)
    words = ((said[1] or said[2] or "") if said else "").strip()
    if words.lower() not in SAYS_NOTHING:
        page.held.append(words)


ACTS: dict[str, Act] = {end + name: _inline for name in INLINES for end in ("", "/")}
ACTS |= {end + name: _paragraph for name in BLOCKS for end in ("", "/")}
ACTS |= {end + name: _within_line(_line) for name in LINES for end in ("", "/")}
ACTS |= dict.fromkeys(("br", "br/", "br /"), _break) | dict.fromkeys(("hr", "hr/", "hr /"), _within_line(_rule))
ACTS |= {"blockquote": _within_line(_quote), "/blockquote": _within_line(_end_quote)}
ACTS |= dict.fromkeys(("ul", "ol"), _within_line(_list)) | dict.fromkeys(("/ul", "/ol"), _within_line(_end_list))
ACTS |= {"li": _within_line(_item), "/li": _within_line(_end_item)}
ACTS |= {"pre": _within_line(_code), "/pre": _end_code, "tr": _row, "/tr": _end_row, "/table": _end_table}
ACTS |= dict.fromkeys(("td", "th"), _cell) | dict.fromkeys(("sub", "sup"), _script)
ACTS |= dict.fromkeys(("/sub", "/sup"), _end_script) | {"img": _image}
