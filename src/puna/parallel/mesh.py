"""The mesh of a training: which ranks there are, how they share model and batch, and the little they say to each other.

`arrange` decides the mesh, by the recipe or by itself; without a process group a training is ALONE, and every exchange
here gives back what it was given, so that the loop is written once. What ranks exchange here is small and goes over CPU
memory. Sums are made by each rank itself, in the order of ranks, so that all of them come to the same bits and decide
alike; no order of arrival is in them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from puna.errors import InputError, ToldElsewhere
from puna.model.config import ModelConfig
from puna.model.device import CPU
from puna.parallel import pieces
from puna.parallel.layout import Layout, filled, said
from puna.recipe import Mesh as Wanted

AXES = ("pipeline", "replicate", "shard", "tensor")


@dataclass(frozen=True)
class Mesh:
    """This rank among those of a training."""

    layout: Layout = field(default_factory=Layout)
    rank: int = 0
    devices: DeviceMesh | None = None
    """None: there is one process, and no group of any."""
    layers: int = 1
    """Of the model; stages of a pipeline share them, and without one nothing depends on it."""
    micro_batch: int = 0
    """Windows of a forward pass where a planner chose the mesh, and with it these; else 0."""

    @property
    def alone(self) -> bool:
        return self.devices is None

    @property
    def first(self) -> bool:
        """Whether this rank speaks and writes for all."""
        return self.rank == 0

    @property
    def reader(self) -> int:
        """Which of the `layout.data` shares of a batch this rank reads."""
        at = pieces.place(self.layout, self.rank)
        return at.replicate * self.layout.shard + at.shard

    def share(self, count: int) -> tuple[int, int]:
        """Of a batch of so many rows, the first that this rank reads and how many: shares differ by one at most."""
        start, stop = (count * (self.reader + more) // self.layout.data for more in (0, 1))
        return start, stop - start

    def passes(self, count: int, rows: int) -> int:
        """Forward passes of at most `rows` rows that every rank makes of a batch, also one with fewer rows."""
        most = -(-count // self.layout.data)
        return -(-most // rows)

    def rows_of_pass(self, asked: int, count: int) -> int:
        """Rows of a forward pass of a batch of so many: as the recipe asks, else as was planned, else all."""
        return asked or self.micro_batch or count

    def sum(self, value: float) -> float:
        """The sum over ranks that read something of their own; the same bits on every rank."""
        if self.alone:
            return value
        at = pieces.place(self.layout, self.rank)
        mine = 0.0 if at.tensor or at.pipeline else value
        return math.fsum(each[0] for each in self.gathered([mine]))

    def any(self, value: bool) -> bool:
        """Whether it is so on any rank."""
        return value if self.alone else any(each[0] for each in self.gathered([float(value)]))

    def gathered(self, values: Iterable[float]) -> list[list[float]]:
        """Equally many numbers of each rank, by rank."""
        mine = torch.tensor(list(values), dtype=torch.float64)
        if self.alone:
            return [mine.tolist()]
        all_RN = [torch.empty_like(mine) for _ in range(self.layout.ranks)]
        dist.all_gather(all_RN, mine)
        return [each.tolist() for each in all_RN]

    def rows(self, mine: npt.NDArray[np.float32], count: int) -> npt.NDArray[np.float32]:
        """The rows of a whole batch, of which each rank has computed its share."""
        if self.alone:
            return mine
        most = -(-count // self.layout.data)
        filled = torch.zeros(most, *mine.shape[1:])
        filled[: len(mine)] = torch.from_numpy(mine)
        all_R = [torch.empty_like(filled) for _ in range(self.layout.ranks)]
        dist.all_gather(all_R, filled)
        found = []
        for rank in range(self.layout.ranks):
            other = Mesh(self.layout, rank)
            at = pieces.place(self.layout, rank)
            if not (at.tensor or at.pipeline):
                found.append(all_R[rank][: other.share(count)[1]].numpy())
        return np.concatenate(found)

    def norm(self, gradients: Mapping[str, Tensor]) -> float:
        """The norm of all gradients of the model, of which each rank brings its parts, by name."""
        if self.alone:
            return float(torch.nn.utils.get_total_norm(list(gradients.values())))
        squares = 0.0
        for name, norm in zip(gradients, torch._foreach_norm(list(gradients.values())), strict=True):
            squares += float(norm) ** 2 / pieces.copies(self.layout, name)
        return math.sqrt(math.fsum(each[0] for each in self.gathered([squares])))

    def told(self, value: Callable[[], Any]) -> Any:
        """What rank 0 finds, a value that JSON holds, on every rank. What it raises is raised there alone."""
        if self.alone:
            return value()
        text = json.dumps(value()).encode() if self.first else b""
        length = torch.tensor([len(text)])
        dist.broadcast(length, 0)
        data = torch.frombuffer(bytearray(text), dtype=torch.uint8) if self.first else torch.empty(0)
        data = data if self.first else torch.empty(int(length), dtype=torch.uint8)
        dist.broadcast(data, 0)
        return json.loads(data.numpy().tobytes())

    def meet(self) -> None:
        """Wait for all ranks."""
        if not self.alone:
            self.gathered([0.0])

    @property
    def part(self) -> pieces.Regions | None:
        """What of a checkpoint's tensors this rank reads; None: all of it."""
        return None if self.alone else self.region

    def region(self, name: str, shape: Iterable[int]) -> pieces.Region:
        """What this rank holds of a tensor."""
        return pieces.held(self.layout, self.layers, self.rank, name, tuple(shape))

    @property
    def stage(self) -> int:
        """Of the pipeline, this rank's."""
        return pieces.place(self.layout, self.rank).pipeline

    def __str__(self) -> str:
        return said(self.layout)


