"""When collectives run and what is computed meanwhile, by the events of a process group that notes them.

`traced_group` gives a group of torch over gloo that runs its collectives one after another on a thread of its own, as a
GPU does on a stream, and notes of each when it was begun, ran, and was waited for, and what it sent. A delay can be
added to each, as a slow network would. `Operations` notes what the program computes. Both clocks are one, and on Linux
that of every process of the machine.

A collective is hidden when a matmul begins after it was begun and ends before it is first waited for: what is asked of
the fast form of a layer (hand_cut.py).
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor
from torch._C._distributed_c10d import ProcessGroupGloo, Store, Work
from torch.utils._python_dispatch import TorchDispatchMode

BACKEND = "traced"


@dataclass(slots=True)
class Collective:
    """One collective of this rank; times in seconds of `time.perf_counter`."""

    name: str
    """`gather`, `reduce` (each rank gets its share of the sum), or what else torch asked for."""
    sent: int
    """Bytes that this rank sends, where each byte goes straight to whom it is for."""
    begun: float
    started: float = 0.0
    """When the ones before it were done."""
    moved: float = 0.0
    """When all bytes were there; what is left until it ended is a delay."""
    ended: float = 0.0
    asked: float = 0.0
    """When it was first waited for; 0 while it was not."""
    got: float = 0.0

    @property
    def exposed(self) -> float:
        """Seconds for which the program stood and waited."""
        return self.got - self.asked


@dataclass(slots=True)
class Operation:
    """One of torch's operations."""

    name: str
    begun: float
    ended: float

    @property
    def kind(self) -> str:
        if self.name in MATMULS:
            return "matmul"
        return "attention" if "attention" in self.name else "other"


MATMULS = {"mm", "addmm", "addmm_", "bmm", "baddbmm"}


def hidden(collective: Collective, operations: list[Operation]) -> bool:
    """Whether a matmul ran from its begin to its end between the collective's begin and the first wait for it."""
    return any(
        each.kind == "matmul" and collective.begun <= each.begun and each.ended <= collective.asked
        for each in operations
    )


def stood(collectives: list[Collective]) -> float:
    """Seconds of delays in which the program did nothing but wait, for whichever collective."""
    waits = [(each.asked, each.got) for each in collectives if each.asked]
    return sum(max(0.0, min(got, each.ended) - max(asked, each.moved)) for each in collectives for asked, got in waits)


class Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """`with Operations() as noted:` notes what torch computes, in `noted.all`."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.all: list[Operation] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        begun = time.perf_counter()
        result = func(*args, **(kwargs or {}))
        self.all.append(Operation(func.overloadpacket.__name__, begun, time.perf_counter()))
        return result


def traced_group() -> TracedGroup:
    """A group of all ranks of the default one. Called by all of them."""
    if BACKEND not in dist.Backend.backend_list:
        dist.Backend.register_backend(BACKEND, TracedGroup, devices=["cpu"])
    return cast(TracedGroup, dist.new_group(backend=BACKEND))


class TracedGroup(dist.ProcessGroup):
    """Gloo, its collectives one after another on a thread, each of them noted."""

    def __init__(self, store: Store, rank: int, size: int, timeout: timedelta) -> None:
        super().__init__(rank, size)  # type: ignore[call-arg]
        self.noted: list[Collective] = []
        self.delay = 0.0
        """Seconds that each collective takes longer than it does."""
        kind = dist.ProcessGroup.BackendType.GLOO
        self._gloo = dist.ProcessGroup(store, rank, size)
        self._gloo._set_default_backend(kind)
        self._gloo._register_backend(torch.device("cpu"), kind, ProcessGroupGloo(store, rank, size, timeout))
        self._todo: queue.SimpleQueue[_Work | None] = queue.SimpleQueue()
        self._name = ""
        threading.Thread(target=self._work, daemon=True, name="collectives").start()

    def all_gather_single(self, out: Tensor, x: Tensor, opts: Any = None) -> _Work:
        return self._begin("gather", x.nbytes * (self.size() - 1), lambda: self._gloo.all_gather_single(out, x, opts))

    def reduce_scatter_single(self, out: Tensor, x: Tensor, opts: Any = None) -> _Work:
        sent = x.nbytes // self.size() * (self.size() - 1)
        return self._begin("reduce", sent, lambda: self._gloo.reduce_scatter_single(out, x, opts))

    def allreduce(self, tensors: Any, opts: Any = None) -> _Work:  # type: ignore[override]
        tensors = [tensors] if isinstance(tensors, Tensor) else tensors
        sent = 2 * sum(each.nbytes for each in tensors) // self.size() * (self.size() - 1)
        return self._begin("sum", sent, lambda: self._gloo.allreduce(tensors, opts or dist.AllreduceOptions()))

    def barrier(self, opts: Any = None) -> _Work:
        return self._begin("barrier", 0, lambda: self._gloo.barrier(opts or dist.BarrierOptions()))

    def shutdown(self) -> None:
        self._todo.put(None)

    def getBackendName(self) -> str:
        return BACKEND

    @property
    def group_name(self) -> str:  # type: ignore[override]
        return self._name

    def _set_group_name(self, name: str) -> None:
        self._name = name

    def _begin(self, name: str, sent: int, run: Callable[[], Any]) -> _Work:
        work = _Work(Collective(name, sent, time.perf_counter()), run)
        self.noted.append(work.noted)
        self._todo.put(work)
        return work

    @torch.no_grad()
    def _work(self) -> None:
        while (work := self._todo.get()) is not None:
            work.run(self.delay)


class _Work(Work):
    def __init__(self, noted: Collective, run: Callable[[], Any]) -> None:
        super().__init__()
        self.noted = noted
        self._run: Callable[[], Any] | None = run
        self._done = threading.Event()
        self._error: BaseException | None = None

    def run(self, delay: float) -> None:
        assert self._run is not None
        self.noted.started = time.perf_counter()
        try:
            self._run().wait()
        except BaseException as error:
            self._error = error
        self._run = None  # and with it the tensors
        self.noted.moved = time.perf_counter()
        time.sleep(delay)
        self.noted.ended = time.perf_counter()
        self._done.set()

    def wait(self, timeout: timedelta | None = None) -> bool:
        self.noted.asked = self.noted.asked or time.perf_counter()
        self._done.wait()
        self.noted.got = self.noted.got or time.perf_counter()
        if self._error is not None:
            raise self._error
        return True

    def is_completed(self) -> bool:
        return self._done.is_set()
