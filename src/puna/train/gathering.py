"""Whole tensors out of the parts that ranks hold, for a checkpoint: to rank 0, one tensor after another.

Each rank keeps a copy of its own parts while training goes on; a thread of each sends them over a process group that
nothing else uses (collectives of two threads on one group would mix). Rank 0 puts one tensor together at a time and
hands it to the writer, so that it holds no more than its own parts and twice the largest tensor: the tensor, and a part
that has just come.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from puna.parallel import pieces
from puna.parallel.mesh import Mesh

FOREVER = timedelta(days=365)  # a slow disk is no error; a rank that is gone closes its connections, which is one


class Gathering:
    """This rank's part in it. All ranks make one, at the same time."""

    def __init__(self, mesh: Mesh, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """shapes: of whole tensors by name."""
        self._mesh = mesh
        self._shapes = shapes
        self._group = dist.new_group(backend="gloo", timeout=FOREVER)

    def empty(self, names: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Whole tensors of these names without values: their shapes and types."""
        return {name: torch.empty(self._shape(name), dtype=part.dtype, device="meta") for name, part in names.items()}

    def whole(self, name: str, part: Tensor) -> Tensor:
        """On rank 0: the tensor `name`, whose parts all ranks `send` in the same order. part: its own."""
        tensor = torch.empty(self._shape(name), dtype=part.dtype)
        for rank, region in pieces.pieces(self._mesh.layout, name, tensor.shape):
            if rank == self._mesh.rank:
                tensor[region] = part
            else:
                came = torch.empty(pieces.sizes(region), dtype=part.dtype)
                dist.recv(came, rank, self._group)
                tensor[region] = came
        return tensor

    def send(self, name: str, part: Tensor) -> None:
        """On another rank: send what the tensor needs of it."""
        if any(rank == self._mesh.rank for rank, _ in pieces.pieces(self._mesh.layout, name, self._shape(name))):
            dist.send(part.cpu().contiguous(), 0, self._group)

    def stands(self) -> None:
        """Wait on every rank until rank 0 says that the checkpoint stands."""
        dist.broadcast(torch.zeros(1), 0, self._group)

    def _shape(self, name: str) -> tuple[int, ...]:
        return self._shapes[name.removeprefix("exp_avg.").removeprefix("exp_avg_sq.")]
