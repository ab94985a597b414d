"""A model's answers to many questions at once, each context read once.

Questions are sorted by their ids, so that those which begin alike (the examples of a task, an article, a question and
its choices) are beside each other, and the engine computes only what is an item's own (generate/slots.py). Tokens of
many items go through a matrix together, up to a chunk of them a step; there is no padding, so that neither the number
of slots nor the order changes an answer but by how f32 sums are rounded. The twin that reads every text by itself is
reference.py.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import xxhash

from puna.errors import PunaError
from puna.evaluate.encoded import Begun, Ids, Pairs, begun, ranking
from puna.evaluate.task import Answer, Asked, Prompt, Ranking, Score
from puna.generate.batch import samples
from puna.generate.engine import Engine
from puna.generate.packed import Packed
from puna.generate.request import Request
from puna.generate.sampling import Sampling
from puna.generate.scoring import scores
from puna.model.config import ModelConfig
from puna.tokenizer import Tokenizer

CACHE = 512_000_000  # bytes of keys and values
SLOTS = (2, 64)


@dataclass(frozen=True, slots=True)
class Answered:
    key: str
    answer: Answer
    cut: bool
    """Whether the question did not fit the context, and lost its beginning."""


@dataclass(frozen=True, slots=True)
class Model:
    """What answers. slots: texts at a time; None: as many as CACHE holds."""

    packed: Packed
    tokenizer: Tokenizer
    slots: int | None = None

    @property
    def context(self) -> int:
        return self.packed.config.context

    def engine(self, longest: int) -> Engine:
        """An engine for texts of up to `longest` tokens."""
        slots = self.slots or slots_for(self.packed.config, longest)
        return Engine(self.packed, self.tokenizer, slots=slots, context=longest)


def slots_for(config: ModelConfig, longest: int) -> int:
    one = 2 * 4 * config.layers * config.kv_heads * config.head_dim * longest
    least, most = SLOTS
    return min(max(CACHE // one, least), most)


def answers(model: Model, asked: Mapping[str, Asked], *, alone: bool) -> Iterator[Answered]:
    """Every question's answer, in the order in which they come. alone: choices also behind "Answer:".

    PunaError when the model gives what is no number.
    """
    rankings = {key: each for key, each in asked.items() if isinstance(each, Ranking)}
    prompts = {key: each for key, each in asked.items() if isinstance(each, Prompt)}
    if rankings:
        encoded = {key: ranking(model.tokenizer, each, model.context, alone=alone) for key, each in rankings.items()}
        yield from _ranked(model, encoded)
    if prompts:
        yield from _made(model, prompts)


def _ranked(model: Model, asked: Mapping[str, Pairs]) -> Iterator[Answered]:
    engine = model.engine(max(each.size for each in asked.values()))
    order = sorted(asked, key=lambda key: [*asked[key].pairs[0].context, *asked[key].pairs[0].choice])
    # "Answer:" and its choices, many of which many items have, are scored once each and before all others.
    behind = sorted({pair for each in asked.values() for pair in each.alone}, key=lambda pair: pair.choice)
    alone: dict[Ids, float] = {}
    for number, one in scores(engine, ((pair.context, pair.choice) for pair in behind)):
        alone[behind[number].choice] = one.logprob
    places = [(key, index) for key in order for index in range(len(asked[key].pairs))]
    texts = (asked[key].pairs[index] for key, index in places)
    found: dict[str, dict[int, Score]] = {}
    for number, one in scores(engine, ((pair.context, pair.choice) for pair in texts)):
        key, index = places[number]
        each = asked[key]
        own = alone[each.alone[index].choice] if each.alone else None
        found.setdefault(key, {})[index] = Score(one.logprob, len(each.pairs[index].choice), own)
        if len(found[key]) == len(each.pairs):
            known = found.pop(key)
            yield Answered(key, tuple(known[place] for place in range(len(known))), each.cut)


def _made(model: Model, asked: Mapping[str, Prompt]) -> Iterator[Answered]:
    starts = {key: begun(model.tokenizer, each, model.context) for key, each in asked.items()}
    order = sorted(asked, key=lambda key: starts[key].ids)
    longest = min(max(len(starts[key].ids) + asked[key].tokens for key in order), model.context)
    requests = (_request(key, asked[key], starts[key]) for key in order)
    made = samples(model.engine(longest), requests)
    for number, several in itertools.groupby(made, lambda sample: sample.request):
        texts: list[str] = []
        for sample in several:
            if sample.error:
                raise PunaError(sample.error)
            texts.append(sample.text)
        key = order[number]
        yield Answered(key, tuple(texts), starts[key].cut)


def tokens_a_second(model: Model, asked: Prompt, seconds: float) -> float:
    """How fast samples of a question are drawn behind its prompt, tried for so long; 0 where the model ends each at
    once."""
    start = begun(model.tokenizer, asked, model.context)
    engine = model.engine(min(len(start.ids) + asked.tokens, model.context))
    engine.submit(Request(start.ids, asked.tokens, Sampling(asked.temperature, asked.top_p, seed=0), asked.samples))
    while engine.busy and not engine.counts.generated_tokens:
        engine.step()
    before, began = engine.counts.generated_tokens, time.perf_counter()
    while engine.busy and time.perf_counter() - began < seconds:
        engine.step()
    return (engine.counts.generated_tokens - before) / max(1e-9, time.perf_counter() - began)


def _request(key: str, asked: Prompt, start: Begun) -> Request:
    """The seed follows from the key, so that an item's samples are the same whatever else is asked."""
    sampling = Sampling(asked.temperature, asked.top_p, seed=xxhash.xxh3_64_intdigest(key.encode()) >> 2)
    return Request(start.ids, asked.tokens, sampling, asked.samples, asked.stop)


def tokens(encoded: Sequence[Pairs]) -> int:
    """Tokens that rankings have, each text by itself: what is read where nothing is shared."""
    return sum(len(pair.context) + len(pair.choice) for each in encoded for pair in (*each.pairs, *each.alone))
