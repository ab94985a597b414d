"""Training by several ranks is that of one process but for rounding, on every mesh; its checkpoints belong to none."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

import made_training as made
from ranks import Ranks

Group = Callable[[int], Ranks]

STEPS = ("train.steps=20", "train.dtype=float32", "train.checkpoint_every=10")
# More windows than ranks, two passes of a rank, and a norm that is clipped in most steps.
CUT = ("train.batch=192", "train.micro_batch=2", "train.clip=0.5")


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made.make(tmp_path_factory.mktemp("tokens"), *STEPS, *CUT)


@pytest.fixture
def folder(tokens: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tokens, tmp_path / "run"))


@pytest.fixture(scope="module")
def alone(tokens: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """The folder of a training by one process."""
    done: dict[tuple[str, ...], Path] = {}

    def trained(*overrides: str) -> Path:
        if overrides not in done:
            done[overrides] = Path(shutil.copytree(tokens, tmp_path_factory.mktemp("alone") / "run"))
            made.run(done[overrides], *STEPS, *CUT, *overrides)
        return done[overrides]

    return trained


def run(folder: Path, *overrides: str) -> dict[str, Any]:
    """On a rank."""
    return made.run(folder, *overrides)


def agree(left: Path, right: Path, within: float = 1e-5) -> None:
    told = list(zip(made.metrics(left), made.metrics(right), strict=True))
    assert len(told) == 20
    for one, other in told:
        assert one["loss"] == pytest.approx(other["loss"], rel=within), one["step"]
        assert one["grad_norm"] == pytest.approx(other["grad_norm"], rel=10 * within), one["step"]


MESHES: list[tuple[int, tuple[str, ...]]] = [
    (2, ()),
    (2, ("train.mesh.reshard=false",)),
    (4, ()),
    (4, ("train.mesh.replicate=2",)),
    (2, ("train.mesh.replicate=2",)),
]


@pytest.mark.promise("twins")
@pytest.mark.parametrize("mode", ["hand", "selective"])
@pytest.mark.parametrize(("count", "mesh"), MESHES, ids=str)
def test_losses_and_norms_are_those_of_one_process(
    ranks: Group, folder: Path, alone: Callable[..., Path], count: int, mesh: Sequence[str], mode: str
) -> None:
    ranks(count).run(run, folder, *STEPS, *CUT, f"train.layer={mode}", *mesh)
    agree(folder, alone(f"train.layer={mode}"))
