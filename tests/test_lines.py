"""Repeated lines and spans: just those that the definition names go, whatever the shards."""

from __future__ import annotations

import random
import sys
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from made_shards import Text, dealt, document, identity, run
from made_web import kept, records
from puna.data.dedup import lines, lines_step, normal
from puna.data.dedup.lines import Policy
from puna.data.document import read_column
from puna.errors import InputError
from puna.recipe import load
from puna.recipe_sources import C4, CommonCrawl

pytestmark = pytest.mark.usefixtures("unsynced")

CHARACTERS = "aAzZİΣςßéÀ019٣ \t\r\x01\x1f\x85\xa0\u2003.,-–—“”…»!´►\u200bЖж中。𝟘𝄞𐐀😀\U000e0041"
LINE = st.text(st.sampled_from(CHARACTERS), max_size=8)
POLICIES = [
    Policy(),
    Policy(keep_first=True),
    Policy(parts=3),
    Policy(keep_first=True, parts=2),
    Policy("sentence", True, 3),
    Policy("sentence", True, 2),
]


@pytest.mark.promise("twins")
@given(st.lists(LINE, min_size=1, max_size=30))
@example(["\x85"])  # blank, and not ASCII: nothing is left of the only line
@settings(deadline=None, max_examples=100)
def test_lines_hashed_at_once_agree_with_their_readable_twin(found: list[str]) -> None:
    assert normal.hashes("\n".join(found).encode()).tolist() == [normal.normal_hash(line) for line in found]


@pytest.mark.promise("twins")
def test_every_character_has_the_normal_form_of_its_readable_twin(proved: Callable[[str], None]) -> None:
    points = [*range(normal.HIGHEST + 4096), *range(normal.HIGHEST + 4096, sys.maxunicode + 1, 16)]
    every = [chr(point) for point in points if not 0xD800 <= point < 0xE000 and point != 10]
    step = 4099  # lines of many characters: what a character becomes depends on no other
    found = [f"x{''.join(every[start : start + step])}x" for start in range(0, len(every), step)]
    assert normal.hashes("\n".join(found).encode()).tolist() == [normal.normal_hash(line) for line in found]
    forms = [normal.normal(f"x{c}x")[1:-1] for c in every]
    assert all(form == c for form, c in zip(forms, every, strict=True) if ord(c) >= normal.HIGHEST)
    gone = Counter(unicodedata.category(c)[0] for form, c in zip(forms, every, strict=True) if not form)
    assert set(gone) == {"P", "C"}
    proved(f"normal form of a line: {len(every):,} characters, of which {gone['P']} marks and {gone['C']} controls go")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("  Read More\r", "read more"),
        ("Page 12 of 305", "page 00 of 000"),
        ("“Yes” – no…", "yes  no"),
        ("ΟΔΟΣ", "οδος".replace("ς", "σ")),
    ],
)
def test_lines_are_one_in_the_normal_form_of_ccnet(one: str, other: str) -> None:
    assert normal.normal_hash(one) == normal.normal_hash(other)


@pytest.mark.parametrize(("one", "other"), [("No.", "No"), ("a b", "ab"), ("page 1", "page 10"), ("é", "e")])
def test_punctuation_of_ascii_and_accents_count_as_in_ccnet(one: str, other: str) -> None:
    assert normal.normal_hash(one) != normal.normal_hash(other)


def slow(documents: list[Text], policy: Policy) -> dict[str, str]:
    """What is left of each document: the definition, read off."""
    seen: dict[Any, list[tuple[str, int]]] = defaultdict(list)
    units = {identifier: policy.units(text) for identifier, text in documents}
    for identifier in sorted(units):
        forms = [normal.normal(unit) for unit in units[identifier]]
        for place in range(len(forms) - policy.span + 1):
            part = int(identifier[:16], 16) % policy.parts
            seen[part, *forms[place : place + policy.span]].append((identifier, place))
    gone = {
        (identifier, place + more)
        for copies in seen.values()
        if len(copies) > 1
        for identifier, place in copies[policy.keep_first :]
        for more in range(policy.span)
    }
    left = {}
    for identifier, found in units.items():
        kept = [unit for place, unit in enumerate(found) if (identifier, place) not in gone]
        left[identifier] = (
            ("\n".join(kept) if policy.unit == "line" else "".join(kept).strip())
            if len(kept) < len(found)
            else "\n".join(found)
            if policy.unit == "line"
            else "".join(found)
        )
    return left


