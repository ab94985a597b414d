"""Text from a model, as it is made: a prompt is read once, then one token a step on the key-value cache.

One text at a time and by the reference model: the readable twin of engine.py, which does many at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from puna.errors import InputError
from puna.generate.sampling import Sampling
from puna.generate.text import TextStream
from puna.model.cache import Cache
from puna.model.llama import Llama
from puna.tokenizer import Tokenizer


def generate(
    model: Llama,
    tokenizer: Tokenizer,
    prompt: str,
    *,
    tokens: int = 128,
    temperature: float = 0.8,
    top_p: float = 0.95,
    top_k: int = 0,
    seed: int = 1,
    stop: Sequence[str] = (),
) -> Iterator[str]:
    """The continuation of `prompt`, in pieces of text as they come, without the prompt.

    Ends at </s>, after `tokens` tokens, or before the first of the `stop` strings. At temperature 0 the likeliest
    token is taken. InputError when a value makes no sense.
    """
    if tokens < 0:
        raise InputError(f"tokens = {tokens}, but it must be 0 or more")
    if "" in stop:
        raise InputError("a stop string is empty")
    sampling = Sampling(temperature, top_p, top_k, seed=seed)
    ids = tokenizer.begin(prompt)
    return to_text(continuation(model, ids, tokens=tokens, eos=tokenizer.eos, sampling=sampling), tokenizer, stop)


def continuation(model: Llama, ids: Sequence[int], *, tokens: int, eos: int, sampling: Sampling) -> Iterator[int]:
    """At most `tokens` ids that follow `ids`, `eos` not among them."""
    generator = sampling.generator()
    context = Context(model)
    fed, past = list(ids), list(ids)
    for _ in range(tokens):
        drawn = sampling.draw(context.feed(fed), generator, past)
        past.append(drawn)
        if drawn == eos:
            return
        yield drawn
        fed = [drawn]


def to_text(ids: Iterator[int], tokenizer: Tokenizer, stop: Sequence[str] = ()) -> Iterator[str]:
    """The text of `ids` in pieces, whole characters as soon as they are whole, up to the first stop string."""
    text = TextStream(stop)
    for number in ids:
        if piece := text.feed(tokenizer.decode_bytes([number])):
            yield piece
        if text.stopped:
            return
    if piece := text.close():
        yield piece


class Context:
    """The tokens a model has before it, at most its `context` of them, and their keys and values.

    When they would be more, the last half of the context is kept and read anew: positions start at 0 again, as they do
    in a training window, so no position is one that training never saw. That costs one reading in context / 2 tokens.
    """

    def __init__(self, model: Llama) -> None:
        self._model = model
        self._ids: list[int] = []
        self._cache: Cache | None = None

    @torch.no_grad()
    def feed(self, ids: Sequence[int]) -> Tensor:
        """Read `ids`, at least one, behind what was read before: the scores of the next piece, (vocabulary,)."""
        model = self._model
        if self._cache is None:
            self._cache = Cache(model.config, 1, model.config.context, dtype=model.dtype, device=model.device)
        self._ids = [*self._ids, *ids]
        if len(self._ids) > model.config.context:
            self._ids = self._ids[-max(1, model.config.context // 2) :]
            self._cache.clear()
        fresh = torch.tensor([self._ids[self._cache.filled :]], device=model.device)
        hidden_BLD = model(fresh, cache=self._cache)
        return torch.nn.functional.linear(hidden_BLD[0, -1], model.output_weight)
