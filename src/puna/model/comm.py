"""What ranks exchange that hold one model together: each a slice of every layer's heads and hidden columns, and between
the halves of a layer a share of the sequence.

Paper, section 2.4 (model and sequence parallelism). Two collectives are enough, and each is the other's transpose: to
gather the shares of the sequence before a linear weight that is cut by its outputs, and to sum what linear weights that
are cut by their inputs gave, of which each rank gets its own share. Both are begun and waited for, so that work can be
done between. The model knows this interface alone; parallel/comm.py has it over a process group.

The rows of a gathered tensor stand rank after rank. `by_window` puts them back into the order of windows, which only
attention asks for; norms, matmuls and the SwiGLU take rows as they come.
"""

from __future__ import annotations

from typing import Any, Protocol, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class Pending(Protocol):
    """A collective that was begun."""

    def wait(self) -> Tensor:
        """Its result, once it is there."""


class Comm(Protocol):
    """This rank among those that share a model. All of them begin the same collectives in the same order."""

    @property
    def rank(self) -> int: ...

    @property
    def size(self) -> int:
        """How many they are."""

    def begin_gather(self, x_ND: Tensor, out: Tensor | None = None) -> Pending:
        """The rows of every rank, (size * N, D), rank after rank; into `out`, when it is given."""

    def begin_reduce(self, x_TD: Tensor, out: Tensor | None = None) -> Pending:
        """This rank's rows, (T / size, D), of the sum over ranks of x_TD, whose rows stand rank after rank."""

    def local(self, tensor: Tensor) -> Tensor:
        """The part of a model's tensor that this rank computes with. Differentiable."""


def gathered(x_BOD: Tensor, comm: Comm) -> Tensor:
    """(batch, own positions, dim) of each rank -> (batch, length, dim), whole on every rank. Differentiable."""
    return cast(Tensor, _Gathered.apply(x_BOD, comm))  # type: ignore[no-untyped-call]


def reduced(x_BLD: Tensor, comm: Comm) -> Tensor:
    """(batch, length, dim) -> the sum over ranks at this rank's positions, (batch, length / size, dim).
    Differentiable."""
    return cast(Tensor, _Reduced.apply(x_BLD, comm))  # type: ignore[no-untyped-call]


def by_window(x_TE: Tensor, batch: int, size: int) -> Tensor:
    """Rows that stand rank after rank -> (batch, length, E)."""
    return x_TE.view(size, batch, -1, x_TE.shape[-1]).transpose(0, 1).reshape(batch, -1, x_TE.shape[-1])


def by_rank(x_BLE: Tensor, size: int) -> Tensor:
    """(batch, length, E) -> rows that stand rank after rank, (batch * length, E)."""
    return x_BLE.view(len(x_BLE), size, -1, x_BLE.shape[-1]).transpose(0, 1).reshape(-1, x_BLE.shape[-1])


class _Gathered(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_BOD: Tensor, comm: Comm) -> Tensor:
        ctx.comm = comm
        return _gather(x_BOD, comm)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_BLD: Tensor) -> tuple[Tensor, None]:
        return _reduce(gradient_BLD, ctx.comm), None


class _Reduced(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_BLD: Tensor, comm: Comm) -> Tensor:
        ctx.comm = comm
        return _reduce(x_BLD, comm)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_BOD: Tensor) -> tuple[Tensor, None]:
        return _gather(gradient_BOD, ctx.comm), None


def _gather(x_BOD: Tensor, comm: Comm) -> Tensor:
    return by_window(comm.begin_gather(x_BOD.flatten(0, 1)).wait(), len(x_BOD), comm.size)


def _reduce(x_BLD: Tensor, comm: Comm) -> Tensor:
    return comm.begin_reduce(by_rank(x_BLD, comm.size)).wait().view(len(x_BLD), -1, x_BLD.shape[-1])
