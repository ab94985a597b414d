"""A training computes where `train.device` says, all of it, also on a device that nobody has here.

The device "meta" stands for a GPU: it has kernels for shapes alone, and torch refuses most that would mix it with
another. What leaves it for the processor (a loss, a norm, a copy for a checkpoint) is answered with ones, and every
operation is noted in which floating-point numbers of the processor take part.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.fx.experimental import _config as symbolic
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import made_training as made
from puna.errors import InputError
from puna.model import device
from puna.model.bits import bits
from puna.model.config import ModelConfig
from puna.model.weights import load_checkpoint
from puna.train import machine

META = torch.device("meta")
MOVED = {"copy_", "_to_copy", "detach", "alias", "slice", "split", "view", "lift_fresh"}  # nothing is computed there
SHORT = ("train.steps=2", "train.checkpoint_every=1", "train.batch=64", "train.micro_batch=1", "train.dtype=float32")
HAND = (*SHORT, "train.layer=hand")


class Noted(TorchDispatchMode):
    """Answers for the device what leaves it. `on_cpu`: operations that computed with numbers of the processor; `there`:
    those of the device."""

    def __init__(self) -> None:
        super().__init__()
        self.on_cpu: set[str] = set()
        self.there: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, kwargs = func.overloadpacket.__name__, kwargs or {}
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        if any(each.device == META for each in tensors):
            self.there.add(name)
            if name == "_local_scalar_dense":
                return 1.0 if tensors[0].is_floating_point() else 1
            if name == "_to_copy" and kwargs.get("device", META) != META:
                return torch.ones(tensors[0].shape, dtype=kwargs.get("dtype") or tensors[0].dtype)
        if name not in MOVED and any(
            each.device != META and each.dim() and each.is_floating_point() for each in tensors
        ):
            self.on_cpu.add(name)
        return func(*args, **kwargs)


@pytest.fixture
def noted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Noted]:
    monkeypatch.setattr(device, "chosen", lambda asked: device.CPU if asked == "cpu" else META)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Meta 9000")
    optimizer = sys.modules["torch.optim.optimizer"]
    monkeypatch.setattr(optimizer, "_get_fused_kernels_supported_devices", lambda: ["meta", "cpu"])
    with symbolic.patch(meta_nonzero_assume_all_nonzero=True), Noted() as mode:
        yield mode


@pytest.mark.parametrize(
    ("layer", "dtype", "documents"),
    [("hand", "bfloat16", "packed"), ("lean", "float32", "masked"), ("selective", "bfloat16", "packed")],
)
def test_no_step_computes_on_the_processor(
    noted: Noted, tmp_path: Path, layer: str, dtype: str, documents: str
) -> None:
    asked = (*SHORT[:-1], f"train.layer={layer}", f"train.dtype={dtype}", f"train.documents={documents}")
    made.run(made.make(tmp_path, *asked), *asked)
    assert noted.on_cpu == set()
    assert {"mm", "_fused_adamw_"} <= noted.there


def test_on_the_processor_all_of_it_is_noted(noted: Noted, tmp_path: Path) -> None:
    made.run(made.make(tmp_path, *HAND), *HAND, "train.device=cpu")
    assert {"mm", "_fused_adamw_", "_scaled_dot_product_flash_attention_for_cpu"} <= noted.on_cpu
    assert noted.there == set()


def test_a_checkpoint_of_one_device_goes_on_on_another_when_that_is_allowed(noted: Noted, tmp_path: Path) -> None:
    folder = made.make(tmp_path, *HAND)
    for first, second in (("auto", "cpu"), ("cpu", "auto")):
        made.run(folder, *HAND, f"train.device={first}")
        shutil.rmtree(folder / "checkpoints" / "step-000002")
        names = {"auto": "meta", "cpu": "cpu"}
        with pytest.raises(InputError, match=rf"kernels hand layer, .*device {names[first]} \(here {names[second]}\)"):
            made.run(folder, *HAND, f"train.device={second}")
        made.run(folder, *HAND, f"train.device={second}", allow_other=True)
        assert [line["step"] for line in made.metrics(folder)] == [1, 2]
        assert [each["device"] for each in json.loads((folder / "machine.json").read_text())][-1] == names[second]
        shutil.rmtree(folder / "checkpoints")
        (folder / "metrics.jsonl").unlink()


def test_held_out_text_is_measured_where_the_model_is(noted: Noted, tmp_path: Path) -> None:
    done = made.run(made.make(tmp_path, *HAND), *HAND)
    model = load_checkpoint(tmp_path / done["checkpoint"], device=META)
    noted.on_cpu.clear()
    found = bits(model, [np.arange(5), np.arange(40)], 32, 16)
    assert found.tokens.tolist() == [4, 39]
    assert noted.on_cpu <= {"view", "sum"}  # a row's numbers that have come back
    assert "mm" in noted.there


def test_a_rank_takes_the_gpu_of_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    assert device.chosen("auto") == device.CPU
    with pytest.raises(InputError, match=r"train\.device: is cuda, and torch sees no GPU here; puna doctor"):
        device.chosen("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    for rank in ("0", "1"):
        monkeypatch.setenv("LOCAL_RANK", rank)
        assert device.chosen("auto") == device.chosen("cuda") == torch.device("cuda", int(rank))
        assert device.chosen("cpu") == device.CPU
    assert taken == [0, 0, 1, 1]
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(InputError, match="rank 2 of this machine has no GPU of its 2; torchrun --nproc-per-node 2"):
        device.chosen("auto")


def test_the_memory_of_the_gpu_decides_the_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Meta 9000")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    train = made.recipe("train.compile=off").train
    config = ModelConfig.from_recipe(made.recipe(), 512)
    for free, layer in ((1 << 40, "hand"), (1, "full")):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda free=free: (free, 1 << 40))
        found = machine.choose(train, 1, config, device=torch.device("cuda", 0))
        assert (found.layer, found.dtype, found.device) == (layer, "bfloat16", "cuda")
        assert found.kernels == f"{layer} layer, Meta 9000, not compiled"
