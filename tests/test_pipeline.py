"""Stages of a pipeline work by 1F1B, and train as one process does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

import pytest
import torch
import torch.distributed as dist
from hypothesis import given
from hypothesis import strategies as st
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.pipelining import PipelineStage

import made_training as made
from puna.errors import InputError, PunaError
from puna.model import modes
from puna.model.config import ModelConfig
from puna.model.documents import segments
from puna.model.llama import Llama
from puna.model.weights import initial
from puna.parallel.layout import Layout
from puna.parallel.mesh import ALONE, AXES, Mesh, fill, refuse
from puna.parallel.pipeline import Stage
from puna.parallel.sharded import sharded
from puna.train.optimizer import Optimizer
from ranks import RankError, Ranks

pytestmark = pytest.mark.usefixtures("one_thread")

Group = Callable[[int], Ranks]
Order = list[tuple[str, int]]
# Layers that do not divide by the stages, windows that do not by the passes, and a length that does not by ranks.
CONFIG = ModelConfig(dim=16, heads=2, kv_heads=2, layers=5, hidden=24, vocabulary=40, context=9)
STEPS, WINDOWS, PASSES = 20, 9, 5


class Trained(NamedTuple):
    losses: list[float]
    norms: list[float]
    masters: dict[str, torch.Tensor]


@pytest.mark.promise("twins")
@pytest.mark.parametrize("mode", ["hand", pytest.param("selective", marks=pytest.mark.prove)])
def test_four_stages_train_as_one_process(ranks: Group, mode: modes.Mode) -> None:
    expected = trained_alone(mode)
    assert expected.losses[-1] < expected.losses[0] - 0.3
    held: set[str] = set()
    for found in ranks(4).run(trained, mode, 4):
        assert found.losses == pytest.approx(expected.losses, rel=1e-5)
        assert found.norms == pytest.approx(expected.norms, rel=1e-5)
        for name, master in found.masters.items():
            assert (master - expected.masters[name]).norm() <= 1e-4 * expected.masters[name].norm(), name
        held |= found.masters.keys()
    assert held == expected.masters.keys()


@pytest.mark.parametrize("stages", [2, 4])
def test_each_stage_makes_its_passes_in_the_order_of_1f1b(ranks: Group, stages: int) -> None:
    for stage, (order, most) in enumerate(ranks(stages).run(orders, stages)):
        assert order == one_forward_one_backward(stage, stages)
        assert most == stages - stage  # passes whose activations are kept at once


def one_forward_one_backward(stage: int, stages: int) -> Order:
    ahead = stages - stage
    order = [("forward", number) for number in range(ahead)]
    for number in range(PASSES):
        order.append(("backward", number))
        if ahead + number < PASSES:
            order.append(("forward", ahead + number))
    return order


@pytest.mark.prove
def test_a_step_gathers_weights_and_sums_gradients_once(ranks: Group) -> None:
    for rank, counted in enumerate(ranks(4).run(exchanges)):
        groups = 4 if rank < 2 else 3  # of weights: a layer each, and the embedding, or norm and output
        assert counted["gloo:all_gather"] == groups
        assert counted["c10d::_reduce_scatter_base_"] == groups
        assert counted["gloo:send"] == counted["gloo:recv"] == PASSES


def test_what_goes_wrong_in_a_pass_is_told_as_it_is(ranks: Group) -> None:
    with pytest.raises(RankError, match="PunaError: the kitchen: out of poi") as found:
        ranks(2).run(failing)
    assert found.value.rank == 1
    assert "failed to run forward" not in str(found.value)


@pytest.mark.promise("errors")
@pytest.mark.parametrize(
    ("rows", "micro_batch", "message"),
    [
        (3, 1, r"3 windows of a rank in passes of 1 are fewer passes than the 4 stages; raise train\.batch, or lower"),
        (9, 3, r"9 windows of a rank in passes of 3 are fewer .*; set train\.micro_batch to at most 2"),
    ],
)
def test_fewer_passes_than_stages_are_refused(rows: int, micro_batch: int, message: str) -> None:
    layout = Layout(pipeline=4)
    refuse(CONFIG, layout, rows=9, micro_batch=2)
    with pytest.raises(InputError, match=message):
        refuse(CONFIG, layout, rows, micro_batch)


@given(st.integers(1, 12), st.integers(0, 30))
def test_stages_share_all_layers_in_order(stages: int, more: int) -> None:
    layout, layers = Layout(pipeline=stages), stages + more
    held = [layout.layers_of(stage, layers) for stage in range(stages)]
    assert [layer for each in held for layer in each] == list(range(layers))
    assert all(layout.stage_of(layer, layers) == stage for stage, each in enumerate(held) for layer in each)
    counts = [len(each) for each in held]
    assert max(counts) - min(counts) <= 1
    assert max(counts) == layout.stage_layers(replace(CONFIG, layers=layers))


def batches() -> torch.Tensor:
    """Windows in which each token is the one before it plus one or two."""
    chance = torch.Generator().manual_seed(1)
    shape = STEPS, WINDOWS, CONFIG.context + 1
    steps = torch.randint(1, 3, shape, generator=chance).cumsum(2)
    return (steps + torch.randint(40, (*shape[:2], 1), generator=chance)) % CONFIG.vocabulary


def trained(mode: modes.Mode, stages: int) -> Trained:
    return train(staged(mode, stages), mesh_of(stages))


@cache
def trained_alone(mode: modes.Mode) -> Trained:
    model = Llama(CONFIG, dtype=torch.float32)
    modes.use(model, mode, compiles=False)
    return train(model, ALONE)


def train(model: Llama, mesh: Mesh) -> Trained:
    """Steps over documents that do not see each other, the first token of each window not scored."""
    fill(model, mesh, lambda name: torch.from_numpy(initial(CONFIG, name, seed=1)))
    optimizer = Optimizer(model, torch.float32, made.recipe("train.clip=0.5").train, mesh)
    losses, norms = [], []
    for tokens_BL1 in batches():
        tokens_BL, targets_BL = tokens_BL1[:, :-1], tokens_BL1[:, 1:].clone()
        targets_BL[:, 0] = -1
        given = tokens_BL, targets_BL, segments(tokens_BL, end=7)
        scored = float((targets_BL >= 0).sum())
        if isinstance(model, Stage):
            nats, each_BL = model.train_batch(*given, passes=PASSES, scored=scored)
            assert each_BL.sum(dtype=torch.float64).item() == pytest.approx(nats)
        else:
            nats = 0.0
            for part in zip(*(torch.split(each, 2) for each in given), strict=True):
                loss = model.score(*part)
                torch.autograd.backward(loss.nats / scored)
                nats += loss.nats.item()
        optimizer.collect()
        losses.append(nats / scored)
        norms.append(optimizer.gradient_norm())
        optimizer.step(3e-3, norms[-1])
        optimizer.drop_gradients()
    return Trained(losses, norms, {name: master.clone() for name, master in optimizer.masters.items()})


def orders(stages: int) -> tuple[Order, int]:
    """What a rank did in a step: its passes in order, and how many it kept at most."""
    forward, backward = PipelineStage.forward_one_chunk, PipelineStage.backward_one_chunk
    done: Order = []
    kept = []

    def forwards(stage: PipelineStage, number: int, *rest: Any, **more: Any) -> Any:
        done.append(("forward", number))
        result = forward(stage, number, *rest, **more)
        kept.append(len(stage.fwd_cache))
        return result

    def backwards(stage: PipelineStage, number: int, *rest: Any, **more: Any) -> Any:
        done.append(("backward", number))
        return backward(stage, number, *rest, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PipelineStage, "forward_one_chunk", forwards)
        patch.setattr(PipelineStage, "backward_one_chunk", backwards)
        step(staged("reference", stages), mesh_of(stages))
    return done, max(kept)


def exchanges() -> dict[str, int]:
    """How often a rank of two stages that shard over two ranks exchanges something, in its second step."""
    devices = init_device_mesh("cpu", (2, 1, 2, 1), mesh_dim_names=AXES)
    mesh = Mesh(Layout(pipeline=2, shard=2), dist.get_rank(), devices, CONFIG.layers)
    model = sharded(CONFIG, mesh, torch.float32)
    assert isinstance(model, Stage)
    step(model, mesh)
    with torch.profiler.profile() as profile:
        step(model, mesh)
    return {event.key: event.count for event in profile.key_averages()}


def failing() -> None:
    """The last stage fails in its third pass."""
    calls = []

    def alive() -> None:
        calls.append(None)
        if dist.get_rank() == 1 and len(calls) == 3:
            raise PunaError("out of poi", where="the kitchen")

    step(staged("reference", 2), mesh_of(2), alive)


def step(model: Stage, mesh: Mesh, alive: Callable[[], object] = lambda: None) -> None:
    fill(model, mesh, lambda name: torch.from_numpy(initial(CONFIG, name, seed=1)))
    tokens_BL1 = batches()[0]
    model.train_batch(tokens_BL1[:, :-1], tokens_BL1[:, 1:], None, passes=PASSES, scored=1.0, alive=alive)


def staged(mode: modes.Mode, stages: int) -> Stage:
    model = sharded(CONFIG, mesh_of(stages), torch.float32)
    modes.use(model, mode, compiles=False)
    assert isinstance(model, Stage)
    return model


@cache
def mesh_of(stages: int) -> Mesh:
    devices = init_device_mesh("cpu", (stages, 1, 1, 1), mesh_dim_names=AXES)
    return Mesh(Layout(pipeline=stages), dist.get_rank(), devices, CONFIG.layers)
