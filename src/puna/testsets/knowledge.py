"""Sections 3.6 and 5.4: MMLU and TruthfulQA."""

from __future__ import annotations

import re
from collections.abc import Iterator

from puna.errors import InputError
from puna.storage import Place
from puna.testsets import records
from puna.testsets.items import Item
from puna.testsets.records import MEND, Record

SUBJECT = re.compile(r"(.+)_(dev|val|test)\.csv$")
LETTERS = "ABCD"


def mmlu(location: Place, split: str) -> Iterator[Item]:
    """id: SUBJECT/N; extra: subject. Files are SUBJECT_SPLIT.csv without a head, the answer as a letter or from 0 to 3.
    The examples of a prompt are those of the split dev."""
    match = SUBJECT.search(location.name)
    if not match:
        mend = "name it as the release does, such as anatomy_test.csv"
        raise InputError("its name tells no subject", where=str(location), mend=mend)
    subject, split = match[1], {"val": "validation"}.get(match[2], match[2])
    names = ("question", *LETTERS, "answer")
    for number, record in enumerate(records.table(location, names=names), 1):
        gold = record.one_of("answer", "0123" if record.values["answer"].isdigit() else LETTERS)
        choices = tuple(record.text(letter, empty=True) for letter in LETTERS)
        extra = {"subject": subject}
        yield Item("mmlu", split, f"{subject}/{number}", record.text("question"), "", choices, gold, extra=extra)


def truthfulqa(location: Place, split: str) -> Iterator[Item]:
    """Of TruthfulQA.csv: answers are those that are true; extra: best, incorrect, type, category, source.
    Of mc_task.json: choices and gold are mc1's (one is true); extra: mc2, pairs of (answer, whether it is true)."""
    if location.name.endswith(".csv"):
        for number, record in enumerate(records.table(location), 1):
            extra = {
                "best": record.text("Best Answer"),
                "incorrect": _listed(record, "Incorrect Answers"),
                "type": record.text("Type"),
                "category": record.text("Category"),
                "source": record.text("Source", empty=True),
            }
            yield Item(
                "truthfulqa",
                split or "validation",
                str(number),
                record.text("Question"),
                answers=_listed(record, "Correct Answers"),
                extra=extra,
            )
        return
    value = records.json_file(location)
    if not isinstance(value, list):
        raise InputError("is not a list of questions", where=str(location), mend=MEND)
    for number, found in enumerate(value, 1):
        record = Record({"item": found}, f"{location}, question {number}").part("item")
        one, many = _judged(record, "mc1_targets"), _judged(record, "mc2_targets")
        if sum(true for _, true in one) != 1:
            record.refuse("mc1_targets", "answers of which one is true")
        choices = tuple(answer for answer, _ in one)
        gold = [true for _, true in one].index(True)
        question = record.text("question")
        yield Item("truthfulqa", split or "validation", str(number), question, "", choices, gold, extra={"mc2": many})


def _listed(record: Record, key: str) -> tuple[str, ...]:
    return tuple(part for each in record.text(key).split(";") if (part := each.strip()))


def _judged(record: Record, key: str) -> tuple[tuple[str, bool], ...]:
    part = record.part(key)
    return tuple(
        (Record({"answer": answer}, part.where).text("answer"), bool(part.one_of(answer, "01")))
        for answer in part.values
    )
