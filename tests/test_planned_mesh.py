"""A training that leaves its mesh to the planner takes the passes that were planned with it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch.testing._internal.distributed.fake_pg import FakeStore

import made_training as made
from puna import recipe as recipes
from puna.parallel.layout import Layout
from puna.parallel.mesh import Mesh, arrange
from puna.tokens.windows import Windows
from puna.train import loop
from puna.train.course import pretraining
from puna.train.planned import known, planned


def test_the_name_that_a_driver_gives_finds_the_kind() -> None:
    names = ("NVIDIA A100-SXM4-80GB", "NVIDIA GeForce RTX 4090", "NVIDIA H100 80GB HBM3", "Voodoo 2")
    assert [kind and kind.name for kind in map(known, names)] == ["A100-80GB", "RTX4090", "H100-80GB", None]


def test_on_gpus_that_are_known_the_passes_are_planned_unless_the_recipe_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    windows = Windows(made.make(tmp_path))
    assert planned(pretraining(made.recipe(), windows), torch.device("cpu"), 2) is None
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA A100-SXM4-80GB")
    for passes, expected in ((0, 2), (1, 1)):
        found = planned(pretraining(made.recipe(f"train.micro_batch={passes}"), windows), torch.device("cuda"), 2)
        assert found is not None
        assert (found.ranks, found.micro_batch) == (2, expected)


def test_a_mesh_keeps_the_passes_that_were_planned_with_it(tmp_path: Path) -> None:
    config = pretraining(made.recipe(), Windows(made.make(tmp_path))).config
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=2)
    try:
        for axes, passes in ((recipes.Mesh(), 1), (recipes.Mesh(shard=2), 0)):
            found = arrange(config, axes, 4, 0, lambda ranks: Layout(shard=ranks, micro_batch=1))
            assert (found.micro_batch, found.rows_of_pass(0, 4), found.rows_of_pass(2, 4)) == (passes, passes or 4, 2)
    finally:
        dist.destroy_process_group()


def test_and_training_takes_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = made.make(tmp_path / "run")
    folders = [Path(shutil.copytree(begun, tmp_path / name)) for name in ("asked", "planned", "free")]
    made.run(folders[0], "train.micro_batch=1", "train.steps=3")
    made.run(folders[2], "train.micro_batch=0", "train.steps=3")
    monkeypatch.setattr(loop, "arrange", lambda *given: Mesh(micro_batch=1))
    made.run(folders[1], "train.micro_batch=0", "train.steps=3")
    norms = [[line["grad_norm"] for line in made.metrics(folder)] for folder in folders]
    assert norms[0] == norms[1] != norms[2]
