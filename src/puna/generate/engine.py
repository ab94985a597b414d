"""Many requests at once: at every step each text that is being made gets its next token, and new ones are read.

    engine = Engine(pack(model), tokenizer, slots=8)
    handle = engine.submit(Request(tuple(tokenizer.begin("The "))))
    while engine.busy:
        for event in engine.step():
            ...

Continuous batching: a sample has a slot of the cache from its first step to its last; whoever waits gets the next free
one, in the order of coming. A long prompt is read in chunks, so that those who are under way wait for no more than one.
A prompt that begins like one that is just being read waits for that, and shares it (slots.py).

What a request gets does not depend on what else is in the batch: its draws come from its own seed, and its logits
differ only by what the order of f32 sums makes, below 1e-4 for logits of some tens (test_decoding.py). So greedy texts
are the same up to the first step whose two best logits differ by less than that.

Not safe for threads: one thread drives an engine. Memory: the weights, `slots.bytes`, and the logits of a chunk.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from puna.errors import InputError
from puna.generate.forward import Span, forward
from puna.generate.graphed import GraphedStep
from puna.generate.packed import Packed
from puna.generate.request import End, Event, Prompt, Reason, Request, Scored, Token
from puna.generate.sample import Sample, fitting, likeliest
from puna.generate.slots import Slots
from puna.model.rotary import rope_table
from puna.tokenizer import Tokenizer
from puna.tokenizer.prefix import common

CHUNK = 512  # tokens read a step; a matmul is at its best speed from about 256
WORTH = 16  # tokens in common for which a prompt waits until another has read them
LOOKED_AT = 64  # of those who wait, a step
NOT_FINITE = "the model gave a score that is not a finite number: its weights are damaged, or made for other inputs"


@dataclass(frozen=True, slots=True)
class Counts:
    """For metrics: what is under way, and what was done since the engine was made."""

    running: int
    """Samples that have a slot."""
    waiting: int
    """Samples that wait for one."""
    prompt_tokens: int
    """Tokens of prompts, those that were shared among them."""
    shared_tokens: int
    """Tokens of prompts that were not computed, since they stood in the cache."""
    generated_tokens: int
    steps: int


class Engine:
    """Steps over the requests that were submitted. slots: samples at a time; context: tokens of one, prompt included,
    at most the model's; chunk: tokens of prompts that are read a step."""

    def __init__(
        self, model: Packed, tokenizer: Tokenizer, *, slots: int = 8, context: int | None = None, chunk: int = CHUNK
    ) -> None:
        if tokenizer.vocabulary != model.config.vocabulary:
            what = f"the tokenizer has {tokenizer.vocabulary} pieces, the model {model.config.vocabulary}"
            raise InputError(what, mend="give the model's own tokenizer")
        config = model.config
        self.model, self.tokenizer = model, tokenizer
        self.slots = Slots(config, slots, context, device=model.device)
        self._rope = rope_table(self.slots.context, config.head_dim, config.rope_base, device=model.device)
        # On a GPU a step in which every text has one token is a recorded graph.
        self._graphed = GraphedStep(model, self.slots, self._rope) if model.device.type == "cuda" else None
        self._chunk = chunk
        self._handles = itertools.count()
        self._waiting: deque[Sample] = deque()
        self._running: list[Sample] = []
        self._prompt_tokens = self._shared_tokens = self._generated = self._steps = 0

    @property
    def context(self) -> int:
        """Tokens a sample may have, its prompt included."""
        return self.slots.context

    @property
    def busy(self) -> bool:
        return bool(self._running or self._waiting)

    @property
    def counts(self) -> Counts:
        done = (self._prompt_tokens, self._shared_tokens, self._generated, self._steps)
        return Counts(len(self._running), len(self._waiting), *done)

    def submit(self, request: Request) -> int:
        """Queue a request; the handle under which its events come. InputError when the model cannot take it."""
        self._check(request)
        handle = next(self._handles)
        ends = (self.tokenizer.eos,) if request.ends is None else request.ends
        self._waiting += [Sample.begin(handle, index, request, ends, self.context) for index in range(request.n)]
        return handle

    def cancel(self, handle: int) -> list[Event]:
        """End what is left of a request: its `End` events. Unknown and ended handles give none."""
        found = [sample for sample in (*self._running, *self._waiting) if sample.handle == handle]
        return [self._end(sample, "cancelled") for sample in found]

    def step(self) -> list[Event]:
        """One step of all that is under way: what came of it. Where the engine is `busy`, something always goes on."""
        events: list[Event] = list(self._admit())
        work = self._planned()
        if not work:
            return events
        self._steps += 1
        spans = [span for _, span in work]
        tokens = [number for sample, span in work for number in sample.ids[span.start : span.start + span.length]]
        if self._graphed and len(tokens) == len(spans):
            hidden_ND = self._graphed(tokens, [span.slot for span in spans], [span.start for span in spans])
        else:
            hidden_ND = forward(self.model, self.slots, self._rope, tokens, spans)
        last, first = [], 0
        for sample, span in work:
            rows = slice(first, first + span.length)
            self.slots.wrote(span.slot, tokens[rows])
            if sample.scores and not sample.drawn:
                events += self._score(sample, span, hidden_ND[rows])
            if span.start + span.length == len(sample.ids) and sample.slot >= 0:
                last.append((sample, rows.stop - 1))
            first = rows.stop
        if last:
            logits_BV = self.model.output(hidden_ND[[row for _, row in last]]).float()
            logprobs_BV = logits_BV.log_softmax(-1)
            whole = logits_BV.isfinite().all(-1).tolist()
            for row, (sample, _) in enumerate(last):
                if not whole[row]:
                    events.append(self._end(sample, "error", NOT_FINITE))
                elif not sample.draws:
                    events.append(self._end(sample, "length"))
                else:
                    events += self._draw(sample, logits_BV[row], logprobs_BV[row])
        return events

    def _check(self, request: Request) -> None:
        size, vocabulary = len(request.prompt), self.tokenizer.vocabulary
        if size > self.context and not request.slide:
            what = f"the prompt has {size} tokens, but the context holds {self.context}"
            raise InputError(what, mend="shorten the prompt")
        wrong = next((number for number in (*request.prompt, *request.others) if not 0 <= number < vocabulary), None)
        if wrong is not None:
            raise InputError(f"the prompt holds the id {wrong}, but ids are 0 to {vocabulary - 1}")
        for name in ("logprobs", "prompt_logprobs"):
            if (getattr(request, name) or 0) > vocabulary:
                raise InputError(f"{name} = {getattr(request, name)}, but there are {vocabulary} pieces")
        if request.slide and request.prompt_logprobs is not None:
            raise InputError("prompt_logprobs of a context that slides", mend="ask for one of them")

    def _admit(self) -> Iterator[Event]:
        """Give free slots to those who wait, but to nobody whose prompt another is just reading."""
        for sample in list(itertools.islice(self._waiting, LOOKED_AT)):
            if not sample.draws and not sample.scores:
                yield self._end(sample, "length")
            elif self.slots.free and not self._is_being_read(sample):
                self._waiting.remove(sample)
                self._running.append(sample)
                sample.slot = self.slots.take(sample.ids, sample.shareable)
                self._prompt_tokens += len(sample.ids)
                self._shared_tokens += self.slots.filled(sample.slot)

    def _is_being_read(self, sample: Sample) -> bool:
        ids = sample.ids[: sample.shareable]
        ahead = [other for other in self._running if self.slots.filled(other.slot) < other.prompt]
        coming = max((common(ids, other.ids[: other.prompt]) for other in ahead), default=0)
        return coming >= WORTH and coming > self.slots.shared(ids)

    def _planned(self) -> list[tuple[Sample, Span]]:
        """What is read in this step: of each text its one new token, and of prompts at most a chunk."""
        work, left = [], self._chunk
        for sample in self._running:
            start = self.slots.filled(sample.slot)
            length = len(sample.ids) - start
            if length > 1:
                length = min(length, left)
                left -= length
            if length:
                work.append((sample, Span(sample.slot, start, length)))
        return work

    def _score(self, sample: Sample, span: Span, hidden_LD: Tensor) -> Iterator[Event]:
        """Score the tokens of a prompt that follow those of `span`; all that were, once they are all."""
        request = sample.request
        first = max(span.start, request.scored_from - 1)
        end = min(span.start + span.length, len(request.prompt) - 1)
        if first < end:
            logits_LV = self.model.output(hidden_LD[first - span.start : end - span.start]).float()
            if not logits_LV.isfinite().all():
                yield self._end(sample, "error", NOT_FINITE)
                return
            logprobs_LV = logits_LV.log_softmax(-1)
            ids = list(request.prompt[first + 1 : end + 1])
            own = logprobs_LV.gather(1, torch.tensor(ids, device=logprobs_LV.device)[:, None])[:, 0].tolist()
            tops = likeliest(logprobs_LV, request.prompt_logprobs or 0)
            for number, logprob, top in zip(ids, own, tops, strict=True):
                sample.scored.append(Scored(number, self.tokenizer.decode_bytes([number]), logprob, top))
            if request.others and end == len(request.prompt) - 1:
                sample.others = logprobs_LV[-1, list(request.others)].tolist()
        if span.start + span.length == len(sample.ids):
            yield Prompt(sample.handle, tuple(sample.scored), tuple(sample.others))

    def _draw(self, sample: Sample, logits_V: Tensor, logprobs_V: Tensor) -> Iterator[Event]:
        request = sample.request
        drawn = request.sampling.draw(logits_V, sample.chance, sample.past)
        if drawn in sample.ends:
            yield self._end(sample, "stop")
            return
        self._generated += 1
        sample.drawn += 1
        sample.past.append(drawn)
        sample.ids.append(drawn)
        spelt = self.tokenizer.decode_bytes([drawn])
        top = likeliest(logprobs_V[None], request.logprobs or 0)[0]
        text = sample.text.feed(spelt)
        yield Token(sample.handle, sample.index, drawn, spelt, text, float(logprobs_V[drawn]), top)
        full = len(sample.ids) > self.context
        if sample.text.stopped:
            yield self._end(sample, "stop")
        elif sample.drawn == request.max_tokens or (full and not request.slide):
            yield self._end(sample, "length")
        elif full:
            sample.ids = fitting(sample.ids, self.context)
            sample.prompt = len(sample.ids)
            self.slots.clear(sample.slot)

    def _end(self, sample: Sample, reason: Reason, error: str = "") -> End:
        """Take a sample out, wherever it is."""
        if sample.slot >= 0:
            self._running.remove(sample)
            self.slots.leave(sample.slot, keep=reason != "error")
            sample.slot = -1
        else:
            self._waiting.remove(sample)
        return End(sample.handle, sample.index, reason, sample.text.close(), error)