def fast(folder: Path, shards: list[list[Text]], policy: Policy, parts: int, turns: int) -> tuple[dict[str, str], int]:
    """The same by way of the files that the step writes; and how many bytes it says are gone."""
    hashes = [folder / f"{index}.hashes" for index in range(len(shards))]
    own = [folder / f"{index}.own" for index in range(len(shards))]
    for index, shard in enumerate(shards):
        lines.write_hashes(hashes[index], own[index], shard, policy, parts)
    verdicts = []
    for part in range(parts):
        for turn in range(turns):
            verdicts.append(folder / f"{part}-{turn}.verdicts")
            lines.find_repeats(hashes, part, (turn, turns), policy, verdicts[-1])
    gathered = [folder / f"{index}.lines" for index in range(len(shards))]
    left, size = {}, 0
    for index, shard in enumerate(shards):
        size += lines.gather(own[index], verdicts, index, policy, gathered[index])["bytes"]
        texts = lines.edited((text for _, text in shard), lines.removed(gathered, index), policy)
        left |= dict(zip((identifier for identifier, _ in shard), texts, strict=True))
    return left, size


SENTENCE = st.sampled_from(["One.", "Two!", "three", "Four? ", " five 5", "", "—", "Six.\n", "ONE."])


@pytest.mark.promise("twins")
@given(
    st.lists(st.builds(str.join, st.sampled_from("\n "), st.lists(SENTENCE, max_size=7)), max_size=9),
    st.sampled_from(POLICIES),
    st.integers(0, 99),
)
@settings(max_examples=80, deadline=None)
def test_just_the_repeats_that_the_definition_names_go_whatever_the_shards(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], policy: Policy, seed: int
) -> None:
    documents = [(identity(number), text) for number, text in enumerate(texts)]
    expected = slow(documents, policy)
    chance = random.Random(seed)
    folder = tmp_path_factory.mktemp("lines")
    left, size = fast(folder, dealt(documents, chance), policy, chance.randint(1, 4), chance.randint(1, 3))
    assert left == expected
    if policy.unit == "line":
        assert size == sum(len(text.encode()) - len(left[identifier].encode()) for identifier, text in documents)


@given(st.text(st.sampled_from('ab .?!…\n"”)\t'), max_size=40))
@settings(deadline=None)
def test_sentences_lose_nothing_and_have_no_line_within(text: str) -> None:
    found = lines.sentences(text)
    assert "".join(found) == text
    assert all("\n" not in sentence.strip() and sentence for sentence in found)


def test_a_passage_of_three_sentences_stays_in_the_page_of_smallest_id() -> None:
    shared = "The first. The second one! And a third?"
    documents = [("2" * 32, f"Before it. {shared} Behind it."), ("1" * 32, f"Other words. {shared}")]
    assert slow(documents, Policy("sentence", True, 3)) == {
        "2" * 32: "Before it. Behind it.",
        "1" * 32: f"Other words. {shared}",
    }


def test_memory_follows_the_distinct_lines_and_not_their_copies(tmp_path: Path) -> None:
    shard = [(identity(number), "menu\n" * 50) for number in range(40)]
    counts = lines.write_hashes(tmp_path / "h", tmp_path / "o", shard, Policy(), 2)
    assert counts == {"documents": 40, "lines": 40 * 51, "rows": 2}


def _recipe(*overrides: str) -> Any:
    made = ["sources.commoncrawl.inputs=['x.warc']", "sources.c4.inputs=['y.json']", "data.partitions=3", *overrides]
    return load("web", made)


def _shards(random: random.Random, source: str, documents: list[Text]) -> Any:
    return [[document(source, *each) for each in shard] for shard in dealt(documents, random)]


