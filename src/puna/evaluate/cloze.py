"""Cloze items out of a run's own held-out text: a passage breaks off, and which of four words comes next?

The rule, RULE 1, which the text, the seed and nothing else decide:

- A *word* is a run of LETTERS to LONGEST letters behind a single space that itself stands behind something, and before
  white space, the end, or one of . , ; : ! ? ( ) [ ] { } " ” ». So no part of a name such as `to_dict` or `self-made`
  is one, nor what begins a line. Its *shape* is lower, Capital or UPPER; any other mixture of cases is no word.
- Words are counted in the *training* text of the same source and language, never in held-out text: the first
  MOST_TEXT bytes of documents in order of id. Those that occur at least OCCURRENCES times are ranked, within each
  shape, by their count, of equal counts by digest.
- A held-out document is cut from its beginning into stretches of WORDS runs of what is no white space; the last one is
  shorter. Of the held-out text, too, the first MOST_TEXT bytes are read.
- In each stretch the last suitable word is blanked, and its *passage* is the stretch up to it, at least LEAST runs and
  at most MOST characters. Suitable is a ranked word that does not stand in its passage (whatever its case), so that
  nothing is answered by copying, and for which there are three distractors.
- Each list of ranked words is cut from its top into groups of GROUP, the last one of as many as are left and up to
  GROUP more. Its *distractors* are three of the others of its group, without those that stand in the passage: the first
  by digest. So all four are about equally frequent, and none is set apart: where the one in the middle of what is near
  it were taken, it would stand in the middle of the four too often. `frequency`, which always takes the most frequent
  of the four, shows how far the likelier word by itself tells something.
- The choices stand in the order of their digests. Of all stretches that give an item those with the smallest digests
  are asked, up to a limit for each source; a larger limit holds all items of a smaller one.

Digests are xxh3 of seed, document id, number of the stretch and word. One document gives many items, which are not as
independent of each other as a standard error takes them to be.
"""

from __future__ import annotations

import heapq
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import xxhash

from puna.evaluate.task import Choice, Ranking

RULE = 1  # another rule has another number
CHOICES = 4
LETTERS = 4
LONGEST = 30
OCCURRENCES = 5
WORDS = 48
LEAST = 16
MOST = 2_000
GROUP = 8
MOST_TEXT = 24_000_000  # bytes of a source
BESIDE_PASSAGE = 1_200  # bytes of an item in JSON but for its passage, at most: four words of LONGEST letters, numbers

WORD = re.compile(rf"(?<=\S )[^\W\d_]{{{LETTERS},{LONGEST}}}(?=[\s.,;:!?()\[\]{{}}\"”»]|$)")
LETTER_RUN = re.compile(r"[^\W\d_]+")
NOT_SPACE = re.compile(r"\S+")


@dataclass(frozen=True, slots=True)
class Text:
    """A document, as far as this needs it."""

    id: str
    language: str
    text: str


@dataclass(frozen=True, slots=True)
class Item:
    document: str
    """Id of the held-out document."""
    stretch: int
    """Number of the stretch in it, from 0."""
    passage: str
    """Ends before the space in front of the blank."""
    choices: tuple[str, ...]
    right: int
    counts: tuple[int, ...]
    """How often each choice stands in the training text."""

    @property
    def key(self) -> str:
        return f"{self.document}:{self.stretch}"

    @property
    def asked(self) -> Ranking:
        return Ranking(tuple(Choice(self.passage, f" {choice}") for choice in self.choices))