ALONE = Mesh()


def arrange(
    config: ModelConfig,
    wanted: Wanted,
    rows: int,
    micro_batch: int,
    chosen: Callable[[int], Layout | None],
    device: torch.device = CPU,
) -> Mesh:
    """The mesh of the ranks of torch's process group, or ALONE where there is none.

    rows: of a batch. micro_batch: those of a forward pass; 0: all that a rank reads. chosen: what a planner finds for
    so many ranks where the recipe leaves all to it; None: all ranks share weights. device: of this rank. InputError:
    ranks, heads, layers or rows do not divide so.
    """
    if not dist.is_initialized():
        return ALONE
    ranks = dist.get_world_size()
    try:
        free = not (wanted.replicate or wanted.shard or wanted.tensor or wanted.pipeline)
        planned = chosen(ranks) if free else None
        layout = planned or filled(wanted, ranks)
        refuse(config, layout, rows, micro_batch)
    except InputError as error:
        if dist.get_rank():
            raise ToldElsewhere(str(error)) from None  # every rank finds the same
        raise
    shape = (layout.pipeline, layout.replicate, layout.shard, layout.tensor)
    devices = init_device_mesh(device.type, shape, mesh_dim_names=AXES)
    return Mesh(layout, dist.get_rank(), devices, config.layers, planned.micro_batch if planned else 0)


def refuse(config: ModelConfig, layout: Layout, rows: int, micro_batch: int) -> None:
    """InputError where a model or its batch cannot be shared so."""
    if layout.tensor > 1:
        from puna.parallel.tensor import refuse_uneven  # with it comes more of torch than one process needs

        refuse_uneven(config, layout.tensor)
    if rows < layout.data:
        what = f"a batch of {rows} windows leaves some of {layout.data} ranks that read without any"
        mend = "raise train.batch, start fewer ranks, or raise train.mesh.tensor"
        raise InputError(what, where="train.mesh", mend=mend)
    if layout.pipeline > 1:
        _refuse_pipeline(config, layout, rows, micro_batch)


def _refuse_pipeline(config: ModelConfig, layout: Layout, rows: int, micro_batch: int) -> None:
    stages, own = layout.pipeline, -(-rows // layout.data)
    if config.tied:
        what = "a tied model's embedding is its output too, and the first and the last stage hold one of them each"
        raise InputError(what, where="train.mesh", mend="set pipeline to 1, or model.tied to false")
    if stages > config.layers:
        what = f"a model of {config.layers} layers has none for some of {stages} stages"
        raise InputError(what, where="train.mesh", mend=f"set pipeline to at most {config.layers}")
    if -(-own // (micro_batch or own)) < stages:
        what = f"{own} windows of a rank in passes of {micro_batch or own} are fewer passes than the {stages} stages"
        most = (own - 1) // (stages - 1)
        mend = f"set train.micro_batch to at most {most}" if most else "raise train.batch, or lower pipeline"
        raise InputError(what, where="train.mesh", mend=mend)


def local(tensor: Tensor) -> Tensor:
    """This rank's part of a parameter or a gradient; what is no DTensor is whole."""
    return cast(Tensor, tensor.to_local()) if hasattr(tensor, "to_local") else tensor


def fill(model: nn.Module, mesh: Mesh, values: Callable[[str], Tensor]) -> None:
    """Give each rank its part of the tensors that `values` gives whole, one after another."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            region, part = mesh.region(name, parameter.shape), local(parameter)
            assert tuple(part.shape) == pieces.sizes(region), f"{name}: {tuple(part.shape)} is not {region}"
            part.copy_(values(name)[region])
