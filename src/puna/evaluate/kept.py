"""Answers that are kept as they come, so that who is killed asks only what was not answered yet.

A file for each task and number of examples: a head that says of which model they are, then a line for each item with
the digest of what was asked. An answer counts as long as the same is asked, whatever files, limits and norms were given
then; scores are made of answers at the end, so that another metric or norm costs no second reading.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import astuple
from typing import Any

from puna import storage
from puna.errors import InputError
from puna.evaluate.task import Answer, Asked, Prompt, Ranking, Score, digest
from puna.formats import ANSWERS
from puna.lines import Appender
from puna.storage import Place


class Kept:
    """The answers in one file. model: a digest of all that an answer depends on but the question."""

    def __init__(self, location: Place, model: str) -> None:
        """InputError when the file holds another model's answers or is damaged."""
        self.location = location
        self._lines: dict[str, dict[str, Any]] = {}
        self._file = Appender(location)
        try:
            self._read(model)
        except BaseException:
            self._file.close()
            raise

    def answer(self, key: str, asked: Asked, *, alone: bool) -> Answer | None:
        """What was answered; None when this was not asked, or not all of it is there. alone: with scores behind
        "Answer:"."""
        line = self._lines.get(key)
        name, count = ("texts", asked.samples) if isinstance(asked, Prompt) else ("scores", len(asked.choices))
        if line is None or line["asked"] != digest(asked) or len(line.get(name, ())) != count:
            return None
        if isinstance(asked, Prompt):
            return tuple(str(text) for text in line["texts"])
        scores = tuple(Score(*each) for each in line["scores"])
        return None if alone and any(score.alone is None for score in scores) else scores

    def was_cut(self, key: str) -> bool:
        """Whether what was asked did not fit the model's context."""
        return bool(self._lines[key]["cut"])

    def was_greedy(self, key: str) -> bool | None:
        """Whether a choice is what the model says by itself; None where that was not asked."""
        return self._lines[key].get("greedy")

    def add(self, key: str, asked: Asked, answer: Answer, *, cut: bool, greedy: bool | None = None) -> None:
        values = [astuple(each) if isinstance(each, Score) else each for each in answer]
        name = "scores" if isinstance(asked, Ranking) else "texts"
        line = {"item": key, "asked": digest(asked), "cut": cut, name: values}
        line |= {} if greedy is None else {"greedy": greedy}
        self._file.line(json.dumps(line, ensure_ascii=False))
        self._lines[key] = line

    def close(self) -> None:
        """All answers are on the disk then."""
        self._file.sync()
        self._file.close()

    def _read(self, model: str) -> None:
        head: Mapping[str, Any] | None = None
        with storage.open_read(self.location) as file:
            for number, data in enumerate(file, 1):
                line = self._line(data, number)
                if "item" in line and head is not None:
                    self._lines[str(line["item"])] = line
                    continue
                head = line  # a second one is of a process that began the file at the same time
                ANSWERS.refuse_newer(head.get("format"), self.location)
                if head.get("model") != model:
                    mend = "give another --out, or remove that file"
                    raise InputError("holds answers of another model", where=str(self.location), mend=mend)
        if head is None:
            self._file.line(json.dumps({"format": ANSWERS.version, "model": model}))

    def _line(self, data: bytes, number: int) -> dict[str, Any]:
        try:
            line = json.loads(data)
        except (ValueError, RecursionError):
            line = None
        answered = isinstance(line, dict) and _sound(line)
        if not isinstance(line, dict) or not (answered or ("format" in line and "item" not in line)):
            where = f"{self.location}:{number}"
            raise InputError("is no answer", where=where, mend="remove that line, and its item is asked again")
        return line


def _sound(line: Mapping[str, Any]) -> bool:
    """Whether a line has the form of an answer."""
    if not isinstance(line.get("item"), str) or not isinstance(line.get("asked"), str) or "cut" not in line:
        return False
    if not isinstance(line.get("greedy"), bool | None):
        return False
    if "texts" in line:
        return isinstance(line["texts"], list) and all(isinstance(text, str) for text in line["texts"])
    scores = line.get("scores")
    return isinstance(scores, list) and all(isinstance(each, list) and _scored(each) for each in scores)


def _scored(values: list[Any]) -> bool:
    number = int | float
    return (
        len(values) == 3
        and isinstance(values[0], number)
        and not math.isnan(values[0])
        and isinstance(values[1], int)
        and isinstance(values[2], number | None)
    )
