"""The readable twin of answering.py: one text after the other, each read by itself from its beginning to its end.

No cache, no batch, nothing shared: what `answers` gives must be this, but for rounding.
"""

from __future__ import annotations

import torch

from puna.evaluate.encoded import Pair, begun, ranking
from puna.evaluate.task import Answer, Asked, Prompt, Score
from puna.generate.decode import continuation, to_text
from puna.generate.sampling import Sampling
from puna.model.llama import Llama
from puna.tokenizer import Tokenizer


def answer(model: Llama, tokenizer: Tokenizer, asked: Asked, *, alone: bool) -> Answer:
    """What the model answers; of a prompt the greedy text alone."""
    context = model.config.context
    if isinstance(asked, Prompt):
        ids = begun(tokenizer, asked, context).ids
        sampling = Sampling(temperature=0)
        made = continuation(model, ids, tokens=asked.tokens, eos=tokenizer.eos, sampling=sampling)
        return ("".join(to_text(made, tokenizer, asked.stop)),)
    encoded = ranking(tokenizer, asked, context, alone=alone)
    behind: list[float | None] = [logprob(model, pair) for pair in encoded.alone]
    behind += [None] * (len(encoded.pairs) - len(behind))
    return tuple(
        Score(logprob(model, pair), len(pair.choice), own) for pair, own in zip(encoded.pairs, behind, strict=True)
    )


@torch.no_grad()
def logprob(model: Llama, pair: Pair) -> float:
    """Nats of the choice behind its context."""
    ids = torch.tensor([[*pair.context, *pair.choice]])
    logprobs_LV = model.logits(ids)[0].float().log_softmax(-1)
    first = len(pair.context) - 1
    return sum(float(logprobs_LV[first + place, number]) for place, number in enumerate(pair.choice))
