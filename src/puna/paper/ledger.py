"""ledger.toml as records: claims by section, table and figure of the paper, and how a result of theirs is recorded."""

from __future__ import annotations

import functools
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources

from puna.errors import InputError

STATUSES = {
    "shown": "what the paper says holds here, by a test or a count",
    "recomputed": "the paper's own numbers, worked out again from one another or from shapes",
    "shown small": "the same work on a small model, a sample of text or one machine",
    "needs a cluster": "built and tested; the paper's number asks for a run of that size",
    "needs others": "waits for what others hold: withdrawn data, a service, judges that are gone",
}
"""What a claim can be, with what it means; the order in which they are counted."""
SHOWN = ("shown", "recomputed")


@dataclass(frozen=True)
class Claim:
    """One thing that the paper says, and what stands for it here."""

    section: str
    """Of the paper: 2.4, B, Table 15, Figure 1."""
    claim: str
    module: tuple[str, ...]
    """Files from src/puna/."""
    test: tuple[str, ...]
    """Files from tests/, with ::name for a single test."""
    status: str
    command: str
    """What shows it; a test that is named, where nothing else is said."""
    paper: str = ""
    """What the paper prints."""
    result: str = ""
    """Name of the result that the figure is read from."""
    figure: str = ""
    """The text that shows it, numbers of the result as {name}."""
    estimate: str = ""
    """Which of the estimates tells what it would need."""
    docs: str = ""
    """A page of docs/, with an anchor."""
    note: str = ""
    """What is missing or small about it."""


@dataclass(frozen=True)
class Estimate:
    """What a run of the paper's size would need, by a result of `puna plan`."""

    result: str
    figure: str


@dataclass(frozen=True)
class Recorded:
    """How a result comes about: a command, and where in what it prints each figure stands."""

    command: str
    """`{out}` is a file of JSON that the command writes; without it JSON is read from what it prints."""
    sources: tuple[str, ...]
    """Files and folders from src/puna/ that the figures follow from."""
    json: Mapping[str, str] = field(default_factory=dict)
    """Figure to its place in that JSON, keys and numbers of lists between slashes."""
    line: Mapping[str, str] = field(default_factory=dict)
    """Figure to an expression whose one group is the number, in what was printed, runs of blanks as one."""


@dataclass(frozen=True)
class Ledger:
    titles: Mapping[str, str]
    """Each section, table and figure in the paper's order, with what it is about."""
    claims: tuple[Claim, ...]
    estimates: Mapping[str, Estimate]
    recorded: Mapping[str, Recorded]

    def of(self, sections: Sequence[str]) -> list[Claim]:
        return [claim for claim in self.claims if claim.section in sections]


@functools.cache
def ledger() -> Ledger:
    """The ledger of this version."""
    table = tomllib.loads(resources.files("puna.paper").joinpath("ledger.toml").read_text("utf-8"))
    titles: dict[str, str] = table["titles"]
    order = list(titles)
    claims = sorted((_claim(row) for row in table["claim"]), key=lambda claim: order.index(claim.section))
    return Ledger(
        titles,
        tuple(claims),
        {name: Estimate(**row) for name, row in table["estimates"].items()},
        {name: Recorded(**{**row, "sources": tuple(row["sources"])}) for name, row in table["recorded"].items()},
    )


def chosen(words: Sequence[str], titles: Mapping[str, str]) -> list[str]:
    """The sections that are meant by words as typed: 2.4, B, table 15, tables, figure1. 2 is 2.1 to 2.4 as well.

    InputError for one that the paper has not.
    """
    text = " ".join(words).lower().replace(",", " ")
    found: list[str] = []
    for kind, number, section in re.findall(r"\b(table|figure)s?[ -]*(\d+)?(?![.\w])|(\S+)", text):
        if kind:
            name = f"{kind.capitalize()} {number}".strip()
            met = [each for each in titles if each == name or (not number and each.startswith(name))]
        else:
            name = section.rstrip(".").upper()
            met = [each for each in titles if each == name or each.startswith(f"{name}.")]
        if not met:
            mend = "sections are 1 to 8 and A to D; or give table 15, figure 2, tables, figures"
            raise InputError(f'the paper has no "{name}"', mend=mend)
        found += met
    return [each for each in titles if each in found]


def _claim(row: Mapping[str, object]) -> Claim:
    """A claim from its row; `module` and `test` may be one word or several."""
    named = {key: tuple(_words(row[key])) for key in ("module", "test")}
    command = row.get("command") or f"pytest tests/{named['test'][0]}"
    return Claim(**{**row, **named, "command": command})  # type: ignore[arg-type]


def _words(value: object) -> list[str]:
    return [value] if isinstance(value, str) else list(value)  # type: ignore[call-overload]
