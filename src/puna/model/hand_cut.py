"""The hand-written layer where ranks share it, with work done while collectives are under way.

Paper, section 2.4: "we also overlap the computation of activations and the communication between GPUs over the network
as much as possible". Each rank has a slice of heads and of hidden columns, and between the halves of the layer its own
rows: a share of the positions. Norms are computed on these. What a matmul needs of other ranks is gathered, what it
gives for them is reduced, and each of these collectives is begun before and waited for after a matmul that needs
neither, in both directions; the last one of the forward pass has none left in its layer.

- Forward: while normed rows are gathered, the first matmuls run on the rank's own. Behind attention the rows are halved
  in two pieces: one is reduced, normed and gathered while the other is multiplied.
- Backward: while the output's gradient is gathered, the norm is computed again and gathered too, and the own rows go
  through w2; while the input's gradient is reduced, the gradients of weights are computed. That of w3 is left for the
  collectives between the two halves.

Kept for the backward pass: what hand.py keeps, of which a rank has 1 / size. Beyond hand.py, the product of the SwiGLU
lives until the gradient of w2, which waits for the reduction to begin.

T rows of all ranks stand rank after rank, or in the feed-forward half piece after piece and therein rank after rank,
so that a piece and a rank's part of it are each one block of memory.

Twins: `layer` with the same comm, and hand.py by one process.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from puna.model.attention import attention, attention_gradient
from puna.model.comm import Comm, Pending, by_rank, by_window
from puna.model.kernels import Kernels
from puna.model.layer import LayerWeights
from puna.model.rotary import Rope


def cut_hand_layer(
    x_BOD: Tensor,
    weights: LayerWeights,
    rope: Rope,
    segments: Tensor | None,
    comm: Comm,
    epsilon: float,
    kernels: Kernels,
    lean: bool,
) -> Tensor:
    """As `hand_layer` where ranks share it. x_BOD: (batch, length / size, dim), this rank's positions."""
    rest = (rope, segments, comm, epsilon, kernels, lean)
    return cast(Tensor, _CutHandLayer.apply(x_BOD, *weights, *rest))  # type: ignore[no-untyped-call]


