"""How commands are found in a text, and the files that they name: in the preamble only those that define or load."""

from __future__ import annotations

import re

from puna.data.latex import words
from puna.data.latex.definitions import INTERNAL, SPACES, group_end, option_end

_NAMES = r"\\((?:begin|end)\{[^{}\\]*\}|[A-Za-z]+|"
CONTROL = re.compile(_NAMES + r"\\(?=[A-Za-z\\]))")
ANY_CONTROL = re.compile(_NAMES + r"[^A-Za-z])", re.DOTALL)  # once a macro is named by a mark, such as \0
IN_PREAMBLE = re.compile(
    r"\\(?:\\|"
    + INTERNAL
    + "|("
    + "|".join((*words.DEFINING, *words.INPUTS, *words.PACKAGES, "endinput", "title", "begin(?=\\s*\\{document)"))
    + r")(?![A-Za-z@]))",
    re.DOTALL,
)
PREFIXED = re.compile(r"\s*\\(" + "|".join((*words.DEF, "let", *words.NEW, *words.PREFIXES)) + r")(?![A-Za-z@])")
NAMED = re.compile(r"\s*\{([^{}\\]*)\}")
DEFINED_NAME = re.compile(r"\*?\s*\{?\s*(?:\\(?:[A-Za-z@]+|.)|[^{}\\]*)")
LINE_END = re.compile(r"[ \t]*\n")
CALLED = re.compile(r"\\((?:begin|end)\{[^{}\\]*\}|[A-Za-z]+)")
PLAIN_NAME = re.compile(r"\s*\{?\s*([^\s{}\\%]+)\s*\}?")


def named_file(text: str, command: str, at: int) -> tuple[str, int] | None:
    """The file that a command of words.INPUTS, whose name ends at `at`, names, and the place behind it."""
    if command in ("input", "include", "subfile"):
        argument = PLAIN_NAME.match(text, at)
        return (argument[1].strip('"'), argument.end()) if argument else None
    first = NAMED.match(text, at)
    second = NAMED.match(text, first.end()) if first else None
    if not first or not second:
        return None
    return f"{first[1].strip().rstrip('/')}/{second[1].strip()}", second.end()


def named_packages(text: str, at: int) -> tuple[list[str], int]:
    """The classes or packages that a command whose name ends at `at` names, and the place behind it; none, and `at`,
    when no argument follows."""
    begin = SPACES.match(text, at).end()  # type: ignore[union-attr]
    begin = SPACES.match(text, max(begin, option_end(text, begin))).end()  # type: ignore[union-attr]
    end = group_end(text, begin)
    return (text[begin + 1 : end - 1].split(",")[:100], end) if end >= 0 else ([], at)
