"""Promises of the order of windows within an epoch: a bijection, the same for ever, scattered, its twins equal."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from puna.tokens.permutation import permute, permute_all, position_of, round_keys

KEYS = round_keys(1, "xxh3:00", "wikipedia", 0)


def test_round_keys_are_those_of_the_format() -> None:
    assert KEYS == (
        15430731884076528801,
        17232084998368589319,
        7018050874106121676,
        6723298223013314740,
        17946355153644355774,
        2507710177743379990,
        12834912429748332601,
        5542374708702155225,
    )


@pytest.mark.parametrize("size", [*range(1, 60), 99, 100, 101, 1000, 4096, 4097])
def test_every_window_has_exactly_one_position(size: int) -> None:
    assert sorted(permute(position, size, KEYS) for position in range(size)) == list(range(size))


def test_the_order_is_that_of_the_format() -> None:
    assert [permute(position, 10, KEYS) for position in range(10)] == [0, 4, 6, 2, 8, 1, 3, 7, 9, 5]
    far = [permute(position, 10**12, KEYS) for position in (0, 1, 2, 10**12 - 1)]
    assert far == [648534589175, 7733218119, 925214986979, 559908082089]


@pytest.mark.promise("twins")
@settings(deadline=None, max_examples=100)
@given(st.integers(1, 2**45), st.integers(0, 2**64), st.integers(0, 9), st.data())
def test_many_at_once_agree_with_one_at_a_time(size: int, seed: int, epoch: int, data: st.DataObject) -> None:
    keys = round_keys(seed, "xxh3:12", "github", epoch)
    positions = data.draw(st.lists(st.integers(0, size - 1), max_size=20))
    found = permute_all(np.array(positions, dtype=np.int64), size, keys)
    assert found.dtype == np.int64
    assert found.tolist() == [permute(position, size, keys) for position in positions]


def test_seed_digest_source_and_epoch_each_give_another_order() -> None:
    fields = [
        (1, "a", "b", 0),
        (2, "a", "b", 0),
        (1, "c", "b", 0),
        (1, "a", "c", 0),
        (1, "a", "b", 1),
        (1, "ab", "", 0),
    ]
    orders = {tuple(permute(position, 1000, round_keys(*key)) for position in range(20)) for key in fields}
    assert len(orders) == len(fields)


def test_windows_are_scattered_over_the_epoch_and_over_epochs() -> None:
    size = 20_000
    order = permute_all(np.arange(size), size, KEYS)
    assert abs(np.corrcoef(np.arange(size), order)[0, 1]) < 0.03
    steps = np.abs(np.diff(order))
    assert abs(steps.mean() / (size / 3) - 1) < 0.03  # the mean distance of two random places
    first = [permute(0, 100, round_keys(1, "d", "s", epoch)) for epoch in range(5000)]
    counts = np.bincount(first, minlength=100)
    assert ((counts - 50) ** 2 / 50).sum() < 160  # chi-square, 99 degrees of freedom: 1 in 10,000 is above 157


@settings(deadline=None, max_examples=200)
@given(st.integers(1, 2**45), st.integers(0, 2**64), st.data())
def test_a_window_leads_back_to_its_position(size: int, seed: int, data: st.DataObject) -> None:
    keys = round_keys(seed, "xxh3:12", "github", 1)
    position = data.draw(st.integers(0, size - 1))
    assert position_of(permute(position, size, keys), size, keys) == position
