"""What finetuning changed, measured before and after: loss of held-out answers, plain text, and samples.

Each loss has a standard error over its texts, and the change has one of its own, of the differences text by text: those
are the same texts, so the change is known far better than either loss.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from puna.finetune.examples import Example
from puna.finetune.packing import laid, packed
from puna.finetune.templated import Encoded
from puna.generate.batch import samples
from puna.generate.chat import Template
from puna.generate.engine import Engine
from puna.generate.packed import pack
from puna.generate.request import Request
from puna.generate.sampling import Sampling
from puna.model.bits import bits
from puna.model.llama import Llama
from puna.tokenizer import Tokenizer

TOGETHER = 4  # rows read at once
SHOWN = 6  # held-out questions that are answered before and after
LONGEST = 160  # tokens of such an answer


@dataclass(frozen=True, slots=True)
class Texts:
    """Plain text, by which it is told whether the model forgot how to write it."""

    ids: Sequence[npt.NDArray[np.int64]]
    """Of each text, with what begins it and ends it."""
    bytes: int
    digest: str


@dataclass(frozen=True)
class Measured:
    answers: tuple[float, ...]
    """Nats of each held-out answer, over all its scored tokens."""
    tokens: tuple[int, ...]
    """Scored tokens of each."""
    plain: float | None
    """Bits per byte of the plain text."""
    samples: tuple[dict[str, str], ...]
    """`prompt` and `text`."""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def measured(
    model: Llama,
    tokenizer: Tokenizer,
    template: Template,
    heldout: Sequence[tuple[Example, Encoded]],
    plain: Texts | None,
    *,
    length: int,
    advance: Callable[[float], object] = lambda amount: None,
) -> Measured:
    """length: tokens of a row, and of a window of the plain text. advance: called with the tokens that were read."""
    encoded = [each for _, each in heldout]
    nats = answer_nats(model, encoded, length, tokenizer.eos, advance)
    cost = None
    if plain is not None:
        found = bits(model, plain.ids, length, max(1, length // 2), batch=TOGETHER, advance=advance)
        cost = float(found.nats.sum()) / math.log(2) / plain.bytes
    shown = [example for example, _ in heldout[:SHOWN]]
    return Measured(
        tuple(nats), tuple(_scored(each) for each in encoded), cost, _answers(model, tokenizer, template, shown)
    )


@torch.no_grad()
def answer_nats(
    model: Llama, examples: Sequence[Encoded], length: int, filler: int, advance: Callable[[float], object]
) -> list[float]:
    """Nats of each example's answers. Packed as in training, so each by itself."""
    rows = packed([len(each.ids) for each in examples], length + 1)
    nats = [0.0] * len(examples)
    for first in range(0, len(rows), TOGETHER):
        chosen = rows[first : first + TOGETHER]
        made = laid([[examples[number] for number in row] for row in chosen], length, filler)
        loss = model.loss(*(torch.from_numpy(each) for each in (made.tokens_BL1, made.segments_BL, made.scored_BL)))
        each_BL = loss.each.view(made.scored_BL.shape).double()
        for row, numbers in enumerate(chosen):
            place = 0
            for number in numbers:
                end = place + len(examples[number].ids)
                nats[number] = float(each_BL[row, place : end - 1].sum())
                place = end
        advance(sum(len(examples[number].ids) for row in chosen for number in row))
    return nats


def change(before: Measured, after: Measured) -> dict[str, Any]:
    """The losses in nats per token with their standard errors, and of their difference, by the ratio of sums."""
    tokens = before.tokens
    if not tokens:
        return {"before": None, "after": None}
    differences = [late - early for early, late in zip(before.answers, after.answers, strict=True)]
    values = {"before": before.answers, "after": after.answers, "change": differences}
    found: dict[str, Any] = {"examples": len(tokens), "tokens": sum(tokens)}
    for name, nats in values.items():
        mean = sum(nats) / sum(tokens)
        left = [nat - mean * count for nat, count in zip(nats, tokens, strict=True)]
        error = statistics.stdev(left) * math.sqrt(len(left)) / sum(tokens) if len(left) > 1 else None
        found[name] = {"loss": mean, "error": error}
    return found


def _scored(encoded: Encoded) -> int:
    return int(encoded.scored[1:].sum())


def _answers(
    model: Llama, tokenizer: Tokenizer, template: Template, shown: Sequence[Example]
) -> tuple[dict[str, str], ...]:
    """Greedy answers to the last question of each example."""
    if not shown:
        return ()
    starts = [template.ids(example.as_json()[:-1], tokenizer) for example in shown]
    most = model.config.context
    room = min(LONGEST, most // 2)
    starts = [ids if len(ids) + room <= most else [ids[0], *ids[len(ids) + room + 1 - most :]] for ids in starts]
    engine = Engine(pack(model), tokenizer, slots=1, context=max(len(ids) for ids in starts) + room)
    asked = [Request(tuple(ids), room, Sampling(temperature=0.0)) for ids in starts]
    texts = {sample.request: sample.text for sample in samples(engine, asked)}
    return tuple(
        {"prompt": example.messages[-2].content, "text": texts[number]} for number, example in enumerate(shown)
    )