@pytest.mark.parametrize("paragraphs", ["drop", "keep-first"])
def test_the_step_gives_the_same_verdicts_for_other_shards_and_says_what_it_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, paragraphs: str
) -> None:
    monkeypatch.setattr(lines_step, "ROWS", 500)
    documents = [
        (identity(number), f"Cookies, please!\nOnly here {chr(97 + number) * 3}\nCopied by {number // 2 % 7 * 'x'}\n")
        for number in range(24)
    ]
    recipe = _recipe(f"sources.commoncrawl.paragraphs={paragraphs}")
    policy = lines_step.policy(recipe.sources["commoncrawl"])
    assert policy == Policy(keep_first=paragraphs == "keep-first")
    seen = set()
    for seed in range(3):
        shards = _shards(random.Random(seed), "commoncrawl", documents)
        counts, outputs, folder = run(
            tmp_path / str(seed), recipe, "commoncrawl", shards, "lines", lines_step.repeated_lines, "{work}/*.lines"
        )
        left = {}
        for index, shard in enumerate(sorted(folder.glob("work/extract.commoncrawl/*/*.parquet"))):
            texts = lines.edited(read_column(shard, "text"), lines.removed(outputs, index), policy)
            left |= dict(zip(read_column(shard, "id"), texts, strict=True))
        assert left == slow(documents, policy)
        most = [{"count": 24, "text": ""}, {"count": 24, "text": "cookies, please!"}]
        assert sorted(counts["examples"][:2], key=lambda example: example["text"]) == most
        assert counts["gone"]["bytes"] == sum(len(text) - len(left[i]) for i, text in documents)
        seen.add(repr(counts))
    assert len(seen) == 1


def test_spans_are_looked_for_in_raw_pages_and_in_published_ones_when_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "One is here. Two is here. Three is here."
    published = [document("c4", identity(number), text, "c4-train.json.gz") for number in range(2)]
    raw = [document("c4", identity(number), text, "made.warc.gz") for number in range(2, 4)]

    def gone(name: str, documents: Any, *overrides: str) -> Any:
        recipe = _recipe("sources.c4.spans=3", *overrides)
        step = lines_step.repeated_lines
        return run(tmp_path / name, recipe, "c4", [documents], "lines", step, "{work}/*.lines")[0]

    assert gone("raw", [*published, *raw])["gone"] == {"lines": 3, "bytes": 40, "documents": 1, "emptied": 1}
    assert gone("both", [*published, *raw], "sources.c4.published_spans=true")["gone"]["emptied"] == 3
    assert gone("rules", published, "sources.c4.published=false")["gone"]["emptied"] == 1
    capsys.readouterr()
    assert gone("none", published)["documents"] == 0
    assert "no page came raw" in capsys.readouterr().err


@pytest.mark.prove
@pytest.mark.parametrize("policy", [Policy(), Policy("sentence", True, 3)], ids=["paragraphs", "spans"])
def test_real_pages_lose_what_the_definition_says(
    tmp_path: Path, samples: Path, proved: Callable[[str], None], policy: Policy
) -> None:
    pages = kept(records(samples / "commoncrawl" / "CC-REAL-dev-00000.warc.wet.gz"))[:200]
    documents = [(page.id, page.text) for page in pages]
    left, size = fast(tmp_path, dealt(documents, random.Random(1)), policy, 2, 1)
    assert left == slow(documents, policy)
    whole = sum(len(text.encode()) for _, text in documents)
    assert 0.01 * whole < size < 0.6 * whole
    what = "repeated lines" if policy.unit == "line" else "spans of three sentences that repeat"
    proved(f"{len(pages)} real pages of a WET file: {100 * size / whole:.1f}% of their bytes stand in {what}")


def test_a_source_without_a_single_repeat_is_said_aloud(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shards = [[document("commoncrawl", identity(number), chr(97 + number)) for number in range(5)]]
    recipe = _recipe("sources.commoncrawl.paragraphs=drop")
    step = lines_step.repeated_lines
    run(tmp_path, recipe, "commoncrawl", shards, "lines", step, "{work}/*.lines")
    assert "no line occurs twice among 5 of 5 documents" in capsys.readouterr().err


@pytest.mark.promise("errors")
def test_verdicts_on_other_documents_are_refused() -> None:
    gone = np.array([(0, 3, 1)], lines.VERDICT)
    with pytest.raises(InputError, match="line 3 goes of a document that has 1"):
        list(lines.edited(["one"], gone))
    with pytest.raises(InputError, match="there are fewer"):
        list(lines.edited([], gone))


def test_spans_and_paragraphs_exclude_each_other() -> None:
    assert lines_step.policy(CommonCrawl(share=1)) is None
    assert lines_step.policy(C4(share=1, spans=3)) == Policy("sentence", True, 3)
    with pytest.raises(InputError, match="spans and paragraphs cannot both be on"):
        _recipe("sources.c4.spans=3", "sources.c4.paragraphs=drop")
