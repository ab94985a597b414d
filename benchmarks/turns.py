"""Speeds beside those of peers, taken in turn in the same run, so that what else the machine does meets all alike.

Time is that of the processor, in this process and those it starts: on a machine that others use too, the clock on the
wall says more of them than of what is measured. What runs on one thread takes as long on the wall when it runs alone.
"""

from __future__ import annotations

import contextlib
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil

from form import NONE, metric
from puna.data.extract import extract
from puna.data.sources import locate, split


def speeds(
    size: int,
    ours: Callable[[], object],
    peers: Mapping[str, Callable[[], object]] = NONE,
    rounds: int = 3,
    limit: float | None = None,
    *,
    unit: str = "MB/s",
    peer_size: int | None = None,
) -> dict[str, Any]:
    """MB of input a second of one core, the median of `rounds`, and our speed over each peer's, round by round. `size`:
    bytes of uncompressed input, `peer_size`: of what peers get, where that is less; `limit`: what is asked for."""
    sizes = dict.fromkeys(peers, peer_size or size) | {"ours": size}
    runs = {"ours": ours, **peers}
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            before = processor()
            run()
            taken[name].append(sizes[name] / 1e6 / (processor() - before))
    rate = {name: statistics.median(found) for name, found in taken.items()}
    ratio = {}
    for name in peers:
        ratios = [mine / theirs for mine, theirs in zip(taken["ours"], taken[name], strict=True)]
        ratio[name] = {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios)}
    return metric(rate.pop("ours"), unit, limit, rate, ratio)


def extraction(source: str, recipe: Any, task_size: int = 1 << 40) -> Callable[[], None]:
    """The data step of a source as a run does it, from its dumps to shards of Parquet in a folder that goes again."""

    def run() -> None:
        with tempfile.TemporaryDirectory() as folder:
            scratch = Path(folder, "work", f"extract.{source}", "0")
            inputs = locate(source, recipe)
            for task in split(source, inputs, recipe, task_size):
                extract(inputs, recipe, 1 << 30, task, scratch)

    return run


def processor() -> float:
    """Processor seconds of this process, of its children, and of those that ended."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    total = time.process_time() + ended.ru_utime + ended.ru_stime
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            total += sum(child.cpu_times()[:4])
    return float(total)
