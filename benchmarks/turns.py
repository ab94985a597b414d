"""Speeds beside those of peers, taken in turn in the same run, so that what else the machine does meets all alike.

Time is that of the processor, in this process and those it starts: on a machine that others use too, the clock on the
wall says more of them than of what is measured. What runs on one thread takes as long on the wall when it runs alone.
"""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Callable, Mapping
from typing import Any

import psutil

from form import metric


def speeds(
    size: int,
    ours: Callable[[], object],
    peers: Mapping[str, Callable[[], object]],
    rounds: int,
    limit: float | None = None,
) -> dict[str, Any]:
    """MB of input a second of one core, the median of `rounds`, and our speed over each peer's, round by round. `size`:
    bytes of uncompressed input; `limit`: the ratio that is asked for."""
    runs = {"ours": ours, **peers}
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            before = processor()
            run()
            taken[name].append(processor() - before)
    rate = {name: size / 1e6 / statistics.median(seconds) for name, seconds in taken.items()}
    ratio = {}
    for name in peers:
        ratios = [theirs / mine for mine, theirs in zip(taken["ours"], taken[name], strict=True)]
        ratio[name] = {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios)}
    return metric(rate.pop("ours"), "MB/s", limit, rate, ratio)


def processor() -> float:
    """Processor seconds of this process, of its children, and of those that ended."""
    process = psutil.Process()
    total = sum(process.cpu_times()[:4])
    for child in process.children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            total += sum(child.cpu_times()[:4])
    return float(total)
