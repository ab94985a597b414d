"""The engine's contract in its plainest form: one token of each sample a step, by the reference model.

What the server is tested on where it does not matter how fast tokens come, and where something must go wrong: an engine
that fails, that gives logits which are no numbers, or that waits until it is told to go on.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator

import torch

from puna.generate.decode import Context
from puna.generate.request import End, Event, Prompt, Request, Scored, Token, Top
from puna.generate.text import TextStream
from puna.model.llama import Llama
from puna.tokenizer import Tokenizer


class PlainEngine:
    """`fails`: the next step raises it; `stuck`: then nothing can be cancelled either. `poison`: logits are NaN.
    `gate`: steps wait until it is set; `pause_at`: it is closed at that step. `says`: ids made whatever the model says.
    """

    def __init__(self, model: Llama, tokenizer: Tokenizer) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.context = model.config.context
        self.fails: Exception | None = None
        self.stuck = False
        self.poison = False
        self.pause_at: int | None = None
        self.says: list[int] = []
        self.gate = threading.Event()
        self.gate.set()
        self.steps = 0
        self._handles = itertools.count()
        self._samples: dict[tuple[int, int], Iterator[Event]] = {}

    @property
    def busy(self) -> bool:
        return bool(self._samples)

    def submit(self, request: Request) -> int:
        handle = next(self._handles)
        for sample in range(request.n):
            self._samples[handle, sample] = self._texts(handle, sample, request)
        return handle

    def cancel(self, handle: int) -> list[Event]:
        if self.stuck:
            raise RuntimeError("cannot be cancelled")
        found = [key for key in self._samples if key[0] == handle]
        for key in found:
            del self._samples[key]
        return [End(*key, "cancelled", "") for key in found]

    def step(self) -> list[Event]:
        if self.steps == self.pause_at:
            self.gate.clear()
        self.gate.wait(20)
        self.steps += 1
        if self.fails:
            error, self.fails = self.fails, None
            raise error
        events = []
        for key, texts in list(self._samples.items()):
            events.append(next(texts))
            if isinstance(events[-1], End):
                del self._samples[key]
        return events

    def _texts(self, handle: int, sample: int, request: Request) -> Iterator[Event]:
        if request.prompt_logprobs is not None and sample == 0:
            yield Prompt(handle, self._scored(request))
        context, text = Context(self.model), TextStream(request.stop)
        sampling = request.sampling.of_sample(sample)
        chance = sampling.generator()
        ends = (self.tokenizer.eos,) if request.ends is None else request.ends
        fed, past = list(request.prompt), list(request.prompt)
        for _ in range(min(request.max_tokens, self.context - len(past))):
            logits = context.feed(fed)
            if self.poison:
                yield End(handle, sample, "error", "", "logits are not finite")
                return
            drawn = self.says.pop(0) if self.says else sampling.draw(logits, chance, past)
            if drawn in ends:
                yield End(handle, sample, "stop", text.close())
                return
            raw = self.tokenizer.decode_bytes([drawn])
            logprob, top = _told(logits, drawn, request.logprobs or 0)
            yield Token(handle, sample, drawn, raw, text.feed(raw), logprob, top)
            if text.stopped:
                yield End(handle, sample, "stop", "")
                return
            past.append(drawn)
            fed = [drawn]
        yield End(handle, sample, "length", text.close())

    @torch.no_grad()
    def _scored(self, request: Request) -> tuple[Scored, ...]:
        logits_LV = self.model.logits(torch.tensor([request.prompt]))[0]
        scored = []
        for position in range(request.scored_from, len(request.prompt)):
            id = request.prompt[position]
            told = _told(logits_LV[position - 1], id, request.prompt_logprobs or 0)
            scored.append(Scored(id, self.tokenizer.decode_bytes([id]), *told))
        return tuple(scored)


def _told(logits_V: torch.Tensor, id: int, number: int) -> tuple[float, Top]:
    scores_V = logits_V.float().log_softmax(-1)
    values, ids = scores_V.sort(descending=True, stable=True)
    return float(scores_V[id]), tuple(zip(ids[:number].tolist(), values[:number].tolist(), strict=True))
