"""Whole samples of many prompts, as many at a time as the engine has slots for, in the order of the prompts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from puna.generate.engine import Engine
from puna.generate.request import Prompt, Reason, Request, Scored, Token

LOOKED_AHEAD = 16  # samples that wait for a slot while others have them


@dataclass(slots=True)
class Sampled:
    """One sample of one request, once it is whole."""

    request: int
    """Which of the requests, from 0."""
    sample: int
    text: str = ""
    reason: Reason = "length"
    error: str = ""
    tokens: list[Token] = field(default_factory=list)
    prompt: tuple[Scored, ...] = ()
    """Of the first sample, where `prompt_logprobs` asked for it."""


def samples(engine: Engine, requests: Iterable[Request]) -> Iterator[Sampled]:
    """Every sample of every request, in their order. Requests are taken as slots become free, so there may be any
    number of them; what waits for an earlier one to end is kept."""
    coming = enumerate(requests)
    open_: dict[int, list[Sampled]] = {}  # handle -> its samples; in the order of the requests, as dicts are
    left: dict[int, int] = {}
    more = True
    while more or open_:
        while more and engine.counts.waiting < LOOKED_AHEAD:
            number, request = next(coming, (-1, None))
            more = request is not None
            if request is not None:
                handle = engine.submit(request)
                open_[handle] = [Sampled(number, sample) for sample in range(request.n)]
                left[handle] = request.n
        for event in engine.step():
            found = open_[event.handle]
            if isinstance(event, Prompt):
                found[0].prompt = event.tokens
                continue
            sample = found[event.sample]
            sample.text += event.text
            if isinstance(event, Token):
                sample.tokens.append(event)
            else:
                sample.reason, sample.error = event.reason, event.error
                left[event.handle] -= 1
        while open_ and not left[first := next(iter(open_))]:
            yield from open_.pop(first)