class Ranked:
    """The words of training texts by language and shape, the most frequent first."""

    def __init__(self, texts: Iterable[Text], seed: int) -> None:
        counts: dict[str, Counter[str]] = defaultdict(Counter)
        for text in texts:
            counts[text.language].update(WORD.findall(text.text))
        self._counts = {language: _frequent(found) for language, found in counts.items()}
        self._words: dict[tuple[str, str], list[str]] = defaultdict(list)
        self._ranks: dict[tuple[str, str], int] = {}
        for language, found in self._counts.items():
            for word in sorted(found, key=lambda word: (-found[word], _digest(seed, word))):
                alike = self._words[language, shape(word)]
                self._ranks[language, word] = len(alike)
                alike.append(word)

    def count(self, language: str, word: str) -> int:
        """How often it occurs; 0 where that is less than OCCURRENCES."""
        return self._counts.get(language, {}).get(word, 0)

    def group(self, language: str, word: str) -> list[str]:
        """The other words of its group."""
        alike, rank = self._words[language, shape(word)], self._ranks[language, word]
        groups = max(1, len(alike) // GROUP)
        number = min(rank // GROUP, groups - 1)
        members = alike[number * GROUP : (number + 1) * GROUP if number < groups - 1 else None]
        return [other for other in members if other != word]


def most_bytes(limit: int, held: int) -> int:
    """What the items of a source take at most in a JSON file, made of so many bytes of held-out text: passages do not
    overlap, each has LEAST runs or more, and a quote or backslash takes two bytes."""
    count = min(limit, held // (2 * LEAST))
    return min(2 * held, 2 * 4 * MOST * count) + BESIDE_PASSAGE * count


def room(limit: int, held: Mapping[str, Mapping[str, int]]) -> int:
    """The same of all sources. held: of each, what step `heldout` counted."""
    return sum(most_bytes(limit, counts["bytes"]) for counts in held.values())


def items(training: Iterable[Text], held: Iterable[Text], *, seed: int, limit: int) -> list[Item]:
    """At most `limit` items of a source, in order of document and stretch. Texts come in order of id.

    Memory: the counts of the training text's words, a document, and `limit` items.
    """
    ranked = Ranked(_first(training), seed)
    found = ((_digest(seed, item.key), item.key, item) for text in _first(held) for item in of_text(text, ranked, seed))
    chosen = [item for _, _, item in heapq.nsmallest(limit, found)]
    return sorted(chosen, key=lambda item: (item.document, item.stretch))


def of_text(text: Text, ranked: Ranked, seed: int) -> Iterator[Item]:
    """The items of a document, one of each stretch that has a suitable word."""
    suited = {match.start(): match[0] for match in WORD.finditer(text.text) if ranked.count(text.language, match[0])}
    starts = [run.start() for run in NOT_SPACE.finditer(text.text)]
    for number, first in enumerate(range(0, len(starts), WORDS)):
        for start in reversed(starts[first + LEAST : first + WORDS]):
            word = suited.get(start)
            if word is None:
                continue
            passage = text.text[starts[first] : start - 1]
            choices = _choices(word, passage, text, number, ranked, seed) if len(passage) <= MOST else ()
            if choices:
                counts = tuple(ranked.count(text.language, choice) for choice in choices)
                yield Item(text.id, number, passage, choices, choices.index(word), counts)
                break


def shape(word: str) -> str:
    """lower, Capital or UPPER; "" for any other mixture of cases, and for what is no letter (½). Letters without case
    are lower."""
    if not word.isalpha():
        return ""
    if word == word.lower():
        return "lower"
    if word == word.upper():
        return "UPPER"
    return "Capital" if word[1:] == word[1:].lower() else ""


def most_frequent(item: Item) -> float:
    """Whether the choice that is the most frequent in training text is the right one: of equals the share."""
    best = max(item.counts)
    return (item.counts[item.right] == best) / item.counts.count(best)


def _choices(word: str, passage: str, text: Text, number: int, ranked: Ranked, seed: int) -> tuple[str, ...]:
    """The four in the order in which they stand, () where the word is not suitable."""
    there = {run.casefold() for run in LETTER_RUN.findall(passage)}
    if word.casefold() in there:
        return ()

    def drawn(choice: str) -> int:
        return _digest(seed, text.id, number, choice)

    others = [other for other in ranked.group(text.language, word) if other.casefold() not in there]
    chosen = sorted(others, key=drawn)[: CHOICES - 1]
    return tuple(sorted([word, *chosen], key=lambda choice: drawn(f"{choice} stands"))) if len(chosen) == 3 else ()


def _frequent(found: Mapping[str, int]) -> dict[str, int]:
    return {word: count for word, count in found.items() if count >= OCCURRENCES and shape(word)}


def _first(texts: Iterable[Text]) -> Iterator[Text]:
    """Whole documents, until MOST_TEXT bytes were given."""
    left = MOST_TEXT
    for text in texts:
        if left <= 0:
            return
        left -= len(text.text.encode())
        yield text


def _digest(seed: int, *parts: object) -> int:
    return xxhash.xxh3_64_intdigest("\0".join(map(str, (seed, "cloze", RULE, *parts))).encode())
