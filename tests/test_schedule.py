from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from puna.train.schedule import learning_rate

SHAPES = st.tuples(st.integers(1, 500), st.integers(0, 600), st.floats(0, 1), st.floats(1e-6, 1))


@settings(deadline=None, max_examples=60)
@given(SHAPES)
def test_the_rate_rises_through_the_warm_up_and_never_after_it(shape: tuple[int, int, float, float]) -> None:
    steps, warmup, minimum, highest = shape
    rates = [learning_rate(n, steps=steps, highest=highest, minimum=minimum, warmup=warmup) for n in range(1, steps + 1)]
    assert all(0 <= rate <= highest * (1 + 1e-12) for rate in rates)
    rising, falling = rates[:warmup], rates[max(0, warmup - 1) :]
    assert all(a < b for a, b in itertools.pairwise(rising))
    assert all(a >= b for a, b in itertools.pairwise(falling))


def test_the_paper_s_numbers_highest_at_the_2000th_step_and_a_tenth_at_the_last() -> None:
    def rate(step: int) -> float:
        return learning_rate(step, steps=350_000, highest=1.5e-4, minimum=0.1, warmup=2000)

    assert rate(1) == pytest.approx(1.5e-4 / 2000)
    assert rate(2000) == 1.5e-4
    assert rate(176_000) == pytest.approx(1.5e-4 * 0.55)
    assert rate(350_000) == 1.5e-4 * 0.1


def test_without_a_warm_up_the_first_step_is_already_on_the_cosine() -> None:
    first = learning_rate(1, steps=10, highest=1.0, minimum=0.0, warmup=0)
    assert 0.9 < first < 1.0
    assert learning_rate(10, steps=10, highest=1.0, minimum=0.0, warmup=0) == 0.0
