"""The transformer layer with its backward pass written by hand.

Paper, section 2.4: activations that are expensive to compute, such as the outputs of linear layers, are saved, by a
backward function of the layer instead of autograd's. What is cheap is computed again: both RMSNorms, the product of the
SwiGLU. The queries and keys are kept as the attention's backward needs them, turned; turning their gradients back needs
neither table nor value of the unturned ones.

Kept for the backward pass, of one token of one layer, with D dim, G kv_heads * head_dim, F hidden: in the model's dtype
x, q, the attention's output and the sum behind it (4 D), k and v (2 G), the outputs of w1 and w3 (2 F); in f32, or f64
for a model of f64, one logsumexp a head. `kept_bytes` is that sum. x is the output of the layer before, so it is held
once. Grouped keys and values are kept once a group. A lean layer does not keep the output of w3 and computes it again,
bit for bit: F elements less, for one matmul more (2 D F of the 24 D^2 + 18 D F operations of a step, at G = D).

Twin: `layer`, whose signature this has. Where ranks share the layer, it is hand_cut.py.
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from puna.model.attention import attention, attention_gradient
from puna.model.cache import LayerCache
from puna.model.comm import Comm
from puna.model.hand_cut import cut_hand_layer
from puna.model.kernels import PLAIN, Kernels
from puna.model.layer import LayerWeights, layer
from puna.model.rotary import Rope


def hand_layer(
    x_BLD: Tensor,
    weights: LayerWeights,
    rope: Rope,
    segments: Tensor | None = None,
    comm: Comm | None = None,
    *,
    epsilon: float = 1e-6,
    cache: LayerCache | None = None,
    kernels: Kernels = PLAIN,
    lean: bool = False,
) -> Tensor:
    """As `layer`. kernels: `compiled()` where a compiler is. lean: compute the output of w3 again instead of keeping
    it. With a cache, or where nothing is differentiated, it is `layer` itself. Differentiable once."""
    if cache is not None or not torch.is_grad_enabled():
        return layer(x_BLD, weights, rope, segments, comm, epsilon=epsilon, cache=cache)
    rest = (epsilon, kernels, lean)
    if comm is not None:
        return cut_hand_layer(x_BLD, weights, rope, segments, comm, *rest)
    return cast(Tensor, _HandLayer.apply(x_BLD, *weights, rope, segments, *rest))  # type: ignore[no-untyped-call]


def kept_bytes(dim: int, heads: int, keys: int, hidden: int, dtype: torch.dtype, *, lean: bool = False) -> int:
    """Bytes that `hand_layer` keeps of one token until its backward pass; keys: kv_heads * head_dim."""
    wide = torch.promote_types(dtype, torch.float32)
    return dtype.itemsize * (4 * dim + 2 * keys + (1 if lean else 2) * hidden) + wide.itemsize * heads


class _HandLayer(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_BLD: Tensor, *rest: Any) -> Tensor:
        weights = LayerWeights(*rest[:9])
        rope, segments, epsilon, kernels, lean = rest[9:]
        batch, _, dim = x_BLD.shape
        head_dim = 2 * rope.cos_LF.shape[-1]
        x_ND = x_BLD.reshape(-1, dim)

        normed = kernels.norm(x_ND, weights.attention_norm, epsilon)
        q_BLHK, k_BLGK, v_BLGK = (
            F.linear(normed, weight).view(batch, -1, weight.shape[0] // head_dim, head_dim)
            for weight in (weights.wq, weights.wk, weights.wv)
        )
        q_BLHK, k_BLGK = kernels.turn(q_BLHK, k_BLGK, *rope)
        output_BHLK, logsumexp_BHL = attention(
            q_BLHK.transpose(1, 2), k_BLGK.transpose(1, 2), v_BLGK.transpose(1, 2), segments
        )
        output_ND = output_BHLK.transpose(1, 2).flatten(2).flatten(0, 1)
        sum_ND = torch.addmm(x_ND, output_ND, weights.wo.t())

        normed = kernels.norm(sum_ND, weights.ffn_norm, epsilon)
        a_NF, b_NF = F.linear(normed, weights.w1), F.linear(normed, weights.w3)
        result_ND = torch.addmm(sum_ND, kernels.gate(a_NF, b_NF), weights.w2.t())

        kept = (q_BLHK, k_BLGK, v_BLGK, output_ND, logsumexp_BHL, sum_ND, a_NF, None if lean else b_NF)
        ctx.save_for_backward(x_BLD, *kept, *weights, *rope, segments)
        ctx.rest = epsilon, kernels
        return result_ND.view(x_BLD.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_BLD: Tensor) -> tuple[Tensor | None, ...]:
        x_BLD, q_BLHK, k_BLGK, v_BLGK, output_ND, logsumexp_BHL, sum_ND, a_NF, b_NF, *rest = ctx.saved_tensors
        weights, (cos_LF, sin_LF, segments) = LayerWeights(*rest[:9]), rest[9:]
        epsilon, kernels = ctx.rest
        dim = x_BLD.shape[-1]
        x_ND, gradient_ND = x_BLD.reshape(-1, dim), gradient_BLD.reshape(-1, dim)

        # x + SwiGLU(norm(x))
        normed = kernels.norm(sum_ND, weights.ffn_norm, epsilon)
        if b_NF is None:
            b_NF = F.linear(normed, weights.w3)
        product_NF, a_gradient, b_gradient = kernels.gate_gradient(gradient_ND @ weights.w2, a_NF, b_NF)
        w2 = gradient_ND.t() @ product_NF
        del product_NF, b_NF
        w1, w3 = a_gradient.t() @ normed, b_gradient.t() @ normed
        normed_gradient = (a_gradient @ weights.w1).addmm_(b_gradient, weights.w3)
        del normed, a_gradient, b_gradient
        gradient_ND, ffn_norm = kernels.norm_gradient(normed_gradient, sum_ND, weights.ffn_norm, gradient_ND, epsilon)

        # x + attention(norm(x))
        wo = gradient_ND.t() @ output_ND
        q_gradient, k_gradient, v_gradient = attention_gradient(
            (gradient_ND @ weights.wo).view_as(q_BLHK).transpose(1, 2),
            q_BLHK.transpose(1, 2),
            k_BLGK.transpose(1, 2),
            v_BLGK.transpose(1, 2),
            output_ND.view_as(q_BLHK).transpose(1, 2),
            logsumexp_BHL,
            segments,
        )
        turned = kernels.turn(q_gradient.transpose(1, 2), k_gradient.transpose(1, 2), cos_LF, -sin_LF)
        flat = [t.flatten(2).flatten(0, 1) for t in (*turned, v_gradient.transpose(1, 2))]
        del q_gradient, k_gradient, v_gradient, turned
        normed = kernels.norm(x_ND, weights.attention_norm, epsilon)
        wq, wk, wv = (gradient.t() @ normed for gradient in flat)
        normed_gradient = (flat[0] @ weights.wq).addmm_(flat[1], weights.wk).addmm_(flat[2], weights.wv)
        del normed, flat
        x, attention_norm = kernels.norm_gradient(normed_gradient, x_ND, weights.attention_norm, gradient_ND, epsilon)
        gradients = LayerWeights(attention_norm, wq, wk, wv, wo, ffn_norm, w1, w2, w3)
        return x.view_as(x_BLD), *gradients, None, None, None, None, None
