"""Rotary position embeddings (paper, section 2.2; Su et al. 2021) in real arithmetic.

Each pair of neighbouring elements of a head, (0, 1), (2, 3), ..., is turned by position x base^(-2i / head_dim): Meta's
layout, with the complex product written out, since compilers and CPUs handle real tensors better. The tables are small
and are computed anew for every forward pass, in f64 so that far positions keep their angle, so a model has no buffers
that a checkpoint or a meta device would have to care for.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Rope(NamedTuple):
    """Cosines and sines of the angles, each (length, head_dim / 2), f32."""

    cos_LF: Tensor
    sin_LF: Tensor


def rope_table(
    length: int, head_dim: int, base: float, *, start: int = 0, device: torch.device | str | None = None
) -> Rope:
    """The table of positions start .. start + length - 1."""
    with torch.no_grad():
        pairs = torch.arange(0, head_dim, 2, dtype=torch.float64, device=device)
        positions = torch.arange(start, start + length, dtype=torch.float64, device=device)
        angles_LF = positions[:, None] * base ** (-pairs / head_dim)
        return Rope(angles_LF.cos().float(), angles_LF.sin().float())


def rotate(x_BLHK: Tensor, rope: Rope) -> Tensor:
    """Turn every pair of x_BLHK (batch, length, heads, head_dim) by its position's angle; computed in f32 or wider."""
    even, odd = x_BLHK.reshape(*x_BLHK.shape[:-1], -1, 2).unbind(-1)
    cos, sin = rope.cos_LF[:, None], rope.sin_LF[:, None]
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), -1).flatten(-2).to(x_BLHK.dtype)
