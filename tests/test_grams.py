"""Hashes of runs of words, and what is known of them: all words of a batch at once, and one by one."""

from __future__ import annotations

import numpy as np
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from puna.data.dedup import grams, lookup
from puna.data.dedup.grams import MULTIPLIER, WORD, distinct_grams, gram_hashes, runs, shared_part, words_of
from puna.data.dedup.lookup import Lookup
from puna.data.heldout import known_grams, overlaps


def _mixed(value: int) -> int:
    value ^= value >> 32
    value = value * 0xD6E8FEB86659FD93 % 2**64
    return value ^ value >> 32


def _slow_word(word: str) -> int:
    data, found = word.encode("utf-8", "surrogatepass"), 0
    if len(data) > grams.LONG:
        return xxhash.xxh3_64_intdigest(data)
    for start in range(0, len(data), 8):
        found = _mixed((found * MULTIPLIER + int.from_bytes(data[start : start + 8], "little")) % 2**64)
    return found


def _slow_grams(text: str, n: int) -> list[int]:
    words = WORD.findall(text.lower())
    hashes = [_slow_word(word) for word in words]
    found = []
    n = min(n, len(words))
    for start in range(len(words) - n + 1 if words else 0):
        total = 0
        for value in hashes[start : start + n]:
            total = (total * MULTIPLIER + value) % 2**64
        found.append(_mixed(total))
    return found


# Marks that are in no word, letters of two, three and four bytes, some that lower() lengthens or makes by what stands
# beside, words of every length up to what is hashed as a whole, half a surrogate.
WORDS = st.sampled_from(
    [" ", ".", "\n", "\0", "·", "’", "。", "😀", "\u0301", "\ud800", "_", "7", "b", "É", "Σ", "İ", "Ⱥ", "中", "𝒳"]
)
TEXTS = st.text(WORDS, max_size=60) | st.text(max_size=30) | st.integers(1, 140).map(lambda count: f"é {'x' * count} y")


@given(st.lists(TEXTS, max_size=5), st.integers(1, 14))
@settings(deadline=None)
def test_gram_hashes_agree_with_their_readable_twin(texts: list[str], n: int) -> None:
    words = words_of(texts)
    assert [words.of(index).tolist() for index in range(len(texts))] == [_slow_grams_of_one(text) for text in texts]
    for text, found in zip(texts, distinct_grams(texts, n), strict=True):
        assert gram_hashes(text, n).tolist() == _slow_grams(text, n)
        assert found.tolist() == sorted(set(_slow_grams(text, n)))


def _slow_grams_of_one(text: str) -> list[int]:
    return [_slow_word(word) for word in WORD.findall(text.lower())]


@given(st.lists(TEXTS, min_size=1, max_size=4), st.integers(1, 30))
@settings(deadline=None)
def test_no_cut_into_batches_shows_in_the_hashes(texts: list[str], batch: int) -> None:
    whole = words_of([" ".join(texts)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grams, "BATCH", batch)
        assert words_of([" ".join(texts)]).hashes.tolist() == whole.hashes.tolist()
        assert words_of(texts).hashes.tolist() == whole.hashes.tolist()


@pytest.mark.promise("honest")
def test_short_words_never_have_one_hash_and_their_runs_do_not_collide() -> None:
    names = [f"{word:x}" for word in range(100_000)]
    values = words_of([" ".join(names)]).hashes
    assert len(set(values.tolist())) == len(names)
    few = names[::1_300]
    text = " ".join(f"{one} {two} {three}" for one in few for two in few for three in few)
    found = runs(words_of([text]).hashes, 3)[::3]
    assert len(set(found.tolist())) == len(few) ** 3
    assert len({value >> 32 for value in found.tolist()}) > len(few) ** 3 - 60  # chance: 21 pairs in 2^32


@given(
    st.sets(st.integers(0, 2**64 - 1), max_size=60),
    st.lists(st.integers(0, 2**64 - 1), max_size=60),
    st.sampled_from([6, 28]),
)
@settings(deadline=None)
def test_a_lookup_finds_what_is_known_and_nothing_else(known: set[int], asked: list[int], largest: int) -> None:
    asked += [value + change for value in sorted(known)[::2] for change in (0, 1) if value + change < 2**64]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lookup, "LARGEST", largest)
        table = Lookup(np.array(sorted(known), np.uint64))
    found = table.holds(np.array(asked, np.uint64)).tolist()
    assert found == [place for place, value in enumerate(asked) if value in known]


@given(
    st.lists(st.text(st.sampled_from("ab "), max_size=30), max_size=6),
    st.lists(st.text(st.sampled_from("ab "))),
    st.integers(1, 5),
)
@settings(deadline=None)
def test_overlaps_of_many_texts_are_those_of_each(texts: list[str], held: list[str], n: int) -> None:
    known = known_grams(held, n)
    expected = [np.float32(shared_part(gram_hashes(text, n), known)) for text in texts]
    assert overlaps(texts, Lookup(known), n).tolist() == expected


@pytest.mark.promise("honest")
def test_the_shared_part_is_counted_over_distinct_grams() -> None:
    known = known_grams(["one two three four five", "six"], 3)
    assert shared_part(gram_hashes("one two three nine ten", 3), known) == pytest.approx(1 / 3)
    texts = ["One, two: THREE", "something else entirely", "", "Six!"]
    assert overlaps(texts, Lookup(known), 3).tolist() == [1.0, 0.0, 0.0, 1.0]
