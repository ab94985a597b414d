"""Tensor and sequence parallelism: a model's tensors cut over the ranks of one axis of the mesh.

Paper, section 2.4. The first linear weights of each half of a layer are cut by their outputs (heads, hidden columns),
the last one by its inputs, the embedding and the output by pieces of the vocabulary; norms are whole on each rank. A
rank's tensors are DTensors on the axis, so that a checkpoint or FSDP knows whole shapes.

Heads, grouped keys and hidden columns must divide by the axis. The vocabulary need not: the last rank has fewer
pieces. The length need not either: windows are filled up (llama.py).

Two forms: "hand" computes with this package's layers over a `Comm`; "dtensor" is torch's own (modules.py), the oracle.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, cast, overload

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard
from torch.distributed.tensor.placement_types import Placement

from puna.errors import InputError
from puna.model.config import ModelConfig
from puna.model.llama import Layer, Llama
from puna.parallel import pieces
from puna.parallel.comm import GroupComm
from puna.parallel.modules import ModuleLlama, as_modules

Form = Literal["hand", "dtensor"]

WHOLE = Replicate()


@overload
def cut(model: Llama, mesh: DeviceMesh, form: Literal["hand"] = "hand") -> Llama: ...
@overload
def cut(model: Llama, mesh: DeviceMesh, form: Literal["dtensor"]) -> ModuleLlama: ...
def cut(model: Llama, mesh: DeviceMesh, form: Form = "hand") -> Llama | ModuleLlama:
    """Cut `model` over the one axis of `mesh`: where it stands, or into a model of torch's modules.

    Each rank brings the whole model, with the same values, or with none (device "meta"); nothing is sent. `loss` then
    gives the same sum on every rank; the gradients of norms are summands (`sum_gradients`). modes.use comes after this.
    Raises InputError where the model cannot be cut so.
    """
    refuse_uneven(model.config, mesh.size())
    if form == "dtensor":
        return as_modules(model, mesh)
    for name, parameter in list(model.named_parameters()):
        module = model.get_submodule(name.rpartition(".")[0])
        module.weight = nn.Parameter(distributed(parameter.detach(), mesh, placement(name)))
    model.comm = comm = GroupComm(mesh.get_group())
    for block in cast(Iterable[Layer], model.layers):
        block.comm = comm
    return model


def placement(name: str) -> Placement:
    """Of the tensor with Meta's name, such as `layers.0.attention.wq.weight`."""
    dimension = pieces.cut(name)
    return WHOLE if dimension is None else Shard(dimension)


def refuse_uneven(config: ModelConfig, size: int) -> None:
    """InputError where `size` ranks cannot have equal parts of each layer, or one would have no piece at all."""
    for name in ("heads", "kv_heads", "hidden"):
        if getattr(config, name) % size:
            what = f"{name} = {getattr(config, name)} cannot be cut over {size} ranks"
            raise InputError(what, where="mesh", mend="choose a tensor axis that divides heads, kv_heads and hidden")
    if -(-config.vocabulary // size) * (size - 1) >= config.vocabulary:
        what = f"a vocabulary of {config.vocabulary} pieces leaves one of {size} ranks without any"
        raise InputError(what, where="mesh", mend="choose a smaller tensor axis")


def distributed(tensor: Tensor, mesh: DeviceMesh, how: Placement) -> DTensor:
    """A tensor that every rank has whole, of which each keeps its part."""
    part = parts(tensor, how, mesh.size())[mesh.get_local_rank()]
    local = part.clone(memory_format=torch.contiguous_format) if isinstance(how, Shard) else tensor
    return DTensor.from_local(local, mesh, [how], run_check=False, shape=tensor.shape, stride=tensor.stride())


def parts(tensor: Tensor, how: Placement, size: int) -> list[Tensor]:
    """What each of `size` ranks holds of a tensor, as views: equally much of a cut one, but for the last."""
    if not isinstance(how, Shard):
        return [tensor] * size
    most = -(-tensor.shape[how.dim] // size)
    stops = [min(rank * most, tensor.shape[how.dim]) for rank in range(size + 1)]
    return [tensor.narrow(how.dim, stops[rank], stops[rank + 1] - stops[rank]) for rank in range(size)]


def joined(held: Sequence[Tensor], how: Placement) -> Tensor:
    """`parts` undone."""
    return torch.cat(list(held), how.dim) if isinstance(how, Shard) else held[0]


def sum_gradients(tensors: Iterable[Tensor]) -> None:
    """Where each rank's gradient of a tensor is a summand, put the sum in its place; one collective for all of them.

    tensors: parameters or masters of a model that was cut, after the last backward pass of a step. Under FSDP there are
    no such gradients left: it sums them with what else it reduces.
    """
    cut_so = [tensor for tensor in tensors if isinstance(tensor.grad, DTensor) and _summands(tensor.grad)]
    if not cut_so:
        return
    gradients = [cast(DTensor, tensor.grad) for tensor in cut_so]
    flat = torch.cat([gradient.to_local().flatten().to(torch.float32) for gradient in gradients])
    dist.all_reduce(flat, group=gradients[0].device_mesh.get_group())
    sums = torch.split(flat, [gradient.numel() for gradient in gradients])
    for tensor, gradient, total in zip(cut_so, gradients, sums, strict=True):
        local = total.view(gradient.shape).to(gradient.dtype)
        tensor.grad = DTensor.from_local(local, gradient.device_mesh, [WHOLE], run_check=False)


def _summands(gradient: DTensor) -> bool:
    return gradient.placements == (Partial(),)
