"""What `puna paper` shows: claims by section, with status and figure; modules, tests and commands of chosen ones."""

from __future__ import annotations

import datetime
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from puna.paper.ledger import STATUSES, Claim, Ledger
from puna.paper.results import RESULTS, Result, filled, read

FORMAT = 1  # of the JSON
WIDTH = 80
INDENT = 18  # columns of a status


class Account:
    """Claims with the results that they are shown by; each result is read once."""

    def __init__(self, ledger: Ledger, claims: Sequence[Claim], today: datetime.date, folder: Path = RESULTS) -> None:
        self.ledger, self.claims, self.today = ledger, claims, today
        used = {claim.result for claim in claims} | {
            ledger.estimates[claim.estimate].result for claim in claims if claim.estimate
        }
        self.results = {name: read(name, folder) for name in sorted(used - {""})}

    def figure(self, claim: Claim) -> str:
        """The figure of a claim as text; "" where nothing was counted, only tested."""
        return filled(claim.figure, self.results[claim.result]) if claim.figure else ""

    def estimate(self, claim: Claim) -> str:
        """What a run of the paper's size would need; "" where none is asked for."""
        if not claim.estimate:
            return ""
        estimate = self.ledger.estimates[claim.estimate]
        return filled(estimate.figure, self.results[estimate.result])

    def source(self, claim: Claim) -> Result | None:
        """The result that the figure is from, or the estimate where there is no figure."""
        if claim.figure:
            return self.results[claim.result]
        return self.results[self.ledger.estimates[claim.estimate].result] if claim.estimate else None

    def as_json(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "date": self.today.isoformat(),
            "statuses": STATUSES,
            "counts": {status: self._count(status) for status in STATUSES},
            "claims": [self._row(claim) for claim in self.claims],
        }

    def as_text(self, whole: bool = False) -> str:
        """Lines for people, at most 80 columns. whole: modules, tests and commands too."""
        lines: list[str] = []
        section = ""
        for claim in self.claims:
            if claim.section != section:
                section = claim.section
                lines += ["", *_wrapped(f"{section}  {self.ledger.titles[section]}", "", "")]
            lines += self._lines(claim, whole)
        return "\n".join([*lines[1:], "", *self._summary()])

    def _lines(self, claim: Claim, whole: bool) -> list[str]:
        lines = _wrapped(claim.claim, f"  {claim.status}")
        if figure := self.figure(claim):
            lines += _wrapped(f"= {figure}" + (f" (paper: {claim.paper})" if claim.paper else ""), "")
        elif claim.paper:
            lines += _wrapped(f"paper: {claim.paper}", "")
        if estimate := self.estimate(claim):
            lines += _wrapped(f"plan: {estimate}", "")
        if claim.note:
            lines += _wrapped(claim.note, "")
        if source := self.source(claim):
            lines += _wrapped(_said(source, self.today), "")
        if whole:
            lines += _wrapped(f"by {', '.join(claim.module)}", "")
            # A long name of a test breaks behind its file and not within the name, where there is room for it.
            lines += _wrapped(f"held by {', '.join(claim.test).replace('::', ':: ')}", "")
            lines += _wrapped(f"$ {claim.command}", "")
            lines += _wrapped(f"recorded by {source.command} on {source.on()}", "") if source else []
            lines += _wrapped(f"docs/{claim.docs}", "") if claim.docs else []
        return lines

    def _summary(self) -> list[str]:
        counts = [f"{count} {status}" for status in STATUSES if (count := self._count(status))]
        told = f"{_counted(len(self.claims), 'claim')}: {', '.join(counts)}."
        if self.results:
            ages = [result.age_days(self.today) for result in self.results.values()]
            old = sum(bool(result.changed()) for result in self.results.values())
            told += f" Figures from {_counted(len(ages), 'result file')}, {_counted(max(ages), 'day')} old at most"
            told += f", {old} of them from before a change of their code." if old else ", all of this very code."
        return textwrap.wrap(told, WIDTH, break_on_hyphens=False)

    def _count(self, status: str) -> int:
        return sum(claim.status == status for claim in self.claims)

    def _row(self, claim: Claim) -> dict[str, Any]:
        source, figure, estimate = self.source(claim), self.figure(claim), self.estimate(claim)
        return {
            "section": claim.section,
            "title": self.ledger.titles[claim.section],
            "claim": claim.claim,
            "status": claim.status,
            "module": list(claim.module),
            "test": list(claim.test),
            "command": claim.command,
            "docs": claim.docs or None,
            "paper": claim.paper or None,
            "figure": figure or (f"needs a cluster: {estimate}" if estimate else None),
            "estimate": estimate or None,
            "note": claim.note or None,
            "result": source.as_json(self.today) if source else None,
        }


def _said(result: Result, today: datetime.date) -> str:
    """Where a figure is from and how old it is."""
    age = _counted(result.age_days(today), "day")
    told = f"{result.name}, {result.date.isoformat()}, {age} old, at {result.commit[:10]}"
    changed = result.changed()
    return f"{told}; changed since: {', '.join(changed)}" if changed else told


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _wrapped(text: str, head: str, indent: str = " " * INDENT) -> list[str]:
    """Lines of `text`, the first behind `head`, which fills the columns of a status."""
    first = f"{head:{len(indent)}}"
    return textwrap.wrap(
        text, WIDTH, initial_indent=first, subsequent_indent=indent, break_on_hyphens=False, break_long_words=True
    )
