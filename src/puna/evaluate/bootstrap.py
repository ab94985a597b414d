"""Intervals of a benchmark's numbers: the bootstrap over clusters of items (sections 5.1 to 5.4, Tables 11 to 14).

Items that are made of one sentence are not independent. So whole clusters are drawn with replacement, as many as there
are, and the mean over their items is taken: the percentiles of many such means are the interval. It says how the number
would move with another sample of such items, not whether they measure what one would like to know (docs/safety.md).

Seed and order of clusters decide every draw, so that the same answers give the same interval to the last bit.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

RESAMPLES = 10_000
LEVEL = 0.95
SEED = 1
SAME = 1e-12  # means that differ by less do so by rounding
BLOCK = 4_000_000  # draws at a time: 32 MB


def interval(
    column: Sequence[float], clusters: Sequence[str], *, resamples: int = RESAMPLES, seed: int = SEED
) -> tuple[float, float] | None:
    """The percentile interval of LEVEL of the mean of `column`. clusters: that of each item, by name; their order of
    names, not that of items, decides the draws. None where every draw gives the same: of one cluster, and of clusters
    that agree. That says how few they are, and not that the number is certain."""
    _, places = np.unique(np.asarray(clusters, dtype=str), return_inverse=True)
    means = resampled(np.bincount(places, weights=column), np.bincount(places), resamples, seed)
    if np.ptp(means) <= SAME:
        return None
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def resampled(sums_C: np.ndarray, sizes_C: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """resamples means over items, each of as many clusters as there are, drawn with replacement.

    sums_C: sum of the items' values in each cluster; sizes_C: number of its items.
    """
    generator = np.random.default_rng(seed)
    number = len(sums_C)
    means = np.empty(resamples)
    rows = max(1, BLOCK // number)
    for start in range(0, resamples, rows):
        drawn_RC = generator.integers(0, number, (min(rows, resamples - start), number))
        means[start : start + rows] = sums_C[drawn_RC].sum(axis=1) / sizes_C[drawn_RC].sum(axis=1)
    return means
