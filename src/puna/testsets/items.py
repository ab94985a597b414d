"""The item: one question of one benchmark, with the fields that its evaluation needs, as its release gives them.

Nothing of a prompt is in it: how a question is shown to a model is evaluation's choice (sections 2 and 3 of the paper
leave it open), and the text that must not be trained on is the release's own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# A blank to fill: underscores that are no part of a name.
BLANK = re.compile(r"(?<!\w)_+(?!\w)")


@dataclass(frozen=True, slots=True)
class Item:
    benchmark: str
    """Name in the registry, such as `arc_easy`."""
    split: str
    """As the paper names it: train, validation or test; "" where neither file nor record tells."""
    id: str
    """The release's own key; where it has none, the number of the record in its file, from 1."""
    question: str
    """What is asked, or begun: a question, a sentence with a blank, a problem, a program's head."""
    context: str = ""
    """The passage or situation that it is asked about."""
    choices: tuple[str, ...] = ()
    """The answers to choose from, in the release's order; none for free answers."""
    gold: int | None = None
    """Index of the right choice, from 0; None for free answers, and where a test split hides it."""
    answers: tuple[str, ...] = ()
    """Free answers that count as right."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """What else the benchmark has, by the names that its reader's docstring gives."""

    @property
    def sentences(self) -> tuple[str, ...]:
        """Each choice within its question: in the blank where there is exactly one, else behind it."""
        before, *rest = BLANK.split(self.question)
        if len(rest) == 1:
            return tuple(f"{before}{choice}{rest[0]}" for choice in self.choices)
        return tuple(f"{self.question} {choice}" for choice in self.choices)
