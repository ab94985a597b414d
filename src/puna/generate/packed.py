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
BLOCK, GROUP = native.BLOCK, native.GROUP


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Linear:
    """A matrix that is multiplied with, padded with zeros to whole blocks of inputs and, but in f32, groups of rows."""

    weight: Tensor
    """f32: (outputs, padded inputs). bfloat16 or int8: (groups, blocks, GROUP, BLOCK), so that the rows that are read
    together lie together, and memory is read from front to back. bfloat16 on a GPU, whose matmul takes it as it is:
    (outputs, inputs)."""
    scale: Tensor | None
    """For int8, (groups, blocks, GROUP), f32: what the weights of a block of a row are multiplied with."""
    outputs: int
    inputs: int
    kernel: Any = None

    @property
    def width(self) -> int:
        """Padded inputs."""
        return -(-self.inputs // BLOCK) * BLOCK

    def __call__(self, x_NI: Tensor) -> Tensor:
        """x_NI @ weight.T, (N, outputs), f32."""
        if self.kernel is not None and len(x_NI) <= native.MOST:
            return native.linear(self.kernel, self, x_NI)
        if self.weight.dim() == 2 and self.weight.dtype == torch.bfloat16:
            return F.linear(x_NI.to(torch.bfloat16), self.weight).float()
        return F.linear(x_NI, self.dense())

    def dense(self) -> Tensor:
        """The weights in f32, (outputs, inputs); a copy of them but where they are that."""
        weight = self.weight.float()
        if self.scale is not None:
            weight = weight * self.scale[..., None]
        if weight.dim() == 4:
            weight = weight.transpose(1, 2).reshape(-1, self.width)
        return weight[: self.outputs, : self.inputs]


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
        return sum(m.weight.nbytes + (0 if m.scale is None else m.scale.nbytes) for m in matrices)


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
    if kernel is None or model.config.hidden % GROUP:  # w3's rows begin a group of their own
        return packed
    return replace(packed, native=native.Layers(kernel, packed))


def quantised(weight_OI: Tensor, dtype: DType, kernel: Any = None) -> Linear:
    """A matrix in `dtype`; for int8 the largest weight of a block becomes 127 or -127."""
    outputs, inputs = weight_OI.shape
    if dtype == "bf16" and weight_OI.device.type == "cuda":
        return Linear(weight_OI.detach().to(torch.bfloat16), None, outputs, inputs)
    weight_OI = F.pad(weight_OI.detach().float(), (0, -inputs % BLOCK, 0, 0 if dtype == "f32" else -outputs % GROUP))
    if dtype == "f32":
        return Linear(weight_OI.contiguous(), None, outputs, inputs, kernel)
    blocks = weight_OI.reshape(-1, GROUP, weight_OI.shape[1] // BLOCK, BLOCK).transpose(1, 2)
    if dtype == "bf16":
        return Linear(blocks.to(torch.bfloat16).contiguous(), None, outputs, inputs, kernel)
    scale = blocks.abs().amax(-1) / 127
    whole = (blocks / scale.clamp(min=torch.finfo(torch.float32).tiny)[..., None]).round().clamp(-127, 127)
    return Linear(whole.to(torch.int8).contiguous(), scale.contiguous(), outputs, inputs, kernel)
