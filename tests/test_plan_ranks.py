"""Ranks that share a model hold what was planned for them: on every mesh, in every mode, as they train.

Memory is that of the first rank of a fake process group, whose collectives are there and move nothing: each allocation
of a training step is the one that a rank of gloo makes. Gloo frees some of them on threads of its own, which torch's
profiler does not see, so that it counts too much there, and another number each time (docs/log.md).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, get_args

import pytest
import torch
import torch.distributed as dist
from torch.testing._internal.distributed.fake_pg import FakeStore

from puna import recipe as recipes
from puna.model import modes, weights
from puna.model.config import ModelConfig
from puna.parallel.layout import Layout
from puna.parallel.mesh import Mesh, arrange, fill, local
from puna.parallel.sharded import sharded
from puna.plan.memory import rank_memory
from puna.train.optimizer import Optimizer
from puna.train.speed.memory import peak

pytestmark = [pytest.mark.prove, pytest.mark.usefixtures("one_thread")]

WINDOWS = 4
CONFIG = ModelConfig(dim=64, heads=4, kv_heads=2, layers=5, hidden=192, vocabulary=512, context=64)
MESHES = {
    "shard 2": Layout(shard=2),
    "tensor 2": Layout(tensor=2),
    "shard 2 x tensor 2": Layout(shard=2, tensor=2),
}
STEPS = list(itertools.product(get_args(modes.Mode), (1, 2), ("bfloat16", "float32")))


@pytest.fixture(params=MESHES.values(), ids=MESHES)
def mesh(request: pytest.FixtureRequest) -> Iterator[Mesh]:
    wanted: Layout = request.param
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=wanted.ranks)
    try:
        axes = recipes.Mesh(replicate=wanted.replicate, shard=wanted.shard, tensor=wanted.tensor)
        yield arrange(CONFIG, axes, 2 * WINDOWS, 0, lambda ranks: None)
    finally:
        dist.destroy_process_group()


def test_a_rank_takes_the_memory_that_was_planned(mesh: Mesh, proved: Any) -> None:
    misses = {step: planned(mesh.layout, *step) / measured(mesh, *step) - 1 for step in STEPS}
    far = max(map(abs, misses.values()))
    assert far <= 0.10, misses
    proved(f"memory of {len(misses)} steps of a rank, {mesh}: at most {far:.1%} off")


def planned(axes: Layout, mode: modes.Mode, times: int, dtype: str) -> int:
    layout = Layout(axes.replicate, axes.shard, axes.tensor, micro_batch=WINDOWS, mode=mode)
    width = getattr(torch, dtype).itemsize
    return rank_memory(CONFIG, layout, times * axes.data * WINDOWS, width=width, compiled=False).total


def measured(mesh: Mesh, mode: modes.Mode, times: int, dtype: str) -> int:
    """Bytes at the peak of a step of so many micro-batches."""
    model = sharded(CONFIG, mesh, getattr(torch, dtype))
    fill(model, mesh, lambda name: torch.from_numpy(weights.initial(CONFIG, name, 1)))
    optimizer = Optimizer(model, getattr(torch, dtype), recipes.load("llama-7b").train, mesh)
    modes.use(model, mode, compiles=False)
    held = 12 * sum(local(parameter).numel() for parameter in model.parameters())
    tokens = torch.randint(CONFIG.vocabulary, (times, WINDOWS, CONFIG.context + 1))

    def step() -> None:
        for part in tokens:
            loss = model.loss(part)
            torch.autograd.backward(loss.nats / loss.tokens)
            optimizer.collect()
        optimizer.step(1e-4, optimizer.gradient_norm())
        optimizer.drop_gradients()

    step()  # makes what is made once
    return held + peak(step)
