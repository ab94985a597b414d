"""What is asked of a model, and what comes back as it is made: the contract of engine.py.

A `Request` is n samples that continue one prompt of ids. While the engine steps, each gives events, in this order:

- `Prompt`, once a request and before any `Token` of it, where `prompt_logprobs` asks for it;
- `Token`, for every token of a sample, in the order of the text;
- `End`, once a sample, last of all that comes of it, whatever ended it.

Log-probabilities are natural logarithms of the model's own distribution, before temperature, penalty and cuts, so that
they say what the model says and not how it was drawn from. Sample i draws with the seed `sampling.seed + i`: any sample
can be had again alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from puna.errors import InputError
from puna.generate.sampling import Sampling

Reason = Literal["stop", "length", "cancelled", "error"]
Top = tuple[tuple[int, float], ...]
"""Ids and their log-probabilities, likeliest first (the lower id first among equals)."""
DEFAULT = Sampling()


@dataclass(frozen=True, slots=True)
class Request:
    """InputError when a value makes no sense; what depends on the model is checked by `Engine.submit`."""

    prompt: tuple[int, ...]
    """Ids to go on from, <s> first where a text begins: `tokenizer.begin(text)`. At least one."""
    max_tokens: int = 128
    """At most so many tokens a sample; 0 only reads the prompt."""
    sampling: Sampling = DEFAULT
    n: int = 1
    """Samples."""
    stop: tuple[str, ...] = ()
    """Strings before which a sample's text ends, wherever the borders between tokens lie."""
    ends: tuple[int, ...] | None = None
    """Ids that end a sample and are no part of it. None: the tokenizer's eos; (): none, up to max_tokens."""
    logprobs: int | None = None
    """So many alternatives with every `Token`. None and 0: none; the token's own is always given."""
    prompt_logprobs: int | None = None
    """None: no `Prompt`; else one, with so many alternatives at each position."""
    scored_from: int = 1
    """The first position of the prompt in that `Prompt`, at least 1: nothing comes before position 0. What lies before
    it may be shared with other prompts and is then not computed again."""
    others: tuple[int, ...] = ()
    """Ids that are scored in place of the prompt's last one, too; with `prompt_logprobs` only."""
    slide: bool = False
    """Where the context is full: False ends the sample with "length"; True keeps the last half of the context and reads
    it anew (`Context` of decode.py)."""

    def __post_init__(self) -> None:
        if not self.prompt:
            raise InputError("the prompt holds no token", mend="begin with <s>: tokenizer.begin(text)")
        least = {"max_tokens": 0, "n": 1, "logprobs": 0, "prompt_logprobs": 0, "scored_from": 1}
        for name, low in least.items():
            value = getattr(self, name)
            if value is not None and value < low:
                raise InputError(f"{name} = {value}, but it must be {low} or more")
        if "" in self.stop:
            raise InputError("a stop string is empty")


@dataclass(frozen=True, slots=True)
class Scored:
    """A token of the prompt."""

    id: int
    bytes: bytes
    """What it stands for; parts of a character where the tokenizer cut one."""
    logprob: float
    top: Top


@dataclass(frozen=True, slots=True)
class Prompt:
    """The scores of a prompt's tokens from `scored_from` on."""

    handle: int
    tokens: tuple[Scored, ...]
    others: tuple[float, ...] = ()
    """Log-probabilities of the request's `others` where the last of `tokens` stands."""


@dataclass(frozen=True, slots=True)
class Token:
    handle: int
    sample: int
    """0 to n - 1."""
    id: int
    bytes: bytes
    """What the id stands for, part of a stop string or not."""
    text: str
    """What of the sample's text is sure now: whole characters that cannot be the beginning of a stop string. The texts
    of a sample's tokens and of its `End`, joined, are the sample."""
    logprob: float
    top: Top


@dataclass(frozen=True, slots=True)
class End:
    handle: int
    sample: int
    reason: Reason
    """stop: one of `ends` was drawn or a stop string is whole. length: max_tokens, or the context is full. cancelled:
    by `Engine.cancel`. error: see `error`."""
    text: str
    """What was held back until now."""
    error: str = ""
    """What went wrong, in one line; other requests go on."""


Event = Prompt | Token | End
