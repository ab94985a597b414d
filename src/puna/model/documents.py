"""Attention within the documents of a window, forward and backward, without a score in memory.

The paper packs documents into windows and lets them see each other; this is the option that does not
(`train.documents = "masked"`). Torch's kernels for CPUs take no such mask without all scores, so each document of a
window is a causal window of its own for the kernel that keeps none (flash.py). Scores between documents are not
computed, so the work falls with the squares of the lengths; each document costs a call of the kernel.

Registered as operators of torch, so that a compiler and a checkpoint see one operation with a backward.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from puna.model.flash import flash, flash_gradient, repeat


def segments(tokens_BL: Tensor, end: int) -> Tensor:
    """Numbers of the documents of each window, (batch, length): 0 until the first token `end`, which still belongs to
    its document, then 1, and so on."""
    ends_BL = (tokens_BL == end).to(torch.int64)
    return ends_BL.cumsum(1) - ends_BL


@torch.library.custom_op("puna::attention_by_documents", mutates_args=())
def attention_by_documents(
    q_BHLK: Tensor, k_BGLK: Tensor, v_BGLK: Tensor, segments_BL: Tensor
) -> tuple[Tensor, Tensor]:
    """Output and logsumexp as of `attention`. Raises ValueError where a segment's positions stand apart."""
    kernel = flash(q_BHLK)
    assert kernel is not None  # `attention` asked
    k_BHLK, v_BHLK = (repeat(tensor, q_BHLK.shape[1]) for tensor in (k_BGLK, v_BGLK))
    output_BHLK, logsumexp_BHL = _empty(q_BHLK)
    for part in _stretches(segments_BL):
        output, logsumexp, *_ = kernel(*(tensor[part] for tensor in (q_BHLK, k_BHLK, v_BHLK)), 0.0, True)
        output_BHLK[part] = output
        logsumexp_BHL[part] = logsumexp
    return output_BHLK, logsumexp_BHL


@torch.library.custom_op("puna::attention_by_documents_gradient", mutates_args=())
def documents_gradient(
    gradient_BHLK: Tensor,
    q_BHLK: Tensor,
    k_BGLK: Tensor,
    v_BGLK: Tensor,
    output_BHLK: Tensor,
    logsumexp_BHL: Tensor,
    segments_BL: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of queries, keys and values."""
    tensors = (gradient_BHLK, q_BHLK, k_BGLK, v_BGLK, output_BHLK, logsumexp_BHL)
    wholes = _like(q_BHLK), _like(k_BGLK), _like(v_BGLK)
    for part in _stretches(segments_BL):
        for whole, gradient in zip(wholes, flash_gradient(*(tensor[part] for tensor in tensors)), strict=True):
            whole[part] = gradient
    return wholes


@attention_by_documents.register_fake
def _(q_BHLK: Tensor, k_BGLK: Tensor, v_BGLK: Tensor, segments_BL: Tensor) -> tuple[Tensor, Tensor]:
    return _empty(q_BHLK)


@documents_gradient.register_fake
def _(gradient: Tensor, q_BHLK: Tensor, k_BGLK: Tensor, v_BGLK: Tensor, *rest: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return _like(q_BHLK), _like(k_BGLK), _like(v_BGLK)


def _keep(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor]) -> None:
    q, k, v, segments_BL = inputs
    ctx.save_for_backward(q, k, v, *output, segments_BL)
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, gradient_BHLK: Tensor, logsumexp: Tensor | None) -> tuple[Tensor, Tensor, Tensor, None]:
    q, k, v = documents_gradient(gradient_BHLK, *ctx.saved_tensors)
    return q, k, v, None


attention_by_documents.register_autograd(_backward, setup_context=_keep)

Part = tuple[slice, slice, slice]  # rows, all heads, positions


def _stretches(segments_BL: Tensor) -> Iterator[Part]:
    """Where the documents stand: those of all rows together where all rows are cut alike, else row by row."""
    rows = [_cuts(row) for row in segments_BL.tolist()]
    alike = all(cuts == rows[0] for cuts in rows)
    for number, cuts in enumerate(rows[:1] if alike else rows):
        chosen = slice(None) if alike else slice(number, number + 1)
        for first, last in pairwise(cuts):
            yield chosen, slice(None), slice(first, last)


def _cuts(row: list[int]) -> list[int]:
    """Where documents begin in a row, and its length."""
    begins = [place for place in range(len(row)) if place == 0 or row[place] != row[place - 1]]
    if len({row[place] for place in begins}) != len(begins):
        raise ValueError("the positions of a segment stand apart")
    return [*begins, len(row)]


def _empty(q_BHLK: Tensor) -> tuple[Tensor, Tensor]:
    """Output and logsumexp, laid out as the kernel for CPUs does: heads beside each other."""
    batch, heads, length, _ = q_BHLK.shape
    wide = torch.promote_types(q_BHLK.dtype, torch.float32)
    return _like(q_BHLK), q_BHLK.new_empty(batch, length, heads, dtype=wide).transpose(1, 2)


def _like(x_BHLK: Tensor) -> Tensor:
    batch, heads, length, width = x_BHLK.shape
    return x_BHLK.new_empty(batch, length, heads, width).transpose(1, 2)
