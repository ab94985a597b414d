"""One sample on its way through the engine, and what a row of logits says of its next token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from puna.generate.request import Request, Scored, Top
from puna.generate.text import TextStream


@dataclass(slots=True, eq=False)
class Sample:
    """`ids` is what it reads: its prompt, then what was drawn; `slot` holds the keys and values of the first of them.
    Where the context slides, `ids` loses its beginning, and `prompt` is then what is left of both to read anew."""

    handle: int
    index: int
    request: Request
    ends: tuple[int, ...]
    ids: list[int]
    prompt: int
    text: TextStream
    chance: torch.Generator
    past: list[int]
    """Prompt and text, for the repetition penalty."""
    slot: int = -1
    drawn: int = 0
    scored: list[Scored] = field(default_factory=list)
    """Its prompt's tokens so far, where it `scores` them."""
    others: list[float] = field(default_factory=list)
    """The scores of `request.others`."""

    @classmethod
    def begin(cls, handle: int, index: int, request: Request, ends: tuple[int, ...], context: int) -> Sample:
        ids = fitting(request.prompt, context)
        chance = request.sampling.of_sample(index).generator()
        text = TextStream(request.stop)
        return cls(handle, index, request, ends, ids, len(ids), text, chance, list(request.prompt))

    @property
    def scores(self) -> bool:
        """Whether it is the one sample of its request that tells of the prompt."""
        return self.index == 0 and self.request.prompt_logprobs is not None

    @property
    def draws(self) -> bool:
        return self.request.max_tokens > 0

    @property
    def shareable(self) -> int:
        """How many of its first ids need not be computed for it: its last is, since what follows comes of it, and what
        it scores is."""
        most = len(self.ids) - 1
        return min(most, self.request.scored_from - 1) if self.scores else most


def fitting(ids: Sequence[int], context: int) -> list[int]:
    """`ids`, or where they are more than `context`, its last half of them: as `Context` in decode.py does."""
    return list(ids) if len(ids) <= context else list(ids[-max(1, context // 2) :])


def likeliest(logprobs_BV: Tensor, count: int) -> list[Top]:
    """Of every row the `count` likeliest ids with their log-probabilities."""
    if not count:
        return [()] * len(logprobs_BV)
    values, ids = logprobs_BV.topk(count)
    rows = zip(values.tolist(), ids.tolist(), strict=True)
    return [tuple(sorted(zip(found, values, strict=True), key=_order)) for values, found in rows]


def _order(alternative: tuple[int, float]) -> tuple[float, int]:
    return -alternative[1], alternative[0]
