"""Section 3.4: MATH and GSM8k. What counts as the answer is taken out of the worked solution, which stays beside it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from puna.errors import InputError
from puna.storage import Place
from puna.testsets import records
from puna.testsets.items import Item
from puna.testsets.records import MEND, Record

CALCULATION = re.compile(r"<<[^<>]*>>")  # GSM8k's notes for a calculator
NUMBER = re.compile(r"-?\$?[\d,]*\.?\d+")


def math(location: Place, split: str) -> Iterator[Item]:
    """answers: what stands in the last `\\boxed`; extra: solution, level, subject. Reads JSON lines, and the release's
    one problem a file (MATH/SPLIT/SUBJECT/N.json), whose id is SUBJECT/N."""
    if location.name.endswith(".json"):
        path = PurePosixPath(location.parent.name, location.name.removesuffix(".json"))
        yield _problem(records.json_object(location), split, str(path))
        return
    for number, record in enumerate(records.json_lines(location), 1):
        yield _problem(record, split, str(record.number("idx")) if "idx" in record.values else str(number))


def gsm8k(location: Place, split: str) -> Iterator[Item]:
    """answers: the number behind `####` without its commas; extra: solution (with the notes for a calculator), plain
    (without them)."""
    for number, record in enumerate(records.json_lines(location), 1):
        solution = record.text("answer")
        worked, marks, last = solution.rpartition("####")
        last = last.strip().replace(",", "")
        if not marks or not NUMBER.fullmatch(last):
            record.refuse("answer", "a solution that ends in #### and a number")
        plain = CALCULATION.sub("", worked).strip()
        extra = {"solution": solution, "plain": plain}
        yield Item("gsm8k", split, str(number), record.text("question"), answers=(last,), extra=extra)


def boxed(solution: str) -> str | None:
    """What stands in the last `\\boxed` or `\\fbox`, braces within it kept; None when there is none that ends.

    A command without braces takes one letter or number, as in `\\boxed 2`.
    """
    for begin in reversed([match.end() for match in re.finditer(r"\\(?:boxed|fbox)(?![A-Za-z])", solution)]):
        rest = solution[begin:].lstrip()
        if not rest.startswith("{"):
            bare = re.match(r"[^\s$\\{}]+", rest)
            if bare:
                return bare[0]
            continue
        depth = 0
        for match in re.finditer(r"\\.|[{}]", rest, re.DOTALL):
            depth += {"{": 1, "}": -1}.get(match[0], 0)
            if depth == 0 and match[0] == "}":
                return rest[1 : match.start()].strip()
    return None


def _problem(record: Record, split: str, key: str) -> Item:
    solution = record.text("solution")
    answer = boxed(solution)
    if answer is None:
        raise InputError("solution has no \\boxed answer that ends", where=record.where, mend=MEND)
    extra = {"solution": solution, "level": record.text("level"), "subject": record.text("type")}
    return Item("math", split, key, record.text("problem"), answers=(answer,), extra=extra)
