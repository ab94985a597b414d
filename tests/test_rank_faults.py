"""Ranks that are killed or stopped, and a slow disk, each while a checkpoint is written beside the steps.

What is finished stays, no part of a checkpoint is taken for one, and the same bytes come in the end. test_elastic.py
does the same to real starts of torchrun, with the times that they wait.
"""

from __future__ import annotations

import itertools
import os
import re
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch.distributed as dist

import made_training as made
from puna import storage
from puna.errors import PunaError, ToldElsewhere
from puna.parallel import peers
from puna.train import checkpoint, saving
from puna.train.gathering import Gathering
from ranks import RankError, Ranks

pytestmark = pytest.mark.prove

Group = Callable[[int], Ranks]
SETTINGS = ("train.steps=20", "train.dtype=float32", "train.batch=192", "train.checkpoint_every=5", "train.save=beside")
FIRST, SECOND = 5, 10  # steps of the checkpoint that is finished, and of the one in which it happens
SILENT = 2.0  # seconds, in place of 30
ENDS = 60.0  # seconds in which all ranks end


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made.make(tmp_path_factory.mktemp("tokens"), *SETTINGS)


@pytest.fixture
def folder(tokens: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tokens, tmp_path / "run"))


@pytest.fixture(scope="module")
def undisturbed(ranks: Group, tokens: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    folder = Path(shutil.copytree(tokens, tmp_path_factory.mktemp("undisturbed") / "run"))
    ranks(2).run(train, folder)
    return made.result(folder, 20)


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("what", ["SIGKILL", "SIGSTOP"])
def test_a_rank_is_lost_while_a_checkpoint_is_written(
    ranks: Group, folder: Path, undisturbed: list[Any], rank: int, what: str
) -> None:
    with pytest.raises(RankError, match=r"ended with status (75|-9)|is gone"):
        ranks(2).run(lost, folder, rank, what, grace=ENDS)
    how = "gave no sign of life" if what == "SIGSTOP" else "is gone"
    found = re.search(rf"step (\d+): rank {rank} \(process \d+ on .*\) {how}", said(folder, 1 - rank))
    assert found, said(folder, 1 - rank)
    assert int(found[1]) > SECOND
    assert len(said(folder, 1 - rank).splitlines()) == 1, said(folder, 1 - rank)
    last = checkpoint.newest(folder / "checkpoints", made.FINGERPRINT)
    assert last is not None
    assert last.position.step == FIRST
    ranks(2).run(train, folder)
    assert made.result(folder, 20) == undisturbed


def test_a_slow_disk_is_no_rank_that_hangs(ranks: Group, folder: Path, undisturbed: list[Any]) -> None:
    ranks(2).run(slow, folder, 1.2 * SILENT)
    assert made.result(folder, 20) == undisturbed
    assert said(folder, 0).splitlines() == [
        f"training waits for the checkpoint of step {SECOND}: the disk is slower than the steps"
    ]
    assert said(folder, 1) == ""


def train(folder: Path) -> None:
    """On a rank."""
    made.run(folder, *SETTINGS)


def lost(folder: Path, rank: int, what: str) -> None:
    """On a rank: when it is `rank`, send it a signal amid the tensors of the second checkpoint, on a disk so slow that
    steps go on meanwhile."""
    count = itertools.count(1)
    whole, send = Gathering.whole, Gathering.send

    def reached(gathering: Gathering) -> None:
        # Each checkpoint has three tensors of a shape: a master and two moments.
        if next(count) == 3 * len(gathering._shapes) + 4 and dist.get_rank() == rank:
            time.sleep(0.5)
            os.kill(os.getpid(), getattr(signal, what))

    def first(gathering: Gathering, name: str, part: Any) -> Any:
        reached(gathering)
        return whole(gathering, name, part)

    def other(gathering: Gathering, name: str, part: Any) -> None:
        reached(gathering)
        send(gathering, name, part)

    Gathering.whole, Gathering.send = first, other  # type: ignore[method-assign]
    heard(folder, SILENT if what == "SIGSTOP" else 30.0)  # who is gone is known by the connections' end


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


def heard(folder: Path, silent: float) -> None:
    """Train; what a rank says of others or ends with goes into said-RANK."""

    def say(line: object) -> None:
        with (folder / f"said-{dist.get_rank()}").open("a") as file:
            file.write(f"{line}\n")

    peers.SILENT, peers.GRACE, peers.tell, saving.say = silent, 1.0, say, say
    try:
        made.run(folder, *SETTINGS, "train.hang_minutes=0.1")
    except ToldElsewhere:
        raise
    except PunaError as error:
        say(error)
        raise


def said(folder: Path, rank: int) -> str:
    path = folder / f"said-{rank}"
    return path.read_text() if path.exists() else ""
