"""Our answers held, item by item, to those of another model of lm-eval over the same weights.

Both get the same texts. First the ids are compared, since another border between context and choice gives another
score; then each choice's log-probability; then what is chosen. Two programs sum f32 in different orders, so that scores
differ by a rounding, and where the two best choices are nearer than that, either may be chosen: a tie.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from lm_eval.api.instance import Instance

from puna.errors import InputError
from puna.evaluate.answering import Model
from puna.evaluate.encoded import Pair, ranking
from puna.evaluate.ranking import both, value
from puna.evaluate.run import Plan, judged
from puna.evaluate.task import ANSWER, Answer, Asked, Choice, Norm, Ranking, Score

TOLERANCE = 5e-4
"""Nats of a text: how far two programs in f32 may be from each other."""


@dataclass(frozen=True)
class Agreement:
    task: str
    shots: int
    items: int
    texts: int
    """Choices that were scored, those behind "Answer:" among them."""
    farthest: float
    """The largest difference of a log-probability, nats."""
    ties: tuple[str, ...]
    """Items whose two best choices are no farther apart than TOLERANCE lets them move."""
    unlike: tuple[str, ...]
    """Items of which the two choose differently."""
    metric: str
    ours: float
    theirs: float
    error: float | None
    """Standard error of `ours`."""

    @property
    def unexplained(self) -> tuple[str, ...]:
        """Items of which the two choose differently without a tie."""
        return tuple(key for key in self.unlike if key not in self.ties)


def asked_of(peer: Any, plan: Plan, *, disable_tqdm: bool = True) -> dict[str, Answer]:
    """What a model of lm-eval (a `TemplateLM`, as its Hugging Face backend) answers to a plan of rankings: one request
    for each text, however often it stands in the plan."""
    texts = [text for _, asked in plan.questions.values() for text in _texts(asked, plan)]
    requests = list(dict.fromkeys(texts))
    instances = [Instance("loglikelihood", {}, request, number) for number, request in enumerate(requests)]
    told = peer.loglikelihood(instances, disable_tqdm=disable_tqdm)
    logprobs = {request: float(one[0]) for request, one in zip(requests, told, strict=True)}
    return {key: _answer(peer, asked, plan, logprobs) for key, (_, asked) in plan.questions.items()}


def unlike_ids(peer: Any, plan: Plan, model: Model) -> str:
    """The first text whose ids, or whose border between context and choice, are others for the peer; "" for none.

    A text that is too long for the model counts: each cuts it in its own way.
    """
    for key, (_, asked) in plan.questions.items():
        assert isinstance(asked, Ranking)
        pairs = ranking(model.tokenizer, asked, model.context, alone=plan.alone)
        for text, ours in zip(_texts(asked, plan), (*pairs.pairs, *pairs.alone), strict=True):
            if (theirs := _ids(peer, *text)) != ours:
                return f"{plan.wanted.name} {key}: {text!r} is {ours} here and {theirs} there"
    return ""


def compare(plan: Plan, ours: Mapping[str, Answer], theirs: Mapping[str, Answer]) -> Agreement:
    """Two answers to one plan."""
    farthest, ties, unlike, texts = 0.0, [], [], 0
    for key, (item, asked) in plan.questions.items():
        choices, own = both(asked, ours[key])
        _, its = both(asked, theirs[key])
        moved = [abs(left - right) for left, right in zip(_numbers(own), _numbers(its), strict=True)]
        farthest, texts = max(farthest, *moved), texts + len(moved)
        # TruthfulQA ranks the first of its texts alone: the others make its second metric.
        ranked = choices[: len(item.choices)]
        best, second, room = _two_best(ranked, own, plan.norm)
        if best[0] - second[0] <= room:
            ties.append(key)
        if best[1] != _two_best(ranked, its, plan.norm)[0][1]:
            unlike.append(key)
    mine, other = (judged(plan, known, cut=0).value for known in (ours, theirs))
    task = plan.wanted.task
    return Agreement(
        task.name, plan.wanted.shots, len(plan.questions), texts, farthest, tuple(ties), tuple(unlike), task.metric,
        mine.mean, other.mean, mine.error,
    )  # fmt: skip


def _texts(asked: Asked, plan: Plan) -> list[tuple[str, str]]:
    choices, _ = both(asked, ())
    behind = [(ANSWER, choice.text) for choice in choices] if plan.alone else []
    return [(choice.context, choice.text) for choice in choices] + behind


def _answer(peer: Any, asked: Asked, plan: Plan, logprobs: Mapping[tuple[str, str], float]) -> Answer:
    choices, _ = both(asked, ())
    return tuple(
        Score(
            logprobs[choice.context, choice.text],
            len(_ids(peer, choice.context, choice.text).choice),
            logprobs[ANSWER, choice.text] if plan.alone else None,
        )
        for choice in choices
    )


def _ids(peer: Any, context: str, text: str) -> Pair:
    """As lm-eval cuts a text: where its context has ended."""
    if context.rstrip() != context:
        raise InputError("a context ends in white space, which lm-eval moves to the choice")
    if not context:
        return Pair((peer.prefix_token_id,), tuple(peer.tok_encode(text, add_special_tokens=False)))
    before = peer.tok_encode(context)
    return Pair(tuple(before), tuple(peer.tok_encode(context + text)[len(before) :]))


def _numbers(scores: tuple[Score, ...]) -> list[float]:
    return [*(one.logprob for one in scores), *(one.alone for one in scores if one.alone is not None)]


def _two_best(
    choices: tuple[Choice, ...], scores: tuple[Score, ...], norm: Norm
) -> tuple[tuple[float, int], tuple[float, int], float]:
    """The two best as (value, -index), and how near to each other TOLERANCE can bring values as far apart."""
    rows = []
    for index, (choice, one) in enumerate(zip(choices, scores, strict=False)):
        found = value(choice, one, norm)
        room = value(choice, replace(one, logprob=one.logprob + TOLERANCE), norm) - found
        rows.append((found, -index, 2 * room if norm == "answer" else room))
    best, second = sorted(rows, reverse=True)[:2]
    return best[:2], second[:2], best[2] + second[2]
