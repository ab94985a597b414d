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

import html
import re
from collections.abc import Callable, Sequence

RAISED = dict(zip("0123456789+-−=()ni", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻⁼⁽⁾ⁿⁱ", strict=True))
LOWERED = dict(zip("0123456789+-−=()", "₀₁₂₃₄₅₆₇₈₉₊₋₋₌₍₎", strict=True))
# What editors put in where the author says nothing.
SAYS_NOTHING = {"enter image description here", "alt text", "image", "image description", "img"}
RULE = "---"
CELLS = " | "
MAX_DEPTH = 20  # lists, items and quotes within each other; what is deeper stands at that depth
MAX_TAG = 4_000  # characters of a tag in which attributes are looked for
SKIPPED = ("script", "style", "iframe", "object", "svg", "noscript", "template")
BLOCKS = ("p", "div", "h1", "h2", "h3", "h4", "h5", "h6", "table", "details", "summary", "dl", "section", "article")
LINES = ("dt", "dd", "thead", "tbody", "tfoot", "caption")
NAME = re.compile(r"/?[A-Za-z][A-Za-z0-9]*")
ALT = re.compile(r"""\balt\s*=\s*(?:&quot;(.*?)&quot;|'([^']*)')""", re.DOTALL)
# Tags that part no lines; bounded, so that one without an end costs little.
INLINE = re.compile(r"&lt;/?(?:a|em|strong|code|b|i|span|kbd)(?: [^&]{0,300}(?:&(?!gt;)[^&]{0,300}){0,12})?(?<!--)&gt;")
PARAGRAPH, END_PARAGRAPH = "&lt;p&gt;", "&lt;/p&gt;&#xA;"
START = re.compile(r"""\bstart\s*=\s*(?:&quot;|'|)(\d{1,9})""")
COMMENT = "--&gt;"
NOTHING = {"", "&#xA;", "&#xA;&#xA;", "&#xD;&#xA;", "&#xD;&#xA;&#xD;&#xA;", "&#xA;&#xA;&#xA;", " "}
INVISIBLE = "\u200b\ufeff\u00ad"


def text(body: str) -> str:
    """The text of a post's body, escaped as in the XML; "" when it says nothing."""
    if "&lt;" not in body:
        return _words(body)
    page = _Page()
    held = page.held
    # Most of a body is paragraphs with nothing in them but what parts no lines: these need no look at their tags.
    for number, chunk in enumerate(INLINE.sub("", body).split(END_PARAGRAPH)):
        if page.within_line or page.waiting:
            chunk = END_PARAGRAPH + chunk
        else:
            if number or chunk.startswith(PARAGRAPH):
                if held:
                    page.flush()
                page.blank = True
            chunk = (chunk.removeprefix("&#xA;") if number else chunk).removeprefix(PARAGRAPH)
        if "&lt;" in chunk:
            chunk, *pieces = chunk.split("&lt;")
            if chunk:
                held.append(chunk)
            _act(page, pieces)
        elif chunk:
            held.append(chunk)
    page.close(0)
    return "\n".join(page.lines)


def _act(page: _Page, pieces: Sequence[str]) -> None:
    """Do what tags ask for; each piece is what stands from behind one &lt; to the next."""
    held = page.held
    for piece in pieces:
        tag, _, words = piece.partition("&gt;")
        act = None if page.waiting else ACTS.get(tag)
        if act is None:
            words = page.unusual(piece)
        elif act is not _inline:
            act(page, tag)
        if words and (held or words not in NOTHING):
            held.append(words)


class _Page:
    """Lines as they are made."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.held: list[str] = []  # pieces of the line under way
        self.indent = ""  # before each line
        self.bullet = ""  # before the next line, in place of `indent`
        self.blank = False  # whether a blank line must come before the next one
        self.shortest = ""  # the shortest indent since the last line: what a blank line before the next one has
        # Lists, items and quotes: name, next number or -1, and what indent and bullet were outside.
        self.open: list[tuple[str, int, str, str]] = []
        self.code = False
        self.row = 0  # 1 within a row of a table, 2 behind its first cell
        self.within_line = False  # whether in code or in a row, which are no place for blocks
        self.waiting = ""  # what ends the comment, or the element without text, that is open
        self.marks: list[int] = []  # where open sub and sup begin in `held`

    def flush(self) -> None:
        """End the line under way, if there is one."""
        held = self.held
        if held:
            line = _words("".join(held) if len(held) > 1 else held[0])
            held.clear()
            self.marks.clear()
            if line:
                self.line(line)

    def line(self, line: str) -> None:
        lines = self.lines
        if self.blank and lines:
            lines.append(self.shortest.rstrip())
        lines.append((self.bullet or self.indent) + line)
        self.blank, self.bullet, self.shortest = False, "", self.indent

    def unusual(self, piece: str) -> str:
        """Act on a tag with attributes, or of a rare name; the words behind it."""
        if self.waiting == COMMENT:
            _, found, words = piece.partition(COMMENT)
            self.waiting = "" if found else COMMENT
            return words
        tag, closed, words = piece.partition("&gt;")
        if self.waiting:
            if not tag.lower().startswith(self.waiting):
                return ""
            self.waiting = ""
            return words
        if tag.startswith("!--"):
            _, found, words = piece.partition(COMMENT)
            self.waiting = "" if found else COMMENT
            return words
        if not (tag[:1].isalpha() or tag[:1] in ("/", "!", "?")):
            return "&lt;" + piece  # a < that begins nothing
        while tag.count("&quot;") % 2 and closed and len(tag) < MAX_TAG:  # a > within an attribute
            more, closed, words = words.partition("&gt;")
            tag += "&gt;" + more
        name = NAME.match(tag)
        plain = name[0].lower() if name else ""
        if plain in SKIPPED and not tag.endswith("/"):
            self.waiting = f"/{plain}"
            return ""
        ACTS.get(plain, _inline)(self, tag)
        return words

    def enter(self, name: str, number: int = -1, mark: str = "") -> None:
        """Open a list, an item or a quote; with a mark, lines begin with it: the first of an item, all of a quote."""
        if len(self.open) == MAX_DEPTH:
            return
        self.open.append((name, number, self.indent, self.bullet))
        if not mark:
            return
        self.bullet = (self.bullet or self.indent) + mark
        self.indent += mark if mark == "> " else " " * len(mark)

    def leave(self, *names: str) -> bool:
        """Close the innermost of what is named and all within it; whether there was any."""
        for depth in range(len(self.open) - 1, -1, -1):
            if self.open[depth][0] in names:
                self.close(depth)
                return True
        return False

    def close(self, depth: int) -> None:
        if self.code:
            _end_code(self, "")
        self.flush()
        if len(self.open) > depth:
            _, _, self.indent, bullet = self.open[depth]
            self.bullet = bullet if self.bullet else ""  # still to come, when no line has been made since
            if len(self.indent) < len(self.shortest):
                self.shortest = self.indent
            del self.open[depth:]

    def in_list(self) -> bool:
        return any(name != "quote" for name, *_ in self.open)


def _words(piece: str) -> str:
    """The text of a piece between tags, runs of white space as one space."""
    if "&" in piece:
        piece = piece.replace("&#xA;", " ").replace("&quot;", '"')
        if "&" in piece:
            return visible(_resolved(piece))
    if not piece.isascii() or "\t" in piece:
        return visible(piece)
    while "  " in piece:
        piece = piece.replace("  ", " ")
    return piece.strip()


def visible(piece: str) -> str:
    """Text without characters that have no width, runs of white space as one space."""
    for character in INVISIBLE:
        piece = piece.replace(character, "")
    return " ".join(piece.split())


def _resolved(piece: str) -> str:
    piece = piece.replace("&#xA;", "\n")
    if "&" in piece:
        piece = piece.replace("&#xD;", "\r").replace("&quot;", '"').replace("&gt;", ">").replace("&lt;", "<")
        if "&" in piece:
            piece = piece.replace("&amp;", "&")
            if "&" in piece:
                piece = html.unescape(piece)
    return piece


Act = Callable[[_Page, str], None]


def _inline(page: _Page, tag: str) -> None:
    """Tags that part no lines."""


def _within_line(act: Act) -> Act:
    """What an act is in code and in rows of tables, which are lines of their own: at most a space."""

    def acting(page: _Page, tag: str) -> None:
        if not page.within_line:
            act(page, tag)
        elif page.row:
            page.held.append(" ")

    return acting


def _block(page: _Page, tag: str) -> None:
    page.flush()
    page.blank = True


def _line(page: _Page, tag: str) -> None:
    page.flush()


_paragraph = _within_line(_block)


def _break(page: _Page, tag: str) -> None:
    if page.code:
        page.held.append("&#xA;")
    elif page.row:
        page.held.append(" ")
    else:
        page.flush()


def _rule(page: _Page, tag: str) -> None:
    _block(page, tag)
    page.line(RULE)
    page.blank = True


def _quote(page: _Page, tag: str) -> None:
    _block(page, tag)
    page.enter("quote", mark="> ")


def _end_quote(page: _Page, tag: str) -> None:
    page.flush()
    page.leave("quote")
    page.blank = True


def _list(page: _Page, tag: str) -> None:
    page.flush()
    page.blank = page.blank or not page.in_list()
    start = START.search(tag, 0, MAX_TAG)
    page.enter("list", (int(start[1]) if start else 1) if tag[:2].lower() == "ol" else -1)


def _end_list(page: _Page, tag: str) -> None:
    page.flush()
    page.leave("list")
    page.blank = page.blank or not page.in_list()


def _item(page: _Page, tag: str) -> None:
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


def _end_item(page: _Page, tag: str) -> None:
    page.flush()
    page.leave("item")


def _code(page: _Page, tag: str) -> None:
    _block(page, tag)
    page.code = page.within_line = True


def _end_code(page: _Page, tag: str) -> None:
    """The lines of a block of code, without empty ones around it."""
    if not page.code:
        return
    page.code = page.within_line = False
    code = _resolved("".join(page.held)).replace("\r\n", "\n").replace("\r", "\n").expandtabs(4)
    page.held.clear()
    lines = [line.rstrip() for line in code.split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    while lines and not lines[0]:
        lines.pop(0)
    for line in lines:
        page.line(line)
        page.lines[-1] = page.lines[-1].rstrip()
    page.blank = True


def _row(page: _Page, tag: str) -> None:
    if not page.code:
        page.flush()
        page.row, page.within_line = 1, True


def _end_row(page: _Page, tag: str) -> None:
    if page.row:
        page.row, page.within_line = 0, False
        page.flush()


def _cell(page: _Page, tag: str) -> None:
    if page.row == 2:
        page.held.append(CELLS)
    elif page.row:
        page.row = 2


def _end_table(page: _Page, tag: str) -> None:
    _end_row(page, tag)
    if not page.code:
        _block(page, tag)


def _script(page: _Page, tag: str) -> None:
    page.marks.append(len(page.held))


def _end_script(page: _Page, tag: str) -> None:
    """Digits and signs as the characters for them; anything else stays on the line."""
    if not page.marks:
        return
    mark = page.marks.pop()
    forms = RAISED if "p" in tag else LOWERED
    if len(page.held) - mark > 3:
        return
    inner = _resolved("".join(page.held[mark:])).strip()
    if inner and all(character in forms for character in inner):
        page.held[mark:] = ["".join(forms[character] for character in inner)]


def _image(page: _Page, tag: str) -> None:
    said = ALT.search(tag, 0, MAX_TAG)
    words = ((said[1] or said[2] or "") if said else "").strip()
    if words.lower() not in SAYS_NOTHING:
        page.held.append(words)


ACTS: dict[str, Act] = dict.fromkeys(
    [
        "a",
        "/a",
        "em",
        "/em",
        "strong",
        "/strong",
        "code",
        "/code",
        "b",
        "/b",
        "i",
        "/i",
        "span",
        "/span",
        "kbd",
        "/kbd",
    ],
    _inline,
)
ACTS |= {end + name: _paragraph for name in BLOCKS for end in ("", "/")}
ACTS |= {end + name: _within_line(_line) for name in LINES for end in ("", "/")}
ACTS |= dict.fromkeys(("br", "br/", "br /"), _break) | dict.fromkeys(("hr", "hr/", "hr /"), _within_line(_rule))
ACTS |= {"blockquote": _within_line(_quote), "/blockquote": _within_line(_end_quote)}
ACTS |= dict.fromkeys(("ul", "ol"), _within_line(_list)) | dict.fromkeys(("/ul", "/ol"), _within_line(_end_list))
ACTS |= {"li": _within_line(_item), "/li": _within_line(_end_item)}
ACTS |= {"pre": _within_line(_code), "/pre": _end_code, "tr": _row, "/tr": _end_row, "/table": _end_table}
ACTS |= dict.fromkeys(("td", "th"), _cell) | dict.fromkeys(("sub", "sup"), _script)
ACTS |= dict.fromkeys(("/sub", "/sup"), _end_script) | {"img": _image}
