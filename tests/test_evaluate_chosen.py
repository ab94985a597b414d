"""Which items a task asks, which stand before them as examples, and what is said where files lack."""

from __future__ import annotations

import dataclasses
import gzip
from pathlib import Path

import pytest

import made_testsets
from puna.errors import InputError
from puna.evaluate import chosen, run
from puna.evaluate.task import Ranking
from puna.evaluate.tasks import PACK

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_limit_is_a_sample_that_a_larger_one_holds(bench: Path) -> None:
    items = chosen.read("mmlu", bench)
    sizes = [len(chosen.questions(PACK["mmlu"], items, 0, limit)) for limit in (20, 50, None)]
    assert sizes == [20, 50, 459]
    few, more = (set(chosen.questions(PACK["mmlu"], items, 0, limit)) for limit in (20, 50))
    assert few < more
    subjects = {items.asked[key].extra["subject"] for key in more}
    assert len(subjects) > 20


def test_a_file_that_lies_there_twice_is_asked_once(bench: Path, tmp_path: Path) -> None:
    lines = (bench / "boolq.jsonl").read_bytes().splitlines(keepends=True)[:6]
    (tmp_path / "dev.jsonl").write_bytes(b"".join(lines[:4]))
    (tmp_path / "dev.jsonl.gz").write_bytes(gzip.compress(b"".join(lines[:4])))
    assert list(chosen.read("boolq", tmp_path).asked) == ["1", "2", "3", "4"]
    (tmp_path / "more.jsonl").write_bytes(b"".join(lines[4:]))
    assert list(chosen.read("boolq", tmp_path).asked) == ["1", "2", "3", "4", "more.jsonl:1", "more.jsonl:2"]


def test_examples_of_a_subject_are_its_own_in_the_releases_order(bench: Path) -> None:
    items = chosen.read("mmlu", bench)
    questions = chosen.questions(PACK["mmlu"], items, 5, None)
    for item, asked in questions.values():
        assert isinstance(asked, Ranking)
        own = [other for other in items.others if other.extra["subject"] == item.extra["subject"]]
        shown = PACK["mmlu"].shown(own, item)
        assert len(own) == 5
        assert all(choice.context.startswith(shown) for choice in asked.choices)


@pytest.mark.parametrize("name", ["naturalquestions", "triviaqa", "gsm8k", "mbpp", "winogrande"])
def test_more_examples_begin_with_fewer_and_none_is_asked(bench: Path, name: str) -> None:
    task = PACK[name]
    items = chosen.read(task.benchmark, bench)
    pools = chosen._pools(task, items.others)
    (pool,) = pools.values()
    assert len(pool) >= max(task.shots)
    assert not {item.question for item in pool[: max(task.shots)]} & {item.question for item in items.asked.values()}
    if name == "mbpp":
        assert [item.id for item in pool[:3]] == ["2", "3", "4"]
    reversed_ = chosen._pools(task, items.others[::-1])
    assert not task.drawn or list(reversed_.values()) == [pool]


def test_what_is_missing_says_what_to_get_and_where(tmp_path: Path) -> None:
    made_testsets.write(tmp_path, "boolq")
    with pytest.raises(
        InputError,
        match=r"holds no validation items of PIQA; puna fetch --benchmarks piqa, or put valid\.jsonl and .*yonatanbisk",
    ):
        chosen.read("piqa", tmp_path)
    items = chosen.read("boolq", tmp_path)
    with pytest.raises(
        InputError, match=r"holds too few examples of BoolQ; put train\.jsonl of https.* or give --shots 0"
    ):
        chosen.questions(PACK["boolq"], items, 2, None)
    made_testsets.write(tmp_path / "subjects", "mmlu")
    subjects = chosen.read("mmlu", tmp_path / "subjects")
    (item,) = subjects.asked.values()
    of_one = [dataclasses.replace(item, id=f"example {number}", split="dev") for number in range(5)]
    whole = dataclasses.replace(subjects, others=tuple(of_one))
    with pytest.raises(InputError, match=r"holds too few examples of MMLU \(5\); give --shots 5 with --tasks$"):
        chosen.questions(PACK["mmlu"], whole, 6, None)
    part = dataclasses.replace(subjects, others=tuple(of_one[:2]))
    with pytest.raises(
        InputError, match=r"MMLU \(2\); put dev/\*_dev\.csv of .* there, or give --shots 2 with --tasks$"
    ):
        chosen.questions(PACK["mmlu"], part, 6, None)
    both = [run.Wanted(PACK["boolq"], 0), run.Wanted(PACK["boolq"], 2)]
    said: list[str] = []
    assert [one.wanted.shots for one in run.plan(both, tmp_path, left_out=said.append)] == [0]
    assert [line[:29] for line in said] == ["boolq, 2-shot is left out: ho"]
    with pytest.raises(InputError, match="too few examples of BoolQ"):
        run.plan(both[1:], tmp_path, left_out=said.append)
    (tmp_path / "truth").mkdir()
    made_testsets.write(tmp_path / "truth", "truthfulqa")  # the list of answers, not mc_task.json
    with pytest.raises(InputError, match=r"put mc_task\.json"):
        chosen.questions(PACK["truthfulqa"], chosen.read("truthfulqa", tmp_path / "truth"), 0, None)
