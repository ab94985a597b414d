"""The planner against what is: real shapes, real steps' memory, the ranks of a fake mesh, and what others published."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import pytest
import torch
import torch.distributed as dist
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Replicate, Shard, distribute_tensor
from torch.testing._internal.distributed.fake_pg import FakeStore

from puna import recipe as recipes
from puna.errors import InputError
from puna.model import loss, weights
from puna.model.config import ModelConfig
from puna.model.llama import Llama
from puna.model.modes import Mode
from puna.parallel.layout import Layout
from puna.plan import memory, planned, shapes
from puna.plan.energy import energy
from puna.plan.gpus import gpu, table
from puna.plan.memory import RESERVE, rank_memory
from puna.plan.roofline import collective, executed_flop, step
from puna.plan.search import FREE, Wanted, best, layouts
from puna.plan.serving import cache_bytes, serving
from puna.train import machine
from puna.train.speed.memory import peak
from puna.train.speed.ours import Ours
from test_readme import _script

pytestmark = pytest.mark.usefixtures("one_thread")

ROOT = Path(__file__).parents[1]
A100 = gpu("A100-80GB")
MODES = get_args(Mode)
WIDTHS = {torch.float32: 4, torch.bfloat16: 2}
SHAPES = {
    "tiny": ModelConfig(dim=64, heads=4, kv_heads=2, layers=3, hidden=192, vocabulary=512, context=128),
    "small": ModelConfig(dim=96, heads=4, kv_heads=4, layers=4, hidden=256, vocabulary=768, context=128),
    "grouped": ModelConfig(dim=128, heads=4, kv_heads=2, layers=3, hidden=384, vocabulary=2048, context=64),
    "deep": ModelConfig(dim=64, heads=2, kv_heads=2, layers=10, hidden=192, vocabulary=512, context=64),
}


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    return _script("benchmarks/plan.py")


@pytest.fixture(scope="module")
def compared(bench: ModuleType) -> list[Any]:
    return list(bench.compared())


def make_config(name: str) -> ModelConfig:
    return ModelConfig.from_recipe(recipes.load(name), 32_000)


@pytest.mark.parametrize("config", [*SHAPES.values(), replace(SHAPES["grouped"], tied=True)])
def test_the_planned_weights_are_those_of_the_model(config: ModelConfig) -> None:
    assert dict(shapes.all_weights(config)) == dict(weights.shapes(config))
    held = shapes.held_elements(config, Layout())
    assert held == shapes.parameters(config) == sum(math.prod(shape) for shape in weights.shapes(config).values())


@pytest.mark.parametrize("name", ["llama-7b", "llama-65b"])
def test_the_weights_of_a_recipe_are_as_many_as_it_says(name: str) -> None:
    assert shapes.parameters(make_config(name)) == recipes.load(name).model.parameters(32_000)


@pytest.mark.parametrize(("shard", "tensor"), [(1, 4), (6, 1), (6, 4), (3, 2)])
def test_a_rank_holds_what_fsdp_and_tensor_parallel_leave_it(shard: int, tensor: int) -> None:
    """The first rank of a fake mesh, cut by PyTorch's own FSDP2 and DTensor on the meta device."""
    config = ModelConfig(dim=64, heads=8, kv_heads=4, layers=3, hidden=192, vocabulary=1000)
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=shard * tensor)
    try:
        mesh = init_device_mesh("cpu", (shard, tensor), mesh_dim_names=("shard", "tensor"))
        model = Llama(config, device="meta", dtype=torch.float32)
        for name, parameter in list(model.named_parameters()):
            part = name.removesuffix(".weight").rpartition(".")[2]
            cut = Shard(0) if part in shapes.ROWS else Shard(1) if part in shapes.COLUMNS else Replicate()
            module = model.get_submodule(name.removesuffix(".weight"))
            module.weight = nn.Parameter(distribute_tensor(parameter, mesh["tensor"], [cut]))
        if shard > 1:
            for layer in model.layers:
                fully_shard(layer, mesh=mesh["shard"])
            fully_shard(model, mesh=mesh["shard"])
        own = sum(parameter.to_local().numel() for parameter in model.parameters())  # type: ignore[attr-defined]
    finally:
        dist.destroy_process_group()
    assert shapes.held_elements(config, Layout(shard=shard, tensor=tensor)) == own


