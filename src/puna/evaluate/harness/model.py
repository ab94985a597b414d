"""A model of ours as lm-eval asks one: `lm_eval.simple_evaluate(model=HarnessModel(...), tasks=[...])`.

All requests come in one list, so that contexts which many share are read once, whatever task they are of.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from lm_eval.api.model import LM

from puna.errors import InputError
from puna.evaluate.answering import Model, answers
from puna.evaluate.encoded import ranking
from puna.evaluate.kept import Kept
from puna.evaluate.task import Answer, Asked, Choice, Prompt, Ranking, Score, digest
from puna.generate import Generator
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
    """slots: texts at a time; None: as many as fit (answering.py). model: `loaded`, where it is packed. kept: what
    was answered before; answers are added as they come. A request is known there by what it asks."""

    def __init__(
        self,
        loaded: Generator,
        *,
        dtype: str = "f32",
        slots: int | None = None,
        model: Model | None = None,
        kept: Kept | None = None,
    ) -> None:
        super().__init__()
        self._llama = loaded.model
        self._model = model or Model(pack(loaded.model, dtype), loaded.tokenizer, slots)
        self._kept = kept
        self.cut: set[str] = set()
        """Those requests that did not fit the context and lost their beginning."""

    @property
    def tokenizer_name(self) -> str:
        return self._model.tokenizer.digest

    def loglikelihood(self, requests: Sequence[Any]) -> list[Told]:
        """Of every (context, text)."""
        asked = {digest(each): each for each in (_ranking(*request.args) for request in requests)}
        found: dict[str, Told] = {}
        with progress("lm-eval", len(asked), "texts") as bar:
            for key, each in asked.items():
                if told := self._told(key, each):
                    found[key] = told
                    bar.advance()
            for key, told in self._scored({key: each for key, each in asked.items() if key not in found}):
                found[key] = told
                bar.advance()
        return [found[digest(_ranking(*request.args))] for request in requests]

    def loglikelihood_rolling(self, requests: Sequence[Any]) -> list[float]:
        """Of every whole text, in windows as long as the context that do not overlap."""
        context, tokenizer = self._model.context, self._model.tokenizer
        found = []
        with progress("lm-eval", len(requests), "texts") as bar:
            for request in requests:
                whole = Ranking((Choice("", str(request.args[0])),))
                key = f"whole {digest(whole)}"
                score = self._answer(key, whole)
                if score is None:
                    ids = np.array([tokenizer.bos, *tokenizer.encode(whole.choices[0].text)], np.int64)
                    score = (Score(-float(bits(self._llama, [ids], context, context).nats.sum()), len(ids) - 1),)
                    self._keep(key, whole, score, cut=False)
                found.append(score[0].logprob)  # type: ignore[union-attr]  # of a ranking
                bar.advance()
        return found

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """Of every (context, settings). A sample's seed follows from what is asked and from how often it was before."""
        times: Counter[str] = Counter()
        asked: dict[str, Asked] = {}
        for request in requests:
            prompt = _prompt(*request.args)
            times[same := digest(prompt)] += 1
            asked[f"{same} {times[same]}"] = prompt
        known = {key: answer for key, each in asked.items() if (answer := self._answer(key, each)) is not None}
        with progress("lm-eval", len(asked), "texts") as bar:
            for _ in known:
                bar.advance()
            left = {key: each for key, each in asked.items() if key not in known}
            for one in answers(self._model, left, alone=False):
                known[one.key] = one.answer
                self._keep(one.key, asked[one.key], one.answer, cut=one.cut)
                bar.advance()
        return [str(known[key][0]) for key in asked]

    def _scored(self, asked: Mapping[str, Ranking]) -> Iterator[tuple[str, Told]]:
        """Choices by themselves, in the order of their ids: what they share is read once."""
        model = self._model
        if not asked:
            return
        encoded = {key: ranking(model.tokenizer, each, model.context, alone=False) for key, each in asked.items()}
        pairs = {key: each.pairs[0] for key, each in encoded.items()}
        order = sorted(pairs, key=lambda key: (*pairs[key].context, *pairs[key].choice))
        engine = model.engine(max(each.size for each in encoded.values()))
        for place, one in scores(engine, ((pairs[key].context, pairs[key].choice) for key in order)):
            key = order[place]
            score = Score(one.logprob, len(pairs[key].choice))
            self._keep(key, asked[key], (score,), cut=encoded[key].cut, greedy=one.is_greedy)
            yield key, Told(score.logprob, one.is_greedy, score.tokens)

    def _told(self, key: str, asked: Ranking) -> Told | None:
        """What was said of a choice before."""
        score = self._answer(key, asked)
        greedy = self._kept.was_greedy(key) if self._kept and score else None
        if greedy is None or not score or not isinstance(score[0], Score):
            return None
        return Told(score[0].logprob, greedy, score[0].tokens)

    def _answer(self, key: str, asked: Asked) -> Answer | None:
        if self._kept is None or (found := self._kept.answer(key, asked, alone=False)) is None:
            return None
        if self._kept.was_cut(key):
            self.cut.add(key)
        return found

    def _keep(self, key: str, asked: Asked, answer: Answer, *, cut: bool, greedy: bool | None = None) -> None:
        if cut:
            self.cut.add(key)
        if self._kept:
            self._kept.add(key, asked, answer, cut=cut, greedy=greedy)


def _ranking(context: str, text: str) -> Ranking:
    """A text behind its context. Spaces that end a context belong to the text, as they do in training."""
    bare = context.rstrip(" ")
    return Ranking((Choice(bare, context[len(bare) :] + text),))


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
