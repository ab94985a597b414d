"""Promises of window(i): each epoch reads every window once, in an order that depends on seed and content alone."""

from __future__ import annotations

import random
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from made_tokens import Documents, Spelling, document, recipe, stream, write_mixture, write_tokens
from puna import tokens
from puna.errors import InputError
from puna.tokens import manifest
from puna.tokens.windows import Where, Windows

CONTEXT = 8


def texts(seed: int, count: int) -> Documents:
    """Documents of 0 to 20 characters."""
    random_ = random.Random(seed)
    return [
        (document(number + 1), "".join(random_.choices("abcdefgh", k=random_.randrange(21)))) for number in range(count)
    ]


SOURCES = {"books": texts(1, 40), "github": texts(2, 25), "wikipedia": texts(3, 9)}
SHARES = {"books": "0.5", "github": "0.3", "wikipedia": "0.2"}


def cut(documents: Documents, places: list[int]) -> list[Documents]:
    edges = [0, *sorted(places), len(documents)]
    return [documents[first:last] for first, last in pairwise(edges)]


def build(run: Path, places: list[int], **options: Any) -> Path:
    """A run of SOURCES cut into shards at `places`."""
    sources = {name: cut(documents, [p for p in places if p < len(documents)]) for name, documents in SOURCES.items()}
    built = write_tokens(run, sources, Spelling())
    write_mixture(run, built, recipe(SHARES, **{"context": CONTEXT, "steps": 400, **options}))
    return run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small shards, some of them empty, so that windows lie across several."""
    return build(tmp_path_factory.mktemp("run"), [0, 1, 2, 5, 5, 6, 7, 20, 21])


@pytest.fixture(scope="module")
def windows(run: Path) -> Windows:
    return Windows(run)


@pytest.fixture(scope="module")
def streams() -> dict[str, list[int]]:
    return {name: stream(documents, Spelling()) for name, documents in SOURCES.items()}


def test_a_window_is_a_stretch_of_its_source(windows: Windows, streams: dict[str, list[int]]) -> None:
    for i in range(len(windows)):
        place = windows.where(i)
        row = windows.window(i)
        assert row.tolist() == streams[place.source][place.start : place.start + CONTEXT + 1]
        assert place.start == place.index * CONTEXT
        assert (row.shape, row.dtype) == ((CONTEXT + 1,), np.int64)


def test_every_epoch_reads_every_window_exactly_once(windows: Windows, streams: dict[str, list[int]]) -> None:
    read: dict[tuple[str, int], list[int]] = {}
    for i in range(len(windows)):
        place = windows.where(i)
        read.setdefault((place.source, place.epoch), []).append(place.index)
    for (source, epoch), indices in read.items():
        size = (len(streams[source]) - 1) // CONTEXT
        whole = (source, epoch + 1) in read
        assert len(set(indices)) == len(indices)
        assert set(indices) <= set(range(size))
        if whole:
            assert len(indices) == size
    assert read["wikipedia", 0] != read["wikipedia", 1]
    assert max(epoch for _, epoch in read) >= 4


def test_every_moment_has_the_mixture(windows: Windows) -> None:
    for name, ration in windows.mixture.sources.items():
        seen = np.cumsum([windows.where(i).source == name for i in range(len(windows))])
        due = np.arange(1, len(windows) + 1) * float(SHARES[name])
        assert np.abs(seen - due).max() < 1
        assert seen[-1] == ration.windows


@settings(deadline=None, max_examples=60)
@given(cuts=st.lists(st.integers(0, 400), max_size=6), start=st.integers(0, 10**9))
def test_any_split_into_batches_reads_the_same(windows: Windows, cuts: list[int], start: int) -> None:
    edges = [0, *sorted(cuts), 400]
    parts = [windows.batch(start + a, b - a) for a, b in pairwise(edges)]
    whole = windows.batch(start, 400)
    assert np.array_equal(np.concatenate(parts), whole)
    assert whole.shape == (400, CONTEXT + 1)
    for row in (0, 7, 399):
        assert np.array_equal(whole[row], windows.window(start + row))


@settings(deadline=None, max_examples=15)
@given(places=st.lists(st.integers(0, 40), max_size=8))
def test_the_cut_into_shards_and_the_folder_do_not_matter(
    tmp_path_factory: pytest.TempPathFactory, windows: Windows, places: list[int]
) -> None:
    other = Windows(build(tmp_path_factory.mktemp("mit Leerzeichen é"), places))
    assert np.array_equal(other.batch(0, 400), windows.batch(0, 400))
    assert [other.documents(i) for i in range(0, 400, 7)] == [windows.documents(i) for i in range(0, 400, 7)]


def test_the_documents_of_a_window_are_those_it_was_cut_from(windows: Windows) -> None:
    owners: dict[str, list[str]] = {
        name: [document for document, text in documents for _ in range(len(text) + 2)]
        for name, documents in SOURCES.items()
    }
    for i in range(200):
        place = windows.where(i)
        owner = owners[place.source][place.start : place.start + CONTEXT + 1]
        parts = windows.documents(i)
        assert [name for part in parts for name in [part.document] * (part.last - part.first)] == owner
        assert [part.first for part in parts] == [0, *(part.last for part in parts[:-1])]
        by_name = dict(SOURCES[place.source])
        for name, first, last in parts:
            held = [1, *Spelling().encode_batch([by_name[name]])[0].tolist(), 2]
            read = windows.window(i)[first:last].tolist()
            assert any(held[k : k + len(read)] == read for k in range(len(held)))


def test_the_windows_are_those_of_the_format(windows: Windows) -> None:
    assert windows.manifest.digest == "xxh3:88263ece9f67c32069ca1e73c26724ed"
    assert [(w.source, w.epoch, w.index) for w in map(windows.where, (0, 1, 2, 3, 4, 399))] == [
        ("books", 0, 38),
        ("github", 0, 35),
        ("books", 0, 4),
        ("wikipedia", 0, 17),
        ("books", 0, 25),
        ("books", 3, 52),
    ]
    assert windows.where(0) == Where("books", 0, 38, 304)
    assert windows.window(0).tolist() == [105, 100, 107, 103, 107, 107, 102, 102, 2]


def test_the_seed_changes_the_order_and_nothing_else(windows: Windows, tmp_path: Path) -> None:
    other = Windows(build(tmp_path, [], seed=2))
    assert not np.array_equal(other.batch(0, 400), windows.batch(0, 400))
    size = windows.mixture.sources["books"].epoch_windows
    books = [[w.index for w in map(these.where, range(400)) if w.source == "books"] for these in (windows, other)]
    assert sorted(books[0][:size]) == sorted(books[1][:size]) == list(range(size))


def test_one_window_needs_only_the_run_folder(run: Path, windows: Windows) -> None:
    assert np.array_equal(tokens.window(str(run), 5), windows.window(5))


def test_shards_are_opened_when_first_read_from(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    for path in (copy / "tokens" / "books").iterdir():
        path.unlink()
    found = Windows(copy)
    number = next(i for i in range(400) if found.where(i).source == "github")
    assert found.window(number).shape == (CONTEXT + 1,)
    number = next(i for i in range(400) if found.where(i).source == "books")
    with pytest.raises(InputError, match=r"books.*\.idx: no such file"):
        found.window(number)


def test_a_cut_or_exchanged_shard_is_named(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    number = next(i for i in range(400) if Windows(run).where(i) == Where("books", 0, 0, 0))
    first = next(shard.name for shard in Windows(run).manifest.sources["books"].shards if shard.tokens)
    stem = manifest.stem(copy, "books", first)
    good = Path(f"{stem}.bin").read_bytes()
    Path(f"{stem}.bin").write_bytes(good[:-1])
    with pytest.raises(InputError, match=rf"{first}\.bin: \d+ bytes where its index says"):
        Windows(copy).window(number)
    for suffix in (".bin", ".idx"):
        shutil.copy(f"{manifest.stem(copy, 'github', '00008')}{suffix}", f"{stem}{suffix}")
    with pytest.raises(InputError, match=rf"{first}\.idx: not the shard that the manifest names"):
        Windows(copy).window(number)


def test_a_mixture_of_other_tokens_is_refused(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    write_tokens(copy, {name: [documents[:-1]] for name, documents in SOURCES.items()}, Spelling())
    with pytest.raises(InputError, match=r"mixture\.json: was made for other tokens than there are now"):
        Windows(copy)


def test_numbers_below_zero_are_refused(windows: Windows) -> None:
    for ask in (windows.window, windows.where, windows.documents, lambda i: windows.batch(i, 2)):
        with pytest.raises(InputError, match="counted from 0"):
            ask(-1)
    assert windows.batch(3, 0).shape == (0, CONTEXT + 1)
