"""Cross-entropy over a large vocabulary, chunk by chunk, so that the logits of a batch never stand in memory.

The paper's section 2.4 saves what is expensive to recompute; logits are the opposite: cheap, and by far the largest
tensor of a step. Here forward and backward of a chunk are done together: its logits become, where they stand, their own
gradient, and only the gradients of hidden states and output weight are kept. `plain_cross_entropy` is the readable
twin.

A chunk is as many tokens as have LOGITS bytes of logits. It is that large since the weight's gradient is summed over
chunks, and each further one costs a pass over a tensor of vocabulary x dim: in float32 the matmul itself adds to the
sum; in a shorter type, whose sum would lose small parts, a chunk's product is added to a sum in float32, and one chunk
alone needs none.

Memory: LOGITS bytes, or one token's logits where these are more; the two gradients; CACHED bytes where logits are of a
short type.
No kernel is compiled for it: torch's softmax over a part that stays in the cache was as fast or faster (docs/log.md).
Numbers: softmax in f32 (or wider); nats are summed in f64.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

LOGITS = 1 << 27  # bytes: 2,048 tokens of bfloat16 at 32,000 pieces
CACHED = 1 << 21  # bytes of logits in float32 that are worked on at once, so that they stay in the processor's cache


class Loss(NamedTuple):
    """What scored tokens cost."""

    nats: Tensor
    """Sum over the scored tokens of -ln p, a scalar in f64."""
    tokens: Tensor
    """Number of scored tokens, a scalar integer."""
    each: Tensor
    """-ln p of every token, (tokens,), in f32 or wider; 0 where it is not scored. Not differentiable."""


def cross_entropy(hidden_ND: Tensor, weight_VD: Tensor, targets_N: Tensor, *, chunk: int | None = None) -> Loss:
    """Nats of each target under softmax(hidden_ND @ weight_VD.T); a negative target is not scored.

    hidden_ND: (tokens, dim); weight_VD: (vocabulary, dim) of the same dtype; targets_N: (tokens,) integers.
    chunk: tokens whose logits stand in memory at once; None: as many as LOGITS allows.
    """
    tokens = (targets_N >= 0).sum()
    if torch.is_grad_enabled() and (hidden_ND.requires_grad or weight_VD.requires_grad):
        size = chunk or chunk_of(len(hidden_ND), len(weight_VD), weight_VD.dtype)
        nats, each = _ChunkedCrossEntropy.apply(hidden_ND, weight_VD, targets_N, size)  # type: ignore[no-untyped-call]
        return Loss(nats, tokens, each)
    each = token_nats(hidden_ND, weight_VD, targets_N, chunk=chunk)
    return Loss(each.sum(dtype=torch.float64), tokens, each)


def token_nats(hidden_ND: Tensor, weight_VD: Tensor, targets_N: Tensor, *, chunk: int | None = None) -> Tensor:
    """-ln p of each target, (tokens,), in f32 or wider; 0 where it is not scored. Not differentiable."""
    with torch.no_grad():
        size = chunk or chunk_of(len(hidden_ND), len(weight_VD), weight_VD.dtype)
        buffer_CV = hidden_ND.new_empty(min(size, len(hidden_ND)), len(weight_VD))
        nats = []
        for hidden_CD, targets_C in zip(torch.split(hidden_ND, size), torch.split(targets_N, size), strict=True):
            logits_CV, chosen_C = logits_into(hidden_CD, weight_VD, buffer_CV), targets_C.clamp(min=0)
            wide_PV = wide_rows(logits_CV)
            parts = zip(torch.split(logits_CV, len(wide_PV)), torch.split(chosen_C, len(wide_PV)), strict=True)
            costs_C = torch.cat([_softmax(logits, chosen, wide_PV)[0] for logits, chosen in parts])
            nats.append(torch.where(targets_C >= 0, costs_C, 0.0))
        return torch.cat(nats)


def plain_cross_entropy(hidden_ND: Tensor, weight_VD: Tensor, targets_N: Tensor) -> Loss:
    """The readable twin of `cross_entropy`, with all logits in memory."""
    logits_NV = F.linear(hidden_ND, weight_VD)
    logits_NV = logits_NV.to(torch.promote_types(logits_NV.dtype, torch.float32))
    scored = targets_N >= 0
    nats_N = -logits_NV.log_softmax(-1).gather(1, targets_N.clamp(min=0)[:, None])[:, 0]
    each_N = torch.where(scored, nats_N, 0.0)
    return Loss(each_N.sum(dtype=torch.float64), scored.sum(), each_N.detach())


def chunk_of(tokens: int, vocabulary: int, dtype: torch.dtype) -> int:
    """Tokens of a chunk: as few chunks as LOGITS allows, and all of one size but the last."""
    most = max(1, LOGITS // (vocabulary * dtype.itemsize))
    chunks = max(1, -(-tokens // most))
    return max(1, -(-tokens // chunks))


def logits_gradient(logits_CV: Tensor, targets_C: Tensor) -> Tensor:
    """Turn logits, (tokens, vocabulary), into the gradient of their nats, where they stand; returns the nats.

    These are (tokens,), in f32 or wider; both are 0 for a token that is not scored.
    """
    chosen_C = targets_C.clamp(min=0)
    wide_PV = wide_rows(logits_CV)
    nats = []
    for part_PV, chosen_P in zip(*(torch.split(each, len(wide_PV)) for each in (logits_CV, chosen_C)), strict=True):
        nats_P, probabilities_PV = _softmax(part_PV, chosen_P, wide_PV)
        part_PV.copy_(probabilities_PV)
        nats.append(nats_P)
    nats_C = torch.cat(nats)
    # The target's p - 1 from its nats, since in a short type p itself is rounded when it is near 1.
    logits_CV[torch.arange(len(chosen_C), device=chosen_C.device), chosen_C] = torch.expm1(-nats_C).to(logits_CV.dtype)
    unscored = (targets_C < 0).nonzero()[:, 0]
    if len(unscored):
        logits_CV[unscored] = 0.0
        nats_C[unscored] = 0.0
    return nats_C


def _softmax(logits_PV: Tensor, chosen_P: Tensor, wide_PV: Tensor) -> tuple[Tensor, Tensor]:
    """Nats, (tokens,), and probabilities, (tokens, vocabulary), in f32 or wider: in wide_PV, or where the logits stand
    when they are of its type."""
    wide_PV = logits_PV if logits_PV.dtype == wide_PV.dtype else wide_PV[: len(logits_PV)].copy_(logits_PV)
    its_logit_P = wide_PV.gather(1, chosen_P[:, None])[:, 0]
    highest_P = wide_PV.amax(-1)
    torch.softmax(wide_PV, -1, out=wide_PV)
    # The logarithm of the greatest probability gives the logsumexp without another pass of exponentials, and is
    # exact enough, since that probability is at least 1 / vocabulary.
    return highest_P - wide_PV.amax(-1).log() - its_logit_P, wide_PV


def logits_into(hidden_CD: Tensor, weight_VD: Tensor, buffer_CV: Tensor) -> Tensor:
    return torch.mm(hidden_CD, weight_VD.t(), out=buffer_CV[: len(hidden_CD)])


def wide_rows(logits_CV: Tensor) -> Tensor:
    """For as many rows of logits as are widened together; made once, since fresh pages cost as much as the softmax."""
    wide = torch.promote_types(logits_CV.dtype, torch.float32)
    if wide == logits_CV.dtype:
        return logits_CV[: cached_rows(logits_CV)]  # nothing is widened; its length and type are all that is asked for
    return logits_CV.new_empty(cached_rows(logits_CV), logits_CV.shape[1], dtype=wide)


def cached_rows(logits_CV: Tensor) -> int:
    """Rows of logits that are worked on at once."""
    return max(1, min(len(logits_CV), CACHED // (4 * logits_CV.shape[1])))


class _ChunkedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden_ND: Tensor, weight_VD: Tensor, targets_N: Tensor, chunk: int) -> tuple[Tensor, Tensor]:
        logits_CV = hidden_ND.new_empty(min(chunk, len(hidden_ND)), len(weight_VD))
        hidden_gradient_ND = torch.empty_like(hidden_ND)
        weight_gradient_VD: Tensor | None = None
        nats = torch.zeros((), dtype=torch.float64, device=hidden_ND.device)
        each = []
        parts = zip(
            torch.split(hidden_ND, chunk),
            torch.split(targets_N, chunk),
            torch.split(hidden_gradient_ND, chunk),
            strict=True,
        )
        for hidden_CD, targets_C, gradient_CD in parts:
            gradient_CV = logits_into(hidden_CD, weight_VD, logits_CV)
            nats_C = logits_gradient(gradient_CV, targets_C)
            each.append(nats_C)
            nats += nats_C.sum(dtype=torch.float64)
            torch.mm(gradient_CV, weight_VD, out=gradient_CD)
            weight_gradient_VD = with_product(weight_gradient_VD, gradient_CV, hidden_CD)
        ctx.save_for_backward(hidden_gradient_ND, weight_gradient_VD)
        ctx.weight_dtype = weight_VD.dtype
        each_N = torch.cat(each)
        ctx.mark_non_differentiable(each_N)
        return nats, each_N

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, scale: Tensor, _: Tensor) -> tuple[Tensor, Tensor, None, None]:
        hidden_gradient_ND, weight_gradient_VD = ctx.saved_tensors
        # A scalar without dimensions leaves a short type what it is, and is itself not shortened.
        return hidden_gradient_ND * scale, (weight_gradient_VD * scale).to(ctx.weight_dtype), None, None


def with_product(sum_VD: Tensor | None, gradient_CV: Tensor, hidden_CD: Tensor) -> Tensor:
    """sum_VD and a chunk's part of the weight's gradient. Of a short type only a single chunk's sum stays in it."""
    if sum_VD is None:
        return torch.mm(gradient_CV.t(), hidden_CD)
    wide = torch.promote_types(hidden_CD.dtype, torch.float32)
    if wide == hidden_CD.dtype:
        return sum_VD.addmm_(gradient_CV.t(), hidden_CD)
    return sum_VD.to(wide).add_(torch.mm(gradient_CV.t(), hidden_CD))
