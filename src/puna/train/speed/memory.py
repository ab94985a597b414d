"""The most memory that torch held during a step, beyond what it held before.

Counted from torch's own allocations (its profiler sees each), so it is the same on every machine and in every process.
What a library takes for itself, such as the scratch space of a matmul, is not in it; nor are weights, moments and
whatever else was there before.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import torch


def peak(work: Callable[[], object]) -> int:
    """Bytes. work: one step; taken once before, so that nothing is compiled or made for the first time."""
    work()
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else it tells standard error that it begins and ends
    with torch.profiler.profile(profile_memory=True, activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        work()
    results = profile.profiler.kineto_results
    changes = sorted((event.start_ns(), event.nbytes()) for event in results.events() if event.name() == "[memory]")
    held = most = 0
    for _, change in changes:
        held += change
        most = max(most, held)
    return most
