"""Definitions of macros as a paper writes them, and whether they can be written out where they are called.

Read are \\newcommand and its kin, \\def and its kin (parameters between texts too), \\let, \\DeclareMathOperator and
\\newenvironment. A macro is left as it is, with the reason, when it is a program (a conditional, \\csname, an internal
name with @), or takes a name that the structure of a paper depends on: its call then says more than its body.
"""

from __future__ import annotations

import re
from array import array
from dataclasses import dataclass
from functools import lru_cache

from puna.data.latex import words

REACH = 4000  # characters that an argument in brackets, or one that a text ends, may be long
SPACES = re.compile(r"[ \t]*(?:\n[ \t]*(?![ \t\n]))?")
_GROUP = r"\{(?:[^{}\\]++|\\.)*+\}"
for _ in range(7):
    _GROUP = r"\{(?:[^{}\\]++|\\.|" + _GROUP + r")*+\}"
# Definitions of internal names, which are of no use outside a class: as one match, behind the backslash.
INTERNAL = (
    r"(?:[egx]?def\s*\\|(?:re)?newcommand\*?\s*\{?\s*\\)[A-Za-z]*@[A-Za-z@]*+\}?[^{}\\]{0,200}+"
    + _GROUP
    + r"|let\s*\\[A-Za-z]*@[A-Za-z@]*+"
)
# In a class or package: what is defined where, its body matched only to be passed over.
IN_PACKAGE = re.compile(
    r"\\(?:\\|" + INTERNAL + r"|([egx]?def|(?:re)?newcommand|providecommand|DeclareRobustCommand|DeclareMathOperator)"
    r"\*?\s*\{?\s*\\([A-Za-z]+|[^A-Za-z@])\s*\}?[^{}]{0,200}+"
    + _GROUP
    + r"|(let)(?=\s*\\([A-Za-z]+))|((?:re)?newenvironment)(?=\s*\{([^{}\\]+)\})\s*\{[^{}]+\}[^{}]{0,200}+"
    + _GROUP
    + r"|(RequirePackage|LoadClass|usepackage|input)(?![A-Za-z@])"
    r"|([egx]?def|(?:re)?new(?:command|environment)|providecommand|DeclareRobustCommand|DeclareMathOperator)"
    r"(?![A-Za-z@]))",  # of any other form, such as groups deeper than _GROUP
    re.DOTALL,
)
SHALLOW = re.compile(_GROUP, re.DOTALL)
BRACES = re.compile(r"[{}]|\\.", re.DOTALL)
OPTION = re.compile(r"[\]{}]|\\.", re.DOTALL)
CALLS = re.compile(r"\\([A-Za-z@]+|[^A-Za-z])", re.DOTALL)
# Of a definition within a body, the name is no call: \def\a{first\def\a{then}} does not call itself.
DEFINED = re.compile(r"\\(def|gdef|(?:re)?newcommand\*?)\s*\{?\s*\\[A-Za-z]+")
ENVIRONMENTS = re.compile(r"\\((?:begin|end)\{[^{}\\]*\})")
PARAMETERS = re.compile(r"#([#1-9])")
TARGET = re.compile(r"\*?\s*(?:\{\s*\\([A-Za-z@]+|[^A-Za-z])\s*\}|\\([A-Za-z@]+|[^A-Za-z]))\s*")
ENVIRONMENT = re.compile(r"\*?\s*\{\s*([^{}\\]+?)\s*\}\s*")
COUNT = re.compile(r"\[\s*([0-9])\s*\]\s*")
LET = re.compile(r"\s*\\([A-Za-z@]+|[^A-Za-z])\s*=?[ \t]*(\\(?:[A-Za-z@]+|.)|[^\s\\{}#%])", re.DOTALL)
_MARK = r"(?:[^#{}\\]|\\[A-Za-z@]++|\\[^A-Za-z{}])*+"
MARKS = re.compile(rf"({_MARK})((?:#[1-9]{_MARK})*+)(?=\{{)")
MARK = re.compile(r"#([1-9])((?:[^#\\]|\\[A-Za-z@]+|\\[^A-Za-z])*)")