class _CutHandLayer(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_BOD: Tensor, *rest: Any) -> Tensor:
        weights = LayerWeights(*rest[:9])
        rope, segments, comm, epsilon, kernels, lean = rest[9:]
        batch, _, dim = x_BOD.shape
        head_dim = 2 * rope.cos_LF.shape[-1]
        x_ND = x_BOD.reshape(-1, dim)
        whole, pieces = _piece(comm, 0, len(x_ND), 0), _pieces(comm, len(x_ND))

        # x + attention(norm(x))
        normed_ND = kernels.norm(x_ND, weights.attention_norm, epsilon)
        gathering = comm.begin_gather(normed_ND)
        flat = [_room(x_ND, whole, weight) for weight in (weights.wq, weights.wk, weights.wv)]
        for out, weight in zip(flat, weights[1:4], strict=True):
            torch.mm(normed_ND, weight.t(), out=out[whole.mine])
        normed_TD = gathering.wait()
        for out, weight in zip(flat, weights[1:4], strict=True):
            for others in whole.others:
                torch.mm(normed_TD[others], weight.t(), out=out[others])
        del normed_TD
        q_BLHK, k_BLGK, v_BLGK = (
            by_window(out, batch, comm.size).view(batch, -1, out.shape[1] // head_dim, head_dim) for out in flat
        )
        q_BLHK, k_BLGK = kernels.turn(q_BLHK, k_BLGK, *rope)
        output_BHLK, logsumexp_BHL = attention(
            q_BLHK.transpose(1, 2), k_BLGK.transpose(1, 2), v_BLGK.transpose(1, 2), segments
        )
        output_TE = by_rank(output_BHLK.transpose(1, 2).flatten(2), comm.size)
        sum_ND, reducing = torch.empty_like(x_ND), []
        for piece in pieces:
            part_PE = output_TE.view(comm.size, len(x_ND), -1)[:, piece.own].flatten(0, 1)
            reducing.append(comm.begin_reduce(part_PE @ weights.wo.t()))

        # x + SwiGLU(norm(x))
        a_TF, b_TF = (_room(x_ND, whole, weight) for weight in (weights.w1, weights.w3))
        gatherings = []
        for piece, pending in zip(pieces, reducing, strict=True):
            torch.add(x_ND[piece.own], pending.wait(), out=sum_ND[piece.own])
            normed_ND = kernels.norm(sum_ND[piece.own], weights.ffn_norm, epsilon)
            gatherings.append(comm.begin_gather(normed_ND))
            torch.mm(normed_ND, weights.w1.t(), out=a_TF[piece.mine])
            torch.mm(normed_ND, weights.w3.t(), out=b_TF[piece.mine])
        reducing = []
        for piece, pending in zip(pieces, gatherings, strict=True):
            normed_PD = pending.wait()
            for others in piece.others:
                at = slice(others.start - piece.all.start, others.stop - piece.all.start)
                torch.mm(normed_PD[at], weights.w1.t(), out=a_TF[others])
                torch.mm(normed_PD[at], weights.w3.t(), out=b_TF[others])
            product_PF = kernels.gate(a_TF[piece.all], b_TF[piece.all])
            reducing.append(comm.begin_reduce(product_PF @ weights.w2.t()))
        result_ND = torch.empty_like(x_ND)
        for piece, pending in zip(pieces, reducing, strict=True):
            torch.add(sum_ND[piece.own], pending.wait(), out=result_ND[piece.own])

        kept = (q_BLHK, k_BLGK, v_BLGK, output_TE, logsumexp_BHL, sum_ND, a_TF, None if lean else b_TF)
        ctx.save_for_backward(x_BOD, *kept, *weights, *rope, segments)
        ctx.rest = comm, epsilon, kernels
        return result_ND.view(x_BOD.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_BOD: Tensor) -> tuple[Tensor | None, ...]:
        x_BOD, q_BLHK, k_BLGK, v_BLGK, output_TE, logsumexp_BHL, sum_ND, a_TF, b_TF, *rest = ctx.saved_tensors
        weights, (cos_LF, sin_LF, segments) = LayerWeights(*rest[:9]), rest[9:]
        comm, epsilon, kernels = ctx.rest
        batch, _, dim = x_BOD.shape
        x_ND, gradient_ND = x_BOD.reshape(-1, dim), gradient_BOD.reshape(-1, dim)
        whole, pieces = _piece(comm, 0, len(x_ND), 0), _pieces(comm, len(x_ND))

        # x + SwiGLU(norm(x))
        gathered_TD, normed_TD = _room(x_ND, whole), _room(x_ND, whole)
        gathering = [comm.begin_gather(gradient_ND[piece.own], out=gathered_TD[piece.all]) for piece in pieces]
        normed_ND = kernels.norm(sum_ND, weights.ffn_norm, epsilon)
        norming = [comm.begin_gather(normed_ND[piece.own], out=normed_TD[piece.all]) for piece in pieces]
        product_gradient_TF = torch.empty_like(a_TF)
        for piece in pieces:
            torch.mm(gradient_ND[piece.own], weights.w2, out=product_gradient_TF[piece.mine])
        for piece, pending in zip(pieces, gathering, strict=True):
            pending.wait()
            for others in piece.others:
                torch.mm(gathered_TD[others], weights.w2, out=product_gradient_TF[others])
        if b_TF is None:
            _wait(norming)
            b_TF = normed_TD @ weights.w3.t()
        product_TF, a_gradient, b_gradient = kernels.gate_gradient(product_gradient_TF, a_TF, b_TF)
        del product_gradient_TF, b_TF
        normed_gradient_ND, reducing = torch.empty_like(x_ND), []
        for piece in pieces:
            part_PD = (a_gradient[piece.all] @ weights.w1).addmm_(b_gradient[piece.all], weights.w3)
            reducing.append(comm.begin_reduce(part_PD, out=normed_gradient_ND[piece.own]))
        w2 = gathered_TD.t() @ product_TF
        del product_TF, gathered_TD
        _wait(norming)
        w1 = a_gradient.t() @ normed_TD
        del a_gradient
        _wait(reducing)
        gradient_ND, ffn_norm = kernels.norm_gradient(
            normed_gradient_ND, sum_ND, weights.ffn_norm, gradient_ND, epsilon
        )

        # x + attention(norm(x))
        gathering_whole = comm.begin_gather(gradient_ND)
        norming_whole = comm.begin_gather(kernels.norm(x_ND, weights.attention_norm, epsilon))
        w3 = b_gradient.t() @ normed_TD
        del b_gradient, normed_TD
        gathered_TD = gathering_whole.wait()
        output_gradient_BLE = by_window(gathered_TD @ weights.wo, batch, comm.size)
        output_BLE = by_window(output_TE, batch, comm.size)
        q_gradient, k_gradient, v_gradient = attention_gradient(
            output_gradient_BLE.view_as(q_BLHK).transpose(1, 2),
            q_BLHK.transpose(1, 2),
            k_BLGK.transpose(1, 2),
            v_BLGK.transpose(1, 2),
            output_BLE.view_as(q_BLHK).transpose(1, 2),
            logsumexp_BHL,
            segments,
        )
        turned = kernels.turn(q_gradient.transpose(1, 2), k_gradient.transpose(1, 2), cos_LF, -sin_LF)
        flat = [by_rank(t.flatten(2), comm.size) for t in (*turned, v_gradient.transpose(1, 2))]
        del q_gradient, k_gradient, v_gradient, turned, output_gradient_BLE, output_BLE
        normed_gradient_TD = (flat[0] @ weights.wq).addmm_(flat[1], weights.wk).addmm_(flat[2], weights.wv)
        reducing_whole = comm.begin_reduce(normed_gradient_TD)
        wo = gathered_TD.t() @ output_TE
        del gathered_TD
        normed_TD = norming_whole.wait()
        wq, wk, wv = (gradient.t() @ normed_TD for gradient in flat)
        del normed_TD, flat
        x, attention_norm = kernels.norm_gradient(
            reducing_whole.wait(), x_ND, weights.attention_norm, gradient_ND, epsilon
        )
        gradients = LayerWeights(attention_norm, wq, wk, wv, wo, ffn_norm, w1, w2, w3)
        return x.view_as(x_BOD), *gradients, None, None, None, None, None, None


class _Piece(NamedTuple):
    """Some of each rank's rows."""

    own: slice
    """Among the rows of this rank."""
    all: slice
    """Of every rank, among all rows."""
    mine: slice
    """Of this rank, among all rows."""
    others: tuple[slice, ...]
    """Of the other ranks, before and behind this one, among all rows."""


def _pieces(comm: Comm, rows: int) -> list[_Piece]:
    """Two halves of `rows` rows, or the one row that there is."""
    half = rows // 2
    cuts = [(0, half), (half, rows)] if half else [(0, rows)]
    return [_piece(comm, *cut, comm.size * cut[0]) for cut in cuts]


def _piece(comm: Comm, first: int, last: int, before: int) -> _Piece:
    """before: rows of all ranks in front of it."""
    rows = last - first
    mine = slice(before + comm.rank * rows, before + (comm.rank + 1) * rows)
    every = slice(before, before + comm.size * rows)
    others = (slice(every.start, mine.start), slice(mine.stop, every.stop))
    return _Piece(slice(first, last), every, mine, tuple(part for part in others if part.stop > part.start))


def _room(x_ND: Tensor, whole: _Piece, weight_ED: Tensor | None = None) -> Tensor:
    """For the rows of all ranks, as wide as x or as what the weight gives."""
    return x_ND.new_empty(whole.all.stop, x_ND.shape[1] if weight_ED is None else len(weight_ED))


def _wait(pending: Sequence[Pending]) -> None:
    for each in pending:
        each.wait()
