"""Comments out of one file, as TeX leaves them out (section 2.1: comments are removed).

A comment is a % that no backslash escapes, to the end of its line; the line end and the blanks that begin the next line
go with it, so that the words on both sides join, unless an empty line follows, which is a new paragraph. A % inside
verbatim text or an address is none. Comment environments and `\\iffalse ... \\fi` are comments too; what stands behind
the `\\else` of one stays. `remove_comments` jumps from one such place to the next; `plain.remove_comments` is its twin
that reads character by character.
"""

from __future__ import annotations

import re
import string
from collections.abc import Collection

from puna.data.latex.definitions import SPACES
from puna.data.latex.words import COMMENT, CONDITIONALS, DELIMITED, VERBATIM, VERBATIM_COMMANDS

# Of an escaped backslash only where what follows could be taken for a command.
PLACES = re.compile(
    r"%|\\(?:%|\\(?=[%A-Za-z\\])|(begin|if[A-Za-z@]*|fi|" + "|".join(sorted(VERBATIM_COMMANDS)) + r")(?![A-Za-z@]))"
)
SKIPPED = re.compile(r"%[^\n]*|\\(?:(if[A-Za-z@]*|else|fi)(?![A-Za-z@])|.)", re.DOTALL)
COMMENT_LINES = re.compile(r"(?:[ \t]*%[^\n]*\n)*+")
LINE_COMMENTS = re.compile(r"\n(?:[ \t]*%[^\n]*\n)++")
PACKAGE_COMMENT = re.compile(
    r"%(?:(?<=[^\\A-Za-z]%)|(?<=[^\\]\\\\%))[^\n]*\n?[ \t]*|%(?<=[A-Za-z]%)[^\n]*\n[ \t]*(?![A-Za-z@])"
)
WORD_COMMENT = re.compile(r"%(?<=[A-Za-z]%)[^\n]*\n?[ \t]*")
BRACES = re.compile(r"[{}]")
LETTERS = frozenset(string.ascii_letters)
BLANKS = re.compile(r"[ \t]*")
REST_OF_LINE = re.compile(r"[ \t]*\n?")
NAME = re.compile(r"\s*\{([^{}\\\n]*)\}")
REACH = 2000  # characters that the argument of \\verb or \\url may be long
IF_ZERO = re.compile(r"[ \t\n]*[^0 \t\n]|[ \t\n]+0")


def remove_comments(
    text: str,
    verbatim: Collection[str] = VERBATIM,
    excluded: Collection[str] = COMMENT,
    conditionals: Collection[str] = CONDITIONALS,
) -> str:
    """`text` without its comments. `verbatim`, `excluded`: environments of text that is no LaTeX, and of text that is
    not printed; `conditionals`: commands that a \\fi ends, without backslash."""
    out: list[str] = []
    fresh = True  # whether what was written ends with a line
    opened: list[bool] = []  # of each conditional that is open: whether only its \else part is left
    pos = at = 0
    unclosed = False
    missing: set[str] = set()

    def keep(end: int) -> None:
        nonlocal fresh
        piece = text[pos:end]
        if not piece:
            return
        if out and is_letter(piece[0]) and ends_in_word(out[-1]):
            out.append(" ")
        out.append(piece)
        ending = piece.rstrip(" \t")
        fresh = ending.endswith("\n") if ending else fresh

    while match := PLACES.search(text, at):
        start, at, name = match.start(), match.end(), match[1]
        if name is None:
            if match[0] != "%":
                continue
            end = text.find("\n", start)
            if end < 0:
                keep(start)
                pos = at = len(text)
                break
            bare = len(text[max(pos, text.rfind("\n", 0, start) + 1) : start].strip(" \t")) == 0
            follows = BLANKS.match(text, end + 1).end()  # type: ignore[union-attr]
            keep(start)
            if bare and fresh:
                _strip_blanks(out)
                pos = at = COMMENT_LINES.match(text, end + 1).end()  # type: ignore[union-attr]
            elif text.startswith("\n", follows):
                pos = at = end
            else:
                pos = at = follows
        elif name == "begin":
            found = NAME.match(text, at)
            if not found:
                continue
            if found[1] in verbatim and (end := behind(text, found[1], found.end(), missing)):
                at = end
            elif found[1] in excluded:
                keep(start)
                pos = at = behind(text, found[1], found.end(), missing) or len(text)
                pos = at = (REST_OF_LINE if fresh else SPACES).match(text, at).end()  # type: ignore[union-attr]
        elif name == "fi":
            if opened and opened.pop():
                keep(start)
                pos = at = SPACES.match(text, at).end()  # type: ignore[union-attr]
        elif name.startswith("if"):
            never = name == "iffalse" or (name == "if" and text.startswith("0", at) and IF_ZERO.match(text, at + 1))
            close = None if unclosed or not never else _close(text, at, conditionals)
            if never and not close:
                unclosed = True
            if close:
                keep(start)
                if close[0] == "else":
                    opened.append(True)
                pos = at = SPACES.match(text, close[1]).end()  # type: ignore[union-attr]
            elif name in conditionals:
                opened.append(False)
        else:
            at = behind_command(text, name, at)
    keep(len(text))
    return "".join(out)


