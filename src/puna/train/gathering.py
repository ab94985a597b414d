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
        """shapes: of the model's whole tensors by name."""
        self._mesh = mesh
        self._shapes = shapes
        self._group = dist.new_group(backend="gloo", timeout=FOREVER)

    def empty(self, *kinds: str) -> dict[str, Tensor]:
        """All whole tensors without values: their names, behind each of `kinds`, and shapes."""
        named = {f"{kind}{name}": shape for kind in kinds for name, shape in self._shapes.items()}
        return {name: torch.empty(shape, dtype=torch.float32, device="meta") for name, shape in named.items()}

    def whole(self, name: str, part: Tensor | None) -> Tensor:
        """On rank 0: the tensor `name`, whose parts all ranks `send` in the same order. part: its own, if any."""
        tensor = torch.empty(self._shape(name), dtype=torch.float32)
        for rank, region in self._pieces(name):
            if rank == self._mesh.rank:
                assert part is not None
                tensor[region] = part
            else:
                came = torch.empty(pieces.sizes(region), dtype=torch.float32)
                dist.recv(came, rank, self._group)
                tensor[region] = came
        return tensor

    def needed(self, parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Those of this rank's parts of which whole tensors are put together; replicas bring none."""
        mine = self._mesh.rank
        return {name: part for name, part in parts.items() if any(rank == mine for rank, _ in self._pieces(name))}

    def send(self, part: Tensor) -> None:
        """On another rank: send one of the parts that are `needed`, in the order of names."""
        dist.send(part.cpu().contiguous(), 0, self._group)

    def stands(self) -> None:
        """Wait on every rank until rank 0 says that the checkpoint stands."""
        dist.broadcast(torch.zeros(1), 0, self._group)

    def _pieces(self, name: str) -> list[pieces.Piece]:
        return pieces.pieces(self._mesh.layout, self._mesh.layers, name, self._shape(name))

    def _shape(self, name: str) -> tuple[int, ...]:
        return self._shapes[name.removeprefix("exp_avg.").removeprefix("exp_avg_sq.")]
