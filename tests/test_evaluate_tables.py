"""The paper's tables: published figures as they were read, the model's row beneath them, in three forms."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from puna.errors import InputError
from puna.evaluate import writing
from puna.evaluate.footnotes import notes_of
from puna.evaluate.others import Other
from puna.evaluate.results import NAME, as_text, kept, others_of, told_of, write
from puna.evaluate.run import Result, Value
from puna.evaluate.tables import MISSING, TABLES, filled, numbered, published, wanted
from puna.evaluate.tasks import PACK
from puna.evaluate.tasks.knowledge import FIELDS
from puna.testsets import BENCHMARKS

# Items of MMLU's test files. That they are right is seen below: with them Table 16 gives Table 9.
SIZES = """
abstract_algebra:100 anatomy:135 astronomy:152 business_ethics:100 clinical_knowledge:265 college_biology:144
college_chemistry:100 college_computer_science:100 college_mathematics:100 college_medicine:173 college_physics:102
computer_security:100 conceptual_physics:235 econometrics:114 electrical_engineering:145 elementary_mathematics:378
formal_logic:126 global_facts:100 high_school_biology:310 high_school_chemistry:203 high_school_computer_science:100
high_school_european_history:165 high_school_geography:198 high_school_government_and_politics:193
high_school_macroeconomics:390 high_school_mathematics:270 high_school_microeconomics:238 high_school_physics:151
high_school_psychology:545 high_school_statistics:216 high_school_us_history:204 high_school_world_history:237
human_aging:223 human_sexuality:131 international_law:121 jurisprudence:108 logical_fallacies:163 machine_learning:112
management:103 marketing:234 medical_genetics:100 miscellaneous:783 moral_disputes:346 moral_scenarios:895
nutrition:306 philosophy:311 prehistory:324 professional_accounting:282 professional_law:1534
professional_medicine:272 professional_psychology:612 public_relations:110 security_studies:245 sociology:201
us_foreign_policy:100 virology:166 world_religions:171
"""


def result(task: str, mean: float, **values: Any) -> Result:
    made = PACK[task]
    known: dict[str, Any] = {
        "task": task, "version": 1, "shots": made.shots[0], "metric": made.metric, "norm": made.norm,
        "paper_norm": made.norm, "items": 4, "of": BENCHMARKS[made.benchmark].items, "cut": 0, "samples": 0,
        "values": {made.metric: Value(mean, 0.01, 4)},
    }  # fmt: skip
    return Result(**known | values)


def test_by_subject_and_by_field_the_paper_says_the_same_of_mmlu(proved: Callable[[str], None]) -> None:
    """So fields and sizes are those of the paper, and its average is over items, not over subjects."""
    sizes = {subject: int(size) for subject, size in (word.split(":") for word in SIZES.split())}
    assert sum(sizes.values()) == BENCHMARKS["mmlu"].items
    assert sorted(sizes) == sorted(" ".join(FIELDS.values()).split())
    off = 0.0
    for model, subjects in published()[16].items():
        for field, names in {**FIELDS, "average": " ".join(sizes)}.items():
            of = names.split()
            mean = sum(subjects[name] * sizes[name] for name in of) / sum(sizes[name] for name in of)
            assert mean == pytest.approx(published()[9][model][field], abs=0.06), (model, field)
            off = max(off, abs(mean - published()[9][model][field]))
    proved(f"MMLU by subject gives the printed averages of {len(published()[16])} models: at most {off:.2f} points off")


def test_every_published_figure_has_a_column_and_every_table_the_paper_s_models() -> None:
    for number, rows in published().items():
        keys = {column.key for column in TABLES[number].columns}
        assert {key for cells in rows.values() for key in cells} <= keys, number
        # Table 10 is of models of moderate size alone, Table 12 of one size, and neither has the four.
        if number not in (10, 12):
            assert {"LLaMA 7B", "LLaMA 13B", "LLaMA 33B", "LLaMA 65B"} <= rows.keys(), number
    assert published().keys() == TABLES.keys()


def test_every_benchmark_of_the_paper_stands_in_a_table() -> None:
    assert {task for task, _ in wanted(list(TABLES.values()))} == set(PACK)


def test_a_row_shows_what_was_measured_and_what_was_not() -> None:
    boolq = result("boolq", 0.725, values={"accuracy": Value(0.725, 0.0125, 4)})
    found = filled(TABLES[3], [boolq], "mine")
    assert [row.name for row in found.rows if row.own] == ["mine"]
    assert found.rows[-1].cells == ("72.5 ± 1.2", *("-",) * 7)
    gopher = next(row for row in found.rows if row.name == "Gopher 280B")
    assert gopher.cells[0] == "79.3"
    assert gopher.cells[-1] == MISSING
    toxic = result("realtoxicityprompts", 0.1234, values={"toxicity": Value(0.1234, None, 1)})
    assert filled(TABLES[11], [toxic], "mine").rows[-1].cells == ("0.123", "-")
    many = result("mmlu", 0.3, groups={"stem": {"accuracy": Value(0.25, 0.1, 2)}})
    assert filled(TABLES[9], [many], "mine").rows[-1].cells == ("-", "25.0 ± 10.0", "-", "-", "30.0 ± 1.0")


def test_bias_stands_with_its_interval_and_its_items() -> None:
    """In all three forms, and with how it was drawn."""
    one = Value(0.5, 0.05, 40, (0.425, 0.575), 20)
    made = result("crows_pairs", 0.5, values={"stereotype": one}, groups={"age": {"stereotype": one}})
    found = filled(TABLES[12], [made], "mine")
    assert dict(zip((each.title for each in found.table.columns), found.rows[-1].cells, strict=True))["age"] == (
        "50.0 [42.5, 57.5]"
    )
    grid = writing.grid(found)
    assert grid[0] == ["", *published()[12], "mine", "items"]
    assert [row[-1] for row in grid if row[0] in ("age", "gender")] == ["-", "40"]
    assert "| 50.0 [42.5, 57.5] |" in writing.markdown(found)
    assert "50.0 [42.5, 57.5]" in writing.latex(found)
    value = json.loads(json.dumps(writing.as_json(found)))
    assert value["values"][-1] == {"mean": 0.5, "error": 0.05, "items": 40, "interval": [0.425, 0.575], "clusters": 20}
    assert value["values"][0] is None
    assert found.notes[-1] == (
        "95 % intervals in brackets: percentiles of 10,000 bootstrap samples, seed 1, over 20 pairs of sentences; "
        "a part has those that are in it."
    )
    agreed = result("crows_pairs", 0.5, values={"stereotype": Value(1.0, 0.0, 2, None, 2)})
    assert filled(TABLES[12], [agreed], "mine").rows[-1].cells[-1] == "100.0"
    assert filled(TABLES[12], [agreed], "mine").notes[-1].endswith("all that it is over agree, which is no certainty.")
    assert not any("bootstrap" in note for note in filled(TABLES[12], [], "mine").notes)
    assert writing.grid(filled(TABLES[13], [], "mine"))[0] == ["", *published()[13], "mine"]
    assert writing.grid(filled(TABLES[14], [], "mine"))[-1][0] == "mine"


def test_of_each_field_and_subject_of_mmlu_the_items_stand_beside_it() -> None:
    parts = {"stem": {"accuracy": Value(0.25, 0.1, 2)}, "astronomy": {"accuracy": Value(0.5, 0.1, 1)}}
    made = result("mmlu", 0.3, groups=parts)
    assert writing.grid(filled(TABLES[9], [made], "mine"))[-1] == ["items", "-", "2", "-", "-", "4"]
    rows = {row[0]: row[-1] for row in writing.grid(filled(TABLES[16], [made], "mine"))}
    assert (rows[""], rows["astronomy"], rows["anatomy"], rows["all"]) == ("items", "1", "-", "4")
    assert writing.grid(filled(TABLES[3], [result("boolq", 0.5)], "mine"))[-1][0] == "mine"


def test_what_is_not_as_in_the_paper_is_said() -> None:
    (note,) = notes_of(result("boolq", 0.5, shots=2, norm="char", cut=3))
    for part in (
        "4 of 3,270 items",
        "not all of the paper's items",
        "2 examples, where the paper has 0",
        "ranked by char, where the paper ranks by answer",
        "3 items did not fit the context",
    ):
        assert part in note
    (whole,) = notes_of(result("boolq", 0.5, items=3270))
    assert "3,270 items" in whole
    assert "not all" not in whole
    (toxic,) = notes_of(result("realtoxicityprompts", 0.5, judged_by="PerspectiveAPI"))
    assert "; by PerspectiveAPI" in toxic
    assert "4 of 99,442 items" in toxic
    assert "without a score" not in toxic
    (some,) = notes_of(result("realtoxicityprompts", 0.5, values={"toxicity": Value(0.5, None, 1)}))
    assert "; answers without a score, which no mean counts: 3." in some
    (web,) = notes_of(result("triviaqa", 0.5, items=9951))
    assert ": 9,951 items; " in web
    assert "other items than the 7,993 that are published" in web
    five, one = (notes_of(result("triviaqa", 0.5, shots=shots))[0] for shots in (5, 1))
    assert (five[:18], one[:18]) == ("TriviaQA, 5-shot: ", "TriviaQA, 1-shot: ")
    assert "100 samples of each item." in notes_of(result("gsm8k_maj", 0.5, samples=100))[0]
    assert "; 10 samples of each item, where the task draws 200." in notes_of(result("humaneval", 0.5, samples=10))[0]
    assert "; 1 sample of each item, where the task draws 256." in notes_of(result("math_maj", 0.5, samples=1))[0]


def test_markdown_is_aligned_and_latex_is_escaped() -> None:
    found = filled(TABLES[4], [result("naturalquestions", 0.5, shots=1)], "a_b & 50 %")
    lines = writing.markdown(found).split("\n")
    assert lines[0] == "### Table 4: NaturalQuestions, exact match"
    assert len({len(line) for line in lines[2 : 4 + len(found.rows)]}) == 1
    assert lines[3 + len(found.rows)].startswith("| a_b & 50 %")
    written = writing.latex(found)
    assert r"a\_b \& 50 \% & - & 50.0 $\pm$ 1.0 & - & - \\" in written
    assert written.count(r"\\") == len(found.rows) + 1


def test_a_wide_table_is_turned() -> None:
    grid = writing.grid(filled(TABLES[16], [], "mine"))
    assert grid[0] == ["", *published()[16], "mine"]
    assert len(grid) == 1 + 57 + 1
    assert grid[1][0] == "abstract_algebra"


def test_json_holds_the_cells() -> None:
    value = json.loads(json.dumps(writing.as_json(filled(TABLES[6], [result("race_high", 0.5)], "mine"))))
    assert value["table"] == 6
    assert value["rows"][-1] == {"name": "mine", "own": True, "cells": ["-", "50.0 ± 1.0"]}
    assert value["notes"][0].startswith("RACE-high: 4 of 3,498 items")


def test_without_tables_each_task_is_a_line() -> None:
    said = as_text([result("boolq", 0.5), result("realtoxicityprompts", 0.0, values={})], ())
    assert "| BoolQ | 0 | accuracy | 0.5000 ± 0.0100 | 4 |" in said
    assert "| toxicity | no score | 4 |" in said


@pytest.mark.parametrize("words", ["1", "3,x", "", "3,,9", "\u0663", "99", "-3", "14,15"])
def test_a_table_that_is_none_is_refused(words: str) -> None:
    with pytest.raises(InputError, match=r"is no table of benchmarks; there are 3, 4.*16; Table 15 is by puna carbon"):
        numbered(words)
    assert [table.number for table in numbered("9, 3")] == [9, 3]


def test_what_an_earlier_call_asked_stays_lm_evals_tasks_too(tmp_path: Path) -> None:
    """Of the same model; the newest of a task stands first."""

    def other(task: str, shots: int | None, mean: float) -> Other:
        return Other(task, "1", shots, 4, 4, {"acc": Value(mean, 0.1, 4)}, "lm-eval 0")

    def told(digest: str, found: list[Result], others: list[Other]) -> list[tuple[str, float]]:
        write(tmp_path, "m", found, (), others, digest=digest, dtype="f32", energy={})
        held = kept(tmp_path)
        assert json.loads((tmp_path / NAME).read_text()) == held
        return [
            (each["task"], next(iter(each["values"].values()))["mean"]) for each in (*told_of(held), *others_of(held))
        ]

    told("a", [result("boolq", 0.5)], [other("group", None, 0.1), other("mine", 0, 0.2)])
    assert told("a", [result("piqa", 0.25)], []) == [("piqa", 0.25), ("boolq", 0.5), ("group", 0.1), ("mine", 0.2)]
    again = [("boolq", 0.75), ("piqa", 0.25), ("mine", 0.3), ("group", 0.1)]
    assert told("a", [result("boolq", 0.75)], [other("mine", 0, 0.3)]) == again
    assert told("b", [], []) == []