@dataclass(frozen=True, slots=True)
class Macro:
    """What one name means. `left`: why it stays as it is, "" when it is written out."""

    lead: str = ""
    """Text that must follow the name, before the first argument."""
    marks: tuple[str, ...] = ()
    """Of each argument, the text that ends it; "" for one that is a group or a single token."""
    default: str | None = None
    """Of the first argument, when it is one in brackets."""
    pieces: tuple[str | int, ...] = ()
    """The body: text, and numbers of arguments counted from 0."""
    calls: frozenset[str] = frozenset()
    """Names in the body, to find what calls itself; of environments `begin{NAME}` and `end{NAME}`."""
    left: str = ""


PROGRAM = Macro(left="a program")
OF_STRUCTURE = Macro(left="part of a paper's structure")


@dataclass(frozen=True, slots=True)
class Definition:
    macros: dict[str, Macro]
    end: int
    """Behind it."""
    provided: bool = False
    """Whether it holds only when the name has no meaning yet."""
    alias: str = ""
    """Of a \\let: the name whose meaning is copied."""


def read_definition(text: str, command: str, at: int) -> Definition | None:
    """The definition that `command`, whose name ends at `at`, begins; None for what cannot be read as one."""
    if command in words.NEW:
        return _new(text, command, at)
    if command in words.DEF:
        return _def(text, at)
    if command == words.OPERATOR:
        return _operator(text, at)
    return _let(text, at) if command == "let" else _environment(text, at)


def group_end(text: str, at: int) -> int:
    """Behind the group in braces that begins at `at`; -1 when there is none, or it has no end."""
    if not text.startswith("{", at):
        return -1
    if match := SHALLOW.match(text, at):
        return match.end()
    return _group_ends(text)[at] or -1


@lru_cache(maxsize=2)
def _group_ends(text: str) -> array[int]:
    """Of each brace that opens a group, the place behind the one that closes it; 0 elsewhere. Made once for a text, so
    that many groups without an end cost no more than one."""
    ends = array("i", bytes(4 * (len(text) + 1)))
    opened = []
    for match in BRACES.finditer(text):
        if match[0] == "{":
            opened.append(match.start())
        elif match[0] == "}" and opened:
            ends[opened.pop()] = match.end()
    return ends


def option_end(text: str, at: int) -> int:
    """Behind the argument in brackets that begins at `at`, in which braces hide a ]; -1 when there is none
    within REACH."""
    if not text.startswith("[", at) or text.find("]", at, at + 1 + REACH) < 0:
        return -1
    depth = 0
    for match in OPTION.finditer(text, at + 1, at + 1 + REACH):
        if match[0] == "]" and depth == 0:
            return match.end()
        depth += {"{": 1, "}": -1}.get(match[0], 0)
        if depth < 0:
            return -1
    return -1


def macro(name: str, body: str, marks: tuple[str, ...] = (), default: str | None = None, lead: str = "") -> Macro:
    """The macro of that name and body, judged."""
    if "@" in name:
        return PROGRAM
    if name in words.STRUCTURE or (
        name.startswith(("begin{", "end{")) and _named(name) in words.STRUCTURE_ENVIRONMENTS
    ):
        return OF_STRUCTURE
    calls = set(CALLS.findall(DEFINED.sub(r"\\\1", body) if "\\def" in body or "command" in body else body))
    if not calls.isdisjoint(words.PROGRAMMING) or ("@" in body and any("@" in call for call in calls)):
        return PROGRAM
    if "\\begin" in body or "\\end" in body:
        calls.update(ENVIRONMENTS.findall(body))
    if "#" not in body:
        return Macro(lead, marks, default, (body,) if body else (), frozenset(calls))
    pieces: list[str | int] = []
    at = 0
    for match in PARAMETERS.finditer(body):
        pieces.append(body[at : match.start()])
        at = match.end()
        if match[1] != "#" and int(match[1]) > len(marks):
            return Macro(left="an argument that it does not take")
        pieces.append("#" if match[1] == "#" else int(match[1]) - 1)
    pieces.append(body[at:])
    return Macro(lead, marks, default, tuple(piece for piece in pieces if piece != ""), frozenset(calls))


