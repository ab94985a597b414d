"""What a checkpoint of a mesh takes of memory: rank 0 holds its own parts and twice the largest tensor beside."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch.testing._internal.distributed.fake_pg import FakeStore

from puna.model import weights
from puna.model.config import ModelConfig
from puna.parallel import pieces
from puna.parallel.layout import Layout
from puna.parallel.mesh import Mesh
from puna.train.gathering import Gathering
from puna.train.speed.memory import peak

CONFIG = ModelConfig(dim=64, heads=4, kv_heads=2, layers=4, hidden=192, vocabulary=512, context=64)
SHAPES = weights.shapes(CONFIG)
LARGEST = 4 * CONFIG.vocabulary * CONFIG.dim


@pytest.fixture
def group(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Four ranks, of which this one is the first, and the others send what was there before."""
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=4)
    monkeypatch.setattr(dist, "new_group", lambda **given: dist.group.WORLD)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("group")
def test_a_replica_copies_nothing() -> None:
    layout = Layout(replicate=2, tensor=2)
    parts = {name: torch.zeros(1) for name in SHAPES}
    found = [set(Gathering(Mesh(layout, rank, None, CONFIG.layers), SHAPES).needed(parts)) for rank in range(4)]
    norms = {name for name in SHAPES if pieces.cut(name) is None}
    assert found == [set(SHAPES), set(SHAPES) - norms, set(), set()]


@pytest.mark.usefixtures("group")
@pytest.mark.parametrize("layout", [Layout(shard=4), Layout(tensor=4), Layout(shard=2, tensor=2)], ids=str)
def test_one_tensor_is_put_together_at_a_time(tmp_path: Path, layout: Layout) -> None:
    gathering = Gathering(Mesh(layout, 0, None, CONFIG.layers), SHAPES)
    empty = gathering.empty("exp_avg.", "exp_avg_sq.")
    parts = {
        name: torch.zeros(pieces.sizes(pieces.held(layout, CONFIG.layers, 0, name, tensor.shape)))
        for name, tensor in empty.items()
    }

    def write() -> None:
        weights.write_tensors(tmp_path / "moments", empty, whole=lambda name: gathering.whole(name, parts[name]))

    found = peak(write)
    assert (tmp_path / "moments").stat().st_size > 8 * LARGEST
    assert LARGEST < found <= 2 * LARGEST
