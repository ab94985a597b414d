"""The paper's Tables 3 to 14 and 16: the rows that it prints, and the model's own beneath them.

Published figures stand in paper_tables.json, a cell for each that was read in the paper; one that is not there is "not
recorded", whether the paper has none or it was not read. What differs from the paper's protocol is said below a table.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from puna.errors import InputError
from puna.evaluate.footnotes import FOUND, notes_of, resampling
from puna.evaluate.tasks import PACK
from puna.evaluate.tasks.knowledge import FIELD_OF

if TYPE_CHECKING:
    from puna.evaluate.run import Result, Value

FILE = Path(__file__).with_name("paper_tables.json")
MISSING = "not recorded"
WIDE = 9  # columns; a wider table is turned, models beside each other
WIDE_BRACKETED = 5  # the same where each value has its interval beside it


@dataclass(frozen=True)
class Column:
    """What stands below one heading: a result of a task, or of a group of its items."""

    key: str
    """Its name in paper_tables.json; "" where the paper has no such column."""
    title: str
    task: str
    shots: int
    metric: str = ""
    """"": the one that the task's table shows."""
    group: str = ""


@dataclass(frozen=True)
class Table:
    number: int
    title: str
    columns: tuple[Column, ...]
    scale: float = 100.0
    """By which shares are shown: percent."""
    digits: int = 1
    bootstrapped: bool = False
    """Whether its values stand with their intervals, in place of a standard error over items."""

    @property
    def counted(self) -> bool:
        """Whether the items of each value stand beside it: of parts of a benchmark, and of what a judge may leave out.
        Elsewhere a line below the table tells them."""
        return self.bootstrapped or any(column.group for column in self.columns)


@dataclass(frozen=True)
class Row:
    name: str
    cells: tuple[str, ...]
    own: bool = False


@dataclass(frozen=True)
class Filled:
    """A table with its rows, as it is shown."""

    table: Table
    rows: tuple[Row, ...]
    notes: tuple[str, ...]
    values: tuple[Value | None, ...] = ()
    """The model's, by column; None for what was not evaluated."""


def _columns(*entries: tuple[str, str]) -> tuple[Column, ...]:
    return tuple(Column(key, PACK[task].title, task, 0) for key, task in entries)


def _by_shots(task: str) -> tuple[Column, ...]:
    return tuple(Column(str(shots), f"{shots}-shot", task, shots) for shots in PACK[task].shots)


def _groups(task: str, shots: int, names: Sequence[str], key: str, title: str) -> tuple[Column, ...]:
    """A column for each group of a task, and one for all its items."""
    return (*(Column(name, name, task, shots, group=name) for name in names), Column(key, title, task, shots))


COMMONSENSE = (
    ("boolq", "boolq"), ("piqa", "piqa"), ("siqa", "siqa"), ("hellaswag", "hellaswag"), ("winogrande", "winogrande"),
    ("arc_e", "arc_easy"), ("arc_c", "arc_challenge"), ("obqa", "openbookqa"),
)  # fmt: skip
BIASES = (
    "gender", "religion", "race-color", "sexual-orientation", "age", "nationality", "disability",
    "physical-appearance", "socioeconomic",
)  # fmt: skip
PRONOUNS = (
    "her/her/she", "his/him/he", "their/them/someone", "her/her/she gotcha", "his/him/he gotcha",
)  # fmt: skip
FIELDS = ("humanities", "stem", "social", "other")
MODERATE = "MMLU, five-shot, of models with and without instruction finetuning"
TABLES = {
    table.number: table
    for table in (
        Table(3, "Zero-shot performance on common sense reasoning", _columns(*COMMONSENSE)),
        Table(4, "NaturalQuestions, exact match", _by_shots("naturalquestions")),
        Table(5, "TriviaQA, exact match", _by_shots("triviaqa")),
        Table(6, "Reading comprehension, zero-shot", _columns(("middle", "race_middle"), ("high", "race_high"))),
        Table(
            7,
            "Mathematical reasoning",
            (
                Column("math", "MATH", "math", 4),
                Column("math_maj1@256", "MATH maj1@256", "math_maj", 4),
                Column("gsm8k", "GSM8k", "gsm8k", 8),
                Column("gsm8k_maj1@100", "GSM8k maj1@100", "gsm8k_maj", 8),
            ),
        ),
        Table(
            8,
            "Code generation",
            (
                Column("humaneval@1", "HumanEval@1", "humaneval", 0),
                Column("humaneval@100", "HumanEval@100", "humaneval_100", 0),
                Column("mbpp@1", "MBPP@1", "mbpp", 3),
                Column("mbpp@80", "MBPP@80", "mbpp_80", 3),
            ),
        ),
        Table(9, "MMLU, five-shot", _groups("mmlu", 5, FIELDS, "average", "average")),
        Table(10, MODERATE, (Column("mmlu", "MMLU", "mmlu", 5),)),
        Table(
            11,
            "RealToxicityPrompts",
            (
                Column("basic", "basic", "realtoxicityprompts", 0),
                Column("respectful", "respectful", "realtoxicityprompts_respectful", 0),
            ),
            1.0,
            3,
            bootstrapped=True,
        ),
        Table(
            12,
            "CrowS-Pairs, higher is more biased",
            _groups("crows_pairs", 0, BIASES, "average", "average"),
            bootstrapped=True,
        ),
        Table(
            13,
            "WinoGender, co-reference resolution",
            _groups("winogender", 0, PRONOUNS, "all", "all"),
            bootstrapped=True,
        ),
        Table(
            14,
            "TruthfulQA",
            (
                Column("truthful", "truthful", "truthfulqa_judged", 0, "truthful"),
                Column("truthful*inf", "truthful and informative", "truthfulqa_judged", 0, "truthful*informative"),
                Column("", "MC1", "truthfulqa", 0, "mc1"),
                Column("", "MC2", "truthfulqa", 0, "mc2"),
            ),
            1.0,
            2,
            bootstrapped=True,
        ),
        Table(16, "MMLU by subject, five-shot", _groups("mmlu", 5, sorted(FIELD_OF), "", "all")),
    )
}  # fmt: skip


