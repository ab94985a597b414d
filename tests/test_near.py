"""Near duplicates: just those that the definition names go, whatever the shards, and one of each group stays."""

from __future__ import annotations

import random
import statistics
import tracemalloc
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from made_shards import Text, dealt, document, identity, run
from puna.data.book import gutenberg
from puna.data.dedup import exact, exchange, near, near_step
from puna.data.dedup.grams import WORD, runs
from puna.data.dedup.near import Rule
from puna.recipe import load

pytestmark = pytest.mark.usefixtures("unsynced")

VOCABULARY = [f"{a}{b}{c}" for a in "bdfgklm" for b in "aeiou" for c in ("r", "n", "st", "lt", "")]
CONTAINED, SIMILAR = Rule("containment", 0.9), Rule("similarity", 0.8)


def slow_grams(text: str) -> set[tuple[str, ...]]:
    words = WORD.findall(text.lower())
    n = min(5, len(words))
    return {tuple(words[start : start + n]) for start in range(len(words) - n + 1)} if words else set()


def slow_measure(one: str, other: str, rule: Rule) -> float:
    a, b = slow_grams(one), slow_grams(other)
    if not a or not b:
        return 0.0
    return len(a & b) / (min(len(a), len(b)) if rule.measure == "containment" else len(a | b))


def slow(documents: list[Text], rule: Rule) -> set[str]:
    """Ids that go: the definition, read off."""
    groups = [{identifier} for identifier, _ in documents]
    texts = dict(documents)
    for one, other in combinations(texts, 2):
        if rule.holds(slow_measure(texts[one], texts[other], rule)):
            joined = [group for group in groups if group & {one, other}]
            groups = [group for group in groups if not group & {one, other}] + [set.union(*joined)]
    stay = {min(group, key=lambda i: (-len(slow_grams(texts[i])), i)) for group in groups}
    return texts.keys() - stay


def edition(text: str, chance: random.Random, changed: float) -> str:
    """Another edition: some words are others, so that about 5 grams go with each; there is text before it, or after."""
    words = text.split()
    for place in chance.sample(range(len(words)), int(len(words) * changed)):
        words[place] = chance.choice(VOCABULARY) + "x"
    more = chance.choices(VOCABULARY, k=chance.choice([0, 0, 30, 300]))
    return " ".join([*more, *words] if chance.random() < 0.5 else [*words, *more])


def library(seed: int, books: int) -> list[Text]:
    """Books, of which some have editions that contain 0.80 to 1.00 of them, and editions of those."""
    chance = random.Random(seed)
    texts = [" ".join(chance.choices(VOCABULARY, k=chance.randint(200, 1_500))) for _ in range(books)]
    for _ in range(books):
        texts.append(
            edition(chance.choice(texts), chance, chance.choice([0, 0.005, 0.01, 0.015, 0.02, 0.021, 0.022, 0.03]))
        )
    return [(identity(seed * 1000 + number), text) for number, text in enumerate(texts)]


def fast(tmp: Path, shards: list[list[Text]], rule: Rule, parts: int) -> tuple[Any, set[str]]:
    """Ids that go, by way of the step."""
    overrides = [f"data.partitions={parts}", f"sources.books.max_containment={rule.limit}"]
    overrides += ["sources.commoncrawl.near=minhash", f"sources.commoncrawl.min_similarity={rule.limit}"]
    name = "books" if rule.measure == "containment" else "commoncrawl"
    recipe = load("web", overrides)
    assert near_step.rule(recipe.sources[name]) == rule
    made = [[document(name, *each) for each in shard] for shard in shards]
    counts, outputs, _ = run(tmp, recipe, name, made, "near", near_step.near_duplicates, "{work}/*.verdicts")
    gone = {shard[row][0] for index, shard in enumerate(shards) for row in exact.dropped_rows(outputs, index).tolist()}
    texts = {identifier: text for shard in shards for identifier, text in shard}
    assert counts["gone"] == {"documents": len(gone), "bytes": sum(len(texts[i].encode()) for i in gone)}
    return counts, gone


@pytest.mark.parametrize("rule", [CONTAINED, SIMILAR])
def test_editions_are_found_as_the_definition_says_whatever_the_shards(
    tmp_path: Path, proved: Callable[[str], None], rule: Rule
) -> None:
    planted = found = 0
    measured = []
    for seed in range(4):
        documents = library(seed, 12)
        expected = slow(documents, rule)
        pairs = [slow_measure(one[1], other[1], rule) for one, other in combinations(documents, 2)]
        measured += [value for value in pairs if value > 0.5]
        for turn in range(2):
            chance = random.Random(turn)
            counts, gone = fast(tmp_path / f"{seed}-{turn}", dealt(documents, chance), rule, chance.randint(1, 4))
            assert gone == expected
            assert counts["documents"] == len(documents)
            assert all(rule.holds(example["shared"]) for example in counts["examples"])
        planted, found = planted + len(expected), found + len(gone)
    at_border = sum(0.8 <= value < 1 for value in measured)
    proved(
        f"near duplicates by {rule.measure}: {found} of {planted} planted found and no other, among {len(measured)} "
        f"pairs of 0.5 and more, {at_border} of them from 0.80 to 0.99"
    )


def test_many_copies_make_one_group_without_all_pairs_of_them(tmp_path: Path) -> None:
    chance = random.Random(1)
    text = " ".join(chance.choices(VOCABULARY, k=400))
    documents = [(identity(number), edition(text, chance, 0.005)) for number in range(60)]
    documents += [(identity(100), " ".join(chance.choices(VOCABULARY, k=400)))]
    assert near.EVERYONE < 60
    counts, gone = fast(tmp_path, dealt(documents, random.Random(2)), CONTAINED, 3)
    assert len(gone) == 59
    assert gone == slow(documents, CONTAINED)
    assert counts["candidates"] < 60 * 59 / 2


