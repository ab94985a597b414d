"""Duplicates: exactly those that the definition names, under every order of shards."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from puna import storage
from puna.data.dedup import exact, exchange
from puna.data.heldout import is_held_out
from puna.errors import InputError

TEXTS = st.lists(st.lists(st.sampled_from(["a", "b", "c", "dd", "é", ""]), max_size=6), min_size=1, max_size=5)


def _kept(folder: Path, shards: list[list[tuple[str, str]]], partitions: int) -> set[str]:
    """Ids that stay, by way of the files that the steps write."""
    hashes = [folder / f"{index}.hashes" for index in range(len(shards))]
    for path, shard in zip(hashes, shards, strict=True):
        exact.write_hashes(path, shard, partitions)
    verdicts = [folder / f"{part}.verdicts" for part in range(partitions)]
    for part, path in enumerate(verdicts):
        exact.find_repeats(hashes, part, path)
    return {
        identifier
        for index, shard in enumerate(shards)
        for row, (identifier, _) in enumerate(shard)
        if row not in exact.dropped_rows(verdicts, index)
    }


@given(TEXTS, st.randoms(use_true_random=False), st.integers(1, 5))
@settings(max_examples=60, deadline=None)
def test_of_equal_texts_the_smallest_id_stays_whatever_the_shards(
    tmp_path_factory: pytest.TempPathFactory, texts: list[list[str]], random: object, partitions: int
) -> None:
    documents = [(f"{i:032x}", text) for i, text in enumerate(text for shard in texts for text in shard)]
    expected = {min(i for i, other in documents if other == text) for _, text in documents}
    random.shuffle(documents)  # type: ignore[attr-defined]
    cut = len(documents) // 2
    folder = tmp_path_factory.mktemp("exchange")
    assert _kept(folder, [documents[:cut], documents[cut:]], partitions) == expected


@pytest.mark.parametrize("half", ["high", "low"])
def test_texts_that_share_half_of_their_hash_are_no_repeats(tmp_path: Path, half: str) -> None:
    rows = np.zeros(3, exact.ROW)
    rows["id"], rows["row"], rows["size"] = [b"%032x" % number for number in range(3)], range(3), 1
    rows[{"high": "low", "low": "high"}[half]] = [1, 2, 2]
    exchange.write(tmp_path / "0.hashes", rows, np.zeros(3, np.int64), 1)
    assert exact.find_repeats([tmp_path / "0.hashes"], 0, tmp_path / "0.verdicts") == (1, 1)
    assert exact.dropped_rows([tmp_path / "0.verdicts"], 0).tolist() == [2]


@pytest.mark.promise("formats")
def test_a_damaged_exchange_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "0.hashes"
    exact.write_hashes(path, [("0" * 32, "text")], 2)
    data = path.read_bytes()
    storage.write(path, data[:-3])
    with pytest.raises(InputError, match=r"0\.hashes: is cut short"):
        [exchange.read([path], part, exact.ROW) for part in range(2)]
    storage.write(path, b"nonsense")
    with pytest.raises(InputError, match="damaged or of another format"):
        exchange.read([path], 0, exact.ROW)


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1), st.integers(1, 40))
@settings(deadline=None)
def test_ranges_are_even_cuts_in_the_order_of_the_keys(keys: list[int], partitions: int) -> None:
    found = exchange.ranges(np.array(sorted(keys), np.uint64), partitions).tolist()
    assert found == sorted(found)
    assert found == [(key >> 32) * partitions >> 32 for key in sorted(keys)]


@pytest.mark.promise("honest")
def test_the_choice_of_held_out_groups_depends_on_seed_source_and_group_alone() -> None:
    def chosen(seed: int, source: str) -> set[int]:
        return {g for g in range(2000) if is_held_out(source, str(g), share=0.1, groups=(), seed=seed)}

    # Part of the format: what was held out once is held out by every version.
    assert sorted(chosen(1, "wikipedia"))[:12] == [30, 34, 63, 70, 73, 79, 81, 93, 95, 97, 114, 116]
    assert len({frozenset(chosen(*key)) for key in ((1, "wikipedia"), (2, "wikipedia"), (1, "github"))}) == 3
    assert 140 < len(chosen(1, "wikipedia")) < 260
    assert is_held_out("github", "fsspec", share=0.0, groups=["fsspec"], seed=1)
    assert not is_held_out("github", "numpy", share=1.0, groups=["fsspec"], seed=1)
