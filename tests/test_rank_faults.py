"""Ranks that are killed or stopped, and a slow disk, while a checkpoint is written beside the steps; and amid a pass,
where stages of a pipeline wait for each other.

What is finished stays, no part of a checkpoint is taken for one, and the same bytes come in the end. test_elastic.py
does the same to real starts of torchrun, with the times that they wait.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch.distributed as dist

import made_training as made
from puna import storage
from puna.errors import PunaError, ToldElsewhere
from puna.parallel import peers
from puna.train import checkpoint, saving
from puna.train.callbacks import Training
from ranks import RankError, Ranks

pytestmark = pytest.mark.prove

Group = Callable[[int], Ranks]
SETTINGS = ("train.steps=12", "train.dtype=float32", "train.batch=192", "train.checkpoint_every=4", "train.save=beside")
FIRST, SECOND = 4, 8  # steps of the checkpoint that is finished, and of the one in which it happens
SILENT = 2.0  # seconds, in place of 30
ENDS = 60.0  # seconds in which all ranks end


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made.make(tmp_path_factory.mktemp("tokens"), *SETTINGS)


@pytest.fixture
def folder(tokens: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tokens, tmp_path / "run"))


SHARD: tuple[str, ...] = ()
PIPELINE = ("train.micro_batch=1", "train.mesh.pipeline=2")
BOTH = (*PIPELINE, "train.mesh.tensor=2")


@pytest.fixture(scope="module")
def undisturbed(ranks: Group, tokens: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list[Any]]:
    """The result of a training on so many ranks of a mesh."""
    done: dict[tuple[str, ...], list[Any]] = {}

    def result(count: int, mesh: Sequence[str]) -> list[Any]:
        if tuple(mesh) not in done:
            folder = Path(shutil.copytree(tokens, tmp_path_factory.mktemp("undisturbed") / "run"))
            ranks(count).run(train, folder, *mesh)
            done[tuple(mesh)] = made.result(folder)
        return done[tuple(mesh)]

    return result


LOST = [
    *(pytest.param(2, SHARD, rank, what, "checkpoint") for rank in (0, 1) for what in ("SIGKILL", "SIGSTOP")),
    pytest.param(2, PIPELINE, 0, "SIGKILL", "pass"),
    pytest.param(2, PIPELINE, 1, "SIGKILL", "checkpoint"),
    pytest.param(2, PIPELINE, 0, "SIGSTOP", "checkpoint"),
    pytest.param(2, PIPELINE, 1, "SIGSTOP", "pass"),
    pytest.param(4, BOTH, 3, "SIGKILL", "checkpoint"),
    pytest.param(4, BOTH, 2, "SIGSTOP", "pass"),
]


@pytest.mark.parametrize(("count", "mesh", "rank", "what", "amid"), LOST)
def test_a_rank_is_lost(
    ranks: Group,
    folder: Path,
    undisturbed: Callable[..., list[Any]],
    count: int,
    mesh: Sequence[str],
    rank: int,
    what: str,
    amid: str,
) -> None:
    with pytest.raises(RankError, match=r"ended with status (75|-9)|is gone") as ended:
        ranks(count).run(lost, folder, rank, what, amid, mesh, grace=ENDS)
    assert ended.value.late == []
    how = "gave no sign of life" if what == "SIGSTOP" else "is gone"
    told = [line for other in range(count) if other != rank for line in said(folder, other).splitlines()]
    assert len(told) == 1, told
    found = re.search(rf"step (\d+): rank {rank} \(process \d+ on .*\) {how}", told[0])
    assert found, told
    assert int(found[1]) > SECOND
    last = checkpoint.newest(folder / "checkpoints", made.FINGERPRINT)
    assert last is not None
    assert last.position.step == (FIRST if amid == "checkpoint" else SECOND)
    ranks(count).run(train, folder, *mesh)
    assert made.result(folder) == undisturbed(count, mesh)


def test_a_slow_disk_is_no_rank_that_hangs(ranks: Group, folder: Path, undisturbed: Callable[..., list[Any]]) -> None:
    ranks(2).run(slow, folder, 1.2 * SILENT)
    assert made.result(folder) == undisturbed(2, SHARD)
    assert said(folder, 0).splitlines() == [
        f"training waits for the checkpoint of step {SECOND}: the disk is slower than the steps"
    ]
    assert said(folder, 1) == ""


def train(folder: Path, *mesh: str) -> None:
    """On a rank."""
    made.run(folder, *SETTINGS, *mesh)


def lost(folder: Path, rank: int, what: str, amid: str, mesh: Sequence[str]) -> None:
    """On a rank: when it is `rank`, send it a signal amid the tensors of the second checkpoint, on a disk so slow that
    steps go on meanwhile; or amid the passes of a step behind it."""
    moved, alive = Counter[str](), Training.alive

    def reached(training: Training, *given: object) -> None:
        alive(training, *given)
        thread = threading.current_thread()
        saving_it = getattr(thread, "step", 0) == SECOND
        if dist.get_rank() != rank or not (saving_it or training.position.step == SECOND + 1):
            return
        where = "checkpoint" if saving_it else "pass"
        moved[where] += 1
        if where == amid and moved[where] == 4:
            while not saving_it and not checkpoint.path_of(folder / "checkpoints", SECOND).exists():
                alive(training, *given)  # however slow the disk is, it is no rank that hangs
                time.sleep(0.05)  # it is what must not be lost
            if saving_it:
                time.sleep(0.5)
            os.kill(os.getpid(), getattr(signal, what))

    Training.alive = reached  # type: ignore[method-assign]
    heard(folder, SILENT if what == "SIGSTOP" else 30.0, *mesh)  # who is gone is known by the connections' end


def slow(folder: Path, seconds: float) -> None:
    """On a rank: train on a disk that takes so long for each file of the second checkpoint."""

    def border(event: str, location: str) -> None:
        if event == "before write" and f"step-{SECOND:06d}" in location:
            time.sleep(seconds)

    storage.border, saving.SLOW = border, 1.0
    try:
        heard(folder, SILENT)
    finally:
        storage.border, saving.SLOW = lambda event, location: None, 10.0


def heard(folder: Path, silent: float, *mesh: str) -> None:
    """Train; what a rank says of others or ends with goes into said-RANK."""

    def say(line: object) -> None:
        with (folder / f"said-{dist.get_rank()}").open("a") as file:
            file.write(f"{line}\n")

    peers.SILENT, peers.GRACE, peers.tell, saving.say = silent, 1.0, say, say
    try:
        made.run(folder, *SETTINGS, "train.hang_minutes=0.1", *mesh)
    except ToldElsewhere:
        raise
    except PunaError as error:
        say(error)
        raise


def said(folder: Path, rank: int) -> str:
    path = folder / f"said-{rank}"
    return path.read_text() if path.exists() else ""
