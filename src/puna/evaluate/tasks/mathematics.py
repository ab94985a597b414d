"""Section 3.4, Table 7: MATH with four examples and GSM8k with eight, greedy and by majority of k samples."""

from __future__ import annotations

from collections.abc import Callable

from puna.evaluate import worked
from puna.evaluate.task import Answer, Asked, Norm, Prompt, Task
from puna.testsets import Item

MATH_TOKENS, GSM8K_TOKENS = 512, 256
MINERVA = "In the set-up of Minerva, whose examples these tasks do not ship: "
DRAWN = "the examples are drawn from the training file by seed, the same for every item."


def math(samples: int) -> Callable[[Item, str], Prompt]:
    def asked(item: Item, shown: str) -> Prompt:
        return _prompt(f"{shown}Problem:\n{item.question}\n\nSolution:", ("Problem:",), MATH_TOKENS, samples)

    return asked


def math_example(item: Item) -> str:
    return f"Problem:\n{item.question}\n\nSolution: {item.extra['solution']}\nThe answer is ${item.answers[0]}$."


def gsm8k(samples: int) -> Callable[[Item, str], Prompt]:
    def asked(item: Item, shown: str) -> Prompt:
        return _prompt(f"{shown}Question: {item.question}\nAnswer:", ("Question:",), GSM8K_TOKENS, samples)

    return asked


def gsm8k_example(item: Item) -> str:
    return f"Question: {item.question}\nAnswer: {item.extra['plain']}\nThe answer is {item.answers[0]}."


def math_right(item: Item, asked: Asked, answer: Answer, norm: Norm) -> dict[str, float]:
    """Whether the answer that most samples have is the right one; of one sample, its own."""
    found = worked.majority([worked.of_math(str(text)) for text in answer], worked.same)
    return {"accuracy": float(found is not None and worked.same(found, worked.plain(item.answers[0])))}


def gsm8k_right(item: Item, asked: Asked, answer: Answer, norm: Norm) -> dict[str, float]:
    """As `math_right`."""
    found = worked.majority([worked.of_gsm8k(str(text)) for text in answer])
    return {"accuracy": float(found == worked.number(item.answers[0]))}


def _prompt(text: str, stop: tuple[str, ...], tokens: int, samples: int) -> Prompt:
    chance = (0.0, 1.0) if samples == 1 else (0.6, 0.95)
    return Prompt(text, stop, tokens, samples, *chance)


def _math(name: str, samples: int, paper: str) -> Task:
    return Task(
        name, 2, "math", "MATH" if samples == 1 else f"MATH maj1@{samples}", paper,
        f"{MINERVA}`Problem:\\nPROBLEM\\n\\nSolution:`, at most {MATH_TOKENS} tokens; {DRAWN} Answers are compared as "
        "text in one form and as rational numbers; no algebra is done.",
        math(samples), math_right, (4,), example=math_example, samples=samples,
    )  # fmt: skip


def _gsm8k(name: str, samples: int, paper: str) -> Task:
    return Task(
        name, 2, "gsm8k", "GSM8k" if samples == 1 else f"GSM8k maj1@{samples}", paper,
        f"{MINERVA}`Question: QUESTION\\nAnswer:`, at most {GSM8K_TOKENS} tokens; {DRAWN} Their solutions are without "
        "the notes for a calculator. The number behind the last `answer is` or `####` counts, of a calculation there "
        "its result, else the last number.",
        gsm8k(samples), gsm8k_right, (8,), example=gsm8k_example, samples=samples,
    )  # fmt: skip


TASKS = (
    _math("math", 1, "As Minerva: four examples, greedy."),
    _math("math_maj", 256, "Majority of k = 256 samples, temperature 0.6, top-p 0.95."),
    _gsm8k("gsm8k", 1, "As Minerva: eight examples with their reasoning, greedy."),
    _gsm8k("gsm8k_maj", 100, "Majority of k = 100 samples, temperature 0.6, top-p 0.95."),
)