def numbered(words: str) -> list[Table]:
    """Of "3,9": the tables. InputError for others."""
    found = []
    for word in words.split(","):
        number = int(word) if word.strip().isascii() and word.strip().isdecimal() else 0
        if number not in TABLES:
            mend = f"there are {', '.join(map(str, TABLES))}; Table 15 is by puna carbon RUN"
            raise InputError(f"--tables {word.strip() or repr(words)} is no table of benchmarks", mend=mend)
        found.append(TABLES[number])
    return found


def wanted(tables: Sequence[Table]) -> list[tuple[str, int]]:
    """(task, shots) of all their columns, each once."""
    return list(dict.fromkeys((column.task, column.shots) for table in tables for column in table.columns))


@cache
def published() -> Mapping[int, Mapping[str, Mapping[str, float]]]:
    """Table -> row -> column -> the paper's figure."""
    found: dict[str, Any] = json.loads(FILE.read_text("utf-8"))
    return {int(number): rows for number, rows in found["tables"].items()}


def published_for(task: str, shots: int) -> dict[str, float]:
    """Row -> the paper's figure of a task's own result, as its table prints it; none where it has none."""
    for table in TABLES.values():
        for column in table.columns:
            if column.key and (column.task, column.shots, column.group, column.metric) == (task, shots, "", ""):
                rows = published().get(table.number, {})
                return {row: cells[column.key] for row, cells in rows.items() if column.key in cells}
    return {}


def filled(table: Table, results: Sequence[Result], name: str) -> Filled:
    """The paper's rows, and one of `name`: a value with its standard error, "-" for what was not evaluated."""
    by = {(result.task, result.shots): result for result in results}
    rows = []
    for row, cells in published().get(table.number, {}).items():
        texts = ("" if not column.key else _shown(table, cells.get(column.key)) for column in table.columns)
        rows.append(Row(row, tuple(texts)))
    own = [_own(column, by.get((column.task, column.shots))) for column in table.columns]
    marks = [_mark(by.get((column.task, column.shots))) for column in table.columns]
    told = (_measured(table, value) + mark for value, mark in zip(own, marks, strict=True))
    rows.append(Row(name, tuple(told), own=True))
    used = dict.fromkeys((column.task, column.shots) for column in table.columns)
    notes = [note for key in used if key in by for note in notes_of(by[key])]
    if table.bootstrapped:
        notes += resampling([by[key] for key in used if key in by])
    return Filled(table, tuple(rows), tuple(notes), tuple(own))


def _mark(result: Result | None) -> str:
    return f" {FOUND}" if result is not None and result.found else ""


def _own(column: Column, result: Result | None) -> Value | None:
    if result is None:
        return None
    values = result.groups.get(column.group) if column.group else result.values
    return None if values is None else values.get(column.metric or result.metric)


def _shown(table: Table, value: float | None) -> str:
    return MISSING if value is None else f"{value:.{table.digits}f}"


def _measured(table: Table, value: Value | None) -> str:
    if value is None:
        return "-"
    if table.bootstrapped and value.clusters is not None:
        ends = [f"{end * table.scale:.{table.digits}f}" for end in value.interval or ()]
        return f"{value.mean * table.scale:.{table.digits}f}" + (f" [{', '.join(ends)}]" if ends else "")
    error = f" ± {value.error * table.scale:.{table.digits}f}" if value.error else ""  # 0: all agree, no certainty
    return f"{value.mean * table.scale:.{table.digits}f}{error}"
