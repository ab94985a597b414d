"""Promises of the mixture: exact shares at every moment, epoch caps kept to the window, what changed is said."""

from __future__ import annotations

import json
from collections import Counter
from fractions import Fraction
from itertools import accumulate
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from made_tokens import recipe
from puna import recipe as recipes
from puna.errors import InputError
from puna.tokens import mixture, table_1
from puna.tokens.manifest import Entry, Manifest, SourceTokens
from puna.tokens.turns import Turns, chairmen

TABLE_1 = {
    "commoncrawl": "0.67", "c4": "0.15", "github": "0.045", "wikipedia": "0.045", "books": "0.045", "arxiv": "0.025",
    "stackexchange": "0.02",
}  # fmt: skip
WEIGHTS = st.lists(st.integers(1, 60), min_size=1, max_size=7)


def holding(tokens: dict[str, int]) -> Manifest:
    """A manifest of sources with so many tokens."""
    entries = {n: Entry("00000", count, 1, count, "", "", "", "", "0") for n, count in tokens.items()}
    return Manifest("xxh3:0", 300, {n: SourceTokens((entry,)) for n, entry in sorted(entries.items())})


@settings(deadline=None, max_examples=100)
@given(weights=WEIGHTS)
def test_every_source_is_within_one_window_of_its_share_at_every_moment(weights: list[int]) -> None:
    order = chairmen(weights)
    period, sources = sum(weights), len(weights)
    assert Counter(order) == dict(enumerate(weights))
    for source, weight in enumerate(weights):
        counts = accumulate(int(turn == source) for turn in order * 2)
        worst = max(abs(Fraction(weight * i, period) - count) for i, count in enumerate(counts, 1))
        # Tijdeman's bound, which is below one window.
        assert worst <= (1 - Fraction(1, 2 * sources - 2) if sources > 1 else 0)


@pytest.mark.promise("order")
def test_the_turns_are_those_of_the_format() -> None:
    assert "".join(map(str, chairmen([3, 2, 1]))) == "010210"
    weights = mixture.weights_of({name: Fraction(share) for name, share in sorted(TABLE_1.items())})
    assert list(weights.values()) == [5, 9, 30, 134, 9, 4, 9]
    assert "".join(map(str, chairmen(list(weights.values())))) == (
        "3323313323343323363323303332331332334336335323332331332334336332330332331332334332336332335332331334"
        "3323363323303323313323343336332332335331332334332336330332332331334332336332335332330332331334336323"
    )


@pytest.mark.promise("twins")
@settings(deadline=None, max_examples=50)
@given(weights=WEIGHTS, start=st.integers(0, 10**12))
def test_turns_one_at_a_time_many_at_once_and_backwards_agree(weights: list[int], start: int) -> None:
    turns = Turns.of(weights)
    numbers = np.arange(start, start + 200)
    sources, ordinals = turns.turns_of(numbers)
    for i, source, ordinal in zip(numbers.tolist(), sources.tolist(), ordinals.tolist(), strict=True):
        assert turns.turn(i) == (source, ordinal)
        assert turns.index(source, ordinal) == i
        assert turns.count(source, i) == ordinal
        assert turns.count(source, i + 1) == ordinal + 1
    first = [turns.turn(i) for i in range(300)]
    for source in range(len(weights)):
        mine = [ordinal for whose, ordinal in first if whose == source]
        assert mine == list(range(len(mine)))


