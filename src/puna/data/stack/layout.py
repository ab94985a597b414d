"""The lines that the HTML of a post becomes: blank ones between blocks, marks before items and quotes, code as it is.

Text comes in pieces, escaped as in a dump's XML, and is resolved when its line ends.
"""

from __future__ import annotations

from puna.data.entities import unescape

MAX_DEPTH = 20  # lists, items and quotes within each other; what is deeper stands at that depth
INVISIBLE = "\u200b\ufeff\u00ad"


class Page:
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
            line = one_line("".join(held) if len(held) > 1 else held[0])
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

    def enter(self, name: str, number: int = -1, mark: str = "") -> None:
        """Open a list, an item or a quote; with a mark, lines begin with it: the first of an item, all of a quote."""
        if len(self.open) == MAX_DEPTH:
            return
        self.open.append((name, number, self.indent, self.bullet))
        if not mark:
            return
        self.bullet = (self.bullet or self.indent) + mark
        self.indent += mark if mark == "> " else " " * len(mark)

    def leave(self, name: str) -> None:
        """Close the innermost list, item or quote, and all within it."""
        for depth in range(len(self.open) - 1, -1, -1):
            if self.open[depth][0] == name:
                self.close(depth)
                return

    def close(self, depth: int) -> None:
        if self.code:
            self.end_code()
        if self.held:
            self.flush()
        if len(self.open) > depth:
            _, _, self.indent, bullet = self.open[depth]
            self.bullet = bullet if self.bullet else ""  # still to come, when no line has been made since
            if len(self.indent) < len(self.shortest):
                self.shortest = self.indent
            del self.open[depth:]

    def in_list(self) -> bool:
        return any(name != "quote" for name, *_ in self.open)

    def end_code(self) -> None:
        """The lines of a block of code, without empty ones around it."""
        if not self.code:
            return
        self.code = self.within_line = False
        code = resolved("".join(self.held)).replace("\r\n", "\n").replace("\r", "\n").expandtabs(4)
        self.held.clear()
        lines = [line.rstrip() for line in code.split("\n")]
        while lines and not lines[-1]:
            lines.pop()
        first = next((index for index, line in enumerate(lines) if line), 0)
        for line in lines[first:]:
            self.line(line)
            self.lines[-1] = self.lines[-1].rstrip()
        self.blank = True


def one_line(piece: str) -> str:
    """The text of a piece between tags, runs of white space as one space."""
    if "&" in piece:
        piece = piece.replace("&#xA;", " ").replace("&quot;", '"')
        if "&" in piece:
            return visible(resolved(piece))
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


def resolved(piece: str) -> str:
    """Text with XML's references resolved, and then those of HTML."""
    piece = piece.replace("&#xA;", "\n")
    if "&" in piece:
        piece = piece.replace("&#xD;", "\r").replace("&quot;", '"').replace("&gt;", ">").replace("&lt;", "<")
        if "&" in piece:
            piece = piece.replace("&amp;", "&")
            if "&" in piece:
                # Most of what code refers to; a call for each is what `unescape` would need.
                piece = piece.replace("&lt;", "<").replace("&gt;", ">")
                if "&" in piece:
                    piece = unescape(piece)
    return piece
