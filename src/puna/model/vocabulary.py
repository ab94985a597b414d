"""Embedding and cross-entropy over a vocabulary that ranks share: each holds the rows of some of its pieces.

Paper, section 2.4. Neither the rows of other ranks nor whole logits ever come to a rank. Of the embedding, each rank
gives its own pieces' rows and zeros for the others, and the sum is scattered over the sequence. Of the cross-entropy,
three numbers a token go around: the greatest logit of a rank's pieces, the sum of exponentials below it, and the
target's logit where it is theirs. Forward and backward of a chunk are done together, as in loss.py, which is its twin.

A chunk is some rows of every rank. While its three numbers go around, the next one's logits are computed, in a second
buffer; while its matmuls run, the hidden states of the one behind it are gathered and the gradient of the one before
it is summed. Memory: LOGITS bytes of logits, as one process has, of which a rank's hold `size` times as many tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from puna.model.comm import Comm, Pending, by_rank, by_window, reduced
from puna.model.loss import Loss, cached_rows, chunk_of, logits_into, with_product


def own_pieces(vocabulary: int, rank: int, size: int) -> range:
    """The pieces whose rows a rank holds: equally many each, but for the last, as torch cuts a tensor."""
    most = -(-vocabulary // size)
    return range(min(rank * most, vocabulary), min((rank + 1) * most, vocabulary))


def embed(tokens_BL: Tensor, weight_VD: Tensor, vocabulary: int, comm: Comm) -> Tensor:
    """This rank's positions of the rows of tokens_BL, (batch, length / size, dim); weight_VD: its own pieces' rows."""
    local_BL, mine_BL = _local(tokens_BL, own_pieces(vocabulary, comm.rank, comm.size))
    # The gradient of a 16-bit table is summed in 32, as in llama.py.
    wide = torch.promote_types(weight_VD.dtype, torch.float32)
    rows_BLD = F.embedding(local_BL, weight_VD.to(wide)) * mine_BL[..., None]
    return reduced(rows_BLD.to(weight_VD.dtype), comm)


def cut_cross_entropy(
    hidden_BOD: Tensor, weight_VD: Tensor, targets_BL: Tensor, vocabulary: int, comm: Comm, *, chunk: int | None = None
) -> Loss:
    """As `cross_entropy`, of all positions and pieces, the same on every rank; a negative target is not scored.

    hidden_BOD: (batch, length / size, dim), this rank's positions; weight_VD: its own pieces' rows; targets_BL:
    (batch, length), whole. chunk: rows of this rank whose logits are worked on at once; None: as many as LOGITS allows
    of two chunks.
    """
    targets_TN = by_rank(targets_BL[..., None], comm.size).view(comm.size, -1)
    first = own_pieces(vocabulary, comm.rank, comm.size).start
    if not chunk:
        chunk = max(1, chunk_of(2 * targets_BL.numel(), len(weight_VD), weight_VD.dtype) // (2 * comm.size))
    scoring = _Scoring(weight_VD, targets_TN, first, comm, chunk)
    hidden_ND = hidden_BOD.flatten(0, 1)
    if torch.is_grad_enabled() and (hidden_ND.requires_grad or weight_VD.requires_grad):
        nats, each_TN = _CutCrossEntropy.apply(hidden_ND, weight_VD, scoring)  # type: ignore[no-untyped-call]
    else:
        each_TN = scoring.run(hidden_ND)
        nats = each_TN.sum(dtype=torch.float64)
    each_BL = by_window(each_TN.view(-1, 1), len(targets_BL), comm.size)
    return Loss(nats, (targets_BL >= 0).sum(), each_BL.flatten())


class _CutCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden_ND: Tensor, weight_VD: Tensor, scoring: _Scoring) -> tuple[Tensor, Tensor]:
        gradients = _Gradients(torch.empty_like(hidden_ND))
        each_TN = scoring.run(hidden_ND, gradients)
        ctx.save_for_backward(gradients.hidden_ND, gradients.weight_VD)
        ctx.weight_dtype = weight_VD.dtype
        ctx.mark_non_differentiable(each_TN)
        return each_TN.sum(dtype=torch.float64), each_TN

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, scale: Tensor, _: Tensor) -> tuple[Tensor, Tensor, None]:
        hidden_gradient_ND, weight_gradient_VD = ctx.saved_tensors
        return hidden_gradient_ND * scale, (weight_gradient_VD * scale).to(ctx.weight_dtype), None


@dataclass
class _Gradients:
    """Of the nats of all tokens."""

    hidden_ND: Tensor
    weight_VD: Tensor | None = None


class _Chunk(NamedTuple):
    """Some rows of every rank, on their way: C = size * rows."""

    rows: slice
    hidden_CD: Tensor
    targets_C: Tensor
    logits_CV: Tensor
    around: Pending


class _Scoring(NamedTuple):
    """All that scoring hidden states takes beside them."""

    weight_VD: Tensor
    targets_TN: Tensor
    first: int
    comm: Comm
    chunk: int

    def run(self, hidden_ND: Tensor, gradients: _Gradients | None = None) -> Tensor:
        """Nats of every token, (size, N), in f32 or wider; 0 where it is not scored. Fills the gradients."""
        size, rows = self.comm.size, len(hidden_ND)
        each_TN = torch.empty(size, rows, dtype=_wide(hidden_ND.dtype), device=hidden_ND.device)
        cuts = [slice(start, min(start + self.chunk, rows)) for start in range(0, rows, self.chunk)]
        shape = size * min(self.chunk, rows), len(self.weight_VD)
        buffers = [hidden_ND.new_empty(shape) for _ in cuts[:2]]
        reducing: list[Pending] = []
        before: _Chunk | None = None
        gathering = self.comm.begin_gather(hidden_ND[cuts[0]])
        for number, cut in enumerate(cuts):
            hidden_CD = gathering.wait()
            if number + 1 < len(cuts):
                gathering = self.comm.begin_gather(hidden_ND[cuts[number + 1]])
            targets_C = self.targets_TN[:, cut].flatten()
            logits_CV = logits_into(hidden_CD, self.weight_VD, buffers[number % 2])
            around = self.comm.begin_gather(_parts(logits_CV, targets_C, self.first))
            if before is not None:
                self._end(before, each_TN, gradients, reducing)
            before = _Chunk(cut, hidden_CD, targets_C, logits_CV, around)
        assert before is not None
        self._end(before, each_TN, gradients, reducing)
        for pending in reducing:
            pending.wait()
        return each_TN

    def _end(self, chunk: _Chunk, each_TN: Tensor, gradients: _Gradients | None, reducing: list[Pending]) -> None:
        greatest_TC, sum_TC, target_TC = chunk.around.wait().view(self.comm.size, 3, -1).unbind(1)
        highest_C = greatest_TC.amax(0)
        logsumexp_C = highest_C + (sum_TC * (greatest_TC - highest_C).exp()).sum(0).log()
        nats_C = torch.where(chunk.targets_C >= 0, logsumexp_C - target_TC.sum(0), 0.0)
        each_TN[:, chunk.rows] = nats_C.view(self.comm.size, -1)
        if gradients is None:
            return
        _to_gradient(chunk.logits_CV, logsumexp_C, nats_C, chunk.targets_C, self.first)
        hidden_gradient_CD = chunk.logits_CV @ self.weight_VD
        reducing.append(self.comm.begin_reduce(hidden_gradient_CD, out=gradients.hidden_ND[chunk.rows]))
        gradients.weight_VD = with_product(gradients.weight_VD, chunk.logits_CV, chunk.hidden_CD)


def _parts(logits_CV: Tensor, targets_C: Tensor, first: int) -> Tensor:
    """(3, tokens), in f32 or wider: the greatest of a rank's logits, the sum of exponentials of what the others are
    below it, and the target's where it is the rank's own, else 0."""
    local_C, mine_C = _local(targets_C, range(first, first + logits_CV.shape[1]))
    parts_3C = torch.empty(3, len(logits_CV), dtype=_wide(logits_CV.dtype), device=logits_CV.device)
    for rows, work_PV in _cached(logits_CV):
        greatest_P = logits_CV[rows].amax(1).to(work_PV.dtype)
        parts_3C[0, rows] = greatest_P
        parts_3C[1, rows] = torch.sub(logits_CV[rows], greatest_P[:, None], out=work_PV).exp_().sum(1)
        parts_3C[2, rows] = logits_CV[rows].gather(1, local_C[rows, None])[:, 0] * mine_C[rows]
    return parts_3C


def _to_gradient(logits_CV: Tensor, logsumexp_C: Tensor, nats_C: Tensor, targets_C: Tensor, first: int) -> None:
    """Turn a rank's logits into the gradient of all nats, where they stand (`logits_gradient` of loss.py)."""
    local_C, mine_C = _local(targets_C, range(first, first + logits_CV.shape[1]))
    for rows, work_PV in _cached(logits_CV):
        logits_CV[rows] = torch.sub(logits_CV[rows], logsumexp_C[rows, None], out=work_PV).exp_()
    mine = mine_C.nonzero()[:, 0]
    logits_CV[mine, local_C[mine]] = torch.expm1(-nats_C[mine]).to(logits_CV.dtype)
    unscored = (targets_C < 0).nonzero()[:, 0]
    if len(unscored):
        logits_CV[unscored] = 0.0


def _cached(logits_CV: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Rows that stay in the processor's cache, and room for them in f32 or wider."""
    room_PV = logits_CV.new_empty(cached_rows(logits_CV), logits_CV.shape[1], dtype=_wide(logits_CV.dtype))
    for start in range(0, len(logits_CV), len(room_PV)):
        rows = slice(start, min(start + len(room_PV), len(logits_CV)))
        yield rows, room_PV[: rows.stop - start]


def _local(ids: Tensor, own: range) -> tuple[Tensor, Tensor]:
    """Row numbers within a rank's own pieces, 0 for others, and which ids are its own."""
    mine = (ids >= own.start) & (ids < own.stop)
    return torch.where(mine, ids - own.start, 0), mine


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)
