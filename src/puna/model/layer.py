"""One transformer layer as a function of raw tensors: x + attention(norm(x)), then x + SwiGLU(norm(x)).

Paper, section 2.2. The layer keeps no state and reads every size from its tensors, so the same function works on whole
weights, under sharding, and on the slice of heads and of hidden columns that one rank of a tensor-parallel group holds.
This is the readable one: whatever replaces it (section 2.4: a backward pass written by hand) has its signature.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from puna.model.attention import attention
from puna.model.cache import LayerCache
from puna.model.comm import Comm, gathered, reduced
from puna.model.rotary import Rope, rotate


class LayerWeights(NamedTuple):
    """The tensors of one layer under Meta's names; linear weights are (output, input)."""

    attention_norm: Tensor
    wq: Tensor
    wk: Tensor
    wv: Tensor
    wo: Tensor
    ffn_norm: Tensor
    w1: Tensor
    w2: Tensor
    w3: Tensor


def layer(
    x_BLD: Tensor,
    weights: LayerWeights,
    rope: Rope,
    segments: Tensor | None = None,
    comm: Comm | None = None,
    *,
    epsilon: float = 1e-6,
    cache: LayerCache | None = None,
) -> Tensor:
    """x_BLD: (batch, length, dim) -> the same shape.

    rope: the table of the positions of x. segments: (batch, positions so far), see `attention`. comm: None where one
    process holds the whole layer; else x is this rank's share of the positions, (batch, length / size, dim), weights
    its slices, and rope and segments are of all positions. cache: where keys and values of earlier positions stand and
    new ones are written.
    """
    normed = rms_norm(x_BLD, weights.attention_norm, epsilon)
    mixed = _attention(normed if comm is None else gathered(normed, comm), weights, rope, segments, cache)
    x_BLD = x_BLD + (mixed if comm is None else reduced(mixed, comm))
    normed = rms_norm(x_BLD, weights.ffn_norm, epsilon)
    mixed = _feed_forward(normed if comm is None else gathered(normed, comm), weights)
    return x_BLD + (mixed if comm is None else reduced(mixed, comm))


def rms_norm(x_BLD: Tensor, weight_D: Tensor, epsilon: float) -> Tensor:
    """x / root mean square of x over dim, times weight; computed in f32 or wider, given in x's dtype."""
    wide = x_BLD.to(torch.promote_types(x_BLD.dtype, torch.float32))
    normed = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + epsilon)
    return normed.to(x_BLD.dtype) * weight_D


def _attention(
    x_BLD: Tensor, weights: LayerWeights, rope: Rope, segments: Tensor | None, cache: LayerCache | None
) -> Tensor:
    head_dim = 2 * rope.cos_LF.shape[-1]
    q_BLHK, k_BLGK, v_BLGK = (
        F.linear(x_BLD, weight).view(*x_BLD.shape[:2], -1, head_dim) for weight in (weights.wq, weights.wk, weights.wv)
    )
    q_BHLK = rotate(q_BLHK, rope).transpose(1, 2)
    k_BGSK, v_BGSK = rotate(k_BLGK, rope).transpose(1, 2), v_BLGK.transpose(1, 2)
    if cache is not None:
        k_BGSK, v_BGSK = cache.extend(k_BGSK, v_BGSK)
    output_BHLK, _ = attention(q_BHLK, k_BGSK, v_BGSK, segments)
    return F.linear(output_BHLK.transpose(1, 2).flatten(-2), weights.wo)


def _feed_forward(x_BLD: Tensor, weights: LayerWeights) -> Tensor:
    return F.linear(F.silu(F.linear(x_BLD, weights.w1)) * F.linear(x_BLD, weights.w3), weights.w2)