def test_table_1_has_a_period_of_200_windows(capsys: pytest.CaptureFixture[str]) -> None:
    planned = mixture.plan(recipes.load("llama-7b"), holding(dict.fromkeys(TABLE_1, 10**12)))
    assert {name: ration.weight for name, ration in planned.sources.items()} == {
        name: int(Fraction(share) * 200) for name, share in TABLE_1.items()
    }
    assert planned.batch_windows == 4_000_000 // 2048
    assert planned.steps == -(-(10**12) // (planned.batch_windows * 2048))
    assert planned.windows == planned.asked == planned.steps * planned.batch_windows
    assert sum(ration.windows for ration in planned.sources.values()) == planned.windows
    assert (planned.capped_by, planned.missing) == (None, {})
    assert capsys.readouterr().err == ""


def test_a_source_without_tokens_is_said_and_the_others_grow(capsys: pytest.CaptureFixture[str]) -> None:
    made = recipe({"wikipedia": "0.045", "github": "0.67", "books": "0.1", "c4": "0.15"})
    planned = mixture.plan(made, holding({"wikipedia": 999, "github": 999, "books": 0}))
    assert {name: ration.weight for name, ration in planned.sources.items()} == {"github": 134, "wikipedia": 9}
    assert planned.missing == {"books": "0.1", "c4": "0.15"}
    assert "no tokens from books (0.1), c4 (0.15)" in capsys.readouterr().err


@pytest.mark.promise("errors")
def test_shares_that_cannot_be_kept_exactly_are_refused_with_the_mend() -> None:
    made = recipe({"wikipedia": "0.333333333", "github": "0.123456789"})
    with pytest.raises(
        InputError, match=r"github, wikipedia come out even only every [\d,]+ windows; give shares with"
    ):
        mixture.plan(made, holding({"wikipedia": 999, "github": 999}))


def windows_read(planned: mixture.Mixture, name: str) -> int:
    """Counted one by one."""
    place = list(planned.sources).index(name)
    return sum(planned.turns.turn(i)[0] == place for i in range(planned.windows))


@settings(deadline=None, max_examples=150)
@given(
    weights=st.lists(st.integers(1, 20), min_size=1, max_size=4),
    sizes=st.lists(st.integers(1, 30), min_size=4, max_size=4),
    caps=st.lists(st.one_of(st.none(), st.sampled_from([0.5, 1.0, 1.1, 2.0, 2.45, 7.0])), min_size=4, max_size=4),
    batch=st.integers(1, 5),
    steps=st.integers(1, 60),
)
def test_no_source_passes_its_epochs_and_not_one_step_more_is_lost(
    weights: list[int], sizes: list[int], caps: list[float | None], batch: int, steps: int
) -> None:
    names = [f"source{number}" for number in range(len(weights))]
    shares = {name: f"0.{weight:04}" for name, weight in zip(names, weights, strict=True)}
    capped = {name: cap for name, cap in zip(names, caps, strict=False) if cap is not None}
    held = holding({name: size * 8 + 1 for name, size in zip(names, sizes, strict=False)})
    made = recipe(shares, context=8, batch=8 * batch, steps=steps, max_epochs=capped)

    turns = Turns.of(list(mixture.weights_of({name: Fraction(share) for name, share in shares.items()}).values()))

    def passed(windows: int) -> bool:
        return any(
            turns.count(number, windows) > Fraction(str(capped[name])) * sizes[number]
            for number, name in enumerate(names)
            if name in capped
        )

    if passed(batch):
        with pytest.raises(InputError, match="max_epochs leaves"):
            mixture.plan(made, held)
        return
    planned = mixture.plan(made, held)
    assert planned.windows == planned.steps * batch
    assert not passed(planned.windows)
    assert planned.steps == steps or passed(planned.windows + batch)
    assert (planned.capped_by is None) == (not passed(steps * batch))
    for name, ration in planned.sources.items():
        assert ration.windows == windows_read(planned, name)
        assert ration.epochs == ration.windows / ration.epoch_windows


def test_a_cap_holds_at_the_exact_window(capsys: pytest.CaptureFixture[str]) -> None:
    """Wikipedia holds 3 windows and has every second turn from window 1 on: two epochs are over at window 11, so its
    next turn, window 13, is the first that may not be."""
    held = holding({"wikipedia": 3 * 8 + 1, "github": 10_000})

    def planned(steps: int) -> mixture.Mixture:
        return mixture.plan(
            recipe({"github": "5e-1", "wikipedia": "0.5"}, steps=steps, max_epochs={"wikipedia": 2}), held
        )

    assert chairmen([1, 1]) == [0, 1]
    assert (planned(13).steps, planned(13).capped_by) == (13, None)
    assert capsys.readouterr().err == ""
    assert (planned(14).steps, planned(14).capped_by) == (13, "wikipedia")
    assert "104 training tokens instead of 112: wikipedia is read 2 times at most" in capsys.readouterr().err
    assert planned(14).sources["wikipedia"].epochs == 2


def test_one_cap_for_all_sources_gives_way_to_a_sources_own() -> None:
    shares = {"wikipedia": "0.5", "github": "0.25", "books": "0.25"}
    held = holding(dict.fromkeys(shares, 3 * 8 + 1))
    made = recipe(shares, steps=60, max_epochs={"wikipedia": 9}, data={"max_epochs": 2})
    assert mixture.caps(made, shares) == {"wikipedia": 9, "github": 2, "books": 2}
    each = recipe(shares, steps=60, max_epochs={"wikipedia": 9, "github": 2, "books": 2})
    planned = mixture.plan(made, held)
    assert planned == mixture.plan(each, held)
    assert planned.capped_by in ("books", "github")
    with pytest.raises(InputError, match=r"github: data.max_epochs leaves 0 windows, .* a higher data.max_epochs"):
        mixture.plan(recipe({"github": "1"}, data={"max_epochs": 0.1}), held)


def test_a_source_that_is_read_too_often_is_warned_of_with_the_mend(capsys: pytest.CaptureFixture[str]) -> None:
    shares = {"wikipedia": "0.5", "github": "0.5"}
    held = holding({"wikipedia": 3 * 8 + 1, "github": 10_000})
    mixture.plan(recipe(shares, steps=24), held)
    assert capsys.readouterr().err == ""  # four times to the window
    mixture.plan(recipe(shares, steps=26), held)
    said = capsys.readouterr().err
    assert "wikipedia is read 4.33 times, and text read more than 4 times (data.warn_epochs)" in said
    assert "sources.wikipedia.max_epochs" in said
    assert "github" not in said
    mixture.plan(recipe(shares, steps=26, data={"warn_epochs": "none"}), held)
    assert capsys.readouterr().err == ""


def test_the_papers_rows_are_those_of_table_1_and_its_recipe() -> None:
    made = recipes.load("llama-65b")
    assert {name: str(source.share) for name, source in made.sources.items()} == TABLE_1
    assert {name: given.share for name, given in table_1.TABLE_1.items()} == TABLE_1
    assert [table_1.paper_epochs(name) for name in TABLE_1] == [1.10, 1.06, 0.64, 2.45, 2.23, 1.06, 1.03]
    assert table_1.paper_epochs("mine") is None


@pytest.mark.promise("errors")
def test_no_step_left_or_no_whole_window_is_an_error_with_the_mend() -> None:
    made = recipe({"books": "1"}, batch=80, max_epochs={"books": 1})
    with pytest.raises(InputError, match=r"books.max_epochs leaves 9 windows, and one step takes 10; more text"):
        mixture.plan(made, holding({"books": 9 * 8 + 8}))
    with pytest.raises(InputError, match=r"books has 8 tokens, less than one window of 9"):
        mixture.plan(made, holding({"books": 8}))
    with pytest.raises(InputError, match="none of the recipe's sources has any tokens"):
        mixture.plan(made, holding({}))


@pytest.mark.promise("order")
def test_the_order_of_sources_in_the_recipe_does_not_matter() -> None:
    held = holding({"wikipedia": 999, "github": 999})
    one, other = recipe({"wikipedia": "0.3", "github": "0.7"}), recipe({"github": "0.7", "wikipedia": "0.3"})
    assert mixture.plan(one, held) == mixture.plan(other, held)


@pytest.mark.promise("formats")
def test_the_mixture_comes_back_from_its_file(tmp_path: Path) -> None:
    made = recipe({"wikipedia": "0.3", "github": "0.7", "c4": "0.1"}, max_epochs={"wikipedia": 0.1})
    planned = mixture.plan(made, holding({"wikipedia": 99, "github": 999}))
    with pytest.raises(InputError, match="run `puna tokens` first"):
        mixture.read(tmp_path)
    mixture.write(tmp_path, planned)
    assert mixture.read(tmp_path) == planned
    path = tmp_path / "tokens" / "mixture.json"
    value = json.loads(path.read_text())
    for changed, message in [
        ({"format": 2}, r"newer Puna \(format 2"),
        ({"sources": []}, "not a mixture"),
        ({"x": 1}, "not a"),
    ]:
        path.write_text(json.dumps(value | changed))
        with pytest.raises(InputError, match=rf"mixture\.json: .*{message}"):
            mixture.read(tmp_path)
