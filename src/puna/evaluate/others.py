"""Results of tasks that the pack does not have, as a command keeps and shows them; who gives them is harness/others.py.

Nothing here imports lm-eval.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from puna.evaluate.answering import Model
from puna.evaluate.run import Value
from puna.generate import Generator
from puna.storage import Place


@dataclass(frozen=True)
class Other:
    """A task of lm-eval, or one of its groups."""

    task: str
    version: str
    shots: int | None
    """Examples before an item; None of a group, whose tasks may differ."""
    items: int
    of: int
    """Items that the task has."""
    values: Mapping[str, Value]
    """By metric, and by filter where that is another than none: `exact_match,strict-match`."""
    by: str
    """What ran it, with its version."""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


class Others(Protocol):
    """Tasks of others, found by name."""

    def demand(self) -> None:
        """InputError for one that cannot be asked here, such as one whose data lies elsewhere."""

    def ask(self, loaded: Generator, model: Model, folder: Place, digest: str) -> list[Other]:
        """Ask the model; answers are kept in `folder` as they come. digest: of the model."""


def as_text(found: Sequence[Other]) -> str:
    """A line for each metric, in Markdown."""
    lines = ["### Other tasks", "", "| task | shots | metric | value | items |", "|---|---:|---|---:|---:|"]
    for each in found:
        shots = "-" if each.shots is None else str(each.shots)
        for metric, value in each.values.items():
            error = "" if value.error is None else f" ± {value.error:.4f}"
            lines.append(f"| {each.task} | {shots} | {metric} | {value.mean:.4f}{error} | {each.items:,} |")
    notes = dict.fromkeys(f"- {each.task}: {note(each)}." for each in found)
    return "\n".join([*lines, "", *notes]) + "\n"


def note(other: Other) -> str:
    """What does not show in its numbers: how many items, which version, and who asked them."""
    whole = f" of {other.of:,}" if other.of != other.items else ""
    few = "; its first items, so that the numbers do not compare" if whole else ""
    return f"{other.items:,}{whole} items{few}; version {other.version}, by {other.by}"
