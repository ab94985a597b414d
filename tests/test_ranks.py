"""The ranks that distributed tests run on: what they return, how they fail, and that none is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from ranks import RankError, Ranks


def summed(number: int) -> float:
    value = torch.full((2,), float(number + dist.get_rank()))
    dist.all_reduce(value)
    return float(value[0])


def fails(rank: int) -> None:
    if dist.get_rank() == rank:
        raise ValueError("out of poi")
    dist.barrier()


def dies(rank: int) -> None:
    if dist.get_rank() == rank:
        os.kill(os.getpid(), signal.SIGKILL)
    dist.barrier()


def hangs(rank: int) -> None:
    if dist.get_rank() == rank:
        threading.Event().wait()
    dist.barrier()


def stops(rank: int) -> None:
    if dist.get_rank() == rank:
        os.kill(os.getpid(), signal.SIGSTOP)
    dist.barrier()


Group = Callable[[int], Ranks]


def test_a_function_runs_on_every_rank_and_its_group_stays(ranks: Group) -> None:
    assert ranks(2).run(summed, 1) == [3.0, 3.0]
    before = ranks(2).pids
    assert ranks(2).run(summed, 2) == [5.0, 5.0]
    assert ranks(2).pids == before


@pytest.mark.parametrize(("does", "says"), [(fails, "ValueError: out of poi"), (dies, "ended with status -9")])
def test_the_first_error_is_told_with_its_rank(ranks: Group, does: Callable[[int], None], says: str) -> None:
    with pytest.raises(RankError, match=says) as raised:
        ranks(2).run(does, 1)
    assert raised.value.rank == 1
    assert ranks(2).run(summed, 1) == [3.0, 3.0]  # a fresh group


@pytest.mark.parametrize("does", [hangs, stops])
def test_ranks_that_hang_are_told_where_they_are_and_ended(ranks: Group, does: Callable[[int], None]) -> None:
    ranks(2).run(summed, 1)
    pids = ranks(2).pids
    with pytest.raises(RankError, match=r"(?s)no answer, of ranks \[0, 1\].*in barrier"):
        ranks(2).run(does, 1, seconds=1)
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


ORPHANS = """
import ranks, test_ranks
group = ranks.Ranks(2)
group.run(test_ranks.summed, 1)
print(*group.pids, flush=True)
try:
    group.run(test_ranks.stops, 1)
except BaseException as error:
    print(error)
"""


@pytest.mark.prove
def test_ranks_end_when_the_tests_are_killed() -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", ORPHANS]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as tests:
        assert tests.stdout is not None
        pids = [int(pid) for pid in tests.stdout.readline().split()]
        assert len(pids) == 2
        tests.kill()
    for _ in range(600):
        left = [pid for pid in pids if _alive(pid)]
        if not left:
            break
        time.sleep(0.1)
    assert not left


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
