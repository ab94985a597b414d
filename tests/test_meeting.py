"""Ranks that start together: who waits says for whom, and hears signals meanwhile; who differs is named. And who is
said to be gone, on machines that are busy."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any

import pytest
import torch.distributed as dist

from puna import processes, workflow
from puna.errors import PunaError, Terminated, ToldElsewhere
from puna.parallel import meeting, peers


def _started(monkeypatch: pytest.MonkeyPatch, rank: int, ranks: int = 2, seconds: float = 3.0) -> int:
    """As by srun, without a store of torchrun; the port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    for name, value in zip(meeting.STARTED, (str(rank), str(ranks), "127.0.0.1", str(port)), strict=True):
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("TORCHELASTIC_USE_AGENT_STORE", raising=False)
    monkeypatch.setattr(meeting, "REACH", timedelta(seconds=seconds))
    return port


@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_that_waits_for_others_hears_a_signal(monkeypatch: pytest.MonkeyPatch, rank: int) -> None:
    def ended(number: int, frame: FrameType | None) -> None:
        raise Terminated

    _started(monkeypatch, rank)
    before = signal.signal(signal.SIGALRM, ended)
    began = time.monotonic()
    try:
        with pytest.raises(Terminated):
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            meeting.Meeting()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert time.monotonic() - began < 2.0


def test_ranks_that_do_not_come_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    _started(monkeypatch, 0, 4, 0.1)
    with pytest.raises(PunaError, match=r"1 of 4 ranks came within .* minutes; missing: 1, 2, 3; start them"):
        meeting.Meeting()


def test_a_rank_0_that_is_not_there_is_told_with_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    port = _started(monkeypatch, 1, 2, 0.0)
    with pytest.raises(PunaError, match=rf"rank 1 does not reach 127\.0\.0\.1:{port}: .*; see that rank 0 was started"):
        meeting.Meeting()


def test_an_address_that_another_program_has_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    port = _started(monkeypatch, 0)
    with socket.create_server(("0.0.0.0", port)), pytest.raises(PunaError, match="rank 0 cannot meet the others at"):
        meeting.Meeting()


@pytest.mark.parametrize(("name", "value"), [("torch", "1.0"), ("puna", "9.9"), ("recipe", "other")])
def test_ranks_that_are_not_alike_are_named_by_all(name: str, value: str) -> None:
    mine = {"puna": "0.1.0", "torch": "2.13.0", "recipe": "xxh3:1"}
    error = meeting.unlike([mine, mine, {**mine, name: value}])
    assert f"torchrun: rank 2 has {name} {value}, and rank 0 {mine[name]}; install" in str(error)
    assert meeting.unlike([mine, mine]) is None


def test_a_rank_that_says_nothing_ends_behind_the_one_that_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torchrun ends all ranks as soon as one has ended, and would cut rank 0 off."""
    one = object.__new__(meeting.Meeting)
    one._store = dist.HashStore()
    one.rank, one.ranks = 1, 2
    one.tell("train", [str(tmp_path), "xxh3:1"])
    looks: list[float] = []

    def slept(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 3:
            one.tell("over", None)

    def refuses(folder: object) -> dict[str, str]:
        raise ToldElsewhere("a mesh that cannot be")

    monkeypatch.setattr(meeting.time, "sleep", slept)
    monkeypatch.setattr(workflow, "_alike", refuses)
    monkeypatch.setattr(workflow, "configure", lambda quiet: None)  # other tests of this process are not silent
    with pytest.raises(ToldElsewhere):
        workflow._train_along(one, workflow.Options())
    assert len(looks) == 3
    with monkeypatch.context() as patch:  # a rank 0 that never ends is not waited for longer
        patch.setattr(meeting.time, "sleep", looks.append)
        one._store = dist.HashStore()
        one.over(0.05)


def _gone(monkeypatch: pytest.MonkeyPatch, count: Callable[[int, float], int], *others: dict[str, Any]) -> int | None:
    """Whom rank 0 says to be gone. count: of a rank, at a second; others: what they say of themselves."""
    now, store = [0.0], dist.HashStore()

    def told() -> None:
        for rank, of in enumerate(({}, *others)):
            store.set(str(rank), json.dumps({**of, "count": count(rank, now[0])}))

    def sleep(seconds: float) -> None:
        now[0] += seconds
        told()

    one = object.__new__(peers.Peers)
    one._store, one._rank, one._ranks = store, 0, 1 + len(others)  # type: ignore[assignment]
    told()
    monkeypatch.setattr(peers, "time", SimpleNamespace(sleep=sleep, monotonic=lambda: now[0]))
    return one._lost()


ELSEWHERE = {"host": "beta", "namespace": "1", "pid": 1, "born": "b"}


def test_a_rank_that_counts_late_on_a_busy_machine_is_not_said_to_be_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    def count(rank: int, second: float) -> int:
        return 7 + (0 if rank == 2 else int(second / 4))  # one count in four seconds, on the ranks that are there

    assert _gone(monkeypatch, count, ELSEWHERE, ELSEWHERE) == 2
    assert _gone(monkeypatch, lambda rank, second: 7 + int(second / 4), ELSEWHERE, ELSEWHERE) is None
    assert _gone(monkeypatch, lambda rank, second: 7, ELSEWHERE, ELSEWHERE) == 1  # not for ever


def test_a_rank_of_this_machine_is_gone_when_its_process_is(monkeypatch: pytest.MonkeyPatch) -> None:
    here = {**peers._here(), "pid": os.getpid(), "born": processes.birth(os.getpid())}
    assert _gone(monkeypatch, lambda rank, second: 7, here, {**here, "born": "before"}) == 2
    assert _gone(monkeypatch, lambda rank, second: 7, here, here) is None
