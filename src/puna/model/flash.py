"""Causal attention of a whole window by the kernels that keep no scores, and its gradient.

Paper, section 2.4. torch has a kernel for CPUs and one for CUDA, each with a backward that computes the scores anew,
block by block, from queries, keys and the logsumexp. Who attends to what, and where there is no kernel, is in
attention.py.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Kernel = Callable[..., tuple[Tensor, ...]]  # (q, k, v, dropout, causal) -> output, logsumexp, ...


def flash(q_BHLK: Tensor) -> Kernel | None:
    """The kernel for tensors of this device and dtype, if there is one."""
    kernels = torch.ops.aten
    if q_BHLK.device.type in ("cpu", "meta"):
        return kernels._scaled_dot_product_flash_attention_for_cpu
    short = q_BHLK.dtype in (torch.float16, torch.bfloat16)
    # Called by itself the kernel for CUDA takes no other widths of a head; torch's own function pads for it.
    if q_BHLK.device.type == "cuda" and short and q_BHLK.shape[-1] % 8 == 0 and q_BHLK.shape[-1] <= 256:
        return kernels._scaled_dot_product_flash_attention
    return None


def flash_gradient(
    gradient_BHLK: Tensor, q_BHLK: Tensor, k_BGLK: Tensor, v_BGLK: Tensor, output_BHLK: Tensor, logsumexp_BHL: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of queries, keys and values, where `flash` has a kernel for them."""
    heads, groups = q_BHLK.shape[1], k_BGLK.shape[1]
    k_BHLK, v_BHLK = repeat(k_BGLK, heads), repeat(v_BGLK, heads)
    kernel = _on_cuda if q_BHLK.device.type == "cuda" else _on_cpu
    q, k, v = kernel(gradient_BHLK, q_BHLK, k_BHLK, v_BHLK, output_BHLK, logsumexp_BHL)
    return q, _sum_repeated(k, groups), _sum_repeated(v, groups)


def repeat(x_BGSK: Tensor, heads: int) -> Tensor:
    """Every key-value head once for each query head that reads it: (batch, heads, S, head_dim)."""
    groups = x_BGSK.shape[1]
    return x_BGSK if groups == heads else x_BGSK.repeat_interleave(heads // groups, dim=1)


def _sum_repeated(gradient_BHSK: Tensor, groups: int) -> Tensor:
    """What `repeat` leads back to each key-value head: (batch, kv_heads, S, head_dim)."""
    if gradient_BHSK.shape[1] == groups:
        return gradient_BHSK
    batch, heads, length, width = gradient_BHSK.shape
    return gradient_BHSK.view(batch, groups, heads // groups, length, width).sum(2)


def _on_cpu(*tensors: Tensor) -> tuple[Tensor, ...]:
    gradients: tuple[Tensor, ...] = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
        *tensors, 0.0, True
    )
    return gradients


def _on_cuda(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Not run on a GPU yet: written after the kernel's signature, and tried for shapes only.

    Windows of one length have no cumulative lengths, and without dropout nobody reads the state of random numbers.
    """
    length = tensors[1].shape[2]
    none = torch.empty(0, dtype=torch.int64, device=tensors[1].device)
    gradients: tuple[Tensor, ...] = torch.ops.aten._scaled_dot_product_flash_attention_backward(
        *tensors, None, None, length, length, 0.0, True, none, none
    )
    return gradients