def test_the_formulas_of_flop_are_those_they_are_named_by() -> None:
    told = planned.plan(recipes.load("llama-65b"), A100, 2048).flop_per_token()
    assert [round(told[name] / 1e9, 1) for name in told if "without" in name] == [390.1, 398.2, 406.2]
    config = make_config("llama-7b")
    once, again = (executed_flop(config, mode) for mode in ("hand", "full"))
    layers = config.layers * sum(weight.elements for weight in shapes.layer_weights(config) if len(weight.shape) == 2)
    attention = 2 * config.layers * config.dim * (config.context + 1)
    assert again - once == 2 * layers + attention
    assert executed_flop(config, "lean") - once == 2 * config.layers * config.dim * config.hidden
    assert executed_flop(config, "selective") == executed_flop(config, "reference") == once


def miss(config: ModelConfig, dtype: torch.dtype, mode: str, micro_batches: int, *, compiles: bool = False) -> float:
    """How far the plan of a step's peak is from the bytes that torch held in one."""
    train = recipes.load("llama-7b", ["train.micro_batch=4"]).train
    ours = Ours(config, train, dtype, mode, compiles=compiles)  # type: ignore[arg-type]
    tokens = torch.randint(config.vocabulary, (4 * micro_batches, config.context + 1))
    width = dtype.itemsize
    before = shapes.parameters(config) * (12 + (width if width < 4 else 0))
    real = before + peak(lambda: ours(tokens, 1e-4))
    layout = Layout(micro_batch=4, mode=mode)
    return rank_memory(config, layout, 4 * micro_batches, width=width, compiled=compiles).total / real - 1


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("dtype", "micro_batches"), [(torch.float32, 1), (torch.bfloat16, 2)], ids=["float32", "bfloat16"]
)
def test_a_real_step_takes_the_memory_that_was_planned(dtype: torch.dtype, micro_batches: int, mode: str) -> None:
    assert abs(miss(SHAPES["tiny"], dtype, mode, micro_batches)) <= 0.10


@pytest.mark.prove
@pytest.mark.parametrize("shape", SHAPES)
def test_so_does_every_other_step(shape: str, proved: object) -> None:
    cells = {
        (dtype, mode, times): miss(SHAPES[shape], dtype, mode, times)
        for dtype in (torch.float32, torch.bfloat16)
        for mode in MODES
        for times in (1, 2)
    }
    if shape == "small" and not machine.why_not_compiled():
        for mode in ("hand", "lean"):
            cells[torch.bfloat16, mode, 0] = miss(SHAPES[shape], torch.bfloat16, mode, 2, compiles=True)
    assert max(map(abs, cells.values())) <= 0.10, cells
    proved(f"memory of {len(cells)} steps of {shape}: at most {max(map(abs, cells.values())):.1%} off")  # type: ignore[operator]


@given(tokens=st.integers(1, 10**6), vocabulary=st.integers(1, 300_000), dtype=st.sampled_from(list(WIDTHS)))
def test_logits_are_cut_as_the_loss_cuts_them(tokens: int, vocabulary: int, dtype: torch.dtype) -> None:
    assert memory.chunk(tokens, vocabulary, WIDTHS[dtype]) == loss.chunk_of(tokens, vocabulary, dtype)
    assert memory.CACHED == loss.CACHED


