"""The learning rate of each step: the paper's warm-up and cosine, for any length of training."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from puna.recipe import Train, load
from puna.train.schedule import learning_rate


@st.composite
def schedules(draw: st.DrawFn) -> tuple[int, Train]:
    train = Train(
        steps=draw(st.integers(1, 500)),
        warmup=draw(st.integers(0, 600)),
        minimum_rate=draw(st.floats(0, 1)),
        learning_rate=draw(st.floats(1e-6, 1)),
    )
    assert train.steps is not None
    return train.steps, train


@settings(deadline=None, max_examples=60)
@given(schedules())
def test_the_rate_rises_through_the_warm_up_and_never_after_it(schedule: tuple[int, Train]) -> None:
    steps, train = schedule
    rates = [learning_rate(number, steps, train) for number in range(1, steps + 1)]
    assert all(0 <= rate <= train.learning_rate * (1 + 1e-12) for rate in rates)
    rising, falling = rates[: train.warmup], rates[max(0, train.warmup - 1) :]
    assert all(a < b for a, b in itertools.pairwise(rising))
    assert all(a >= b for a, b in itertools.pairwise(falling))


def test_the_paper_s_rate_is_highest_at_the_2000th_step_and_a_tenth_of_it_at_the_last() -> None:
    train = load("llama-65b").train
    assert learning_rate(1, 350_000, train) == pytest.approx(1.5e-4 / 2000)
    assert learning_rate(2000, 350_000, train) == 1.5e-4
    assert learning_rate(176_000, 350_000, train) == pytest.approx(1.5e-4 * 0.55)
    assert learning_rate(350_000, 350_000, train) == pytest.approx(1.5e-5)


def test_without_a_warm_up_the_first_step_is_on_the_cosine() -> None:
    train = Train(steps=10, warmup=0, minimum_rate=0, learning_rate=1)
    assert 0.9 < learning_rate(1, 10, train) < 1
    assert learning_rate(10, 10, train) == 0
