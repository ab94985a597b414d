"""The cheap parts of a layer, forward and backward, as small functions that torch.compile makes one loop of each.

Paper, section 2.4: what is cheap to compute is not kept for the backward pass but computed again. Each function here
reads tensors once and writes once when it is compiled; plain, it is a row of torch's operations with the same results
but for rounding. All compute in f32 or wider and give the dtype that they were given.

N is the number of tokens of a batch; the gradient of a tensor has its dimensions.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

SHAPES = 64  # for which one function is compiled in a process; a training has two or three


class Kernels(NamedTuple):
    """The functions, plain or compiled, that a hand-written layer computes with."""

    norm: Callable[[Tensor, Tensor, float], Tensor]
    norm_gradient: Callable[[Tensor, Tensor, Tensor, Tensor, float], tuple[Tensor, Tensor]]
    gate: Callable[[Tensor, Tensor], Tensor]
    gate_gradient: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]
    turn: Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


def norm(x_ND: Tensor, weight_D: Tensor, epsilon: float) -> Tensor:
    """RMSNorm: x / sqrt(mean x^2 + epsilon) * weight (`rms_norm` of layer.py, rounded once)."""
    wide = _wide(x_ND)
    inverse_N1 = torch.rsqrt(wide.square().mean(-1, keepdim=True) + epsilon)
    return (wide * inverse_N1 * weight_D).to(x_ND.dtype)


def norm_gradient(
    gradient_ND: Tensor, x_ND: Tensor, weight_D: Tensor, past_ND: Tensor, epsilon: float
) -> tuple[Tensor, Tensor]:
    """Of `norm`: past_ND plus the gradient of x, and the gradient of the weight.

    past_ND: the gradient that reaches x on the residual path, past the norm. With r = 1 / sqrt(mean x^2 + epsilon),
    n = x r and g = gradient * weight: dx = r (g - n mean(g n)), dweight = sum over tokens of gradient * n.
    """
    wide, gradient = _wide(x_ND), _wide(gradient_ND)
    inverse_N1 = torch.rsqrt(wide.square().mean(-1, keepdim=True) + epsilon)
    normed = wide * inverse_N1
    weighted = gradient * weight_D
    own = inverse_N1 * (weighted - normed * (weighted * normed).mean(-1, keepdim=True))
    return (past_ND + own).to(x_ND.dtype), (gradient * normed).sum(0).to(weight_D.dtype)


def gate(a_NF: Tensor, b_NF: Tensor) -> Tensor:
    """SwiGLU's product silu(a) * b, where silu(a) = a sigmoid(a)."""
    wide = _wide(a_NF)
    return (wide * wide.sigmoid() * b_NF).to(a_NF.dtype)


def gate_gradient(gradient_NF: Tensor, a_NF: Tensor, b_NF: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """`gate` once more, and its gradients of a and b.

    With s = sigmoid(a): da = gradient * b * s (1 + a (1 - s)), db = gradient * a s.
    """
    wide, gradient = _wide(a_NF), _wide(gradient_NF)
    sigmoid = wide.sigmoid()
    silu = wide * sigmoid
    a = gradient * b_NF * sigmoid * (1 + wide * (1 - sigmoid))
    return (silu * b_NF).to(a_NF.dtype), a.to(a_NF.dtype), (gradient * silu).to(a_NF.dtype)


def turn(q_BLHK: Tensor, k_BLGK: Tensor, cos_LF: Tensor, sin_LF: Tensor) -> tuple[Tensor, Tensor]:
    """Queries and keys turned by the angles of their positions (`rotate` of rotary.py).

    A turn is undone, and its gradient turned back, by the same function with -sin.
    """
    return _turned(q_BLHK, cos_LF, sin_LF), _turned(k_BLGK, cos_LF, sin_LF)


PLAIN = Kernels(norm, norm_gradient, gate, gate_gradient, turn)


@cache
def compiled() -> Kernels:
    """The same functions through torch.compile, each compiled once for every shape it meets.

    For every shape, and not once for all: else what a shape is computed with, and so its bits, would depend on the
    shapes that came before it.
    """
    settings: dict[str, Any] = {"fullgraph": True, "dynamic": False, "recompile_limit": SHAPES}
    kernels: list[Any] = [torch.compile(kernel, **settings) for kernel in PLAIN]
    return Kernels(*kernels)


def _turned(x_BLHK: Tensor, cos_LF: Tensor, sin_LF: Tensor) -> Tensor:
    even, odd = x_BLHK.reshape(*x_BLHK.shape[:-1], -1, 2).unbind(-1)
    cos, sin = cos_LF[:, None], sin_LF[:, None]
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), -1).flatten(-2).to(x_BLHK.dtype)


def _wide(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))
