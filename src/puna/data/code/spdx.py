"""SPDX licence expressions: OR binds less than AND, AND less than WITH; words and ids in any case.

Of A OR B one may be taken; of A AND B all must be allowed. A term WITH an exception counts as the term, since
exceptions only add permissions. What is no expression raises ValueError, so that nothing is taken on a guess.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

MAX_EXPRESSION = 2000  # characters; the longest real ones have a few hundred
MAX_DEPTH = 20  # parentheses inside one another


@dataclass(frozen=True)
class Joined:
    """Licences joined by AND or OR."""

    word: str
    parts: tuple[Joined | str, ...]


Tree = Joined | str


def parse(expression: str) -> Tree:
    """The tree of an expression; ValueError when it is none."""
    if len(expression) > MAX_EXPRESSION:
        raise ValueError("is longer than any SPDX expression")
    tokens = re.findall(r"[()]|[^\s()]+", expression)[::-1]  # the next one last
    tree = _joined(tokens, "OR", expression, MAX_DEPTH)
    if tokens:
        raise _malformed(expression)
    return tree


def taken(tree: Tree, allowed: Callable[[str], bool]) -> str:
    """What may be taken of an expression, as one; "" when nothing may. allowed: whether one licence is."""
    if isinstance(tree, str):
        return tree if allowed(base(tree)) else ""
    found = [taken(part, allowed) for part in tree.parts]
    if tree.word == "OR":
        return next(filter(None, found), "")
    return " AND ".join(dict.fromkeys(found)) if all(found) else ""


def terms(tree: Tree) -> Iterator[str]:
    """Every licence that an expression names, with its exception, in order."""
    if isinstance(tree, str):
        yield tree
    else:
        for part in tree.parts:
            yield from terms(part)


def base(term: str) -> str:
    """A term's licence, without its exception and without the + of "or later"."""
    return term.partition(" ")[0].removesuffix("+")


def is_expression(text: str) -> bool:
    try:
        parse(text)
    except ValueError:
        return False
    return True


def _joined(tokens: list[str], word: str, whole: str, depth: int) -> Tree:
    def part() -> Tree:
        return _joined(tokens, "AND", whole, depth) if word == "OR" else _term(tokens, whole, depth)

    parts = [part()]
    while tokens and tokens[-1].upper() == word:
        tokens.pop()
        parts.append(part())
    return parts[0] if len(parts) == 1 else Joined(word, tuple(parts))


def _term(tokens: list[str], whole: str, depth: int) -> Tree:
    token = tokens.pop() if tokens else ""
    if token == "(" and depth:
        tree = _joined(tokens, "OR", whole, depth - 1)
        if not tokens or tokens.pop() != ")":
            raise _malformed(whole)
        return tree
    if not re.fullmatch(r"[A-Za-z0-9.:-]+\+?", token) or token.upper() in ("AND", "OR", "WITH"):
        raise _malformed(whole)
    if tokens and tokens[-1].upper() == "WITH":
        tokens.pop()
        exception = tokens.pop() if tokens else ""
        if not re.fullmatch(r"[A-Za-z0-9.:-]+", exception) or exception.upper() in ("AND", "OR", "WITH"):
            raise _malformed(whole)
        return f"{token} WITH {exception}"
    return token


def _malformed(expression: str) -> ValueError:
    return ValueError(f"{expression[:60]!r} is not an SPDX expression")
