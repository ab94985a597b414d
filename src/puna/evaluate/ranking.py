"""Which of several texts a model finds likeliest: the four normalisations, and the metrics that stand on them.

The paper ranks by log-probability over characters, as EleutherAI's harness does, and for OpenBookQA and BoolQ by
P(choice | context) / P(choice | "Answer:"), as GPT-3 did.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from puna.evaluate.task import Answer, Asked, Choice, Norm, Ranking, Score
from puna.testsets import Item


def value(choice: Choice, score: Score, norm: Norm) -> float:
    """What a choice is ranked by; the larger the better."""
    if norm == "char":
        return score.logprob / max(1, len(choice.text.strip()))
    if norm == "token":
        return score.logprob / max(1, score.tokens)
    if norm == "answer":
        assert score.alone is not None
        return score.logprob - score.alone
    return score.logprob


def best(choices: Sequence[Choice], scores: Sequence[Score], norm: Norm) -> int:
    """The index of the likeliest choice, of equals the first."""
    values = [value(choice, score, norm) for choice, score in zip(choices, scores, strict=True)]
    return max(range(len(values)), key=lambda index: values[index])


def accuracy(item: Item, asked: Asked, answer: Answer, norm: Norm) -> dict[str, float]:
    """1 where the right choice is the likeliest. By every norm whose scores stand, too, as `accuracy/NORM`."""
    choices, scores = both(asked, answer)
    found = {
        f"accuracy/{each}": float(best(choices, scores, each) == item.gold)
        for each in ("char", "token", "none", "answer")
        if each != "answer" or scores[0].alone is not None
    }
    return {"accuracy": found[f"accuracy/{norm}"], **found}


def plain_accuracy(item: Item, asked: Asked, answer: Answer, norm: Norm) -> dict[str, float]:
    """1 where the right choice is the likeliest by the task's norm, the only one that says anything."""
    return {"accuracy": float(best(*both(asked, answer), norm) == item.gold)}


def share_of_truth(true: Sequence[bool], scores: Sequence[Score]) -> float:
    """MC2 of TruthfulQA: the probability of true answers over that of all."""
    top = max(score.logprob for score in scores)
    weights = [math.exp(score.logprob - top) for score in scores]
    return math.fsum(weight for weight, is_true in zip(weights, true, strict=True) if is_true) / math.fsum(weights)


def both(asked: Asked, answer: Answer) -> tuple[tuple[Choice, ...], tuple[Score, ...]]:
    """Choices with their scores, of a ranking."""
    assert isinstance(asked, Ranking)
    return asked.choices, tuple(score for score in answer if isinstance(score, Score))
