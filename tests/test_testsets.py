"""Benchmark files: every item of every release layout, real and made, and one line for whatever is none."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import made_testsets
from puna import testsets
from puna.errors import InputError
from puna.testsets import BENCHMARKS, Item, records
from puna.testsets.mathematics import boxed

REAL = {  # items in each file of the samples
    "TruthfulQA.csv": 400, "arc_challenge.jsonl": 400, "arc_easy_mosaic.jsonl": 400, "boolq.jsonl": 400,
    "crows_pairs_anonymized.csv": 500, "gsm8k.jsonl": 400, "gsm8k_fewshot_train.jsonl": 64, "hellaswag.jsonl": 400,
    "humaneval.jsonl": 82, "math.jsonl": 350, "mbpp.jsonl": 250, "mbpp_fewshot_prompt_split.jsonl": 10,
    "nq_open.jsonl": 400, "nq_open_fewshot.jsonl": 128, "openbookqa.jsonl": 250, "piqa.jsonl": 400,
    "realtoxicityprompts.jsonl": 400, "siqa.jsonl": 400, "triviaqa_mosaic.jsonl": 400,
    "triviaqa_mosaic_fewshot.jsonl": 128, "triviaqa_original_sample.json": 1, "truthfulqa_mc_task.json": 400,
    "winogender_all_sentences.tsv": 360, "winogrande.jsonl": 401, "winogrande_train_xs.jsonl": 64,
}  # fmt: skip
# Of the 57 files of test items of MMLU, those that have not eight.
MMLU = {"elementary_mathematics_test.csv": 9, "high_school_chemistry_test.csv": 10}


def _read(folder: Path, benchmark: str) -> list[Item]:
    return list(testsets.read(benchmark, made_testsets.write(folder, benchmark)))


def test_every_real_file_is_told_and_every_item_of_it_read(bench: Path, proved: Callable[[str], None]) -> None:
    found = testsets.find(bench)
    counts: Counter[str] = Counter()
    for benchmark, path in found.files:
        items = list(testsets.read_file(benchmark, path))
        assert {item.benchmark for item in items} == {benchmark}
        assert len({item.id for item in items}) == len(items)
        assert all(any(True for _ in BENCHMARKS[benchmark].texts(item)) for item in items)
        choosing = [item for item in items if item.choices and benchmark != "crows_pairs"]
        assert all(item.gold is not None and item.gold < len(item.choices) for item in choosing)
        counts[path.name] += len(items)
    mmlu = {name: counts.pop(name) for name in [*counts] if name.endswith(("_dev.csv", "_test.csv"))}
    assert dict(counts) == REAL
    assert Counter(size for name, size in mmlu.items() if name.endswith("_dev.csv")) == {5: 57}
    tests = {name: size for name, size in mmlu.items() if name.endswith("_test.csv")}
    assert {name: size for name, size in tests.items() if size != 8} == MMLU
    assert len(tests) == 57
    counts.update(mmlu)
    assert not found.unknown
    assert {name for name, _ in found.files} == BENCHMARKS.keys() - {"race_middle", "race_high"}
    proved(f"benchmark items read: {sum(counts.values()):,} of {len(found.files)} real files")


def test_sentences_of_winogender_are_its_templates_written_out(bench: Path) -> None:
    sentences, templates = (
        {item.id: item for item in testsets.read("winogender", bench / f"winogender_{name}.tsv")}
        for name in ("all_sentences", "templates")
    )
    assert sentences == templates
    assert all(item.extra["percent_female"] is not None for item in sentences.values())
    assert len(list(testsets.read("winogender", bench))) == len(sentences)


@pytest.mark.parametrize("benchmark", BENCHMARKS)
def test_each_release_layout_is_told_and_read(tmp_path: Path, benchmark: str) -> None:
    path = made_testsets.write(tmp_path, benchmark)
    assert testsets.detect(path) == benchmark
    items = list(testsets.read(benchmark, path))
    assert items == list(testsets.read(benchmark, tmp_path))
    assert {item.split for item in items} <= {BENCHMARKS[benchmark].split, "prompt", "validation", "train"}
    packed = path.with_name(path.name + ".gz")
    if path.suffix in (".jsonl", ".json") and benchmark not in ("piqa", "siqa", "math"):
        packed.write_bytes(gzip.compress(path.read_bytes()))
        assert list(testsets.read(benchmark, packed)) == items


def test_fields_are_those_of_the_release(tmp_path: Path) -> None:
    (boolq,) = _read(tmp_path / "a", "boolq")
    assert (boolq.context, boolq.choices, boolq.gold, boolq.split) == ("It\x85is.", ("no", "yes"), 1, "validation")
    (piqa,) = _read(tmp_path / "b", "piqa")
    assert (piqa.gold, piqa.sentences) == (1, ("Boil it. Heat.", "Boil it. Cool."))
    (siqa,) = _read(tmp_path / "c", "siqa")
    assert (siqa.gold, siqa.choices) == (2, ("a", "b", "c"))
    (winogrande,) = _read(tmp_path / "d", "winogrande")
    assert winogrande.sentences == ("Jo thanked Al as Jo helped.", "Jo thanked Al as Al helped.")
    (arc,) = _read(tmp_path / "e", "arc_easy")
    assert (arc.gold, arc.extra["labels"]) == (1, ("1", "2"))
    (openbookqa,) = _read(tmp_path / "f", "openbookqa")
    assert openbookqa.extra["fact"] == "It is so."
    (questions,) = _read(tmp_path / "g", "naturalquestions")
    assert (questions.split, questions.answers) == ("test", ("Jo", "Al"))
    assert [item.id for item in _read(tmp_path / "h", "triviaqa")] == ["tc_0", "tc_1", "tc_2"]
    cloze, plain = _read(tmp_path / "i", "race_middle")
    assert (cloze.extra["cloze"], cloze.sentences[0]) == (True, "The museum opened at noon.")
    assert (plain.extra["cloze"], plain.gold, plain.sentences[1]) == (False, 1, "What closed again? the museum")
    (math,) = _read(tmp_path / "j", "math")
    assert (math.id, math.split, math.answers) == ("algebra/7", "test", ("2",))
    (gsm8k,) = _read(tmp_path / "k", "gsm8k")
    assert (gsm8k.answers, gsm8k.extra["plain"]) == (("1200",), "He has 1,200.")
    mbpp = _read(tmp_path / "l", "mbpp")
    assert [item.split for item in mbpp] == ["prompt", "test", "test", "validation", "validation", "train"]
    assert mbpp[0].extra["setup"] == "two = 2"
    (mmlu,) = _read(tmp_path / "m", "mmlu")
    assert (mmlu.gold, mmlu.extra["subject"], mmlu.question) == (2, "world_history", "Two\nlines,\n\nand more")
    winogender = _read(tmp_path / "n", "winogender")
    assert winogender[2].question == "The patient asked the nurse if they were free."
    assert winogender[3].question == "Someone asked the nurse if he was free."
    assert winogender[3].extra == {"gender": "male", "pronoun": "he", "percent_female": 89.5}
    (truth,) = _read(tmp_path / "o", "truthfulqa")
    assert (truth.answers, truth.extra["incorrect"]) == (("It is", "Yes"), ("It is not", "No"))
    (tmp_path / "mc_task.json").write_text(json.dumps([made_testsets.TRUE]))
    (chosen,) = testsets.read("truthfulqa", tmp_path / "mc_task.json")
    assert (chosen.choices, chosen.gold, len(chosen.extra["mc2"])) == (("No.", "Yes."), 1, 3)


@pytest.mark.parametrize(
    ("solution", "answer"),
    [
        (r"\boxed{1} or rather \boxed{\frac{1}{\sqrt{2}}}.", r"\frac{1}{\sqrt{2}}"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"so $\boxed 7$", "7"),
        (r"\fbox{C} is right", "C"),
        (r"\boxed{2} and \boxed{3", "2"),
        (r"no \boxedness at all", None),
        ("none", None),
    ],
)
def test_the_last_box_that_ends_is_the_answer(solution: str, answer: str | None) -> None:
    assert boxed(solution) == answer


@pytest.mark.promise("errors")
def test_what_is_wrong_with_a_file_is_one_line(tmp_path: Path) -> None:
    def told(benchmark: str, name: str, text: str, match: str) -> None:
        (tmp_path / name).write_text(text)
        with pytest.raises(InputError, match=match) as caught:
            list(testsets.read(benchmark, tmp_path / name))
        assert "\n" not in str(caught.value)

    told("boolq", "a.jsonl", "\n", "a.jsonl: is empty; take the file as it was released")
    told("boolq", "aa.jsonl", '{"a": 1}', "no benchmark's file that is known")
    told("boolq", "b.jsonl", made_testsets.FILES["piqa"][1], "is a file of piqa, not of boolq; name it piqa")
    told("piqa", "c.jsonl", made_testsets.FILES["piqa"][1], "has no file of labels; put c-labels.lst")
    (tmp_path / "d-labels.lst").write_text("1\n0\n")
    told("piqa", "d.jsonl", made_testsets.FILES["piqa"][1], "has 2 labels for 1 items")
    (tmp_path / "e-labels.lst").write_text("7\n")
    told("piqa", "e.jsonl", made_testsets.FILES["piqa"][1], "e-labels.lst:1: label is '7', not one of 0, 1")
    bad = made_testsets.FILES["boolq"][1]
    told("boolq", "f.jsonl", bad + bad.replace("true", '"true"'), "f.jsonl:2: answer is 'true', not true or false")
    told("boolq", "g.jsonl", bad + bad.replace('"It', '"\\ud800'), "g.jsonl:2: .*not valid Unicode")
    told("boolq", "h.jsonl", bad + bad[:30], "h.jsonl:2: is cut short or not valid JSON")
    told("boolq", "i.jsonl", bad + "[" * 100_000, "i.jsonl:2: is nested too deep|cut short")
    told("gsm8k", "j.jsonl", '{"question": "q", "answer": "five"}', "ends in #### and a number")
    told("math", "k.json", '{"problem": "p", "level": "1", "type": "A", "solution": "s"}', "no .boxed answer")
    told("mmlu", "l_test.csv", "q,a,b,c,d\n", r"l_test\.csv:1: has 5 cells, not 6")
    told("mmlu", "m_test.csv", 'q,a,b,c,"d,A\n', "cannot be read as a table")
    told("nonsense", "n.jsonl", bad, "nonsense is no benchmark")
    told("mmlu", "o_test.csv", "", "is empty")
    with pytest.raises(InputError, match="no such file"):
        testsets.find(tmp_path / "none")


@given(data=st.data(), benchmark=st.sampled_from(sorted(BENCHMARKS)), blocks=st.integers(1, 50))
@settings(max_examples=120, deadline=None)
def test_cut_and_garbled_files_are_read_or_refused_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, benchmark: str, blocks: int
) -> None:
    path = made_testsets.write(tmp_path_factory.mktemp("garbled"), benchmark)
    whole = path.read_bytes()
    cut = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(cut, len(whole)))
    path.write_bytes(whole[:cut] + data.draw(st.binary(max_size=8)) + whole[end:])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(records, "BLOCK", blocks)
        with suppress(InputError):  # always one line
            for item in testsets.read(benchmark, path):
                assert all(text.text.encode() for text in BENCHMARKS[benchmark].texts(item))


@pytest.mark.promise("twins")
@given(st.lists(st.dictionaries(st.text(max_size=3), st.text(max_size=30) | st.none(), max_size=3)), st.integers(1, 80))
@settings(max_examples=40, deadline=None)
def test_a_long_list_is_read_in_blocks_as_it_is_read_whole(
    tmp_path_factory: pytest.TempPathFactory, values: list[dict[str, str | None]], block: int
) -> None:
    path = tmp_path_factory.mktemp("list") / "long.json"
    path.write_text(json.dumps({"Data": values, "Domain": "Web"}, indent=block % 3))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(records, "BLOCK", block + 30)
        assert [record.values for record in records.json_list(path, "Data")] == values
