"""How far a training is: what the next step follows from, beside weights and moments.

A step reads the windows behind the cursor. Ranges that a rewind passed over (`rewound`) are never read: when the cursor
comes to one, it jumps behind it. So what a training reads is a function of its position alone, and a kill changes
nothing of it. `first_window` is the same in closed form, for whoever asks later what a step has read.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

Ranges = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Position:
    """How far a training is."""

    step: int = 0
    """Steps done, the skipped ones too."""
    taken: int = 0
    """Steps that changed the weights."""
    tokens: int = 0
    """Tokens read by these steps."""
    cursor: int = 0
    """The window that comes next, or the first of a rewound range, behind which it goes on."""
    loss: float | None = None
    """Of the last step that was taken, in nats per token."""
    skipped: Ranges = ()
    """Ranges of windows, first and one behind the last, that steps read without changing a weight."""
    nonfinite_in_a_row: int = 0
    """Skipped steps since the last one that was taken: losses that were not finite, and spikes that were skipped."""
    rewound: Ranges = ()
    """Ranges of windows that no step reads, since a rewind passed over them; some may lie ahead of the cursor."""
    rewinds: int = 0
    """How often the training went back before a spike."""
    losses: tuple[float, ...] = ()
    """Finite losses of the last steps, oldest first, by which the next one is judged; at most `spike_window`."""

    @property
    def next(self) -> int:
        """The first window of the next step."""
        return behind(self.cursor, self.rewound)

    def after(self, *, windows: int, tokens: int, loss: float | None, seen: Sequence[float] = ()) -> Position:
        """The position one step on, which read that many windows and tokens. loss: None for a step not taken. seen:
        `losses` from then on."""
        first = self.next
        here = replace(
            self, step=self.step + 1, tokens=self.tokens + tokens, cursor=first + windows, losses=tuple(seen)
        )
        if loss is not None:
            return replace(here, taken=self.taken + 1, loss=loss, nonfinite_in_a_row=0)
        return replace(
            here,
            skipped=joined([*self.skipped, (first, here.cursor)]),
            nonfinite_in_a_row=self.nonfinite_in_a_row + 1,
        )

    def as_json(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @staticmethod
    def from_json(state: Mapping[str, Any]) -> Position:
        """What `as_json` gave; what an older Puna did not know has its first value."""
        values = {field.name: state[field.name] for field in fields(Position) if field.name in state}
        for name in ("skipped", "rewound"):
            values[name] = tuple((first, end) for first, end in values.get(name, ()))
        return Position(**{**values, "losses": tuple(values.get("losses", ()))})


def first_window(step: int, windows: int, rewound: Iterable[Sequence[int]]) -> int:
    """The first window that step number `step` (from 1) reads, where each reads `windows` of them."""
    return behind_all((step - 1) * windows, rewound)


def step_that_reads(window: int, windows: int, rewound: Iterable[Sequence[int]]) -> int | None:
    """The step that reads a window; None for one that was passed over."""
    gone = 0
    for first, end in sorted((first, end) for first, end in rewound):
        if first <= window < end:
            return None
        gone += end - first if end <= window else 0
    return (window - gone) // windows + 1


def behind(cursor: int, rewound: Ranges) -> int:
    """Where reading goes on from `cursor`: behind the range that begins there, if one does."""
    at = bisect_left(rewound, (cursor, cursor))
    return rewound[at][1] if at < len(rewound) and rewound[at][0] == cursor else cursor


def behind_all(ordinal: int, rewound: Iterable[Sequence[int]]) -> int:
    """The window that is read as number `ordinal` (from 0), when those in `rewound` are left out."""
    for first, end in sorted((first, end) for first, end in rewound):
        if ordinal < first:
            break
        ordinal += end - first
    return ordinal


def joined(ranges: Iterable[tuple[int, int]]) -> Ranges:
    """The same windows as ranges in order, none of which touches another."""
    found: list[tuple[int, int]] = []
    for first, end in sorted(ranges):
        if found and first <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((first, end))
    return tuple(found)
