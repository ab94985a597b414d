"""Two ranks that share a model by PyTorch's FSDP2 hold what was planned for them."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as processes
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.optim import AdamW

from puna.model import modes, weights
from puna.model.config import ModelConfig
from puna.model.llama import Llama
from puna.model.loss import cross_entropy
from puna.parallel.layout import Layout
from puna.plan.memory import rank_memory
from puna.train.speed.memory import peak

RANKS, WINDOWS = 2, 4
CONFIG = ModelConfig(dim=64, heads=4, kv_heads=2, layers=5, hidden=192, vocabulary=512, context=64)


def measure(rank: int, folder: str) -> None:
    """Write rank 0's bytes at the peak of a step for every mode and number of micro-batches, beside the plan's."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=RANKS)
    mesh = init_device_mesh("cpu", (RANKS,))
    found = []
    for mode, times in itertools.product(get_args(modes.Mode), (1, 2)):
        model = sharded(mode, mesh)
        held = 12 * sum(parameter.to_local().numel() for parameter in model.parameters())  # type: ignore[attr-defined]
        optimizer = AdamW(model.parameters(), fused=True)
        parts = torch.randint(CONFIG.vocabulary, (times, WINDOWS, CONFIG.context + 1))

        def step(model: Any = model, optimizer: Any = optimizer, parts: torch.Tensor = parts) -> None:
            for tokens in parts:
                hidden = model(tokens[:, :-1]).flatten(0, 1)
                cross_entropy(hidden, model.output.weight, tokens[:, 1:].flatten()).nats.backward()
            optimizer.step()
            optimizer.zero_grad()

        real = held + peak(step)
        layout = Layout(shard=RANKS, micro_batch=WINDOWS, mode=mode)
        planned = rank_memory(CONFIG, layout, times * RANKS * WINDOWS, compiled=False).total
        found.append([mode, times, real, planned])
    if rank == 0:
        (Path(folder) / "found.json").write_text(json.dumps(found))
    dist.destroy_process_group()


def sharded(mode: modes.Mode, mesh: Any) -> Llama:
    model = Llama(CONFIG, dtype=torch.float32)
    weights.initialise(model, 1)
    modes.use(model, mode, compiles=False)
    precision = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    for layer in model.layers:
        fully_shard(layer, mesh=mesh, mp_policy=precision, reshard_after_forward=True)
    fully_shard(model, mesh=mesh, mp_policy=precision, reshard_after_forward=False)
    return model


@pytest.mark.prove
def test_a_rank_of_fsdp_takes_the_memory_that_was_planned(tmp_path: Path, proved: Any) -> None:
    processes.spawn(measure, args=(str(tmp_path),), nprocs=RANKS)  # type: ignore[no-untyped-call]
    found = json.loads((tmp_path / "found.json").read_text())
    assert len(found) == 10
    misses = {(mode, times): planned / real - 1 for mode, times, real, planned in found}
    assert max(map(abs, misses.values())) <= 0.10, misses
    proved(f"memory of 10 steps on two ranks of FSDP: at most {max(map(abs, misses.values())):.1%} off")
