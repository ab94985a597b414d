"""Which code may be read: only what is under MIT, BSD or Apache licences (section 2.1).

A licence comes from a package's own metadata: the SPDX expression, else the licence field, else the classifiers. What
is not known to be of the recipe's families is refused. Of A OR B one may be taken; of A AND B all must be allowed.
What counts: MIT and MIT-0; the BSD licences of zero (0BSD) to three clauses, but not the fourth, which asks for
advertising; Apache-2.0. A term WITH an exception counts as the term, since exceptions only add permissions.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from email.message import Message

FAMILIES = {
    "MIT": re.compile(r"MIT(-0)?"),
    "BSD": re.compile(r"0BSD|BSD|BSD-[123]-Clause(-(Clear|Patent|Views))?"),
    "Apache": re.compile(r"Apache-2\.0"),
}
COPYLEFT = re.compile(
    r"([AL]?GPL|GFDL|MPL|EPL|CDDL|EUPL|OSL|CECILL|SSPL|CPL|QPL|MS-RL|Sleepycat|CC-BY-(NC|ND|SA))(?![A-Za-z])",
    re.IGNORECASE,
)
# Words of a licence field that settle the matter against reading, whatever else stands there.
CLOSED = re.compile(r"\b[AL]?GPL|\bGNU\b|General Public|Mozilla|\bMPL\b|proprietary|commercial", re.IGNORECASE)
MAX_EXPRESSION = 2000  # characters; the longest real ones have a few hundred
MAX_DEPTH = 20  # parentheses inside one another

# Words of licence fields that are no SPDX ids. What does not tell which of the BSD licences is meant stays BSD.
FIELDS = {
    "mit license": "MIT",
    "the mit license": "MIT",
    "mit licence": "MIT",
    "the mit license (mit)": "MIT",
    "expat": "MIT",
    "expat license": "MIT",
    "bsd license": "BSD",
    "bsd licence": "BSD",
    "new bsd": "BSD-3-Clause",
    "new bsd license": "BSD-3-Clause",
    "modified bsd": "BSD-3-Clause",
    "modified bsd license": "BSD-3-Clause",
    "bsd-3": "BSD-3-Clause",
    "bsd 3-clause": "BSD-3-Clause",
    "3-clause bsd": "BSD-3-Clause",
    "bsd 3-clause license": "BSD-3-Clause",
    "3-clause bsd license": "BSD-3-Clause",
    "bsd 3 clause": "BSD-3-Clause",
    "simplified bsd": "BSD-2-Clause",
    "bsd 2-clause": "BSD-2-Clause",
    "bsd 2-clause license": "BSD-2-Clause",
    "2-clause bsd": "BSD-2-Clause",
    "apache 2": "Apache-2.0",
    "apache 2.0": "Apache-2.0",
    "apache-2": "Apache-2.0",
    "apache license 2.0": "Apache-2.0",
    "apache license, version 2.0": "Apache-2.0",
    "apache license version 2.0": "Apache-2.0",
    "apache 2.0 license": "Apache-2.0",
    "apache software license 2.0": "Apache-2.0",
}
CLASSIFIERS = {
    "License :: OSI Approved :: MIT License": "MIT",
    "License :: OSI Approved :: MIT No Attribution License (MIT-0)": "MIT-0",
    "License :: OSI Approved :: BSD License": "BSD",
    "License :: OSI Approved :: Zero-Clause BSD (0BSD)": "0BSD",
    "License :: OSI Approved :: Apache Software License": "Apache-2.0",
}


@dataclass(frozen=True)
class Verdict:
    """`licence`: what the text is read under, as an SPDX expression, or what was found. `refused`: why, or ""."""

    licence: str
    refused: str = ""


def of_metadata(metadata: Message, families: Sequence[str], declared: Mapping[str, str], name: str) -> Verdict:
    """Whether a package's own sources may be read.

    declared: package -> the licence of its own sources, for one whose expression joins it with those of compiled
    libraries that it carries. It must be one of the expression's licences, and none of them may be a copyleft one.
    """
    found = _named(metadata)
    own = declared.get(name)
    if not found:
        return Verdict("unknown", "its metadata names no licence that is known")
    if own is None:
        return of_expression(found, families)
    try:
        terms = list(_terms(_parse(found)))
    except ValueError as error:
        return Verdict(found, str(error))
    if own not in terms:
        return Verdict(found, f"declared as {own}, which is none of the licences in its metadata")
    if hidden := sorted({term for term in terms if COPYLEFT.match(term)}):
        return Verdict(found, f"declared as {own}, and its metadata also names {', '.join(hidden)}")
    return of_expression(own, families)


def of_expression(expression: str, families: Sequence[str]) -> Verdict:
    """Whether an SPDX expression allows reading. `licence` is then what was taken of it."""
    try:
        taken = _taken(_parse(expression), families)
    except ValueError as error:
        return Verdict(expression[:100], f"not known to be under {', '.join(families)}: {error}")
    return Verdict(taken) if taken else Verdict(expression, f"not under {', '.join(families)}")


@dataclass(frozen=True)
class _Joined:
    """Licences joined by AND or OR."""

    word: str
    parts: tuple[_Joined | str, ...]


def _taken(tree: _Joined | str, families: Sequence[str]) -> str:
    """What may be taken of an expression, or ""."""
    if isinstance(tree, str):
        base = tree.partition(" ")[0].removesuffix("+")
        return tree if any(FAMILIES[f].fullmatch(base) for f in families if f in FAMILIES) else ""
    taken = [_taken(part, families) for part in tree.parts]
    if tree.word == "OR":
        return next(filter(None, taken), "")
    return " AND ".join(dict.fromkeys(taken)) if all(taken) else ""


def _terms(tree: _Joined | str) -> Iterator[str]:
    if isinstance(tree, str):
        yield tree
    else:
        for part in tree.parts:
            yield from _terms(part)


def _parse(expression: str) -> _Joined | str:
    """The tree of an SPDX expression: OR binds less than AND, AND less than WITH. ValueError when it is none."""
    if len(expression) > MAX_EXPRESSION:
        raise ValueError("is longer than any SPDX expression")
    tokens = re.findall(r"[()]|[^\s()]+", expression)[::-1]  # the next one last
    tree = _joined(tokens, "OR", expression, MAX_DEPTH)
    if tokens:
        raise _malformed(expression)
    return tree


def _joined(tokens: list[str], word: str, whole: str, depth: int) -> _Joined | str:
    def part() -> _Joined | str:
        return _joined(tokens, "AND", whole, depth) if word == "OR" else _term(tokens, whole, depth)

    parts = [part()]
    while tokens and tokens[-1].upper() == word:
        tokens.pop()
        parts.append(part())
    return parts[0] if len(parts) == 1 else _Joined(word, tuple(parts))


def _term(tokens: list[str], whole: str, depth: int) -> _Joined | str:
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
        if not re.fullmatch(r"[A-Za-z0-9.:-]+", exception):
            raise _malformed(whole)
        return f"{token} WITH {exception}"
    return token


def _malformed(expression: str) -> ValueError:
    return ValueError(f"{expression[:60]!r} is not an SPDX expression")


def _named(metadata: Message) -> str:
    """What the metadata says in the first of its three places that says something; "" when none does."""
    expression = metadata.get("License-Expression")
    if expression:
        return str(expression).strip()
    field = " ".join(str(metadata.get("License") or "").split())
    if known := FIELDS.get(field.lower().rstrip(".")):
        return known
    if CLOSED.search(field[:200]) or (field and _is_expression(field)):
        return field[:100]
    names = [str(name) for name in metadata.get_all("Classifier") or []]
    licences = [name for name in names if name.startswith("License ::") and name != "License :: OSI Approved"]
    # Several classifiers may mean AND or OR; each must be allowed, and one that is not known refuses.
    return " AND ".join(sorted({CLASSIFIERS.get(name, name) for name in licences}))


def _is_expression(text: str) -> bool:
    try:
        _parse(text)
    except ValueError:
        return False
    return True
