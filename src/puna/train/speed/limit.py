"""The machine's own limit for a model: its matmuls and nothing else.

Each shape of the model's weights is multiplied as a training step does, forward (x W'), for the input's gradient
(g W) and for the weight's (g' x), in buffers that are there already, and weighed by how many such weights there are.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from puna.model.config import ModelConfig
from puna.model.flop import matmuls
from puna.model.loss import chunk_of
from puna.train.speed.turns import Turn, clocked


class Limit:
    """The matmuls of one step of `tokens` tokens. Calling it runs each shape once; what it returns is the whole step.

    Memory: twice the tensors of each shape of weights, and twice a chunk's logits.
    """

    def __init__(self, config: ModelConfig, tokens: int, dtype: torch.dtype) -> None:
        self._made: list[tuple[float, Tensor, Tensor, Tensor]] = []
        chance = torch.Generator().manual_seed(1)
        for (output, inner), times in matmuls(config).items():
            rows = chunk_of(tokens, output, dtype)
            sizes = (rows, inner), (rows, output), (output, inner)
            x_ND, gradient_NE, weight_ED = (torch.randn(size, generator=chance).to(dtype) for size in sizes)
            for left, right in ((x_ND, weight_ED.t()), (gradient_NE, weight_ED), (gradient_NE.t(), x_ND)):
                place = torch.empty(left.shape[0], right.shape[1], dtype=dtype)
                self._made.append((times * tokens / rows, left, right, place))

    def __call__(self) -> Turn:
        total = Turn(0.0, 0.0)
        for times, left, right, place in self._made:
            total = total.plus(clocked(partial(torch.mm, left, right, out=place)).times(times))
        return total
