"""The fastest layout that fits into memory: every mesh, micro-batch and layer mode, by memory.py and roofline.py.

What is tried: tensor groups of a power of two within a node that divide heads and columns, pipelines of a power of two,
every division of the rest into replicas and shards, micro-batches of a power of two, weights gathered once or twice;
where a mesh was asked for, that one alone, whatever its numbers. Of layouts within a hundredth of the fastest the
simplest is taken: without a pipeline, with the smallest tensor group, with the most memory left. Ranks that would have
no window to read are no layout, nor are pipelines that training refuses: of a tied model, and of more stages than
micro-batches.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from puna.errors import InputError
from puna.model.config import ModelConfig
from puna.parallel.layout import Layout, fits_shape
from puna.plan.gpus import Gpu
from puna.plan.memory import RESERVE, Memory, rank_memory
from puna.plan.roofline import Step, step
from puna.progress import size

MODES = ("hand", "lean", "full")  # as train/memory.py orders them; the others are their oracles
PIPELINES = (1, 2, 4, 8, 16, 32)
NEAR = 1.01  # of the fastest


class Wanted(NamedTuple):
    """What the search may not choose; None leaves it free."""

    mode: str | None = None
    micro_batch: int | None = None
    mesh: tuple[int, int, int, int] | None = None
    """replicate, shard, tensor, pipeline."""
    pipelines: bool = True
    """Whether layers may be cut into groups."""


FREE = Wanted()


class Choice(NamedTuple):
    layout: Layout
    step: Step
    memory: Memory


def best(config: ModelConfig, windows: int, ranks: int, gpu: Gpu, wanted: Wanted = FREE, *, where: str = "") -> Choice:
    """The layout for `ranks` GPUs and steps of `windows` windows. Raises InputError: no mesh has that many ranks and
    these shapes, or none fits into the GPU's memory."""
    room = gpu.memory - RESERVE
    fitting: list[Choice] = []
    least: tuple[int, Layout] | None = None
    for layout in layouts(config, windows, ranks, gpu, wanted):
        memory = rank_memory(config, layout, windows)
        if memory.total <= room:
            fitting.append(Choice(layout, step(config, layout, windows, gpu), memory))
        elif least is None or memory.total < least[0]:
            least = memory.total, layout
    if fitting:
        fastest = min(choice.step.seconds for choice in fitting)
        return min((choice for choice in fitting if choice.step.seconds <= NEAR * fastest), key=_simplest)
    if least is None:
        raise _nothing(config, windows, ranks, gpu, wanted, where)
    what = f"it does not fit on {ranks:,} x {gpu.name}: at least {size(least[0])} a GPU, of {size(room)}"
    raise InputError(what, where=where, mend="give more --gpus, or a --gpu with more memory")


def layouts(config: ModelConfig, windows: int, ranks: int, gpu: Gpu, wanted: Wanted) -> Iterator[Layout]:
    for replicate, shard, tensor, pipeline in [wanted.mesh] if wanted.mesh else _meshes(windows, ranks, gpu):
        if tensor > gpu.node or (pipeline > 1 and not wanted.pipelines):
            continue
        share = windows // (replicate * shard)  # windows that every one of these ranks has at least
        if share < 1 or not fits_shape(config, Layout(tensor=tensor, pipeline=pipeline)):
            continue
        if pipeline > 1 and config.tied:
            continue
        for micro_batch in (wanted.micro_batch,) if wanted.micro_batch else _powers(min(share, 64)):
            if micro_batch > -(-windows // (replicate * shard)):
                continue
            if -(-windows // (replicate * shard * micro_batch)) < pipeline:
                continue
            for mode in (wanted.mode,) if wanted.mode else MODES:
                for reshard in (True, False) if shard > 1 and pipeline == 1 else (pipeline == 1,):
                    yield Layout(replicate, shard, tensor, pipeline, micro_batch, mode, reshard)


def _nothing(config: ModelConfig, windows: int, ranks: int, gpu: Gpu, wanted: Wanted, where: str) -> InputError:
    """Why there is no layout at all, and the nearest of what is asked for that has one."""

    free = wanted._replace(micro_batch=None)

    def any_of(count: int) -> bool:
        return next(layouts(config, windows, count, gpu, free), None) is not None

    if wanted.micro_batch and any_of(ranks):
        what = f"no mesh of {ranks:,} GPUs reads {windows:,} windows a step in passes of {wanted.micro_batch:,}"
        return InputError(what, where=where, mend="lower train.micro_batch, or set it to 0, which leaves it to Puna")
    what = f"{windows:,} windows a step, {config.heads} heads and {config.layers} layers cannot be shared by "
    what += f"{ranks:,} GPUs"
    if wanted.mesh:
        what += f" as {'x'.join(map(str, wanted.mesh))} (replicate x shard x tensor x pipeline)"
        mend = f"give a mesh whose tensor divides heads and is at most {gpu.node}, the GPUs of a node, or none"
        return InputError(what, where=where, mend=mend)
    fewer = next(count for count in (*(ranks >> halved for halved in range(1, 20)), 1) if count and any_of(count))
    return InputError(what, where=where, mend=f"give fewer --gpus, such as {fewer:,}, or a larger train.batch")


def _meshes(windows: int, ranks: int, gpu: Gpu) -> Iterator[tuple[int, int, int, int]]:
    """replicate, shard, tensor, pipeline."""
    for pipeline in PIPELINES:
        for tensor in _powers(gpu.node):
            data, rest = divmod(ranks, pipeline * tensor)
            if rest or data > windows:
                continue
            for shard in range(1, data + 1):
                if data % shard == 0:
                    yield data // shard, shard, tensor, pipeline


def _powers(most: int) -> Iterator[int]:
    power = 1
    while power <= most:
        yield power
        power *= 2


def _simplest(choice: Choice) -> tuple[int, int, int]:
    return choice.layout.pipeline, choice.layout.tensor, choice.memory.total
