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
from collections.abc import Callable

RAISED = dict(zip("0123456789+-−=()ni", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻⁼⁽⁾ⁿⁱ", strict=True))
LOWERED = dict(zip("0123456789+-−=()", "₀₁₂₃₄₅₆₇₈₉₊₋₋₌₍₎", strict=True))
# What editors put in where the author says nothing.
SAYS_NOTHING = {"enter image description here", "alt text", "image", "image description", "img"}
RULE = "---"
CELLS = " | "
MAX_DEPTH = 30  # lists and quotes within each other; what is deeper stands at that depth
SKIPPED = ("script", "style", "iframe", "object", "svg", "noscript", "template")
BLOCKS = ("p", "div", "h1", "h2", "h3", "h4", "h5", "h6", "table", "details", "summary", "dl", "section", "article")
LINES = ("dt", "dd", "thead", "tbody", "tfoot", "caption")
NAME = re.compile(r"/?[A-Za-z][A-Za-z0-9]*")
ALT = re.compile(r"""\balt\s*=\s*(?:&quot;(.*?)&quot;|'([^']*)')""", re.DOTALL)
START = re.compile(r"""\bstart\s*=\s*(?:&quot;|'|)(\d{1,9})""")
NOTHING = ("", "&#xA;", "&#xA;&#xA;", "&#xD;&#xA;", "&#xD;&#xA;&#xD;&#xA;", "&#xA;&#xA;&#xA;", " ")
INVISIBLE = str.maketrans("", "", "\u200b\ufeff\u00ad")


def text(body: str) -> str:
    """The text of a post's body, escaped as in the XML; "" when it says nothing."""
    if "&lt;" not in body:
        return _words(body)
    first, *pieces = body.split("&lt;")
    page = _Page()
    held = page.held
    if first:
        held.append(first)
    waiting = ""  # what ends the comment, or the element without text, that is open
    for piece in pieces:
        if waiting:
            if waiting == "--&gt;":
                _, found, words = piece.partition(waiting)
                waiting = "" if found else waiting
                held.append(words)
            elif piece.startswith(waiting):
                waiting = ""
                held.append(piece.partition("&gt;")[2])
            continue
        tag, closed, words = piece.partition("&gt;")
        act = ACTS.get(tag)
        if act is None:
            if not tag[:1].isalpha() and tag[:1] not in ("/", "!", "?"):
                held.append("&lt;" + piece)  # a < that begins nothing
                continue
            if tag.startswith("!--"):
                _, found, words = piece.partition("--&gt;")
                waiting = "" if found else "--&gt;"
            else:
                while tag.count("&quot;") % 2 and closed:  # a > within an attribute
                    more, closed, words = words.partition("&gt;")
                    tag += "&gt;" + more
                name = NAME.match(tag)
                plain = name[0].lower() if name else ""
                if plain in SKIPPED and not tag.endswith("/"):
                    waiting = f"/{plain}"
                    continue
                act = ACTS.get(plain, _inline)
        if act is not None and act is not _inline:
            act(page, tag)
        if words not in NOTHING or (words and held):
            held.append(words)
    page.close(0)
    return "\n".join(page.lines)


class _Page:
    """Lines as they are made."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.held: list[str] = []  # pieces of the line under way
        self.indent = ""  # before each line
        self.bullet = ""  # before the next line, in place of `indent`
        self.blank = False  # whether a blank line must come before the next one
        self.shortest = ""  # the shortest indent since the last line: what a blank line before the next one has
        self.open: list[tuple[str, str, int]] = []  # lists, items and quotes: name, indent outside, next number or -1
        self.code = False
        self.row = 0  # 1 within a row of a table, 2 behind its first cell
        self.marks: list[int] = []  # where open sub and sup begin in `held`

    def flush(self) -> None:
        """End the line under way, if there is one."""
        if self.held:
            line = _words("".join(self.held))
            self.held.clear()
            self.marks.clear()
            if line:
                self.line(line)

    def line(self, line: str) -> None:
        if self.blank and self.lines:
            self.lines.append(self.shortest.rstrip())
        self.lines.append((self.bullet or self.indent) + line)
        self.blank, self.bullet, self.shortest = False, "", self.indent

    def enter(self, name: str, number: int = -1) -> None:
        self.open.append((name, self.indent, number))

    def mark(self, mark: str) -> None:
        """Begin lines with a mark: the first of an item, or with `> ` all."""
        if len(self.open) > MAX_DEPTH:
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
            self.indent, self.bullet = self.open[depth][1], ""
            if len(self.indent) < len(self.shortest):
                self.shortest = self.indent
            del self.open[depth:]

    def in_list(self) -> bool:
        return any(name != "quote" for name, _, _ in self.open)


def _words(piece: str) -> str:
    """The text of a piece between tags, runs of white space as one space."""
    if "&" in piece:
        piece = _resolved(piece)
    if not piece.isascii():
        piece = piece.translate(INVISIBLE)
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
        if page.row:
            page.held.append(" ")
        elif not page.code:
            act(page, tag)

    return acting


def _block(page: _Page, tag: str) -> None:
    page.flush()
    page.blank = True


def _line(page: _Page, tag: str) -> None:
    page.flush()


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
    page.enter("quote")
    page.mark("> ")


def _end_quote(page: _Page, tag: str) -> None:
    page.flush()
    page.leave("quote")
    page.blank = True


def _list(page: _Page, tag: str) -> None:
    page.flush()
    page.blank = page.blank or not page.in_list()
    start = START.search(tag)
    page.enter("list", (int(start[1]) if start else 1) if tag[:2].lower() == "ol" else -1)


def _end_list(page: _Page, tag: str) -> None:
    page.flush()
    page.leave("list")
    page.blank = page.blank or not page.in_list()


def _item(page: _Page, tag: str) -> None:
    page.flush()
    for depth in range(len(page.open) - 1, -1, -1):
        name, indent, number = page.open[depth]
        if name == "item":
            page.close(depth)
        if name == "list":
            page.open[depth] = (name, indent, number + 1 if number >= 0 else -1)
            page.enter("item")
            page.mark(f"{number}. " if number >= 0 else "- ")
            return
        if name == "quote":
            break
    page.enter("item")
    page.mark("- ")


def _end_item(page: _Page, tag: str) -> None:
    page.flush()
    page.leave("item")


def _code(page: _Page, tag: str) -> None:
    _block(page, tag)
    page.code = True


def _end_code(page: _Page, tag: str) -> None:
    """The lines of a block of code, without empty ones around it."""
    if not page.code:
        return
    page.code = False
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
        page.row = 1


def _end_row(page: _Page, tag: str) -> None:
    if page.row:
        page.row = 0
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
    inner = _resolved("".join(page.held[mark:])).strip()
    if inner and all(character in forms for character in inner):
        page.held[mark:] = ["".join(forms[character] for character in inner)]


def _image(page: _Page, tag: str) -> None:
    said = ALT.search(tag)
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
ACTS |= {end + name: _within_line(_block) for name in BLOCKS for end in ("", "/")}
ACTS |= {end + name: _within_line(_line) for name in LINES for end in ("", "/")}
ACTS |= dict.fromkeys(("br", "br/", "br /"), _break) | dict.fromkeys(("hr", "hr/", "hr /"), _within_line(_rule))
ACTS |= {"blockquote": _within_line(_quote), "/blockquote": _within_line(_end_quote)}
ACTS |= dict.fromkeys(("ul", "ol"), _within_line(_list)) | dict.fromkeys(("/ul", "/ol"), _within_line(_end_list))
ACTS |= {"li": _within_line(_item), "/li": _within_line(_end_item)}
ACTS |= {"pre": _within_line(_code), "/pre": _end_code, "tr": _row, "/tr": _end_row, "/table": _end_table}
ACTS |= dict.fromkeys(("td", "th"), _cell) | dict.fromkeys(("sub", "sup"), _script)
ACTS |= dict.fromkeys(("/sub", "/sup"), _end_script) | {"img": _image}
