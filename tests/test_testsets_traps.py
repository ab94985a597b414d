"""The traps of real benchmark files, a test for each: what a reader that believes its eyes would lose or turn round.

Where the real samples lack a trap (U+0085, five choices, RACE), a made file has it.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path

import pytest

import made_testsets
from puna import testsets
from puna.errors import InputError
from puna.testsets import Item


def _real_lines(file: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in file.read_text("utf-8").split("\n") if line]


def test_u0085_within_a_string_ends_no_line(tmp_path: Path) -> None:
    line = made_testsets.FILES["boolq"][1]
    assert "\x85" in line
    assert len(line.splitlines()) > 1
    (tmp_path / "dev.jsonl").write_text(line * 3, "utf-8")
    assert [item.context for item in testsets.read("boolq", tmp_path / "dev.jsonl")] == ["It\x85is."] * 3


def test_newlines_stand_within_cells_of_mmlu(bench: Path) -> None:
    items = list(testsets.read("mmlu", bench / "mmlu"))
    lines = sum(len(path.read_text("utf-8").splitlines()) for path in (bench / "mmlu").rglob("*.csv"))
    assert any("\n" in item.question for item in items)
    assert lines > len(items)
    assert all(len(item.choices) == 4 and item.gold in range(4) for item in items)


def test_a_byte_order_mark_is_no_part_of_the_first_column(bench: Path) -> None:
    assert (bench / "TruthfulQA.csv").read_bytes().startswith(b"\xef\xbb\xbf")
    first = next(testsets.read("truthfulqa", bench / "TruthfulQA.csv"))
    assert first.extra["type"] == "Adversarial"


def test_a_byte_order_mark_before_json_is_passed_over(bench: Path, tmp_path: Path) -> None:
    for name, benchmark in (("boolq.jsonl", "boolq"), ("triviaqa_original_sample.json", "triviaqa")):
        marked = tmp_path / name
        marked.write_bytes(b"\xef\xbb\xbf" + (bench / name).read_bytes())
        assert testsets.detect(marked) == benchmark
        assert list(testsets.read(benchmark, marked)) == list(testsets.read(benchmark, bench / name))


def test_some_items_of_arc_have_three_choices(bench: Path) -> None:
    items = testsets.read("arc_challenge", bench / "arc_challenge.jsonl")
    assert Counter(len(item.choices) for item in items) == {4: 399, 3: 1}


@pytest.mark.parametrize(("labels", "key", "gold"), [("ABCDE", "E", 4), ("1234", "4", 3), ("ABC", "C", 2)])
def test_labels_of_arc_are_letters_or_digits(tmp_path: Path, labels: str, key: str, gold: int) -> None:
    choices = [{"text": f"text {label}", "label": label} for label in labels]
    record = {"id": "Mercury_1", "question": {"stem": "Why?", "choices": choices}, "answerKey": key}
    (tmp_path / "ARC-Challenge-Test.jsonl").write_text(json.dumps(record) + "\n", "utf-8")
    (item,) = testsets.read("arc_challenge", tmp_path / "ARC-Challenge-Test.jsonl")
    assert (item.gold, item.choices[gold], item.extra["labels"]) == (gold, f"text {key}", tuple(labels))


def test_questions_of_race_with_a_blank_are_filled_and_others_answered(tmp_path: Path) -> None:
    cloze, plain = testsets.read("race_high", made_testsets.write(tmp_path, "race_high"))
    assert (cloze.extra["cloze"], cloze.sentences[0]) == (True, "The museum opened at noon.")
    assert (plain.extra["cloze"], plain.sentences[1]) == (False, "What closed again? the museum")


@pytest.mark.parametrize(("benchmark", "first"), [("piqa", 0), ("siqa", 1)])
def test_labels_lie_in_a_file_of_their_own(bench: Path, benchmark: str, first: int) -> None:
    labels = [int(line) for line in (bench / f"{benchmark}-labels.lst").read_text().split()]
    items = list(testsets.read(benchmark, bench / f"{benchmark}.jsonl"))
    assert [item.gold for item in items] == [label - first for label in labels]
    assert len({item.gold for item in items}) == 2 + first


def test_items_without_their_labels_are_refused(tmp_path: Path) -> None:
    (tmp_path / "valid.jsonl").write_text(made_testsets.FILES["piqa"][1])
    with pytest.raises(InputError, match=r"has no file of labels; put valid-labels\.lst"):
        list(testsets.read("piqa", tmp_path / "valid.jsonl"))


def test_of_several_boxes_of_a_solution_the_last_is_the_answer(bench: Path) -> None:
    items: list[Item] = list(testsets.read("math", bench / "math.jsonl"))
    twice = [item for item in items if item.extra["solution"].count("\\boxed") > 1]
    assert len(twice) == 5
    for item in twice:
        assert item.extra["solution"].rpartition("\\boxed{")[2].startswith(item.answers[0])


def test_commas_between_thousands_of_gsm8k_are_no_part_of_an_answer(bench: Path) -> None:
    raw = [record["answer"].rpartition("####")[2].strip() for record in _real_lines(bench / "gsm8k.jsonl")]
    items = list(testsets.read("gsm8k", bench / "gsm8k.jsonl"))
    assert sum("," in answer for answer in raw) == 4
    assert [item.answers for item in items] == [(answer.replace(",", ""),) for answer in raw]


def test_in_rows_against_a_stereotype_the_first_sentence_is_still_the_one_that_fits_it(bench: Path) -> None:
    pairs = list(testsets.read("crows_pairs", bench / "crows_pairs_anonymized.csv"))
    assert Counter(item.extra["direction"] for item in pairs) == {"stereo": 440, "antistereo": 60}
    with (bench / "crows_pairs_anonymized.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [item.choices for item in pairs] == [(row["sent_more"], row["sent_less"]) for row in rows]
