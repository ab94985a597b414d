"""Ranks as threads of one process: what shares a layer can be tested without a process group."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from puna.model.comm import Comm


def on_ranks(size: int, work: Callable[[Comm], Any]) -> list[Any]:
    """What `work` gives on each of `size` ranks that exchange by the Comm it is called with."""
    meeting = threading.Barrier(size)
    parts: list[Tensor] = [torch.empty(0)] * size
    results: list[Any] = [None] * size

    def run(rank: int) -> None:
        try:
            results[rank] = work(ThreadComm(rank, meeting, parts))
        except BaseException as error:
            results[rank] = error
            meeting.abort()

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    failed = [result for result in results if isinstance(result, BaseException)]
    for error in sorted(failed, key=lambda error: isinstance(error, threading.BrokenBarrierError)):
        raise error
    return results


class ThreadComm:
    """Each collective is done when it is begun, and its result is kept back until it is waited for."""

    def __init__(self, rank: int, meeting: threading.Barrier, parts: list[Tensor]) -> None:
        self.rank, self.size = rank, len(parts)
        self._meeting, self._parts = meeting, parts

    def begin_gather(self, x_ND: Tensor, out: Tensor | None = None) -> Held:
        return Held(torch.cat(self._all(x_ND)), out)

    def begin_reduce(self, x_TD: Tensor, out: Tensor | None = None) -> Held:
        total = torch.stack(self._all(x_TD)).sum(0)
        assert len(total) % self.size == 0
        return Held(total.chunk(self.size)[self.rank], out)

    def local(self, tensor: Tensor) -> Tensor:
        return tensor

    def _all(self, x: Tensor) -> list[Tensor]:
        self._parts[self.rank] = x
        self._meeting.wait(timeout=20)
        parts = list(self._parts)
        assert len({part.shape for part in parts}) == 1, "ranks exchange different things"
        self._meeting.wait(timeout=20)
        return parts


class Held:
    def __init__(self, result: Tensor, out: Tensor | None) -> None:
        self._result, self._out = result, out

    def wait(self) -> Tensor:
        return self._result if self._out is None else self._out.copy_(self._result)
