"""The scaling law: it finds what was planted, its interval holds it as often as it says, and few sizes give none."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from puna.report.compare import law

SIZES = np.array([0.3e6, 1e6, 2.7e6, 8e6])


@settings(deadline=None, max_examples=60)
@given(st.floats(0.01, 1.0), st.floats(0.5, 9.0))
def test_a_power_law_without_noise_is_found_exactly(exponent: float, factor: float) -> None:
    losses = factor * (SIZES / 1e6) ** -exponent
    found = law.fit([(size, [loss]) for size, loss in zip(SIZES, losses, strict=True)])
    assert found is not None
    assert found.exponent == pytest.approx(exponent, abs=1e-9)
    assert found.floor == 0
    assert found.falls
    assert found.at(SIZES) == pytest.approx(losses)
    assert found.spread < 1e-9


@settings(deadline=None, max_examples=30)
@given(st.floats(0.2, 0.6), st.floats(0.5, 2.0))
def test_a_floor_is_found_from_many_sizes_and_never_from_four(exponent: float, floor: float) -> None:
    sizes = np.geomspace(1e5, 1e9, 9)
    found = law.fit([(size, [floor + (size / 1e6) ** -exponent]) for size in sizes])
    assert found is not None
    assert found.floor == pytest.approx(floor, rel=1e-3)
    assert found.exponent == pytest.approx(exponent, rel=1e-3)
    few = law.fit([(size, [floor + (size / 1e6) ** -exponent]) for size in SIZES])
    assert few is not None
    assert few.floor == 0


def test_a_floor_that_noise_hides_is_not_told() -> None:
    noise = np.random.default_rng(3).normal(0, 0.05, size=5)
    sizes = np.geomspace(1e6, 8e6, 5)
    found = law.fit([(size, [2 * (size / 1e6) ** -0.1 * np.exp(eps)]) for size, eps in zip(sizes, noise, strict=True)])
    assert found is not None
    assert found.floor == 0


def test_a_step_that_no_exponent_is_steep_enough_for_is_told_as_no_law_with_a_floor() -> None:
    """All but the smallest size alike: the best exponent is infinite, and the largest one looked for is no estimate."""
    sizes = np.geomspace(1e5, 1e7, 5)
    found = law.fit([(size, [loss]) for size, loss in zip(sizes, (3.0, 2.0, 2.001, 1.999, 2.0), strict=True)])
    assert found is not None
    assert found.floor == 0
    assert found.exponent < 1


@pytest.mark.prove
def test_the_intervals_of_a_law_with_a_floor_hold_what_was_planted_and_its_band_the_law() -> None:
    sizes = np.geomspace(3e5, 3e8, 7)
    truth = 1 + (sizes / 1e6) ** -0.3
    noise = np.random.default_rng(1).normal(0, 0.005, size=(150, len(sizes)))
    held = np.zeros(3)
    for losses in truth * np.exp(noise):
        found = law.fit([(size, [loss]) for size, loss in zip(sizes, losses, strict=True)])
        assert found is not None
        low, high = found.interval
        below, above = found.band(sizes[:1] * 3)
        there = 1 + (0.9) ** -0.3
        held += [low <= 0.3 <= high, abs(found.floor - 1) <= found.floor_reach, below[0] <= there <= above[0]]
    assert (held / len(noise) >= 0.9).all()
    assert (held / len(noise) <= 0.99).all()


def test_the_interval_holds_the_planted_exponent_as_often_as_it_says() -> None:
    noise = np.random.default_rng(1).normal(0, 0.01, size=(2000, len(SIZES)))
    held = 0
    for losses in 2 * (SIZES / 1e6) ** -0.08 * np.exp(noise):
        found = law.fit([(size, [loss]) for size, loss in zip(SIZES, losses, strict=True)])
        assert found is not None
        low, high = found.interval
        held += low <= 0.08 <= high
    assert 0.935 < held / len(noise) < 0.965


def test_the_band_is_that_of_the_textbook() -> None:
    losses = np.array([2.4, 2.1, 1.95, 1.9])
    found = law.fit([(size, [loss]) for size, loss in zip(SIZES, losses, strict=True)])
    assert found is not None
    x, y = np.log(SIZES), np.log(losses)
    slope, start = np.polyfit(x, y, 1)
    error = np.sqrt(np.sum((y - slope * x - start) ** 2) / 2)
    spread = np.sum((x - x.mean()) ** 2)
    assert found.exponent == pytest.approx(-slope)
    assert found.reach == pytest.approx(4.303 * error / np.sqrt(spread))
    for size in (SIZES[0], 1.7e6):
        wide = 4.303 * error * np.sqrt(1 / 4 + (np.log(size) - x.mean()) ** 2 / spread)
        below, above = found.band(np.array([size]))
        assert np.log(above / below)[0] / 2 == pytest.approx(wide)


def test_noise_alone_is_not_called_a_law_that_falls() -> None:
    found = law.fit([(size, [loss]) for size, loss in zip(SIZES, (2.0, 2.1, 1.9, 2.0), strict=True)])
    assert found is not None
    assert not found.falls


def test_fewer_than_three_sizes_give_no_law() -> None:
    assert law.fit([(1e6, [2.0, 2.1]), (2e6, [1.9])]) is None
    assert law.fit([]) is None


def test_seeds_count_as_one_size_and_their_spread_is_pooled() -> None:
    points = [(3e5, [2.0, 2.2]), (1e6, [1.8, 1.9]), (3e6, [1.7])]
    alone = law.fit([(size, [float(np.mean(seeds))]) for size, seeds in points])
    found = law.fit(points)
    assert found is not None
    assert alone is not None
    assert found.exponent == alone.exponent
    assert law.seed_spread(points) == pytest.approx(np.sqrt((0.02 + 0.005) / 2))
    assert law.seed_spread([(1e6, [1.0])]) is None


def test_students_quantiles() -> None:
    assert [law.student(n) for n in (1, 2, 10)] == [12.706, 4.303, 2.228]
    assert [law.student(n) for n in (11, 20, 100)] == pytest.approx([2.201, 2.086, 1.984], abs=0.003)
