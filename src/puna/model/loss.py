"""Cross-entropy over a large vocabulary, chunk by chunk, so that the logits of a batch never stand in memory.

The paper's section 2.4 saves what is expensive to recompute; logits are the opposite: cheap, and by far the largest
tensor of a step. Here forward and backward of a chunk are done together: its logits become probabilities, those become
the gradient, and only the gradients of hidden states and output weight are kept. Buffers are made once and reused,
since fresh pages for every chunk cost as much as the softmax. `plain_cross_entropy` is the readable twin.

Numbers: softmax in f32 (or wider); the weight's gradient is summed over chunks in f32; nats are summed in f64.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

CHUNK = 512  # tokens: enough for the matmuls, few enough that the sums over chunks cost little


class Loss(NamedTuple):
    """What scored tokens cost."""

    nats: Tensor
    """Sum over the scored tokens of -ln p, a scalar in f64."""
    tokens: Tensor
    """Number of scored tokens, a scalar integer."""
    each: Tensor
    """-ln p of every token, (tokens,), in f32 or wider; 0 where it is not scored. Not differentiable."""


def cross_entropy(hidden_ND: Tensor, weight_VD: Tensor, targets_N: Tensor, *, chunk: int = CHUNK) -> Loss:
    """Nats of each target under softmax(hidden_ND @ weight_VD.T); a negative target is not scored.

    hidden_ND: (tokens, dim); weight_VD: (vocabulary, dim) of the same dtype; targets_N: (tokens,) integers.
    """
    tokens = (targets_N >= 0).sum()
    if torch.is_grad_enabled() and (hidden_ND.requires_grad or weight_VD.requires_grad):
        nats, each = _ChunkedCrossEntropy.apply(hidden_ND, weight_VD, targets_N, chunk)  # type: ignore[no-untyped-call]
        return Loss(nats, tokens, each)
    each = token_nats(hidden_ND, weight_VD, targets_N, chunk=chunk)
    return Loss(each.sum(dtype=torch.float64), tokens, each)


def token_nats(hidden_ND: Tensor, weight_VD: Tensor, targets_N: Tensor, *, chunk: int = CHUNK) -> Tensor:
    """-ln p of each target, (tokens,), in f32 or wider; 0 where it is not scored. Not differentiable."""
    with torch.no_grad():
        scores = _Scores(hidden_ND, weight_VD, chunk)
        parts = zip(torch.split(hidden_ND, chunk), torch.split(targets_N, chunk), strict=True)
        return torch.cat([scores.softmax(hidden, targets)[0] for hidden, targets in parts])


def plain_cross_entropy(hidden_ND: Tensor, weight_VD: Tensor, targets_N: Tensor) -> Loss:
    """The readable twin of `cross_entropy`, with all logits in memory."""
    logits_NV = F.linear(hidden_ND, weight_VD)
    logits_NV = logits_NV.to(torch.promote_types(logits_NV.dtype, torch.float32))
    scored = targets_N >= 0
    nats_N = -logits_NV.log_softmax(-1).gather(1, targets_N.clamp(min=0)[:, None])[:, 0]
    each_N = torch.where(scored, nats_N, 0.0)
    return Loss(each_N.sum(dtype=torch.float64), scored.sum(), each_N.detach())


class _Scores:
    """Buffers for the logits of one chunk, and what is computed in them."""

    def __init__(self, hidden_ND: Tensor, weight_VD: Tensor, chunk: int) -> None:
        self.weight_VD = weight_VD
        rows = min(chunk, hidden_ND.shape[0])
        wide = torch.promote_types(hidden_ND.dtype, torch.float32)
        self.logits_CV = hidden_ND.new_empty(rows, weight_VD.shape[0])
        self.wide_CV = self.logits_CV if wide == hidden_ND.dtype else self.logits_CV.to(wide)

    def softmax(self, hidden_CD: Tensor, targets_C: Tensor) -> tuple[Tensor, Tensor]:
        """Nats (tokens,) and probabilities (tokens, vocabulary) of a chunk; the latter until the next call."""
        logits_CV, wide_CV = self.logits_CV[: len(hidden_CD)], self.wide_CV[: len(hidden_CD)]
        torch.mm(hidden_CD, self.weight_VD.t(), out=logits_CV)
        wide_CV.copy_(logits_CV)
        chosen_C = wide_CV.gather(1, targets_C.clamp(min=0)[:, None])[:, 0]
        highest_C = wide_CV.amax(-1)
        torch.softmax(wide_CV, -1, out=wide_CV)
        # The logarithm of the greatest probability gives the logsumexp without another pass of exponentials, and is
        # exact enough, since that probability is at least 1 / vocabulary.
        logsumexp_C = highest_C - wide_CV.amax(-1).log()
        return torch.where(targets_C >= 0, logsumexp_C - chosen_C, 0.0), wide_CV

    def gradient(self, targets_C: Tensor) -> Tensor:
        """Gradient of the chunk's nats with respect to its logits, (tokens, vocabulary), in their dtype; follows
        `softmax`."""
        logits_CV, wide_CV = self.logits_CV[: len(targets_C)], self.wide_CV[: len(targets_C)]
        scored_C1 = (targets_C >= 0)[:, None]
        wide_CV.scatter_add_(1, targets_C.clamp(min=0)[:, None], -torch.ones_like(scored_C1, dtype=wide_CV.dtype))
        wide_CV.mul_(scored_C1)
        return logits_CV.copy_(wide_CV)


class _ChunkedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden_ND: Tensor, weight_VD: Tensor, targets_N: Tensor, chunk: int) -> tuple[Tensor, Tensor]:
        wide = torch.promote_types(weight_VD.dtype, torch.float32)
        scores = _Scores(hidden_ND, weight_VD, chunk)
        hidden_gradient_ND = torch.empty_like(hidden_ND)
        weight_gradient_VD = torch.zeros_like(weight_VD, dtype=wide)
        part_VD = torch.empty_like(weight_VD)
        nats = torch.zeros((), dtype=torch.float64, device=hidden_ND.device)
        each = []
        parts = zip(
            torch.split(hidden_ND, chunk),
            torch.split(targets_N, chunk),
            torch.split(hidden_gradient_ND, chunk),
            strict=True,
        )
        for hidden_CD, targets_C, gradient_CD in parts:
            nats_C = scores.softmax(hidden_CD, targets_C)[0]
            each.append(nats_C)
            nats += nats_C.sum(dtype=torch.float64)
            gradient_CV = scores.gradient(targets_C)
            torch.mm(gradient_CV, weight_VD, out=gradient_CD)
            weight_gradient_VD += torch.mm(gradient_CV.t(), hidden_CD, out=part_VD)
        ctx.save_for_backward(hidden_gradient_ND, weight_gradient_VD)
        ctx.weight_dtype = weight_VD.dtype
        each_N = torch.cat(each)
        ctx.mark_non_differentiable(each_N)
        return nats, each_N

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, scale: Tensor, _: Tensor) -> tuple[Tensor, Tensor, None, None]:
        hidden_gradient_ND, weight_gradient_VD = ctx.saved_tensors
        scale = scale.to(weight_gradient_VD.dtype)
        hidden_gradient = (hidden_gradient_ND.to(scale.dtype) * scale).to(hidden_gradient_ND.dtype)
        return hidden_gradient, (weight_gradient_VD * scale).to(ctx.weight_dtype), None, None
