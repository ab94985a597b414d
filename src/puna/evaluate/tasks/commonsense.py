"""Section 3.1, Table 3: BoolQ, PIQA, SIQA, HellaSwag, WinoGrande, ARC easy and challenge, OpenBookQA, all zero-shot.

With examples (`--shots`), each is the context with the right choice behind it.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from puna.evaluate.ranking import accuracy, plain_accuracy
from puna.evaluate.task import NORMS, Choice, Ranking, Task
from puna.testsets import Item

TITLE = re.compile(r"\.? \[title\]")
MARKS = re.compile(r"\[[^\[\]]*\]")  # [header], [step]: what WikiHow's layout left in HellaSwag
CHARACTERS = "Zero-shot; choices ranked by likelihood over characters. The text of the prompt is not published."
ANSWERED = 'Zero-shot; choices ranked by P(choice | context) / P(choice | "Answer:"). '


def boolq(item: Item) -> str:
    return f"{item.context}\nQuestion: {item.question}?\nAnswer:"


def siqa(item: Item) -> str:
    return f"{item.context}\nQuestion: {item.question}\nAnswer:"


def question(item: Item) -> str:
    return f"Question: {item.question}\nAnswer:"


def hellaswag(item: Item) -> str:
    return f"{item.extra['activity']}: {without_marks(item.question)}"


def without_marks(text: str) -> str:
    """`text` with [title] as a full stop, and without other marks in brackets and doubled spaces."""
    plain = MARKS.sub("", TITLE.sub(". ", text.strip()))
    return re.sub(" {2,}", " ", plain).strip()


def ranked(context: Callable[[Item], str], clean: Callable[[str], str] = str) -> Callable[[Item, str], Ranking]:
    """Asks for each choice behind the context, a space between."""

    def ask(item: Item, shown: str) -> Ranking:
        return Ranking(tuple(Choice(shown + context(item), f" {clean(choice)}") for choice in item.choices))

    return ask


def answered(context: Callable[[Item], str], clean: Callable[[str], str] = str) -> Callable[[Item], str]:
    """The context with the right choice behind it."""

    def example(item: Item) -> str:
        assert item.gold is not None
        return f"{context(item)} {clean(item.choices[item.gold])}"

    return example


def filled(item: Item, shown: str) -> Ranking:
    """WinoGrande: what follows the blank is scored, behind the sentence as far as each option in it."""
    before, after = item.question.split("_")
    return Ranking(tuple(Choice(f"{shown}{before}{option}", after) for option in item.choices))


def whole(item: Item) -> str:
    assert item.gold is not None
    return item.question.replace("_", item.choices[item.gold])


TASKS = (
    Task(
        "boolq", 1, "boolq", "BoolQ", ANSWERED + "The text of the prompt is not published.",
        "`PASSAGE\\nQuestion: QUESTION?\\nAnswer:` and ` no` or ` yes`.",
        ranked(boolq), accuracy, norm="answer", norms=NORMS, example=answered(boolq),
    ),
    Task(
        "piqa", 1, "piqa", "PIQA", CHARACTERS, "`Question: GOAL\\nAnswer:` and each solution.",
        ranked(question), accuracy, norm="char", norms=NORMS, example=answered(question),
    ),
    Task(
        "siqa", 1, "siqa", "SIQA", CHARACTERS, "`SITUATION\\nQuestion: QUESTION\\nAnswer:` and each answer.",
        ranked(siqa), accuracy, norm="char", norms=NORMS, example=answered(siqa),
    ),
    Task(
        "hellaswag", 1, "hellaswag", "HellaSwag", CHARACTERS,
        "`ACTIVITY: BEGINNING` and each ending; [title] becomes a full stop, other marks in brackets go.",
        ranked(hellaswag, without_marks), accuracy, norm="char", norms=NORMS,
        example=answered(hellaswag, without_marks),
    ),
    Task(
        "winogrande", 1, "winogrande", "WinoGrande", CHARACTERS,
        "What follows the blank is scored behind the sentence with each option in it. Both have one text, so that no "
        "normalisation by its length changes anything.",
        filled, plain_accuracy, example=whole,
    ),
    Task(
        "arc_easy", 1, "arc_easy", "ARC-e", CHARACTERS, "`Question: QUESTION\\nAnswer:` and each answer.",
        ranked(question), accuracy, norm="char", norms=NORMS, example=answered(question),
    ),
    Task(
        "arc_challenge", 1, "arc_challenge", "ARC-c", CHARACTERS, "`Question: QUESTION\\nAnswer:` and each answer.",
        ranked(question), accuracy, norm="char", norms=NORMS, example=answered(question),
    ),
    Task(
        "openbookqa", 1, "openbookqa", "OBQA", ANSWERED + "The text of the prompt is not published.",
        "`Question: QUESTION\\nAnswer:` and each answer; the book's facts are not shown.",
        ranked(question), accuracy, norm="answer", norms=NORMS, example=answered(question),
    ),
)  # fmt: skip
