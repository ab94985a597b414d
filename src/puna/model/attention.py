"""Causal attention as one function of queries, keys and values that gives (output, logsumexp), and its gradient.

Paper, section 2.4: attention weights are never stored and masked scores never computed. That is FlashAttention, in
flash.py; `softmax_attention` is the readable twin, which it is tested against. The logsumexp of the scores is what a
hand-written backward pass and attention over a split sequence need; no gradient flows through it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from puna.model.documents import attention_by_documents, documents_gradient
from puna.model.flash import Kernel, flash, flash_gradient, repeat


def attention(
    q_BHLK: Tensor, k_BGSK: Tensor, v_BGSK: Tensor, segments_BS: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Causal attention of the last L of S positions over all S.

    q_BHLK: (batch, heads, L, head_dim); k_BGSK, v_BGSK: (batch, kv_heads, S, head_dim), S >= L; query head h reads
    key-value head h // (heads / kv_heads).
    segments_BS: integers (batch, S), equal ones beside each other: a position sees only earlier positions of its own
    segment, so that the documents of a window do not see each other. None, the paper's packing: everything earlier in
    the window.
    Returns the output (batch, heads, L, head_dim) and the logsumexp of the scaled scores (batch, heads, L), in f32 or
    wider.
    """
    queries, keys = q_BHLK.shape[2], k_BGSK.shape[2]
    kernel = flash(q_BHLK)
    if segments_BS is not None and kernel is not None and queries == keys:
        output_BHLK, logsumexp_BHL = attention_by_documents(q_BHLK, k_BGSK, v_BGSK, segments_BS)
        return output_BHLK, logsumexp_BHL.detach()
    if kernel is None or segments_BS is not None:
        return softmax_attention(q_BHLK, k_BGSK, v_BGSK, segments_BS)
    # The kernels align a causal mask to the first key, which is right for a square; one query sees every key.
    if queries == keys:
        return _causal(kernel, q_BHLK, k_BGSK, v_BGSK)
    if queries == 1:
        return _whole(kernel, q_BHLK, k_BGSK, v_BGSK)
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (q_BHLK, k_BGSK, v_BGSK)):
        return softmax_attention(q_BHLK, k_BGSK, v_BGSK)  # no gradient flows through the parts' weights
    return _split(kernel, q_BHLK, k_BGSK, v_BGSK)


def _causal(kernel: Kernel, q_BHLK: Tensor, k_BGLK: Tensor, v_BGLK: Tensor) -> tuple[Tensor, Tensor]:
    heads = q_BHLK.shape[1]
    output_BHLK, logsumexp_BHL, *_ = kernel(q_BHLK, repeat(k_BGLK, heads), repeat(v_BGLK, heads), 0.0, True)
    return output_BHLK, logsumexp_BHL.detach()


def _whole(kernel: Kernel, q_BHLK: Tensor, k_BGSK: Tensor, v_BGSK: Tensor) -> tuple[Tensor, Tensor]:
    """Where every query sees every key: the queries of all heads that read the same keys are one head's, so that no key
    is repeated."""
    batch, groups, _, width = k_BGSK.shape
    q_BGMK = q_BHLK.reshape(batch, groups, -1, width)
    output_BGMK, logsumexp_BGM, *_ = kernel(q_BGMK, k_BGSK, v_BGSK, 0.0, False)
    return output_BGMK.reshape(q_BHLK.shape), logsumexp_BGM.reshape(q_BHLK.shape[:3]).detach()


def _split(kernel: Kernel, q_BHLK: Tensor, k_BGSK: Tensor, v_BGSK: Tensor) -> tuple[Tensor, Tensor]:
    """Queries over the keys before them, all of which they see, and causally over their own: each part weighs as the
    exponential of its logsumexp."""
    past = k_BGSK.shape[2] - q_BHLK.shape[2]
    before_BHLK, before_BHL = _whole(kernel, q_BHLK, k_BGSK[:, :, :past], v_BGSK[:, :, :past])
    own_BHLK, own_BHL = _causal(kernel, q_BHLK, k_BGSK[:, :, past:], v_BGSK[:, :, past:])
    logsumexp_BHL = torch.logaddexp(before_BHL, own_BHL)
    share_BHL = (before_BHL - logsumexp_BHL).exp().to(q_BHLK.dtype)
    output_BHLK = torch.lerp(own_BHLK, before_BHLK, share_BHL[..., None])
    return output_BHLK, logsumexp_BHL.detach()


def attention_gradient(
    gradient_BHLK: Tensor,
    q_BHLK: Tensor,
    k_BGLK: Tensor,
    v_BGLK: Tensor,
    output_BHLK: Tensor,
    logsumexp_BHL: Tensor,
    segments_BL: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of queries, keys and values from that of the output of `attention` over a whole window, L = S.

    Where there is no kernel, the twin is differentiated, with all scores in memory.
    """
    tensors = (gradient_BHLK, q_BHLK, k_BGLK, v_BGLK, output_BHLK, logsumexp_BHL)
    if flash(q_BHLK) is None:
        with torch.enable_grad():
            q, k, v = (tensor.detach().requires_grad_() for tensor in (q_BHLK, k_BGLK, v_BGLK))
            output_BHLK, _ = softmax_attention(q, k, v, segments_BL)
        q, k, v = torch.autograd.grad(output_BHLK, (q, k, v), gradient_BHLK)
        return q, k, v
    return flash_gradient(*tensors) if segments_BL is None else documents_gradient(*tensors, segments_BL)


def softmax_attention(
    q_BHLK: Tensor, k_BGSK: Tensor, v_BGSK: Tensor, segments_BS: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The readable twin of `attention`: same arguments and results, with all scores in memory, in f32 or wider."""
    queries, keys = q_BHLK.shape[2], k_BGSK.shape[2]
    wide = torch.promote_types(q_BHLK.dtype, torch.float32)
    k_BHSK, v_BHSK = repeat(k_BGSK, q_BHLK.shape[1]).to(wide), repeat(v_BGSK, q_BHLK.shape[1]).to(wide)
    scores_BHLS = q_BHLK.to(wide) @ k_BHSK.transpose(-1, -2) * q_BHLK.shape[-1] ** -0.5
    seen = torch.ones(queries, keys, dtype=torch.bool, device=q_BHLK.device).tril(keys - queries)
    if segments_BS is not None:
        own_BLS = segments_BS[:, keys - queries :, None] == segments_BS[:, None, :]
        seen = seen & own_BLS[:, None]
    scores_BHLS = scores_BHLS.masked_fill(~seen, -torch.inf)
    logsumexp_BHL = scores_BHLS.logsumexp(-1)
    output_BHLK = (scores_BHLS - logsumexp_BHL[..., None]).exp() @ v_BHSK
    return output_BHLK.to(q_BHLK.dtype), logsumexp_BHL.detach()
