"""A model's weights as decoding reads them: each matrix once a step, those that read the same input in one piece.

wq, wk and wv become one matrix, w1 and w3 another. They are kept in float32, in bfloat16, or in 8 bits with a scale for
each 64 inputs of a row (8.5 bits a weight, as llama.cpp's Q8_0, which has one in 16 bits for each 32). Norms stay in
float32, and so does everything that is computed.

A few tokens at a time go through kernel.cpp, at the memory's speed; many, as a prompt's, through torch's matmul in
float32. Where the kernel is not, torch does both: it is the twin that the kernel is tested against.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, cast, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from puna.errors import InputError
from puna.generate import native
from puna.model.config import ModelConfig
from puna.model.llama import Layer, Llama

DType = Literal["f32", "bf16", "int8"]
BLOCK = native.BLOCK


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Linear:
    """A matrix that is multiplied with. Its rows are padded with zeros to a multiple of BLOCK."""

    weight_OI: Tensor
    """(outputs, padded inputs): float32, bfloat16 or int8."""
    scale_OB: Tensor | None
    """For int8, (outputs, padded inputs / BLOCK), f32: what the weights of a block are multiplied with."""
    inputs: int
    kernel: Any = None

    @property
    def outputs(self) -> int:
        return self.weight_OI.shape[0]

    def __call__(self, x_NI: Tensor) -> Tensor:
        """x_NI @ weight.T, (N, outputs), f32."""
        if self.kernel is not None and len(x_NI) <= native.MOST:
            return native.linear(self.kernel, self, x_NI)
        return F.linear(x_NI, self.dense())

    def dense(self) -> Tensor:
        """The weights in f32, (outputs, inputs); a copy of them but where they are that."""
        weight_OI = self.weight_OI.float()
        if self.scale_OB is not None:
            weight_OI = (weight_OI.unflatten(1, (-1, BLOCK)) * self.scale_OB[..., None]).flatten(1)  # type: ignore[no-untyped-call]
        return weight_OI[:, : self.inputs]


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
    dtype: DType
    embedding_VD: Tensor
    layers: tuple[PackedLayer, ...]
    norm_D: Tensor
    output: Linear
    native: native.Layers | None = None
    """All layers over a few tokens, where kernel.cpp is used."""

    @property
    def device(self) -> torch.device:
        return self.norm_D.device

    @property
    def bytes(self) -> int:
        """What a step reads: all weights but the embedding."""
        matrices = [self.output, *(m for layer in self.layers for m in (layer.qkv, layer.wo, layer.w13, layer.w2))]
        return sum(m.weight_OI.nbytes + (0 if m.scale_OB is None else m.scale_OB.nbytes) for m in matrices)


@torch.no_grad()
def pack(model: Llama, dtype: str = "f32", *, compiled: bool = True) -> Packed:
    """The weights of `model`, which may be let go afterwards.

    dtype: f32, bf16 or int8, rounded to nearest from the model's own. compiled: False never uses kernel.cpp.
    Memory: what is packed beside the model, and no more than one matrix beyond it. InputError for another dtype.
    """
    if dtype not in get_args(DType):
        raise InputError(f"dtype = {dtype!r}, but it must be one of {', '.join(get_args(DType))}")
    kind = cast(DType, dtype)
    kernel = native.kernel() if compiled and model.device.type == "cpu" else None
    layers = []
    for block in model.layers:
        weights = cast(Layer, block).weights()
        layers.append(
            PackedLayer(
                attention_norm_D=weights.attention_norm.detach().float(),
                qkv=quantised(torch.cat([weights.wq, weights.wk, weights.wv]), kind, kernel),
                wo=quantised(weights.wo, kind, kernel),
                ffn_norm_D=weights.ffn_norm.detach().float(),
                w13=quantised(torch.cat([weights.w1, weights.w3]), kind, kernel),
                w2=quantised(weights.w2, kind, kernel),
            )
        )
    embedding_VD = model.tok_embeddings.weight.detach().to(torch.float32 if kind == "f32" else torch.bfloat16)
    output = quantised(model.output_weight, kind, kernel)
    norm_D = model.norm.weight.detach().float()
    packed = Packed(model.config, kind, embedding_VD, tuple(layers), norm_D, output)
    return packed if kernel is None else replace(packed, native=native.Layers(kernel, packed))


def quantised(weight_OI: Tensor, dtype: DType, kernel: Any = None) -> Linear:
    """A matrix in `dtype`; for int8 the largest weight of a block becomes 127 or -127."""
    inputs = weight_OI.shape[1]
    padded_OI = (
        F.pad(weight_OI.detach().float(), (0, -inputs % BLOCK)) if inputs % BLOCK else weight_OI.detach().float()
    )
    if dtype == "f32":
        return Linear(padded_OI.contiguous(), None, inputs, kernel)
    if dtype == "bf16":
        return Linear(padded_OI.to(torch.bfloat16).contiguous(), None, inputs, kernel)
    blocks = padded_OI.reshape(len(padded_OI), -1, BLOCK)
    scale_OB = blocks.abs().amax(-1) / 127
    whole = (blocks / scale_OB.clamp(min=torch.finfo(torch.float32).tiny)[..., None]).round().clamp(-127, 127)
    return Linear(whole.to(torch.int8).reshape(padded_OI.shape), scale_OB, inputs, kernel)
