"""How likely a model finds given texts: log-probabilities of continuations, many in a batch.

Texts with the same beginning are beside each other in what is submitted, so that the engine reads it once: the examples
before each question of a benchmark, and a question before each of its answers. Texts that differ in their last token
alone are one request.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

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
    coming = itertools.groupby(enumerate(pairs), key=_beginning)
    asked: dict[int, list[int]] = {}
    more = True
    while more or engine.busy:
        while more and engine.counts.waiting < LOOKED_AT:
            several = list(next(coming, ((), ()))[1])
            more = bool(several)
            if more:
                (context, continuation), others = several[0][1], tuple(own[-1] for _, (_, own) in several[1:])
                whole = (*context, *continuation)
                request = Request(whole, 0, prompt_logprobs=1, scored_from=len(context), others=others)
                asked[engine.submit(request)] = [number for number, _ in several]
        for event in engine.step():
            if isinstance(event, Prompt):
                yield from zip(asked.pop(event.handle), _told(event), strict=True)
            elif isinstance(event, End) and event.reason == "error":
                raise PunaError(event.error)


def _beginning(numbered: tuple[int, tuple[Ids, Ids]]) -> tuple[Any, ...]:
    """Pairs next to each other that have this in common differ in nothing but their last token, and are one request:
    one reading tells of every id at that place, as of a choice's letter."""
    number, (context, continuation) = numbered
    return (tuple(context), tuple(continuation[:-1])) if continuation else (number,)


def _told(event: Prompt) -> Iterator[Score]:
    """The score of a request's own continuation, and of those with another last token."""
    before, last = event.tokens[:-1], event.tokens[-1:]
    greedy = all(token.logprob >= token.top[0][1] for token in before)
    logprob = sum(token.logprob for token in before)
    if not last:
        yield Score(logprob, greedy)
        return
    for own in (last[0].logprob, *event.others):
        yield Score(logprob + own, greedy and own >= last[0].top[0][1])
