"""One thing that doctor found, and how findings are told: as text for people, as JSON for programs."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from puna.progress import WIDTH

FORMAT = 1  # of the JSON
PACKAGE = "package "  # the names of findings about single packages begin with it

State = Literal["ok", "note", "warning", "error"]
STATES: tuple[State, ...] = ("ok", "note", "warning", "error")
# The state is a word of its own, so that it is seen without colour; capitals for what is wrong.
MARKS = {"ok": "ok", "note": "note", "warning": "WARNING", "error": "ERROR"}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    name: str
    """What was looked at: "torch", "memory", "package numpy", "extra test"."""
    state: State
    """ok; note: good to know; warning: a run is slower, or fails in some case; error: a run fails."""
    what: str
    mend: str = ""
    """A command or a sentence; "" where the state is ok."""


def worst(findings: Sequence[Finding]) -> State:
    """The worst state among the findings."""
    return max((finding.state for finding in findings), key=STATES.index, default="ok")


def as_text(findings: Sequence[Finding]) -> str:
    """The findings in aligned columns, at most 80 characters wide, and a last line that sums them up."""
    told = _fold_packages(findings)
    marks = max(map(len, MARKS.values())) + 2
    names = max((len(_short(finding)) for finding in told), default=0) + 2
    lines = []
    for finding in told:
        parts = [finding.what, f"mend: {finding.mend}" if finding.mend else ""]
        rows = [row for part in parts for row in _wrap(part, WIDTH - marks - names)]
        head = f"{MARKS[finding.state]:{marks}}{_short(finding):{names}}"
        lines += [(head if number == 0 else " " * len(head)) + row for number, row in enumerate(rows or [""])]
    return "\n".join([*(line.rstrip() for line in lines), "", *_wrap(_summary(findings), WIDTH)])


def as_json(findings: Sequence[Finding]) -> dict[str, Any]:
    """{format, state (the worst one), findings: [{name, state, what, mend}]}."""
    return {"format": FORMAT, "state": worst(findings), "findings": [asdict(finding) for finding in findings]}


def _fold_packages(findings: Sequence[Finding]) -> list[Finding]:
    """The packages with which nothing is wrong, as one finding in the place of the first."""
    good = [finding for finding in findings if finding.name.startswith(PACKAGE) and finding.state == "ok"]
    listed = ", ".join(f"{_short(finding)} {finding.what.split(' ')[0]}" for finding in good)
    told: list[Finding] = []
    for finding in findings:
        if finding not in good:
            told.append(finding)
        elif finding is good[0]:
            told.append(Finding("packages", "ok", listed))
    return told


def _short(finding: Finding) -> str:
    return finding.name.removeprefix(PACKAGE)


def _wrap(text: str, width: int) -> list[str]:
    clean = "".join(character if character.isprintable() else " " for character in text)
    return textwrap.wrap(clean, width, break_on_hyphens=False)


def _summary(findings: Sequence[Finding]) -> str:
    counts = {state: sum(finding.state == state for finding in findings) for state in STATES}
    words = [
        f"{counts[state]} {state}{'s' if counts[state] > 1 else ''}"
        for state in ("error", "warning", "note")
        if counts[state]
    ]
    found = ", ".join(words) or "nothing is missing"
    end = "A run fails until the errors are mended." if counts["error"] else "A run can begin."
    return f"{found[0].upper()}{found[1:]}. {end}"
