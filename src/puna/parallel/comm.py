"""What the ranks of a tensor axis exchange, over a process group of torch (`Comm` of model/comm.py).

Collectives are begun on the group's own thread or stream and waited for by whoever needs their result: on a GPU, the
waiting is done by its stream and not by the program. A collective keeps its tensors until it is waited for.
"""

from __future__ import annotations

from typing import Any

import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor, Partial


class GroupComm:
    """This rank in a process group."""

    def __init__(self, group: dist.ProcessGroup) -> None:
        self._group = group
        self.rank = dist.get_rank(group)
        self.size = dist.get_world_size(group)

    def begin_gather(self, x_ND: Tensor, out: Tensor | None = None) -> Begun:
        x_ND = x_ND.contiguous()
        if out is None:
            out = x_ND.new_empty(self.size * len(x_ND), *x_ND.shape[1:])
        work = dist.all_gather_single(out, x_ND, group=self._group, async_op=True)
        return Begun(work, out, x_ND)

    def begin_reduce(self, x_TD: Tensor, out: Tensor | None = None) -> Begun:
        x_TD = x_TD.contiguous()
        if out is None:
            out = x_TD.new_empty(len(x_TD) // self.size, *x_TD.shape[1:])
        work = dist.reduce_scatter_single(out, x_TD, group=self._group, async_op=True)
        return Begun(work, out, x_TD)

    def local(self, tensor: Tensor) -> Tensor:
        """This rank's part. Its gradient is of the same part, or where the tensor is whole on each rank, a summand of
        it: each rank sees its own positions (`sum_gradients` of tensor.py)."""
        assert isinstance(tensor, DTensor)
        placements = [Partial() if each.is_replicate() else each for each in tensor.placements]
        return tensor.to_local(grad_placements=placements)


class Begun:
    """A collective under way, into `out`."""

    def __init__(self, work: Any, out: Tensor, source: Tensor) -> None:
        self._work, self._out, self._source = work, out, source

    def wait(self) -> Tensor:
        self._work.wait()
        return self._out