@given(shard=st.sampled_from([1, 2, 8, 64]), tensor=st.sampled_from([1, 2, 4, 8]), micro_batch=st.integers(1, 8))
def test_more_ranks_to_share_with_never_take_more_memory(shard: int, tensor: int, micro_batch: int) -> None:
    config = make_config("llama-7b")
    layout = Layout(shard=2 * shard, tensor=tensor, micro_batch=micro_batch)
    held = rank_memory(config, layout, 4096).total
    assert rank_memory(config, replace(layout, shard=4 * shard), 4096).total <= held
    assert rank_memory(config, replace(layout, mode="lean"), 4096).total <= held
    if tensor < 8:
        assert rank_memory(config, replace(layout, tensor=2 * tensor), 4096).total < held


def test_a_pipeline_keeps_what_is_under_way() -> None:
    config = make_config("llama-65b")
    whole = rank_memory(config, Layout(tensor=8, micro_batch=8), 512).tensors["activations"]
    stages = rank_memory(config, Layout(tensor=8, pipeline=4, micro_batch=8), 512).tensors["activations"]
    assert stages == whole  # a quarter of the layers, four micro-batches
    few = rank_memory(config, Layout(tensor=8, pipeline=4, micro_batch=8), 16).tensors["activations"]
    assert few == whole // 2


def test_a_collective_takes_the_slower_of_link_and_network() -> None:
    from puna.plan.efficiency import efficiency

    factors = efficiency(A100.family)
    size = 1e9
    assert collective(size, 1, 1, A100, factors) == 0
    inside = collective(size, 8, 1, A100, factors)
    assert inside == pytest.approx(size * 7 / 8 / (A100.link * factors.link) + 7 * factors.link_latency)
    across = collective(size, 16, 1, A100, factors)  # two nodes, eight cards each
    assert across > inside
    alone = collective(size, 2, 8, A100, factors)  # two nodes, one card each
    assert alone == pytest.approx(size / 2 / (A100.network * factors.network) + factors.network_latency)


def test_a_step_adds_up_and_a_faster_gpu_takes_less() -> None:
    config = make_config("llama-13b")
    layout = Layout(replicate=4, shard=16, tensor=2, pipeline=2, micro_batch=2, reshard=False)
    found = step(config, layout, 2048, A100)
    assert found.seconds == pytest.approx(sum(found.parts().values()))
    assert min(found.parts().values()) >= 0
    assert found.bubble > 0
    assert step(config, layout, 2048, replace(A100, flops=2 * A100.flops)).seconds < found.seconds
    assert step(config, replace(layout, mode="full"), 2048, A100).seconds > found.seconds


def test_the_layout_that_is_found_fits_and_none_that_fits_is_much_faster() -> None:
    config, windows, ranks = make_config("llama-13b"), 1953, 64
    choice = best(config, windows, ranks, A100)
    assert choice.layout.ranks == ranks
    assert choice.memory.total <= A100.memory - RESERVE
    every = list(layouts(config, windows, ranks, A100, FREE))
    assert len({each.mesh()["tensor"] for each in every}) == 4
    fitting = [each for each in every if rank_memory(config, each, windows).total <= A100.memory - RESERVE]
    fastest = min(step(config, each, windows, A100).seconds for each in fitting)
    assert choice.step.seconds <= 1.01 * fastest
    kept = best(config, windows, ranks, A100, Wanted("full", 1, (1, 16, 4, 1))).layout
    assert (kept.mode, kept.micro_batch, kept.mesh()) == (
        "full",
        1,
        {"replicate": 1, "shard": 16, "tensor": 4, "pipeline": 1},
    )


