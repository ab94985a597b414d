"""How likely a model finds given texts: log-probabilities of continuations, many in a batch.

Texts with the same beginning are beside each other in what is submitted, so that the engine reads it once: the examples
before each question of a benchmark, and a question before each of its answers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from puna.errors import InputError, PunaError
from puna.generate.engine import LOOKED_AT, Engine
from puna.generate.request import End, Prompt, Request

Ids = Sequence[int]


class Score(NamedTuple):
    logprob: float
    """Nats, summed over the continuation, at most 0."""
    is_greedy: bool
    """Whether each of its tokens is the likeliest at its place."""


def score(
    engine: Engine, pairs: Sequence[tuple[Ids, Ids]], *, advance: Callable[[], object] = lambda: None
) -> list[Score]:
    """For every (context ids, continuation ids), the score of the continuation; in the order of `pairs`.

    The context holds at least one id: <s>, for a whole text. A whole text is ([bos], the rest).
    advance: called with every score. The engine must have nothing else to do. InputError when a pair is longer than its
    context or has no context; PunaError when the model gives what is no number.
    """
    for number, (context, _) in enumerate(pairs):
        if not context:
            raise InputError(f"text {number} has no context", mend="begin it with <s>: ([bos], ids)")
    order = sorted(range(len(pairs)), key=lambda number: [*pairs[number][0], *pairs[number][1]])
    found = [Score(0.0, True)] * len(pairs)
    for place, one in scores(engine, (pairs[number] for number in order)):
        found[order[place]] = one
        advance()
    return found


def scores(engine: Engine, pairs: Iterable[tuple[Ids, Ids]]) -> Iterator[tuple[int, Score]]:
    """As `score`, in the order in which they become known: (number of the pair, from 0; its score).

    Pairs are taken as slots become free, so there may be any number of them. Those with the same beginning belong
    beside each other.
    """
    coming = enumerate(pairs)
    asked: dict[int, int] = {}
    more = True
    while more or engine.busy:
        while more and engine.counts.waiting < LOOKED_AT:
            number, (context, continuation) = next(coming, (-1, ((), ())))
            more = number >= 0
            if more:
                request = Request((*context, *continuation), 0, prompt_logprobs=1, scored_from=len(context))
                asked[engine.submit(request)] = number
        for event in engine.step():
            if isinstance(event, Prompt):
                tokens = event.tokens
                greedy = all(token.logprob >= token.top[0][1] for token in tokens)
                yield asked.pop(event.handle), Score(sum(token.logprob for token in tokens), greedy)
            elif isinstance(event, End) and event.reason == "error":
                raise PunaError(event.error)
