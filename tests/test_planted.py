"""Duplicates of every kind in one corpus: each policy finds what its definition says and nothing of the others'.

The corpus is made so that what is planted is known without looking for it: whole copies, editions that contain 0.80 to
0.99 of a document, and paragraphs that were copied.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from made_shards import Text, dealt, document, identity, run
from puna import storage
from puna.data.dedup import exact, exchange, lines, lines_step, near_step
from puna.data.pipeline import look, steps
from puna.recipe import load

pytestmark = pytest.mark.usefixtures("unsynced")

GRAMS = 396  # of a text of 400 words
CHANGED = {0.80: 16, 0.89: 9, 0.90: 8, 0.91: 7, 0.95: 4, 0.99: 1}  # containment, about -> words changed, 5 grams each


@dataclass
class Planted:
    documents: list[Text] = field(default_factory=list)
    copies: list[list[str]] = field(default_factory=list)  # ids with the same text
    editions: list[tuple[str, str, float]] = field(default_factory=list)  # (id, id, containment)
    paragraphs: set[str] = field(default_factory=set)  # lines that stand in several documents


def planted(seed: int) -> Planted:
    chance = random.Random(seed)
    made, words = Planted(), (f"w{number}" for number in range(10**9))

    def fresh(count: int) -> str:
        """Words that stand nowhere else."""
        return " ".join("".join(chr(97 + int(digit)) for digit in next(words)[1:]) + "q" for _ in range(count))

    def add(text: str) -> str:
        identifier = identity(seed * 10_000 + len(made.documents))
        made.documents.append((identifier, text))
        return identifier

    for _ in range(6):
        add("\n".join(fresh(60) for _ in range(5)))
    for _ in range(3):
        text = fresh(400)
        made.copies.append([add(text) for _ in range(chance.randint(2, 4))])
        made.paragraphs.add(text)
    for changed in CHANGED.values():
        found = fresh(400).split()
        one = add(" ".join(found))
        for place in range(9, 9 + 20 * changed, 20):
            found[place] = fresh(1)
        made.editions.append((one, add(" ".join(found)), 1 - 5 * changed / GRAMS))
    for _ in range(4):
        shared = fresh(12)
        made.paragraphs.add(shared)
        for _ in range(chance.randint(2, 3)):
            add("\n".join([fresh(80), shared.upper() + " ", fresh(80)]))
    return made


@pytest.mark.parametrize("seed", range(2))
def test_every_policy_finds_what_was_planted_for_it_and_nothing_else(
    tmp_path: Path, proved: Callable[[str], None], seed: int
) -> None:
    made = planted(seed)
    asked = ["sources.books.max_containment=0.9", "sources.commoncrawl.paragraphs=drop", "data.partitions=3"]
    recipe = load("web", asked)
    whole = {identifier for group in made.copies for identifier in sorted(group)[1:]}
    above = {max(one, other) for one, other, measured in made.editions if measured > 0.9}
    assert min(abs(measured - 0.9) for *_, measured in made.editions) > 1e-3
    for turn in range(3):
        shards = dealt(made.documents, random.Random(turn))
        at = tmp_path / str(turn)
        assert _exact(at, shards) == whole
        assert _gone(at, recipe, shards) == whole | above
        assert _without_lines(at, recipe, shards) == {
            identifier: "\n".join(line for line in text.split("\n") if line.lower().strip() not in made.paragraphs)
            for identifier, text in made.documents
        }
    proved(
        f"planted in {len(made.documents)} documents: {len(whole)} copies, {len(above)} editions above 0.9, "
        f"{len(made.paragraphs)} paragraphs; recall and precision 1 in 3 cuts into shards"
    )


@pytest.mark.promise("paper")
def test_whole_copies_are_looked_for_in_clean_text_of_every_source() -> None:
    recipe = load("web")
    graph = {step.name: step for step in steps(recipe, {name: look([]) for name, _ in recipe.sources.items()})}
    found = {name for name, _ in recipe.sources.items() if graph[f"duplicates.{name}"].needs == (f"extract.{name}",)}
    assert found == {"commoncrawl", "c4", "github", "wikipedia", "books", "arxiv", "stackexchange"}


@pytest.mark.parametrize("name", ["books", "commoncrawl", "c4"])
@pytest.mark.promise("resume")
def test_a_run_that_was_interrupted_gives_the_same_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    made = planted(7)
    asked = ["sources.books.max_containment=0.9", "sources.commoncrawl.paragraphs=keep-first", "data.partitions=2"]
    recipe = load("web", [*asked, "sources.c4.spans=3"])
    shards = [[document(name, *each) for each in made.documents[start::3]] for start in range(3)]
    work, step, pattern = (
        (near_step.near_duplicates, "near", "{work}/*.verdicts")
        if name == "books"
        else (lines_step.repeated_lines, "lines", "{work}/*.lines")
    )

    def result(at: str) -> Any:
        counts, outputs, _ = run(tmp_path / at, recipe, name, shards, step, work, pattern)
        return counts, [storage.digest(path) for path in outputs]

    expected = result("undisturbed")
    borders = {"write": exchange.write, "remove": storage.remove}

    def stopping_at(border: str, number: int) -> Callable[..., Any]:
        calls = iter(range(1000))

        def stop(*arguments: Any) -> Any:
            if next(calls) == number:
                raise KeyboardInterrupt
            return borders[border](*arguments)

        return stop

    for border, owner in (("write", exchange), ("remove", storage)):
        for number in (1, 8):
            at = f"{border}-{number}"
            with monkeypatch.context() as patch:
                patch.setattr(owner, border, stopping_at(border, number))
                with pytest.raises(KeyboardInterrupt):
                    result(at)
            assert result(at) == expected


def test_a_source_without_a_document_has_no_duplicates(tmp_path: Path) -> None:
    asked = ["sources.books.max_containment=0.9", "sources.commoncrawl.paragraphs=drop", "data.partitions=2"]
    recipe = load("web", [*asked, "sources.commoncrawl.near=minhash"])
    for number, shards in enumerate(([], [[]])):
        at = tmp_path / str(number)
        assert _gone(at, recipe, shards) == set()
        assert _without_lines(at, recipe, shards) == {}
        work = near_step.near_duplicates
        counts, _, _ = run(at / "pages", recipe, "commoncrawl", shards, "near", work, "{work}/*.verdicts")
        assert (counts["documents"], counts["groups"]) == (0, 0)


def _exact(at: Path, shards: list[list[Text]]) -> set[str]:
    hashes = [at / f"{index}.hashes" for index in range(len(shards))]
    for path, shard in zip(hashes, shards, strict=True):
        exact.write_hashes(path, shard, 2)
    verdicts = [at / f"{part}.verdicts" for part in range(2)]
    for part, path in enumerate(verdicts):
        exact.find_repeats(hashes, part, path)
    return _named(shards, verdicts)


def _gone(at: Path, recipe: Any, shards: list[list[Text]]) -> set[str]:
    made = [[document("books", *each) for each in shard] for shard in shards]
    work = near_step.near_duplicates
    return _named(shards, run(at / "books", recipe, "books", made, "near", work, "{work}/*.verdicts")[1])


def _without_lines(at: Path, recipe: Any, shards: list[list[Text]]) -> dict[str, str]:
    made = [[document("commoncrawl", *each) for each in shard] for shard in shards]
    work = lines_step.repeated_lines
    gathered = run(at / "web", recipe, "commoncrawl", made, "lines", work, "{work}/*.lines")[1]
    left = {}
    for index, shard in enumerate(shards):
        texts = lines.edited((text for _, text in shard), lines.removed(gathered, index))
        left |= dict(zip((identifier for identifier, _ in shard), texts, strict=True))
    return left


def _named(shards: list[list[Text]], verdicts: list[Path]) -> set[str]:
    return {shard[row][0] for index, shard in enumerate(shards) for row in exact.dropped_rows(verdicts, index).tolist()}
