"""Speeds beside those of peers, taken in turn in the same run, so that what else the machine does meets all alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

from form import metric


def speeds(
    size: int,
    ours: Callable[[], object],
    peers: Mapping[str, Callable[[], object]],
    rounds: int,
    limit: float | None = None,
) -> dict[str, Any]:
    """MB of input a second, the median of `rounds`, and our speed over each peer's, round by round. `size`: bytes of
    uncompressed input; `limit`: the ratio that is asked for."""
    runs = {"ours": ours, **peers}
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            taken[name].append(time.perf_counter() - start)
    rate = {name: size / 1e6 / statistics.median(seconds) for name, seconds in taken.items()}
    ratio = {}
    for name in peers:
        ratios = [theirs / mine for mine, theirs in zip(taken["ours"], taken[name], strict=True)]
        ratio[name] = {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios)}
    return metric(rate.pop("ours"), "MB/s", limit, rate, ratio)
