"""Which code may be read: only what is under MIT, BSD or Apache licences (section 2.1).

A project says its licence in two ways: in its metadata, and by the text of its licence files. Both are heard:

- Metadata that is not known to allow reading refuses, whatever the text.
- A text that holds a licence which is neither named by the metadata nor of the recipe's families disagrees with them,
  and refuses. A text that nobody knows, beside metadata that allow, changes nothing.
- Without metadata every licence file at the top must be, word for word, one of the families' licences.
- A recipe's `declared` names the licence of a package's own sources, where metadata and text are those of a build that
  carries compiled libraries; then its text is not asked.

What counts: MIT and MIT-0; the BSD licences of zero (0BSD) to three clauses, but not the fourth, which asks for
advertising; Apache-2.0.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from email.message import Message

from puna.data.code import spdx
from puna.data.code.licence_text import recognised

FAMILIES = {
    "MIT": re.compile(r"MIT(-0)?", re.IGNORECASE),
    "BSD": re.compile(r"0BSD|BSD|BSD-[123]-Clause(-(Clear|Patent|Views))?", re.IGNORECASE),
    "Apache": re.compile(r"Apache-2\.0", re.IGNORECASE),
}
COPYLEFT = re.compile(
    r"([AL]?GPL|GFDL|MPL|EPL|CDDL|EUPL|OSL|CECILL|SSPL|CPL|QPL|MS-RL|Sleepycat|CC-BY-(NC|ND|SA))(?![A-Za-z])",
    re.IGNORECASE,
)
# Words of a licence field that settle the matter against reading, whatever else stands there.
CLOSED = re.compile(r"\b[AL]?GPL|\bGNU\b|General Public|Mozilla|\bMPL\b|proprietary|commercial", re.IGNORECASE)

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


UNKNOWN = Verdict("unknown", "neither its metadata nor a licence file names a licence that is known")


def of_project(named: str, texts: Sequence[str], families: Sequence[str], own: str = "") -> Verdict:
    """Whether a project may be read. named: what its metadata say, or ""; texts: its licence files; own: what the
    recipe declares of its own sources, or "". What is declared must be one of the licences in the metadata, and none
    of them may be a copyleft one."""
    if not named:
        return _of_texts(texts, families)
    if own:
        return _of_declared(named, families, own)
    verdict = of_expression(named, families)
    if verdict.refused:
        return verdict
    said = [spdx.base(term).lower() for term in spdx.terms(spdx.parse(named))]
    for text in texts:
        found = recognised(text)
        other = [each for each in found.others if not any(term.startswith(each.lower()) for term in said)]
        other += [each for each in found.known if each.lower() not in said and not _allowed(each, families)]
        if other:
            return Verdict(named, f"its metadata say {named}, and its licence text also holds {', '.join(other)}")
    return verdict


def of_text(text: str, families: Sequence[str]) -> Verdict | None:
    """Of a folder's own licence file, which wins over the project's; None for a text that holds no known licence."""
    found = recognised(text)
    return of_expression(found.expression, families) if found.expression else None


def of_expression(expression: str, families: Sequence[str]) -> Verdict:
    """Whether an SPDX expression allows reading. `licence` is then what was taken of it."""
    try:
        taken = spdx.taken(spdx.parse(expression), lambda term: _allowed(term, families))
    except ValueError as error:
        return Verdict(expression[:100], f"not known to be under {', '.join(families)}: {error}")
    return Verdict(taken) if taken else Verdict(expression, f"not under {', '.join(families)}")


def _allowed(term: str, families: Sequence[str]) -> bool:
    """Exceptions only add permissions, but for one that is none: the Commons Clause."""
    if "commons-clause" in term.lower():
        return False
    return any(FAMILIES[family].fullmatch(spdx.base(term)) for family in families if family in FAMILIES)


def _of_declared(named: str, families: Sequence[str], own: str) -> Verdict:
    try:
        terms = list(spdx.terms(spdx.parse(named)))
    except ValueError as error:
        return Verdict(named, str(error))
    if own not in terms:
        return Verdict(named, f"declared as {own}, which is none of the licences in its metadata")
    if hidden := sorted({term for term in terms if COPYLEFT.match(term)}):
        return Verdict(named, f"declared as {own}, and its metadata also names {', '.join(hidden)}")
    return of_expression(own, families)


def _of_texts(texts: Sequence[str], families: Sequence[str]) -> Verdict:
    found = [recognised(text) for text in texts]
    said = " AND ".join(dict.fromkeys(each.expression for each in found if each.expression))
    if not said:
        return UNKNOWN
    verdict = of_expression(said, families)
    if not verdict.refused and not all(each.is_whole for each in found):
        return Verdict(said, "its licence text holds more than that, and no metadata says which licence is meant")
    return verdict


def named_in(metadata: Message) -> str:
    """What a package's metadata say in the first of three places that says something: the SPDX expression, the licence
    field, the classifiers; "" when none does."""
    expression = metadata.get("License-Expression")
    if expression:
        return " ".join(str(expression).split())
    names = [str(name) for name in metadata.get_all("Classifier") or []]
    return named_loosely(str(metadata.get("License") or ""), names)


def named_loosely(field: str, classifiers: Sequence[str]) -> str:
    """What a licence field means, else classifiers."""
    field = " ".join(field.split())
    if known := FIELDS.get(field.lower().rstrip(".")):
        return known
    if CLOSED.search(field[:200]) or (field and field.upper() != "UNKNOWN" and spdx.is_expression(field)):
        return field[:100]
    licences = [name for name in classifiers if name.startswith("License ::") and name != "License :: OSI Approved"]
    # Several classifiers may mean AND or OR; each must be allowed, and one that is not known refuses.
    return " AND ".join(sorted({CLASSIFIERS.get(name, name) for name in licences}))
