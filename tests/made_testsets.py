"""Made items of every benchmark in the layout of its release."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

SCORES = {"toxicity": 0.25, "threat": None}
LETTERED = {
    "id": "Mercury_1",
    "question": {"stem": "Why?", "choices": [{"text": "so", "label": "1"}, {"text": "else", "label": "2"}]},
    "answerKey": "2",
}
ARTICLE = {
    "article": "The museum opened. It closed again.",
    "questions": ["The museum _ at noon.", "What closed again?"],
    "options": [["opened", "closed"], ["the shop", "the museum", "the road", "none"]],
    "answers": ["A", "B"],
    "id": "middle12.txt",
}
TRIVIA = {
    "Data": [
        {
            "Answer": {"Value": "Tea", "Aliases": ["Tea", "Cuppa"], "NormalizedAliases": ["tea", "cuppa"]},
            "Question": f"Which drink number {number}?",
            "QuestionId": f"tc_{number}",
        }
        for number in range(3)
    ],
    "Domain": "Web",
}
TRUE = {"question": "Is it?", "mc1_targets": {"No.": 0, "Yes.": 1}, "mc2_targets": {"No.": 0, "Yes.": 1, "It is.": 1}}


def _lines(*values: Mapping[str, Any]) -> str:
    return "".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values)


def _csv(*rows: list[str]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue()


FILES = {  # benchmark -> release file, text
    "boolq": ("dev.jsonl", _lines({"question": "is it", "passage": "It\x85is.", "answer": True, "title": "It"})),
    "piqa": ("valid.jsonl", _lines({"goal": "Boil it.", "sol1": "Heat.", "sol2": "Cool."})),
    "siqa": (
        "siqa/dev.jsonl",
        _lines({"context": "Kai ran.", "question": "Why?", "answerA": "a", "answerB": "b", "answerC": "c"}),
    ),
    "hellaswag": (
        "hellaswag_val.jsonl",
        _lines(
            {
                **{"ind": 4, "activity_label": "Rowing", "ctx_a": "A man rows.", "ctx_b": "he", "split": "val"},
                **{"ctx": "A man rows. he", "endings": ["stops.", "sings."], "label": 1, "split_type": "indomain"},
                "source_id": "activitynet~v_1",
            }
        ),
    ),
    "winogrande": (
        "wino/dev.jsonl",
        _lines(
            {"qID": "Q-1", "sentence": "Jo thanked Al as _ helped.", "option1": "Jo", "option2": "Al", "answer": "2"}
        ),
    ),
    "arc_easy": ("ARC-Easy-Test.jsonl", _lines(LETTERED)),
    "arc_challenge": ("ARC-Challenge-Test.jsonl", _lines(LETTERED)),
    "openbookqa": ("obqa/test.jsonl", _lines({**LETTERED, "id": "7-12", "fact1": "It is so."})),
    "naturalquestions": ("NQ-open.dev.jsonl", _lines({"question": "who was it", "answer": ["Jo", "Al"]})),
    "triviaqa": ("web-dev.json", json.dumps(TRIVIA)),
    "race_middle": ("RACE/test/middle/12.txt", json.dumps(ARTICLE)),
    "race_high": ("RACE/test/high/12.txt", json.dumps({**ARTICLE, "id": "high12.txt"})),
    "math": (
        "MATH/test/algebra/7.json",
        json.dumps({"problem": "1+1?", "level": "Level 1", "type": "Algebra", "solution": "So $\\boxed{2}$."}),
    ),
    "gsm8k": ("gsm/test.jsonl", _lines({"question": "How many?", "answer": "He has <<600*2=1200>>1,200.\n#### 1,200"})),
    "humaneval": (
        "HumanEval.jsonl",
        _lines(
            {
                **{"task_id": "HumanEval/0", "prompt": "def one():\n", "canonical_solution": "    return 1\n"},
                **{"test": "def check(one):\n    assert one() == 1\n", "entry_point": "one"},
            }
        ),
    ),
    "mbpp": (
        "mbpp.jsonl",
        _lines(
            *(
                {"task_id": number, "text": "Write two.", "code": "def two():\r\n    return 2"}
                | {"test_list": ["assert two() == 2"], "test_setup_code": "two = 2", "challenge_test_list": []}
                for number in (10, 11, 510, 511, 600, 601)
            )
        ),
    ),
    "mmlu": ("mmlu/test/world_history_test.csv", _csv(["Two\nlines,\n\nand more", "w", "x", "y", "z", "C"])),
    "realtoxicityprompts": (
        "prompts.jsonl",
        _lines(
            {
                **{"filename": "1.txt", "begin": 3, "end": 9, "challenging": False},
                **{"prompt": {"text": "It was", **SCORES}, "continuation": {"text": " late.", **SCORES}},
            }
        ),
    ),
    "crows_pairs": (
        "crows_pairs_anonymized.csv",
        _csv(
            ["", "sent_more", "sent_less", "stereo_antistereo", "bias_type", "annotations"],
            ["0", "They are old.", "They are young.", "antistereo", "age", "[]"],
        ),
    ),
    "winogender": (
        "templates.tsv",
        "occupation(0)\tother-participant(1)\tanswer\tsentence\n"
        "nurse\tpatient\t0\tThe $PARTICIPANT asked the $OCCUPATION if $NOM_PRONOUN was free.\n",
    ),
    "truthfulqa": (
        "TruthfulQA.csv",
        "\ufeff"
        + _csv(
            ["Type", "Category", "Question", "Best Answer", "Correct Answers", "Incorrect Answers", "Source"],
            ["Adversarial", "Law", "Is it?", "It is", "It is; Yes", "It is not; ; No", "https://example.org"],
        ),
    ),
}
BESIDE = {
    "valid-labels.lst": "1\n",
    "siqa/dev-labels.lst": "3\n\n",
    "occupations-stats.tsv": "occupation\tbergsma_pct_female\tbls_pct_female\tbls_year\nnurse\t88.3\t89.5\t2015\n",
}


def write(folder: Path, benchmark: str) -> Path:
    """Write the file of one benchmark, and what lies beside it in the release; return its path."""
    name, text = FILES[benchmark]
    for file, content in {**BESIDE, name: text}.items():
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode())
    return folder / name
