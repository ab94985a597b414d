"""Which piece comes next: repetition penalty, temperature, top-k, top-p, min-p, in this order.

In f64 and on the CPU whatever the model's device and dtype, so that one seed gives one text for one row of logits.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from puna.errors import InputError

LEAST_PENALTY, MOST_PENALTY = 0.01, 100  # a logit that is divided by next to nothing is no finite number any more


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a piece is drawn. InputError when a value makes no sense."""

    temperature: float = 0.8
    """Logits are divided by it; 0 takes the likeliest piece (the first of equals)."""
    top_p: float = 0.95
    """Only the likeliest pieces that together reach this probability are kept; 1 keeps all."""
    top_k: int = 0
    """Only so many of the likeliest pieces are kept, before top_p; 0 keeps all."""
    min_p: float = 0.0
    """Only pieces at least this likely beside the likeliest are kept, after top_p; 0 keeps all."""
    repetition_penalty: float = 1.0
    """Logits of pieces in the prompt or the text so far are divided by it where positive, else multiplied (Keskar et
    al. 2019); 1 changes nothing."""
    seed: int = 1
    """The same seed, prompt and model give the same text."""

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < float("inf"):
            raise InputError(f"temperature = {self.temperature}, but it must be a number, 0 or more")
        if not 0 < self.top_p <= 1:
            raise InputError(f"top_p = {self.top_p}, but it must be above 0 and at most 1")
        if self.top_k < 0:
            raise InputError(f"top_k = {self.top_k}, but it must be 0 (all) or more")
        if not 0 <= self.min_p <= 1:
            raise InputError(f"min_p = {self.min_p}, but it must be 0 (all) to 1")
        if not LEAST_PENALTY <= self.repetition_penalty <= MOST_PENALTY:
            what = f"repetition_penalty = {self.repetition_penalty}, but it must be {LEAST_PENALTY} to {MOST_PENALTY}"
            raise InputError(what)

    def of_sample(self, index: int) -> Sampling:
        """The same with the seed of a request's sample `index`."""
        return replace(self, seed=self.seed + index)

    def generator(self) -> torch.Generator:
        """The source of chance that `draw` takes, at its start."""
        return torch.Generator().manual_seed(self.seed % 2**63)

    def draw(self, logits_V: Tensor, generator: torch.Generator, past: Collection[int] = ()) -> int:
        """The id of the next piece, from the scores of all pieces. past: the ids before it."""
        logits_V = logits_V.detach().cpu()
        if self.repetition_penalty != 1 and past:
            logits_V = penalised(logits_V.double(), past, self.repetition_penalty)
        if self.temperature == 0:
            return int(logits_V.argmax())
        ids, probabilities = candidates(logits_V.double(), self.temperature, self.top_k, self.top_p, self.min_p)
        return int(ids[torch.multinomial(probabilities, 1, generator=generator)])


def penalised(logits_V: Tensor, past: Collection[int], penalty: float) -> Tensor:
    """A copy of the logits with those of the ids in `past` made less likely."""
    ids = torch.tensor(sorted(set(past)))
    seen = logits_V[ids]
    return logits_V.index_copy(0, ids, torch.where(seen > 0, seen / penalty, seen * penalty))


def candidates(
    logits_V: Tensor, temperature: float, top_k: int, top_p: float, min_p: float = 0.0
) -> tuple[Tensor, Tensor]:
    """The ids that may be drawn, likeliest first (lower id first among equals), and their probabilities.

    The likeliest piece is always among them; of top_p, the piece that crosses the share is kept.
    """
    scaled, ids = ((logits_V - logits_V.max()) / temperature).sort(descending=True, stable=True)
    if top_k:
        scaled, ids = scaled[:top_k], ids[:top_k]
    probabilities = scaled.softmax(-1)
    before = probabilities.cumsum(-1) - probabilities
    kept = (before < top_p) & (probabilities >= min_p * probabilities[0])
    kept[0] = True
    probabilities = probabilities[kept]
    return ids[kept], probabilities / probabilities.sum()
