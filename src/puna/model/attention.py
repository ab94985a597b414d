"""Causal attention as one function of queries, keys and values that gives (output, logsumexp).

Paper, section 2.4: attention weights are never stored and masked scores never computed. That is FlashAttention: torch's
kernel for CPUs here, the CUDA one there; `softmax_attention` is the readable twin, which they are tested against. The
logsumexp of the scores is what a hand-written backward pass and attention over a split sequence need; no gradient flows
through it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Kernel = Callable[..., tuple[Tensor, ...]]  # (q, k, v, dropout, causal) -> output, logsumexp, ...


def attention(
    q_BHLK: Tensor, k_BGSK: Tensor, v_BGSK: Tensor, segments_BS: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Causal attention of the last L of S positions over all S.

    q_BHLK: (batch, heads, L, head_dim); k_BGSK, v_BGSK: (batch, kv_heads, S, head_dim), S >= L; query head h reads
    key-value head h // (heads / kv_heads).
    segments_BS: integers (batch, S): a position sees only earlier positions of its own segment, so that the documents
    of a window do not see each other. None, the paper's packing: everything earlier in the window.
    Returns the output (batch, heads, L, head_dim) and the logsumexp of the scaled scores (batch, heads, L), in f32 or
    wider.
    """
    queries, keys = q_BHLK.shape[2], k_BGSK.shape[2]
    kernel = _kernel(q_BHLK)
    # The kernels align a causal mask to the first key, which is right for a square; one query sees every key.
    if kernel is None or segments_BS is not None or queries not in (1, keys):
        return softmax_attention(q_BHLK, k_BGSK, v_BGSK, segments_BS)
    heads = q_BHLK.shape[1]
    k_BHSK, v_BHSK = _repeat(k_BGSK, heads), _repeat(v_BGSK, heads)
    output_BHLK, logsumexp_BHL, *_ = kernel(q_BHLK, k_BHSK, v_BHSK, 0.0, queries == keys)
    return output_BHLK, logsumexp_BHL.detach()


def softmax_attention(
    q_BHLK: Tensor, k_BGSK: Tensor, v_BGSK: Tensor, segments_BS: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The readable twin of `attention`: same arguments and results, with all scores in memory, in f32 or wider."""
    queries, keys = q_BHLK.shape[2], k_BGSK.shape[2]
    wide = torch.promote_types(q_BHLK.dtype, torch.float32)
    k_BHSK, v_BHSK = _repeat(k_BGSK, q_BHLK.shape[1]).to(wide), _repeat(v_BGSK, q_BHLK.shape[1]).to(wide)
    scores_BHLS = q_BHLK.to(wide) @ k_BHSK.transpose(-1, -2) * q_BHLK.shape[-1] ** -0.5
    seen = torch.ones(queries, keys, dtype=torch.bool, device=q_BHLK.device).tril(keys - queries)
    if segments_BS is not None:
        own_BLS = segments_BS[:, keys - queries :, None] == segments_BS[:, None, :]
        seen = seen & own_BLS[:, None]
    scores_BHLS = scores_BHLS.masked_fill(~seen, -torch.inf)
    logsumexp_BHL = scores_BHLS.logsumexp(-1)
    output_BHLK = (scores_BHLS - logsumexp_BHL[..., None]).exp() @ v_BHSK
    return output_BHLK.to(q_BHLK.dtype), logsumexp_BHL.detach()


def _kernel(q_BHLK: Tensor) -> Kernel | None:
    """The kernel that keeps no scores, for tensors of this device and dtype, if there is one."""
    kernels = torch.ops.aten
    if q_BHLK.device.type in ("cpu", "meta"):
        return kernels._scaled_dot_product_flash_attention_for_cpu
    if q_BHLK.device.type == "cuda" and q_BHLK.dtype in (torch.float16, torch.bfloat16):
        return kernels._scaled_dot_product_flash_attention
    return None


def _repeat(x_BGSK: Tensor, heads: int) -> Tensor:
    """Every key-value head once for each query head that reads it: (batch, heads, S, head_dim)."""
    groups = x_BGSK.shape[1]
    return x_BGSK if groups == heads else x_BGSK.repeat_interleave(heads // groups, dim=1)