def _named(name: str) -> str:
    return name[name.index("{") + 1 : -1]


def _new(text: str, command: str, at: int) -> Definition | None:
    target = TARGET.match(text, at)
    if not target:
        return None
    name = target[1] or target[2]
    head = _head(text, target.end())
    end = group_end(text, head[2]) if head else -1
    if not head or end < 0:
        return None
    count, default, begin = head
    made = macro(name, text[begin + 1 : end - 1], ("",) * count, default)
    return Definition({name: made}, end, provided=command == "providecommand")


def _head(text: str, at: int) -> tuple[int, str | None, int] | None:
    """(arguments, default of the first, where the body begins)."""
    count, default = 0, None
    if found := COUNT.match(text, at):
        count, at = int(found[1]), found.end()
        end = option_end(text, at)
        if end > 0:
            default = text[at + 1 : end - 1]
            at = SPACES.match(text, end).end()  # type: ignore[union-attr]
    return (count, default, at) if count or default is None else None


def _def(text: str, at: int) -> Definition | None:
    target = TARGET.match(text, at)
    if not target or target[1]:
        return None
    name, begin = target[2], target.end()
    marks = MARKS.match(text, begin, begin + 400)
    end = group_end(text, marks.end()) if marks else -1
    if not marks or end < 0:
        return None
    found = MARK.findall(marks[2])
    body = text[marks.end() + 1 : end - 1]
    if [int(number) for number, _ in found] != list(range(1, len(found) + 1)):
        return None
    # Spaces before an undelimited parameter are skipped by TeX anyway.
    lead = marks[1].strip() if found or marks[1].strip() else ""
    return Definition({name: macro(name, body, tuple(mark.strip() for _, mark in found), None, lead)}, end)


def _operator(text: str, at: int) -> Definition | None:
    star = "*" if text.startswith("*", at) else ""
    target = TARGET.match(text, at)
    end = group_end(text, target.end()) if target else -1
    if not target or end < 0:
        return None
    name = target[1] or target[2]
    return Definition({name: macro(name, f"\\operatorname{star}{text[target.end() : end]}")}, end)


def _let(text: str, at: int) -> Definition | None:
    found = LET.match(text, at)
    if not found:
        return None
    name, meaning = found[1], found[2]
    alias = meaning[1:] if meaning.startswith("\\") else ""
    return Definition({name: macro(name, meaning)}, found.end(), alias=alias)


def _environment(text: str, at: int) -> Definition | None:
    target = ENVIRONMENT.match(text, at)
    head = _head(text, target.end()) if target else None
    if not target or not head:
        return None
    count, default, begin = head
    middle = group_end(text, begin)
    last = SPACES.match(text, middle).end() if middle > 0 else -1  # type: ignore[union-attr]
    end = group_end(text, last) if last > 0 else -1
    if end < 0:
        return None
    name = target[1]
    opening = macro(f"begin{{{name}}}", text[begin + 1 : middle - 1], ("",) * count, default)
    closing = macro(f"end{{{name}}}", text[last + 1 : end - 1])
    if opening.left or closing.left or name in _environments(opening, closing):
        left = Macro(left=opening.left or closing.left or "calls itself")
        opening = closing = left
    return Definition({f"begin{{{name}}}": opening, f"end{{{name}}}": closing}, end)


def _environments(*macros: Macro) -> set[str]:
    return {_named(call) for each in macros for call in each.calls if call.startswith(("begin{", "end{"))}
