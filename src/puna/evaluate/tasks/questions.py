"""Sections 3.2 and 3.3, Tables 4 to 6: NaturalQuestions, TriviaQA, RACE middle and high."""

from __future__ import annotations

from puna.evaluate.exact import cut, exact
from puna.evaluate.ranking import accuracy
from puna.evaluate.task import NORMS, Answer, Asked, Norm, Prompt, Ranking, Task
from puna.evaluate.tasks.commonsense import answered, ranked
from puna.testsets import Item

HEAD = "Answer these questions:\n"
LONGEST = 32  # tokens of an answer
CLOSED = (
    "Exact match with 0, 1, 5 and 64 examples behind `Answer these questions:`; greedy, cut at the first line break, "
    "final dot or comma; lower case, no articles, punctuation, repeated spaces; right if equal to any listed answer."
)
OURS = (
    "`Q: QUESTION\\nA:`, at most 32 tokens. The examples are drawn from the training file by seed, the same for every "
    "item; which were the paper's is not published."
)


def asked(item: Item, shown: str) -> Prompt:
    return Prompt(f"{shown}Q: {item.question}\nA:", ("\n", ","), LONGEST)


def example(item: Item) -> str:
    return f"Q: {item.question}\nA: {item.answers[0]}"


def exact_match(item: Item, asked: Asked, answer: Answer, norm: Norm) -> dict[str, float]:
    return {"exact match": float(exact(cut(str(answer[0])), item.answers))}


def article(item: Item) -> str:
    return f"Article:\n{item.context}\n\nQuestion: {item.question}\nAnswer:"


def race(item: Item, shown: str) -> Ranking:
    return ranked(article)(item, shown)


def _race(level: str) -> Task:
    return Task(
        f"race_{level}", 1, f"race_{level}", f"RACE-{level}",
        "Zero-shot, as GPT-3 did it. GPT-3 ranked by likelihood over tokens, and for RACE by "
        "P(choice | context) / P(choice | \"Answer:\"); which of them was taken is not said.",
        "`Article:\\nARTICLE\\n\\nQuestion: QUESTION\\nAnswer:` and each option, blanks left as they stand.",
        race, accuracy, norm="answer", norms=NORMS, example=answered(article),
    )  # fmt: skip


TASKS = (
    Task(
        "naturalquestions", 1, "naturalquestions", "NaturalQuestions", CLOSED,
        f"{OURS} The open test split, 3,610 questions.",
        asked, exact_match, (0, 1, 5, 64), metric="exact match", example=example, head=lambda item: HEAD, joint="\n",
    ),
    Task(
        "triviaqa", 1, "triviaqa", "TriviaQA", CLOSED,
        f"{OURS} The questions are those of the file that is there, 7,993 in wikipedia-dev.json; the paper took the "
        "filtered development set, and does not say which file.",
        asked, exact_match, (0, 1, 5, 64), metric="exact match", example=example, head=lambda item: HEAD, joint="\n",
    ),
    _race("middle"),
    _race("high"),
)  # fmt: skip
