"""What a training is given: batches to read, the shape and first weights of its model, and its settings.

The loop knows no more of them than this, so that pretraining on windows of a corpus and finetuning on examples share
one loop, with its checkpoints, resumption and care for spikes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from puna.model import weights
from puna.model.config import ModelConfig
from puna.model.documents import segments
from puna.model.llama import Llama
from puna.recipe import Recipe, Train
from puna.tokenizer.sentencepiece_bpe import EOS
from puna.tokens.windows import Windows
from puna.train.spikes import parts


@dataclass(frozen=True)
class Batch:
    tokens_BL1: Tensor
    """(rows, length + 1), integers; what is predicted are the last `length` of each row."""
    segments_BL: Tensor | None = None
    """(rows, length): tokens see those of their own segment alone; None: all before them."""
    scored_BL: Tensor | None = None
    """(rows, length): whether the token behind each counts; None: all do."""

    def split(self, rows: int) -> list[Batch]:
        """In parts of at most so many rows."""
        tokens = torch.split(self.tokens_BL1, rows)
        others = [
            [None] * len(tokens) if each is None else torch.split(each, rows)
            for each in (self.segments_BL, self.scored_BL)
        ]
        return [Batch(*each) for each in zip(tokens, *others, strict=True)]

    def to(self, device: torch.device) -> Batch:
        others = (None if each is None else each.to(device) for each in (self.segments_BL, self.scored_BL))
        return Batch(self.tokens_BL1.to(device), *others)

    @property
    def scored(self) -> int:
        """Tokens that count."""
        return self.tokens_BL1[:, 1:].numel() if self.scored_BL is None else int(self.scored_BL.sum())

    def row_means(self, nats_BL: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Mean nats per scored token of each row; 0 of a row without one. nats_BL: 0 where a token does not count."""
        if self.scored_BL is None:
            means_B = nats_BL.mean(1, dtype=np.float64)
        else:
            means_B = nats_BL.sum(1, dtype=np.float64) / np.maximum(self.scored_BL.sum(1).numpy(), 1)
        return np.asarray(means_B, np.float32)


class Reading(Protocol):
    """What steps read, by the number of a row; the same number gives the same row, whatever was read before."""

    @property
    def rows(self) -> int:
        """Of a step."""

    @property
    def steps(self) -> int: ...

    @property
    def tokenizer(self) -> str:
        """Digest of the tokenizer's file."""

    def batch(self, first: int, count: int) -> Batch: ...

    def costly(self, first: int, nats_BL: npt.NDArray[np.float32]) -> list[dict[str, Any]]:
        """What stands in the rows from `first` on, the costliest first: `id`, `tokens`, `loss` and where it is of."""


class Adapted(Protocol):
    """Adapters that learn in place of the model's own tensors (finetune/lora.py)."""

    def attach(self, model: Llama, dtype: torch.dtype) -> None:
        """Put them on a model whose tensors are filled; afterwards they alone ask for a gradient, in f32, with their
        first weights, and its layers compute with them. dtype: of the computation."""


@dataclass(frozen=True)
class Course:
    reading: Reading
    settings: Train
    config: ModelConfig
    seed: int
    initial: Callable[[str], Tensor]
    """The first weights of a tensor by its name, f32."""
    recipe: Recipe | None = None
    """For trackers, which show it."""
    adapted: Adapted | None = None
    """Where adapters alone are trained, by one process."""


@dataclass(frozen=True)
class Pretraining:
    """The windows of a run, in the order of its mixture."""

    windows: Windows
    masked: bool = False
    """Whether documents see themselves alone."""

    @property
    def rows(self) -> int:
        return self.windows.mixture.batch_windows

    @property
    def steps(self) -> int:
        return self.windows.mixture.steps

    @property
    def tokenizer(self) -> str:
        return self.windows.manifest.tokenizer

    def batch(self, first: int, count: int) -> Batch:
        tokens_BL1 = torch.from_numpy(self.windows.batch(first, count))
        return Batch(tokens_BL1, segments(tokens_BL1[:, :-1], EOS) if self.masked else None)

    def costly(self, first: int, nats_BL: npt.NDArray[np.float32]) -> list[dict[str, Any]]:
        return parts(self.windows, first, nats_BL)


def pretraining(recipe: Recipe, windows: Windows) -> Course:
    """The paper's: from random weights, every token of every window (section 2.3)."""
    config = ModelConfig.from_recipe(recipe, windows.manifest.vocabulary)

    def initial(name: str) -> Tensor:
        return torch.from_numpy(weights.initial(config, name, recipe.training_seed))

    reading = Pretraining(windows, recipe.train.documents == "masked")
    return Course(reading, recipe.train, config, recipe.training_seed, initial, recipe)
