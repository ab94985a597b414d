"""Sections 3.2 and 3.3: NaturalQuestions (the open split), TriviaQA, RACE middle and high."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

from puna.storage import Place
from puna.testsets import records
from puna.testsets.items import BLANK, Item
from puna.testsets.records import Record


def naturalquestions(location: Place, split: str) -> Iterator[Item]:
    """answers: all that count as right."""
    for number, record in enumerate(records.json_lines(location), 1):
        yield Item(
            "naturalquestions", split, str(number), record.text("question"), answers=record.texts("answer", least=1)
        )


def triviaqa(location: Place, split: str) -> Iterator[Item]:
    """answers: the value first, then its aliases without repeats; extra: value; normalized (the release's own forms of
    the aliases), domain (Web or Wikipedia: the file's own). Reads the flat layout (context, answer, aliases) as well.
    Files of hundreds of megabytes are read question by question."""
    if not location.name.removesuffix(".gz").endswith(".json"):
        for number, record in enumerate(records.json_lines(location), 1):
            question = record.text("context").removeprefix("Question: ").removesuffix("\nAnswer:")
            value = record.text("answer")
            answers = _distinct(value, record.texts("aliases", least=0))
            yield Item("triviaqa", split, str(number), question, answers=answers, extra={"value": value})
        return
    for record in records.json_list(location, "Data"):
        answer = record.part("Answer") if split != "test" or "Answer" in record.values else None
        answers, extra = (), {}
        if answer:
            value = answer.text("Value")
            answers = _distinct(value, answer.texts("Aliases", least=0))
            normalized = answer.texts("NormalizedAliases", least=0) if "NormalizedAliases" in answer.values else ()
            extra = {"value": value, "normalized": normalized}
        yield Item("triviaqa", split, record.text("QuestionId"), record.text("Question"), answers=answers, extra=extra)


def race_middle(location: Place, split: str) -> Iterator[Item]:
    """One article a file; an item for each of its questions, id `middle1.txt/0`; extra: cloze (the question has a
    blank). Files are RACE/SPLIT/middle/*.txt."""
    return _race("race_middle", location, split)


def race_high(location: Place, split: str) -> Iterator[Item]:
    """As race_middle."""
    return _race("race_high", location, split)


def _race(name: str, location: Place, split: str) -> Iterator[Item]:
    record = records.json_object(location)
    article = record.text("article")
    questions, answers = record.texts("questions"), record.texts("answers")
    options = record.values.get("options")
    if not isinstance(options, list) or not len(options) == len(questions) == len(answers):
        record.refuse("options", "as many lists as there are questions and answers")
    key = str(record.values.get("id") or PurePosixPath(location.name).name)
    for index, (question, answer, choices) in enumerate(zip(questions, answers, options, strict=True)):
        one = Record({"options": choices, "answer": answer, "question": question}, f"{record.where}, question {index}")
        found = one.texts("options", least=2)
        gold = one.one_of("answer", "ABCDEFGH"[: len(found)])
        cloze = bool(BLANK.search(question))
        yield Item(name, split, f"{key}/{index}", one.text("question"), article, found, gold, extra={"cloze": cloze})


def _distinct(value: str, aliases: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((value, *aliases)))