def package_comments(text: str) -> str:
    """A class or package without its comments, in two passes: there is no verbatim text in it, and of it only
    definitions are read."""
    return WORD_COMMENT.sub(" ", PACKAGE_COMMENT.sub("", LINE_COMMENTS.sub("\n", text)))


def behind(text: str, environment: str, at: int, missing: set[str]) -> int:
    """The place behind the next \\end of an environment; 0 when there is none, which `missing` keeps, so that a text
    is searched once for what it does not hold."""
    end = f"\\end{{{environment}}}"
    found = -1 if environment in missing else text.find(end, at)
    if found < 0:
        missing.add(environment)
        return 0
    return found + len(end)


def behind_command(text: str, name: str, at: int) -> int:
    """The place behind the verbatim argument of a command such as \\verb|...| or \\url{...}, whose name ends at `at`;
    `at` itself when none follows on the line."""
    if name == "mintinline":
        language = NAME.match(text, at)
        at = language.end() if language else at
    if name == "lstinline" and text.startswith("[", at):
        at = text.find("]", at, at + REACH) + 1 or at
    if name == "verb" and text.startswith("*", at):
        at += 1
    mark = text[at : at + 1]
    if name != "verb" and mark in ("{", " "):
        begin = BLANKS.match(text, at).end()  # type: ignore[union-attr]
        return _behind_braces(text, begin) if text.startswith("{", begin) else at
    if name in DELIMITED and mark and not is_letter(mark) and mark not in " \t\n*%":
        end, line = text.find(mark, at + 1, at + REACH), text.find("\n", at + 1, at + REACH)
        return end + 1 if end >= 0 and (line < 0 or end < line) else at
    return at


def is_letter(character: str) -> bool:
    """Whether TeX would read it on as part of a command's name."""
    return character in LETTERS


def ends_in_word(text: str) -> bool:
    """Whether a letter put behind `text` would become part of a command's name."""
    if not is_letter(text[-1:]):
        return False
    slash = text.rfind("\\")
    word = text[slash + 1 :]
    if slash < 0 or not (word.isascii() and word.isalpha()):
        return False
    first = slash
    while first > 0 and text[first - 1] == "\\":
        first -= 1
    return (slash - first) % 2 == 0


def _behind_braces(text: str, at: int) -> int:
    """Behind the address in braces that begins at `at`; `at` itself when they are not balanced."""
    if text.find("}", at, at + REACH) < 0:
        return at
    depth = 0
    for match in BRACES.finditer(text, at, at + REACH):
        depth += 1 if match[0] == "{" else -1
        if depth == 0:
            return match.end()
    return at


def _close(text: str, at: int, conditionals: Collection[str]) -> tuple[str, int] | None:
    """What ends text that TeX skips from `at`, `else` or `fi`, and the place behind it."""
    depth = 0
    for match in SKIPPED.finditer(text, at):
        name = match[1]
        if name is None:
            continue
        if name in conditionals:
            depth += 1
        elif name == "fi":
            if depth == 0:
                return name, match.end()
            depth -= 1
        elif name == "else" and depth == 0:
            return name, match.end()
    return None


def _strip_blanks(out: list[str]) -> None:
    while out:
        out[-1] = out[-1].rstrip(" \t")
        if out[-1]:
            return
        out.pop()
