"""Intervals by bootstrap: the fast way beside a slow one, what clusters change, and what they cover."""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from puna import testsets
from puna.evaluate import bootstrap
from puna.evaluate.bootstrap import interval
from puna.evaluate.tasks import PACK

ITEMS = st.lists(st.tuples(st.floats(-2, 2, width=32), st.sampled_from("abcdefgh")), min_size=1, max_size=40)


def slow(items: list[tuple[float, str]], resamples: int, seed: int) -> tuple[float, float] | None:
    """The definition, an item at a time: draw clusters, take all their items, take the mean; then the percentiles."""
    clusters: dict[str, list[float]] = defaultdict(list)
    for value, name in items:
        clusters[name].append(value)
    names = sorted(clusters)
    generator = np.random.default_rng(seed)
    means = []
    for _ in range(resamples):
        taken = [value for _ in names for value in clusters[names[int(generator.integers(0, len(names)))]]]
        means.append(math.fsum(taken) / len(taken))
    means.sort()
    if means[-1] - means[0] < 1e-9:
        return None

    def percentile(share: float) -> float:
        place = share * (len(means) - 1)
        low = math.floor(place)
        high = min(low + 1, len(means) - 1)
        return means[low] + (means[high] - means[low]) * (place - low)

    return percentile(0.025), percentile(0.975)


@pytest.mark.promise("twins")
@given(ITEMS, st.integers(0, 5))
@settings(deadline=None, max_examples=40)
def test_the_fast_bootstrap_is_the_slow_one(items: list[tuple[float, str]], seed: int) -> None:
    fast = interval([value for value, _ in items], [name for _, name in items], resamples=60, seed=seed)
    assert fast == (expected if (expected := slow(items, 60, seed)) is None else pytest.approx(expected, abs=1e-9))


def test_neither_blocks_nor_the_order_of_items_change_an_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    items = [(float(number % 3 == 0), f"cluster {number // 4}") for number in range(200)]
    first = interval(*map(list, zip(*items, strict=True)))
    random.Random(1).shuffle(items)
    monkeypatch.setattr(bootstrap, "BLOCK", 777)
    assert interval(*map(list, zip(*items, strict=True))) == first


def test_independent_items_have_the_interval_of_their_standard_error() -> None:
    column = [float(number % 5 < 2) for number in range(1000)]
    found = interval(column, [str(number) for number in range(1000)])
    assert found == pytest.approx((0.4 - 1.96 * 0.0155, 0.4 + 1.96 * 0.0155), abs=0.002)


def test_copies_of_an_item_make_no_interval_narrower() -> None:
    """Six sentences that agree tell as much as one."""
    column = [float(number % 5 < 2) for number in range(100)]
    names = [str(number) for number in range(100)]
    once = interval(column, names)
    assert interval(column * 6, names * 6) == pytest.approx(once)
    apart = interval(column * 6, [f"{name} {copy}" for copy in range(6) for name in names])
    assert once is not None
    assert apart is not None
    assert apart[1] - apart[0] == pytest.approx((once[1] - once[0]) / math.sqrt(6), rel=0.05)


def test_where_every_draw_gives_the_same_there_is_no_interval() -> None:
    """One cluster, clusters that agree, and halves that cancel within each: nothing is certain of them."""
    assert interval([0.0, 1.0], ["a", "a"]) is None
    assert interval([1.0], ["a"]) is None
    assert interval([1.0] * 6, list("abcdef")) is None
    assert interval([0.1, 0.2] * 30, [str(number // 2) for number in range(60)]) is None


@pytest.mark.prove
def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """60 clusters of 12 that lean together: 95 % of 400 samples, within what 400 can tell."""
    generator = np.random.default_rng(3)
    held = 0
    for _ in range(400):
        leaning = generator.beta(2, 2, 60)
        column = (generator.random((60, 12)) < leaning[:, None]).astype(float).ravel().tolist()
        found = interval(column, [str(number // 12) for number in range(720)], resamples=1000)
        assert found is not None
        held += found[0] <= 0.5 <= found[1]
    assert 0.92 <= held / 400 <= 0.98


def test_every_table_of_bias_has_clusters_and_those_of_winogender_are_its_pairs_of_templates(bench: Path) -> None:
    """The two templates of an occupation, each with two participants and three genders."""
    for name in ("realtoxicityprompts", "realtoxicityprompts_respectful", "crows_pairs", "truthfulqa", "winogender"):
        assert PACK[name].clusters
    clusters = PACK["winogender"].clusters
    assert clusters
    counted = Counter(clusters.of(item) for item in testsets.read("winogender", bench / "winogender_templates.tsv"))
    assert len(counted) == 30  # half of the release
    assert set(counted.values()) == {12}