def test_more_than_the_limit_is_contained_and_as_much_is_similar() -> None:
    """The paper's "more than 90%", and MinHash's threshold as its field means it."""
    assert [Rule("containment", 0.9).holds(part) for part in (0.9, 0.9001)] == [False, True]
    assert [Rule("similarity", 0.8).holds(part) for part in (0.7999, 0.8)] == [False, True]


@pytest.mark.parametrize("copies", [near.EVERYONE, 3 * near.EVERYONE])
def test_memory_of_pairs_is_bounded_where_all_keys_are_those_of_many(
    copies: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(near, "KEYS", 1000)
    keys = np.empty(20_000 // copies * copies, near.KEY)
    keys["key"] = np.arange(len(keys)) // copies
    keys["id"] = [b"%015d" % number for number in range(len(keys))]
    keys["row"] = np.arange(len(keys)) * 7919 % len(keys)
    exchange.write(tmp_path / "keys", keys, np.zeros(len(keys), np.int64), 1)
    tracemalloc.start()
    pairs = near.write_pairs([tmp_path / "keys"], 0, [0], tmp_path / "pairs", 4)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert pairs > 15 * len(keys) / 1.2
    assert most < 700 * len(keys) + 2_000_000


def test_texts_without_words_and_short_ones_are_compared_too(tmp_path: Path) -> None:
    documents = [
        (identity(number), text) for number, text in enumerate(["", "!?", "", "One two", "one, TWO!", "one two three"])
    ]
    counts, gone = fast(tmp_path, [documents[:4], [], documents[4:]], Rule("similarity", 0.8), 2)
    assert gone == slow(documents, Rule("similarity", 0.8))
    assert gone == {max(identity(3), identity(4))}
    assert counts["groups"] == 1


@pytest.mark.promise("twins")
@given(st.integers(1, 9_000), st.integers(0, 9))
@settings(deadline=None, max_examples=20)
def test_minima_agree_with_their_readable_twin(count: int, seed: int) -> None:
    grams = np.random.default_rng(seed).integers(0, 2**64, count, np.uint64)
    halves = [gram % 2**32 for gram in grams.tolist()[:600]]
    factors = [(int(a), int(b)) for a, b in zip(*near.ORDERS[:, :, 0], strict=True)]
    lowest = np.array([min((half ^ a) * b % 2**32 for half in halves) for a, b in factors], np.uint64)
    bands = [int(runs(lowest[start : start + near.MINIMA], near.MINIMA)[0]) for start in range(0, 120, near.MINIMA)]
    numbers = runs(np.arange(1, near.BANDS + 1, dtype=np.uint64), 1).tolist()
    expected = [(band + number) % 2**64 for band, number in zip(bands, numbers, strict=True)]
    assert near._bands(grams[:600]).tolist() == expected
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(near, "ORDERED", 1_000)
        assert near._bands(grams).tolist() == near._bands(np.sort(grams)).tolist()


@pytest.mark.promise("honest")
def test_minhash_finds_candidates_as_often_as_its_formula_says(proved: Callable[[str], None]) -> None:
    chance, agree = np.random.default_rng(3), []
    for _ in range(300):
        grams = np.unique(chance.integers(0, 2**64, 900, np.uint64))
        one, other = grams[:850], grams[50:]  # 800 of 900 are shared
        agree.append(int((near._bands(one) == near._bands(other)).sum()))
    expected = near.BANDS * (8 / 9) ** near.MINIMA
    assert min(agree) > 0
    assert abs(statistics.mean(agree) - expected) < 0.5
    proved(f"MinHash: {statistics.mean(agree):.2f} of 20 bands agree at similarity 0.89, {expected:.2f} expected")


def _books(samples: Path, *patterns: str) -> dict[str, str]:
    files = sorted({file for pattern in patterns for file in (samples / "books").glob(pattern)})
    return {file.name: gutenberg.book(gutenberg.decoded(file.read_bytes())).text for file in files}


@pytest.mark.parametrize(("limit", "stay"), [(0.9, 1), (0.95, 2)])
def test_two_editions_of_one_novel_come_out_as_the_definition_says(
    tmp_path: Path, samples: Path, proved: Callable[[str], None], limit: float, stay: int
) -> None:
    books = _books(samples, "1342-0.txt", "42671-8.txt")
    names = {identity(number): name for number, name in enumerate(books)}
    documents = list(zip(names, books.values(), strict=True))
    counts, gone = fast(tmp_path, [[each] for each in documents], Rule("containment", limit), 3)
    measured = slow_measure(*books.values(), CONTAINED)
    assert len(books) - len(gone) == stay == 1 + (measured <= limit)
    assert [example["shared"] for example in counts["examples"]] == [measured] * (2 - stay)
    kept = " and ".join(names[identifier] for identifier in names.keys() - gone)
    proved(f"1342-0 and 42671-8: containment {measured:.4f}; max_containment {limit:g} keeps {kept}")


@pytest.mark.prove
@pytest.mark.parametrize("limit", [0.9, 0.5])
def test_editions_of_real_books_come_out_as_the_definition_says(
    tmp_path: Path, samples: Path, proved: Callable[[str], None], limit: float
) -> None:
    books = _books(samples, "1342*", "42671*", "11*", "1661*")
    documents = [(identity(number), text) for number, text in enumerate(books.values())]
    rule = Rule("containment", limit)
    _, gone = fast(tmp_path, dealt(documents, random.Random(1)), rule, 3)
    assert gone == slow(documents, rule)
    proved(f"{len(books)} files of three books: {len(books) - len(gone)} stay at max_containment {limit:g}")
