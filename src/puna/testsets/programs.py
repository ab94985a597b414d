"""Section 3.5: HumanEval and MBPP."""

from __future__ import annotations

from collections.abc import Iterator

from puna.storage import Place
from puna.testsets import records
from puna.testsets.items import Item


def humaneval(location: Place, split: str) -> Iterator[Item]:
    """question: the head of a program with its docstring; extra: solution, test (defines `check`), entry_point."""
    for record in records.json_lines(location):
        extra = {
            "solution": record.text("canonical_solution"),
            "test": record.text("test"),
            "entry_point": record.text("entry_point"),
        }
        yield Item("humaneval", split or "test", record.text("task_id"), record.text("prompt"), extra=extra)


def mbpp(location: Place, split: str) -> Iterator[Item]:
    """question: the description; extra: solution, setup (code that stands between a program and its tests, mostly
    none), tests, challenges (harder tests). The split follows from the id, as the authors cut it: 1 to 10 prompt,
    11 to 510 test, 511 to 600 validation, the rest train."""
    for record in records.json_lines(location):
        number = record.number("task_id")
        extra = {
            "solution": record.text("code"),
            "setup": record.text("test_setup_code", empty=True),
            "tests": record.texts("test_list"),
            "challenges": record.texts("challenge_test_list", least=0),
        }
        yield Item("mbpp", _split(number), str(number), record.text("text"), extra=extra)


def _split(number: int) -> str:
    borders = ((10, "prompt"), (510, "test"), (600, "validation"))
    return next((name for last, name in borders if number <= last), "train")