def test_published_runs_are_met_within_15_percent_or_their_miss_has_a_reason(
    bench: ModuleType, compared: list[Any]
) -> None:
    rows = {row.name: row for row in compared}
    far = {name for name, row in rows.items() if abs(row.miss) > bench.NEAR}
    assert far == {name for name, row in rows.items() if row.why}
    assert not any(rows[name].role == "calibrate" for name in far)
    assert all(row.source for row in rows.values())
    papers = {name: rows[name].miss for name in ("llama-7b", "llama-13b", "llama-33b", "llama-65b")}
    assert abs(papers["llama-65b"]) <= 0.15
    assert max(map(abs, papers.values())) <= 0.20
    held = [row for row in rows.values() if row.role == "held"]
    assert sum(abs(row.miss) <= bench.NEAR for row in held) >= len(held) - 4


def test_no_factor_was_set_by_the_paper(compared: list[Any]) -> None:
    said = " ".join(str(row.get("from")) for row in table("efficiency.toml").values())
    assert "llama" not in said
    assert "mosaic" not in said
    assert {row.name.split("-")[0] for row in compared if row.role == "calibrate"} == {
        "titan",
        "megatron",
        "olmo",
    }


def test_the_rows_of_table_15_come_out_of_the_formula(bench: ModuleType) -> None:
    for name, (hours, mwh, tonnes) in bench.TABLE_15.items():
        used = energy(hours, 400)
        assert round(used.tco2eq) == tonnes, name
        # The paper cuts MWh to whole numbers. BLOOM's 475 is its 183 t by 0.385, and not its hours by the formula.
        assert math.floor(used.mwh) == (476 if name == "BLOOM-175B" else mwh), name


def test_energy_and_money_follow_from_gpu_hours() -> None:
    plan = planned.plan(recipes.load("llama-7b"), A100, 64, price=2.0)
    assert plan.gpu_hours == pytest.approx(1e12 / plan.rate / 3600, rel=1e-4)
    assert plan.dollars == pytest.approx(2 * plan.gpu_hours)
    assert plan.energy == energy(plan.gpu_hours, 400)
    assert planned.plan(recipes.load("llama-7b"), gpu("MI300X"), 64).dollars is None


def test_the_recipes_for_a_day_are_sized_as_they_say() -> None:
    def hours(name: str, kind: str, ranks: int) -> int:
        return round(planned.plan(recipes.load(name), gpu(kind), ranks).days * 24)

    one, node = (recipe_text(name) for name in ("gpu-day-1", "gpu-day-8"))
    assert f"foresees {hours('gpu-day-1', 'RTX4090', 1)} hours of steps" in one
    assert f"{hours('gpu-day-1', 'RTX3090', 1)} on an RTX3090" in one
    assert f"{planned.plan(recipes.load('gpu-day-1'), gpu('RTX4090'), 1).choice.memory.total / 1e9:.1f} GB of" in one
    assert f"foresees {hours('gpu-day-8', 'A100-80GB', 8)} hours of steps on A100-80GB" in node
    assert f"{hours('gpu-day-8', 'H100-80GB', 8)} on H100-80GB" in node
    for name in ("gpu-day-1", "gpu-day-8", "llama-1b", "llama-3b"):
        assert "Not run" in recipe_text(name)
        assert "fetch" in recipe_text(name)


def recipe_text(name: str) -> str:
    path = ROOT / "src" / "puna" / "recipes" / f"{name}.toml"
    return " ".join(path.read_text("utf-8").replace("\n# ", " ").split())


def test_13b_writes_on_one_v100() -> None:
    config = make_config("llama-13b")
    assert cache_bytes(config) == 2 * 2 * 40 * 5120
    large, small = (serving(config, gpu(name), 1) for name in ("V100-32GB", "V100-16GB"))
    assert [row.fits for row in large] == [True, True, True]
    assert [row.fits for row in small] == [False, False, True]
    rates = [row.alone for row in large]
    assert rates == sorted(rates)
    assert serving(config, gpu("V100-32GB"), 1, most=3)[2].sequences == 3
    assert serving(config, A100, 2)[0].weights < serving(config, A100, 1)[0].weights
    with pytest.raises(InputError, match="cannot be shared by 3 GPUs"):
        serving(config, A100, 3)
