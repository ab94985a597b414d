"""Runs taken in turn, each by two clocks, so that what else the machine does meets all of them alike.

The processor's time, over all threads of this process, is what counts on a machine that others use too: the clock on
the wall says more of them. Both are told.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch


class Turn(NamedTuple):
    """Seconds of one run."""

    processor: float
    wall: float

    def times(self, factor: float) -> Turn:
        return Turn(self.processor * factor, self.wall * factor)

    def plus(self, other: Turn) -> Turn:
        return Turn(self.processor + other.processor, self.wall + other.wall)


class Spread(NamedTuple):
    median: float
    least: float
    most: float


Run = Callable[[], Turn]


def clocked(work: Callable[[], object]) -> Turn:
    processor, wall = time.process_time(), time.perf_counter()
    work()
    return Turn(time.process_time() - processor, time.perf_counter() - wall)


def in_turn(runs: Mapping[str, Run], rounds: int, threads: Sequence[int]) -> dict[int, dict[str, list[Turn]]]:
    """For each number of threads the turns of each run, `rounds` of each, after one that is not counted: it compiles,
    and meets fresh memory."""
    before = torch.get_num_threads()
    found: dict[int, dict[str, list[Turn]]] = {number: {name: [] for name in runs} for number in threads}
    try:
        for turn in range(rounds + 1):
            for number in threads:
                torch.set_num_threads(number)
                for name, run in runs.items():
                    taken = run()
                    if turn:
                        found[number][name].append(taken)
    finally:
        torch.set_num_threads(before)
    return found


def ratio(ours: Sequence[Turn], theirs: Sequence[Turn]) -> Spread:
    """Their processor seconds over ours, round by round: how many times as fast ours is."""
    return spread([them.processor / max(us.processor, 1e-9) for us, them in zip(ours, theirs, strict=True)])


def spread(values: Sequence[float]) -> Spread:
    return Spread(statistics.median(values), min(values), max(values))
