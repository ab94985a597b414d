"""Cloze items of held-out text: the rule worked by hand, and what holds of any text."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from puna.evaluate import cloze
from puna.evaluate.cloze import Item, Ranked, Text, items, most_frequent, of_text, shape
from puna.evaluate.task import Choice

SEED = 1
COUNTS = {"river": 9, "ocean": 8, "island": 7, "valley": 6, "desert": 4, "River": 9, "OCEAN": 9}
NUMBERS = " ".join(map(str, range(1, 17)))  # LEAST runs that are no words


def _repeated(counts: dict[str, int]) -> str:
    return "0 " + " ".join(word for word, count in counts.items() for _ in range(count))


def _texts(*texts: str, language: str = "en") -> list[Text]:
    return [Text(f"{number:032x}", language, text) for number, text in enumerate(texts)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The river, an ocean; and that", ["river", "ocean", "that"]),
        ("river", []),  # nothing stands before it
        ("  river", []),
        ("a  river", []),
        ("the end\n    river", []),
        ("a\nriver b\triver", []),
        ("a self-made b don't c don’t_ d to_dict e to4th", []),
        ("return foobar(value) + bars[first]", ["foobar", "bars"]),
        ("see 4ever or .gitignore", []),
        ("in Málaga, über “alle” Straßen”", ["Málaga", "über", "Straßen"]),
        ("the reader’s", []),
        ("the cat sat", []),
        ("в реке.", ["реке"]),
    ],
)
def test_what_is_a_word(text: str, words: list[str]) -> None:
    assert cloze.WORD.findall(text) == words == _by_hand(text)


def test_shapes() -> None:
    shapes = {word: shape(word) for word in ("river", "River", "RIVER", "RIver", "½½½½", "東京大学", "Ägypten")}
    assert shapes == {
        "river": "lower", "River": "Capital", "RIVER": "UPPER", "RIver": "", "½½½½": "", "東京大学": "lower",
        "Ägypten": "Capital",
    }  # fmt: skip


def test_an_item_by_hand() -> None:
    """desert is too rare, River and OCEAN are of other shapes: three are left beside the last word of the stretch."""
    held = f"{NUMBERS} the river of desert nights"
    (item,) = items(_texts(_repeated(COUNTS)), _texts("", held), seed=SEED, limit=9)
    assert item.passage == f"{NUMBERS} the"
    assert set(item.choices) == {"river", "ocean", "island", "valley"}
    assert item.choices[item.right] == "river"
    assert item.counts == tuple(COUNTS[choice] for choice in item.choices)
    assert (item.document, item.stretch, item.key) == (f"{1:032x}", 0, f"{1:032x}:0")
    assert item.asked.choices[item.right] == Choice(f"{NUMBERS} the", " river")
    assert item.choices == ("ocean", "river", "valley", "island")  # by digest: belongs to the rule's number


def test_a_stretch_has_one_item_and_the_next_begins_behind_it() -> None:
    held = f"{NUMBERS} a river {' '.join('-' * 30)} {NUMBERS} an ocean"
    found = items(_texts(_repeated(COUNTS)), _texts(held), seed=SEED, limit=9)
    assert [(item.stretch, item.choices[item.right]) for item in found] == [(0, "river"), (1, "ocean")]
    assert found[1].passage == f"{NUMBERS} an"


@pytest.mark.parametrize(
    "held",
    [
        f"{NUMBERS} of the desert",  # too rare in the training text
        "1 2 3 4 of the river",  # too little before it
        f"{NUMBERS} the River and the river",  # stands in the passage
        f"{NUMBERS} an island-like the river",  # only two distractors do not
        f"{NUMBERS} the RIVER",  # no other of its shape but one
    ],
)
def test_what_gives_no_item(held: str) -> None:
    assert items(_texts(_repeated(COUNTS)), _texts(held), seed=SEED, limit=9) == []


def test_an_earlier_word_is_taken_where_the_last_is_not_suitable() -> None:
    held = f"{NUMBERS} see ocean and OCEAN"
    (item,) = items(_texts(_repeated(COUNTS)), _texts(held), seed=SEED, limit=9)
    assert item.choices[item.right] == "ocean"


NAMES = [f"{first}{second}word" for first in "abcdefgh" for second in "abcdefg"]


def test_distractors_are_of_the_same_group_of_neighbours_in_rank_and_of_the_same_language() -> None:
    names = NAMES[: 3 * cloze.GROUP + 2]
    ranked = Ranked(_texts(_repeated({name: 100 - place for place, name in enumerate(names)})), SEED)
    groups = [names[: cloze.GROUP], names[cloze.GROUP : 2 * cloze.GROUP], names[2 * cloze.GROUP :]]
    for group in groups:
        for word in group:
            assert [word, *ranked.group("en", word)] == [word, *(other for other in group if other != word)]
    assert ranked.count("de", names[20]) == 0
    other = Text("0" * 32, "de", f"{NUMBERS} {names[20]}")
    assert list(of_text(other, ranked, SEED)) == []


def test_of_equal_counts_no_word_is_before_others_by_its_spelling() -> None:
    found = Ranked(_texts(_repeated(dict.fromkeys(NAMES, 5))), SEED).group("en", NAMES[30])
    assert len(found) == cloze.GROUP - 1
    assert len({name[0] for name in found}) > 3


def test_no_place_by_frequency_is_right_more_often_than_others() -> None:
    """Each of the words as often in the held-out text: then each place among the four is right in a quarter of them."""
    known = _texts(_repeated({name: 100 - place for place, name in enumerate(NAMES)}))
    held = _texts(*(f"{NUMBERS} {name} {number}" for name in NAMES for number in range(20)))
    found = items(known, held, seed=SEED, limit=10_000)
    places = Counter(sorted(item.counts).index(item.counts[item.right]) for item in found)
    assert sum(places.values()) == 20 * len(NAMES)
    assert all(abs(places[place] / len(found) - 0.25) < 0.06 for place in range(4))  # four standard errors are 0.052


def test_always_taking_the_most_frequent_is_as_good_as_chance_where_all_are_alike() -> None:
    def item(*counts: int, right: int = 0) -> Item:
        return Item("", 0, "", ("a", "b", "c", "d"), right, counts)

    assert most_frequent(item(7, 7, 7, 7)) == 0.25
    assert most_frequent(item(8, 7, 7, 7)) == 1
    assert most_frequent(item(8, 8, 7, 7)) == 0.5
    assert most_frequent(item(7, 8, 7, 7)) == 0


def test_only_so_much_text_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    training = _texts(_repeated(COUNTS), _repeated(COUNTS))
    monkeypatch.setattr(cloze, "MOST_TEXT", 10)
    (item,) = items(training, _texts(f"{NUMBERS} a river", f"{NUMBERS} an ocean"), seed=SEED, limit=9)
    assert item.document == f"{0:032x}"
    assert item.counts[item.right] == COUNTS["river"]


WORDS = ["river", "ocean", "island", "valley", "River", "OCEAN", "lakes", "to_dict", "the", "1905", "(pond)", "brook"]
texts = st.lists(st.sampled_from([*WORDS, "\n", "-"]), max_size=160).map(" ".join)


@settings(deadline=None, max_examples=60)
@given(training=st.lists(texts, min_size=1, max_size=4), held=st.lists(texts, max_size=3), seed=st.integers(0, 3))
def test_what_holds_of_any_item(training: list[str], held: list[str], seed: int) -> None:
    known, asked = _texts(*training, " ".join(training * 3)), _texts(*held)
    found = items(known, asked, seed=seed, limit=1000)
    counts = Counter(word for text in known for word in _by_hand(text.text))
    for item in found:
        text, word = asked[int(item.document, 16)].text, item.choices[item.right]
        assert f"{item.passage} {word}" in text
        runs = text.split()[item.stretch * cloze.WORDS : (item.stretch + 1) * cloze.WORDS]
        before = item.passage.split()
        assert runs[: len(before)] == before
        assert cloze.LEAST <= len(before) < cloze.WORDS
        assert runs[len(before)] == word
        assert len(set(item.choices)) == cloze.CHOICES
        assert len({shape(choice) for choice in item.choices}) == 1
        there = {run.casefold() for run in cloze.LETTER_RUN.findall(item.passage)}
        assert not there & {choice.casefold() for choice in item.choices}
        assert item.counts == tuple(counts[choice] for choice in item.choices)
        assert min(item.counts) >= cloze.OCCURRENCES
    assert len({item.key for item in found}) == len(found)


@pytest.mark.promise("order")
@settings(deadline=None, max_examples=40)
@given(
    training=st.lists(texts, min_size=1, max_size=5),
    held=st.lists(texts, max_size=4),
    limit=st.integers(0, 4),
    chance=st.integers(0, 99),
)
def test_neither_the_order_of_texts_nor_the_limit_changes_an_item(
    training: list[str], held: list[str], limit: int, chance: int
) -> None:
    known, asked = _texts(*training, *training, *training), _texts(*held)
    found = items(known, asked, seed=SEED, limit=1000)
    few = items(_shuffled(known, chance), _shuffled(asked, chance), seed=SEED, limit=limit)
    more = items(_shuffled(known, chance), asked, seed=SEED, limit=limit + 1)
    assert items(known, _shuffled(asked, chance), seed=SEED, limit=1000) == found
    assert len(few) == min(limit, len(found))
    assert set(few) <= set(more) <= set(found)


def _shuffled(several: Sequence[Text], chance: int) -> list[Text]:
    return random.Random(chance).sample(list(several), len(several))


def _by_hand(text: str) -> list[str]:
    """The readable twin of WORD: character by character."""
    found = []
    for start in range(2, len(text)):
        if text[start - 1] != " " or text[start - 2].isspace() or not text[start].isalpha():
            continue
        end = start
        while end < len(text) and text[end].isalpha():
            end += 1
        ends = end == len(text) or text[end].isspace() or text[end] in '.,;:!?()[]{}"”»'
        if ends and end - start >= cloze.LETTERS:
            found.append(text[start:end])
    return found
