"""Free answers compared word for word: the cut and the exact match of NaturalQuestions and TriviaQA (section 3.2)."""

from __future__ import annotations

import re
import string
from collections.abc import Iterable

ARTICLES = re.compile(r"\b(a|an|the)\b")
PUNCTUATION = str.maketrans("", "", string.punctuation + "‘’“”´`–—")


def cut(made: str) -> str:
    """An answer out of generated text: up to the first line break, without what follows a comma, nor a final dot.

    Dots within it stay ("St. Louis", "3.5").
    """
    line = made.lstrip(" ").split("\n", 1)[0]
    return line.split(",", 1)[0].strip().removesuffix(".").strip()


def normalised(answer: str) -> str:
    """In lower case, without punctuation, articles and repeated white space."""
    plain = answer.lower().translate(PUNCTUATION)
    return " ".join(ARTICLES.sub(" ", plain).split())


def exact(answer: str, right: Iterable[str]) -> bool:
    """Whether an answer is one of those listed, both normalised."""
    found = normalised(answer)
    return any(found == normalised(each) for each in right)
