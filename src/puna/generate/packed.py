"""A model's weights as decoding reads them: each matrix once a step, those that read the same input in one piece.

wq, wk and wv become one matrix, w1 and w3 another. Nothing here is trained, and nothing here changes afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from puna.model.config import ModelConfig
from puna.model.llama import Layer, Llama


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Linear:
    """A matrix that is multiplied with: weight_OI, (outputs, inputs)."""

    weight_OI: Tensor

    def __call__(self, x_NI: Tensor) -> Tensor:
        """x_NI @ weight.T, (N, outputs), in x's dtype."""
        return F.linear(x_NI, self.weight_OI)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class PackedLayer:
    attention_norm_D: Tensor
    qkv: Linear
    """Rows of wq, then of wk, then of wv."""
    wo: Linear
    ffn_norm_D: Tensor
    w13: Linear
    """Rows of w1, then of w3."""
    w2: Linear


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Packed:
    """A whole model."""

    config: ModelConfig
    embedding_VD: Tensor
    layers: tuple[PackedLayer, ...]
    norm_D: Tensor
    output: Linear

    @property
    def device(self) -> torch.device:
        return self.norm_D.device


@torch.no_grad()
def pack(model: Llama) -> Packed:
    """The weights of `model`, which may be let go afterwards."""
    layers = []
    for block in model.layers:
        weights = cast(Layer, block).weights()
        layers.append(
            PackedLayer(
                attention_norm_D=weights.attention_norm.detach(),
                qkv=Linear(torch.cat([weights.wq, weights.wk, weights.wv])),
                wo=Linear(weights.wo.detach()),
                ffn_norm_D=weights.ffn_norm.detach(),
                w13=Linear(torch.cat([weights.w1, weights.w3])),
                w2=Linear(weights.w2.detach()),
            )
        )
    embedding, output = model.tok_embeddings.weight.detach(), Linear(model.output_weight.detach())
    return Packed(model.config, embedding, tuple(layers), model.norm.weight.detach(), output)
