"""A scaling law through the losses of models of several sizes that read the same tokens.

The rule, fixed before anything is fitted:

    fewer than three sizes      nothing is fitted
    three or four sizes         L(N) = A / N^alpha, a straight line in logarithms; a floor E cannot be told from so few
    five sizes or more          L(N) = E + A / N^alpha where E's interval lies above 0, and the best alpha within
                                STEEPEST; else the power law alone

Each size counts once, with the mean over its seeds. Residuals are relative, which is what logarithms make of them. The
uncertainty is that of least squares: the covariance from the residuals, intervals of 95 % by Student's t with as many
degrees of freedom as there are sizes beyond the parameters. So it holds what seeds do and what the law misses, and it
is wide where there are few sizes, as it should be.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

FEWEST = 3  # sizes for a power law
FEWEST_WITH_FLOOR = 5
STEEPEST = 3.0  # the largest exponent that is looked for beside a floor
# Quantiles of Student's t at 97.5 %, by degrees of freedom from 1 on.
_T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
_NORMAL = 1.959964

Point = tuple[float, Sequence[float]]
"""A size, and the loss of each seed."""


@dataclass(frozen=True)
class Law:
    """L(N) = floor + factor * (N / unit)^-exponent, with what least squares tell of it."""

    unit: float
    """The geometric mean of the sizes: factor is what the law has above its floor there."""
    factor: float
    exponent: float
    floor: float
    """0 where the law has none."""
    reach: float
    """Half the interval of 95 % of the exponent."""
    floor_reach: float
    """The same of the floor; 0 where there is none."""
    sizes: int
    spread: float
    """Root of the mean square of the relative residuals, by degrees of freedom."""
    covariance: np.ndarray
    """(P, P) of (factor, exponent) or (factor, exponent, floor)."""

    @property
    def interval(self) -> tuple[float, float]:
        return self.exponent - self.reach, self.exponent + self.reach

    @property
    def falls(self) -> bool:
        """Whether the exponent's interval lies above 0: that larger is better is more than noise."""
        return self.exponent - self.reach > 0

    def at(self, sizes: np.ndarray) -> np.ndarray:
        """The loss at these sizes, (n,)."""
        return self.floor + self.factor * (sizes / self.unit) ** -self.exponent

    def band(self, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where the law lies with 95 % at each of these sizes: lower and upper, (n,) each, by the delta method."""
        power = (sizes / self.unit) ** -self.exponent
        slopes = [power, -self.factor * power * np.log(sizes / self.unit), np.ones_like(power)]
        gradient = np.stack(slopes[: len(self.covariance)], axis=1) / self.at(sizes)[:, None]
        relative = np.sqrt(np.maximum(0.0, np.einsum("np,pq,nq->n", gradient, self.covariance, gradient)))
        wide = np.exp(student(self.sizes - len(self.covariance)) * relative)
        return self.at(sizes) / wide, self.at(sizes) * wide


def fit(points: Sequence[Point]) -> Law | None:
    """The law through these points by the rule above; None where there are fewer than three sizes."""
    sizes = np.array([size for size, _ in points], float)
    losses = np.array([np.mean(seeds) for _, seeds in points], float)
    if len(set(sizes.tolist())) < FEWEST:
        return None
    if len(set(sizes.tolist())) >= FEWEST_WITH_FLOOR:
        law = _with_floor(sizes, losses)
        # Where a steeper law would fit better still, the exponent is that of the search and not of the losses.
        if law.floor - law.floor_reach > 0 and law.falls and law.exponent < 0.99 * STEEPEST:
            return law
    return _power(sizes, losses)


def student(freedom: int) -> float:
    """The quantile of Student's t at 97.5 %: read from a table up to 10 degrees, beyond by the first terms of its
    expansion about the normal one, within 0.003."""
    if freedom <= len(_T):
        return _T[max(freedom, 1) - 1]
    z = _NORMAL
    return z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)


def seed_spread(points: Sequence[Point]) -> float | None:
    """The standard deviation among seeds of one size, pooled over sizes; None where no size has two."""
    several = [np.asarray(seeds, float) for _, seeds in points if len(seeds) > 1]
    if not several:
        return None
    squares = sum(float(np.sum((seeds - seeds.mean()) ** 2)) for seeds in several)
    return float(np.sqrt(squares / sum(len(seeds) - 1 for seeds in several)))


def _power(sizes: np.ndarray, losses: np.ndarray) -> Law:
    """A straight line through the logarithms."""
    unit = _middle(sizes)
    x, y = np.log(sizes / unit), np.log(losses)
    slope = float(np.sum(x * y) / np.sum(x * x))
    factor = float(np.exp(y.mean()))
    residuals = y - y.mean() - slope * x
    design = np.stack([np.full_like(x, 1 / factor), -x], axis=1)
    return _law(unit, factor, -slope, 0.0, residuals, design)


def _with_floor(sizes: np.ndarray, losses: np.ndarray) -> Law:
    """For each exponent, floor and factor follow by linear least squares; the exponent is searched for."""
    unit = _middle(sizes)

    def linear(exponent: float) -> tuple[float, np.ndarray]:
        columns = np.stack([(sizes / unit) ** -exponent, np.ones_like(sizes)], axis=1) / losses[:, None]
        found, *_ = np.linalg.lstsq(columns, np.ones_like(sizes), rcond=None)
        return float(np.sum((columns @ found - 1) ** 2)), found

    grid = np.geomspace(0.005, STEEPEST, 200)
    best = int(np.argmin([linear(float(each))[0] for each in grid]))
    low, high = float(grid[max(best - 1, 0)]), float(grid[min(best + 1, len(grid) - 1)])
    for _ in range(80):
        left, right = low + 0.382 * (high - low), low + 0.618 * (high - low)
        low, high = (low, right) if linear(left)[0] < linear(right)[0] else (left, high)
    exponent = (low + high) / 2
    _, (factor, floor) = linear(exponent)
    power = (sizes / unit) ** -exponent
    made = floor + factor * power
    design = np.stack([power, -factor * power * np.log(sizes / unit), np.ones_like(power)], axis=1) / made[:, None]
    return _law(unit, float(factor), exponent, float(floor), np.log(losses / made), design)


def _law(unit: float, factor: float, exponent: float, floor: float, residuals: np.ndarray, design: np.ndarray) -> Law:
    """The law with its covariance. design: (n, P), the relative slope of the loss by each parameter."""
    freedom = len(residuals) - design.shape[1]
    variance = float(np.sum(residuals**2)) / freedom
    covariance = variance * np.linalg.pinv(design.T @ design)
    wide = student(freedom) * np.sqrt(np.diag(covariance))
    floor_reach = float(wide[2]) if len(wide) > 2 else 0.0
    reach, spread = float(wide[1]), float(np.sqrt(variance))
    return Law(unit, factor, exponent, floor, reach, floor_reach, len(residuals), spread, covariance)


def _middle(sizes: np.ndarray) -> float:
    return float(np.exp(np.mean(np.log(sizes))))
