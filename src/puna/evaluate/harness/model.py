"""A model of ours as lm-eval asks one: `lm_eval.simple_evaluate(model=HarnessModel(...), tasks=[...])`.

All requests come in one list, so that contexts which many share are read once, whatever task they are of.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from lm_eval.api.model import LM

from puna.errors import InputError
from puna.evaluate.answering import Model, answers, slots_for
from puna.evaluate.encoded import Pair, ranking
from puna.evaluate.task import Asked, Choice, Prompt, Ranking
from puna.generate import Generator
from puna.generate.engine import Engine
from puna.generate.packed import pack
from puna.generate.scoring import scores
from puna.model.bits import bits
from puna.progress import progress

TOKENS = 256  # of a text, where a task does not say how long it may be


class Told(tuple[float, bool]):
    """(nats, whether the text is the greedy one), as lm-eval has it, with the number of tokens beside."""

    tokens: int

    def __new__(cls, logprob: float, is_greedy: bool, tokens: int) -> Told:
        told = super().__new__(cls, (logprob, is_greedy))
        told.tokens = tokens
        return told


class HarnessModel(LM):  # type: ignore[misc]  # lm-eval has no types
    """slots: texts at a time; None: as many as fit (answering.py)."""

    def __init__(self, loaded: Generator, *, dtype: str = "f32", slots: int | None = None) -> None:
        super().__init__()
        self._llama = loaded.model
        self._model = Model(pack(loaded.model, dtype), loaded.tokenizer, slots)

    @property
    def tokenizer_name(self) -> str:
        return self._model.tokenizer.digest

    def loglikelihood(self, requests: Sequence[Any]) -> list[Told]:
        """Of every (context, text)."""
        model = self._model
        pairs = [_pair(model, *request.args) for request in requests]
        if not pairs:
            return []
        order = sorted(range(len(pairs)), key=lambda number: (*pairs[number].context, *pairs[number].choice))
        longest = max(len(pair.context) + len(pair.choice) for pair in pairs)
        slots = model.slots or slots_for(model.packed.config, longest)
        engine = Engine(model.packed, model.tokenizer, slots=slots, context=longest)
        found: dict[int, Told] = {}
        with progress("lm-eval", len(pairs), "texts") as bar:
            for place, one in scores(engine, ((pairs[number].context, pairs[number].choice) for number in order)):
                number = order[place]
                found[number] = Told(one.logprob, one.is_greedy, len(pairs[number].choice))
                bar.advance()
        return [found[number] for number in range(len(pairs))]

    def loglikelihood_rolling(self, requests: Sequence[Any]) -> list[float]:
        """Of every whole text, in windows as long as the context that do not overlap."""
        context = self._model.context
        texts = [self._model.tokenizer.encode(str(request.args[0])) for request in requests]
        framed = [np.array([self._model.tokenizer.bos, *ids], np.int64) for ids in texts]
        return [float(bits(self._llama, [ids], context, context).nats.sum()) * -1.0 for ids in framed]

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """Of every (context, settings)."""
        asked: dict[str, Asked] = {str(number): _prompt(*request.args) for number, request in enumerate(requests)}
        found: dict[str, str] = {}
        with progress("lm-eval", len(asked), "texts") as bar:
            for each in answers(self._model, asked, alone=False):
                found[each.key] = str(each.answer[0])
                bar.advance()
        return [found[str(number)] for number in range(len(asked))]


def _pair(model: Model, context: str, text: str) -> Pair:
    """The ids of a text behind its context. Spaces that end a context belong to the text, as they do in training."""
    bare = context.rstrip(" ")
    choice = Choice(bare, context[len(bare) :] + text)
    return ranking(model.tokenizer, Ranking((choice,)), model.context, alone=False).pairs[0]


KNOWN: dict[str, Callable[[Any], bool]] = {
    "until": lambda value: isinstance(value, str) or all(isinstance(each, str) for each in value),
    "max_gen_toks": lambda value: int(value) > 0,
    "temperature": lambda value: float(value) >= 0,
    "top_p": lambda value: 0 < float(value) <= 1,
    "do_sample": lambda value: isinstance(value, bool),
}


def _prompt(context: str, settings: Mapping[str, Any]) -> Prompt:
    """InputError for a setting that would be passed over."""
    if unknown := [name for name, value in settings.items() if name not in KNOWN or not KNOWN[name](value)]:
        what = f"a task asks for {unknown[0]} = {settings[unknown[0]]!r}"
        raise InputError(what, mend=f"it may set {', '.join(KNOWN)}")
    until = settings.get("until", ())
    stop = (until,) if isinstance(until, str) else tuple(until)
    drawn = settings.get("do_sample", "temperature" in settings)
    return Prompt(
        context,
        tuple(each for each in stop if each),
        int(settings.get("max_gen_toks", TOKENS)),
        temperature=float(settings.get("temperature", 1.0)) if drawn else 0.0,
        top_p=float(settings.get("top_p", 1.0)),
    )
