"""Whose turn it is: the source of each training window, so that at every moment the mixture is the one asked for.

R. Tijdeman, "The chairman assignment problem", Discrete Mathematics 32 (1980): n states of different size name the
chairman of their union in turn, and there is a way that leaves no state, after any number of turns, further than
1 - 1/(2n - 2) turns from its due, which is the best possible. Here the states are sources. One period (the sum of the
whole weights) is dealt out once; it is repeated for ever, so that a turn is two look-ups for any window number.

The order of turns is part of the format of a run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Turns:
    """One period of turns, repeated for ever. order (period,): index of the source at each turn. before (period,): how
    many turns it had earlier in the period. places: for each source the turns that are its own."""

    order: npt.NDArray[np.int64]
    before: npt.NDArray[np.int64]
    places: tuple[npt.NDArray[np.int64], ...]

    @staticmethod
    def of(weights: Sequence[int]) -> Turns:
        order = np.array(chairmen(weights), dtype=np.int64)
        places = tuple(np.flatnonzero(order == source) for source in range(len(weights)))
        before = np.empty_like(order)
        for place in places:
            before[place] = np.arange(len(place))
        return Turns(order, before, places)

    def turn(self, i: int) -> tuple[int, int]:
        """(source, ordinal): whose window `i` is, and how many windows that source had before."""
        period, place = divmod(i, len(self.order))
        source = int(self.order[place])
        return source, period * len(self.places[source]) + int(self.before[place])

    def turns_of(self, i: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """`turn` of many at once: (sources, ordinals), each of the shape of `i`."""
        period, place = np.divmod(i, len(self.order))
        sources = self.order[place]
        weights = np.array([len(places) for places in self.places], dtype=np.int64)
        return sources, period * weights[sources] + self.before[place]

    def index(self, source: int, ordinal: int) -> int:
        """The window at which `source` has its turn number `ordinal`, counted from 0: the inverse of `turn`."""
        period, place = divmod(ordinal, len(self.places[source]))
        return period * len(self.order) + int(self.places[source][place])

    def count(self, source: int, windows: int) -> int:
        """Turns of `source` among the first `windows`."""
        period, rest = divmod(windows, len(self.order))
        places = self.places[source]
        return period * len(places) + int(np.searchsorted(places, rest))


def chairmen(weights: Sequence[int]) -> list[int]:
    """One period of Tijdeman's assignment: for each of sum(weights) turns the index of the source that has it.

    At turn t a source is due when its share of t turns exceeds what it had by 1/(2n - 2) or more; of those due the one
    whose excess would first pass 1 - 1/(2n - 2) has the turn. All numbers are whole: times (2n - 2) and the period.
    """
    period, parts = sum(weights), 2 * len(weights) - 2
    if parts == 0:
        return [0] * period
    had = [0] * len(weights)
    turns = []
    for t in range(1, period + 1):
        chosen, its_slack = -1, 0
        for source, weight in enumerate(weights):
            excess = parts * (weight * t - period * had[source])
            if excess < period:
                continue
            slack = (parts - 1) * period - excess
            if chosen < 0 or slack * weights[chosen] < its_slack * weight:
                chosen, its_slack = source, slack
        had[chosen] += 1
        turns.append(chosen)
    return turns
