"""Section 3.1: BoolQ, PIQA, SIQA, HellaSwag, WinoGrande, ARC easy and challenge, OpenBookQA.

Each reader takes one file and the split that its name tells, and yields items.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from puna import storage
from puna.errors import InputError
from puna.storage import Place
from puna.testsets import records
from puna.testsets.items import Item
from puna.testsets.records import Record

LABELS = ("A", "B", "C", "D", "E", "F", "G", "H", "1", "2", "3", "4", "5", "6", "7", "8")


def boolq(location: Place, split: str) -> Iterator[Item]:
    """choices: no, yes; extra: title (of the Wikipedia article that the passage is from)."""
    for number, record in enumerate(records.json_lines(location), 1):
        gold = int(record.truth("answer")) if split != "test" or "answer" in record.values else None
        yield Item(
            "boolq",
            split,
            str(number),
            record.text("question"),
            record.text("passage"),
            ("no", "yes"),
            gold,
            extra={"title": record.text("title", empty=True)},
        )


def piqa(location: Place, split: str) -> Iterator[Item]:
    """Labels 0 and 1 stand in NAME-labels.lst beside NAME.jsonl."""
    for number, record, gold in _labelled(location, split, ("0", "1")):
        choices = (record.text("sol1", empty=True), record.text("sol2", empty=True))
        yield Item("piqa", split, str(number), record.text("goal"), choices=choices, gold=gold)


def siqa(location: Place, split: str) -> Iterator[Item]:
    """Labels 1 to 3 stand in NAME-labels.lst beside NAME.jsonl."""
    for number, record, gold in _labelled(location, split, ("1", "2", "3")):
        choices = tuple(record.text(f"answer{letter}", empty=True) for letter in "ABC")
        yield Item("siqa", split, str(number), record.text("question"), record.text("context"), choices, gold)


def hellaswag(location: Place, split: str) -> Iterator[Item]:
    """question: the beginning whose ending is sought; extra: activity, ctx_a and ctx_b (its two parts), source (an
    ActivityNet or WikiHow id), domain (indomain or zeroshot)."""
    for record in records.json_lines(location):
        own = {"val": "validation"}.get(record.text("split"), record.text("split"))
        endings = record.texts("endings", least=2)
        hidden = own == "test" and record.values.get("label") in (None, "")
        gold = None if hidden else record.one_of("label", [str(index) for index in range(len(endings))])
        extra = {
            "activity": record.text("activity_label"),
            "ctx_a": record.text("ctx_a", empty=True),
            "ctx_b": record.text("ctx_b", empty=True),
            "source": record.text("source_id", empty=True),
            "domain": record.text("split_type", empty=True),
        }
        yield Item("hellaswag", own, str(record.number("ind")), record.text("ctx"), "", endings, gold, extra=extra)


def winogrande(location: Place, split: str) -> Iterator[Item]:
    """question: a sentence with one blank, `_`. The hidden answers of the test split are empty."""
    for record in records.json_lines(location):
        sentence = record.text("sentence")
        if sentence.count("_") != 1:
            record.refuse("sentence", "a sentence with one _")
        hidden = split == "test" and record.values.get("answer", "") == ""
        gold = None if hidden else record.one_of("answer", ("1", "2"))
        choices = (record.text("option1"), record.text("option2"))
        yield Item("winogrande", split, record.text("qID"), sentence, choices=choices, gold=gold)


def arc_easy(location: Place, split: str) -> Iterator[Item]:
    """extra: labels (as released, A to E or 1 to 4). Reads the flat layout (query, choices, gold) as well."""
    return _arc("arc_easy", location, split)


def arc_challenge(location: Place, split: str) -> Iterator[Item]:
    """As arc_easy."""
    return _arc("arc_challenge", location, split)


def openbookqa(location: Place, split: str) -> Iterator[Item]:
    """extra: labels; fact, where the file is one of the release's Additional ones."""
    for record in records.json_lines(location):
        fact = {"fact": record.text("fact1")} if "fact1" in record.values else {}
        yield _lettered("openbookqa", record, split, fact)


def _arc(name: str, location: Place, split: str) -> Iterator[Item]:
    for number, record in enumerate(records.json_lines(location), 1):
        if "query" in record.values:
            choices = record.texts("choices", least=2)
            gold = record.number("gold")
            if not 0 <= gold < len(choices):
                record.refuse("gold", f"a number below {len(choices)}")
            yield Item(name, split, str(number), _asked(record.text("query")), "", choices, gold)
        else:
            yield _lettered(name, record, split, {})


def _asked(query: str) -> str:
    """The question of a flat layout's prompt."""
    return re.sub(r"\AQuestion: |\s*\nAnswer:\Z", "", query)


def _lettered(name: str, record: Record, split: str, extra: dict[str, str]) -> Item:
    question = record.part("question")
    options = question.parts("choices")
    labels = [LABELS[option.one_of("label", LABELS)] for option in options]
    if len(set(labels)) != len(labels) or len(labels) < 2:
        question.refuse("choices", "two or more choices with different labels")
    gold = record.one_of("answerKey", labels)
    choices = tuple(option.text("text", empty=True) for option in options)
    return Item(
        name,
        split,
        record.text("id"),
        question.text("stem"),
        "",
        choices,
        gold,
        extra={"labels": tuple(labels)} | extra,
    )


def _labelled(location: Place, split: str, among: tuple[str, ...]) -> Iterator[tuple[int, Record, int | None]]:
    """Records with their labels, which a second file holds line by line; the test splits have none."""
    beside = location.parent / (re.sub(r"\.jsonl?(\.gz)?$", "", location.name) + "-labels.lst")
    golds: list[int] | None = None
    if storage.is_file(beside):
        golds = records.labels(beside, among)
    elif split != "test":
        mend = f"put {beside.name} of the release beside it"
        raise InputError("has no file of labels", where=str(location), mend=mend)
    number = 0
    for number, record in enumerate(records.json_lines(location), 1):
        if golds is not None and number > len(golds):
            raise InputError(f"has only {len(golds)} labels", where=str(beside), mend=f"take that of {location.name}")
        yield number, record, golds[number - 1] if golds is not None else None
    if golds is not None and number != len(golds):
        what = f"has {len(golds)} labels for {number} items"
        raise InputError(what, where=str(beside), mend=f"take that of {location.name}")
