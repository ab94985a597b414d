"""Map a function over tasks, on processes of this machine or on a Ray cluster.

The result of a task is a value of the function and its task alone, and results come back in the order of the tasks, so
one worker, eight workers, a cluster and any timing give the same bytes. Workers here are fresh processes (spawned, so
they carry nothing of the parent such as torch), and die with it: an orphan could still be writing when the run is
resumed. What a cluster does in their place stands in cluster/.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Protocol, TypeVar

from puna.errors import InputError, PunaError
from puna.processes import stopping
from puna.progress import progress
from puna.storage import Place

T = TypeVar("T")
R = TypeVar("R")

STOPPING = 10.0  # seconds in which a terminated worker is waited for
PROCESSES, RAY, RAY_CLIENT = "processes", "ray", "ray://"  # what --engine names, the last one with HOST:PORT
AHEAD = 4  # tasks handed out per worker before their turn, so that memory does not grow with their number
BRIEF = 10.0  # seconds: after a longer map the workers end, and what they hold of memory is given back


class Engine(Protocol):
    """Something else than processes of this machine, on which tasks run."""

    @property
    def workers(self) -> int:
        """Tasks that run at once."""

    @property
    def apart(self) -> bool:
        """Whether they run where this machine does not see what they take."""

    def results(
        self, function: Callable[[T], R], tasks: Sequence[T], *, label: str, name: Callable[[T], str]
    ) -> Iterator[tuple[T, R]]:
        """(task, function(task)) in the order of `tasks`. label, name: for what is said of a task."""


def usable_cpus() -> int:
    """CPUs that this process may use (affinity), at least one."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def map_tasks(
    function: Callable[[T], R],
    tasks: Sequence[T],
    *,
    workers: int,
    label: str,
    size: Callable[[T], float] = lambda task: 1.0,
    name: Callable[[T], str] = lambda task: f"the task {task!s:.80}",
    engine: Engine | None = None,
) -> Iterator[tuple[T, R]]:
    """Yield (task, function(task)) in the order of `tasks`.

    `function` must be picklable (a top-level function or a functools.partial of one). One worker runs here, in this
    process: the readable twin of the pool. `size` weighs tasks for the progress bar. An exception of a task ends the
    map; a worker killed from outside (out of memory, mostly) ends it with a PunaError. `engine`, where there is one,
    does the tasks in place of `workers` processes; `name` is what it says of a task that was lost.
    """
    if not tasks:
        return
    with progress(label, sum(size(task) for task in tasks)) as bar:
        if engine is not None:
            results = engine.results(function, tasks, label=label, name=name)
        elif workers <= 1 or len(tasks) <= 1:
            results = ((task, function(task)) for task in tasks)
        else:
            results = _on_pool(function, tasks, workers, label)
        for task, result in results:
            bar.advance(size(task))
            yield task, result


def refuse_unknown(asked: str) -> None:
    """InputError when no engine is named so, or it cannot be had here."""
    if asked == PROCESSES:
        return
    if asked != RAY and not asked.removeprefix(RAY_CLIENT).rpartition(":")[2].isdecimal():
        mend = f"give {PROCESSES}, {RAY} or {RAY_CLIENT}HOST:PORT"
        raise InputError(f"no engine is named {asked!r}", where="--engine", mend=mend)
    from puna import cluster

    cluster.refuse_missing()


@contextmanager
def opened(
    asked: str, folder: Place, inputs: Iterable[tuple[str, int]], workers: int | None
) -> Iterator[Engine | None]:
    """The engine named `asked` for a run, as `cluster.connected`; None for processes."""
    from puna import cluster

    if asked == PROCESSES:
        cluster.forget(folder)
        yield None
        return
    with cluster.connected(asked, folder, inputs, workers, usable_cpus()) as engine:
        yield engine


def _on_pool(function: Callable[[T], R], tasks: Sequence[T], workers: int, label: str) -> Iterator[tuple[T, R]]:
    pool = _Workers.waiting(workers)
    waiting: list[tuple[T, Future[R]]] = []
    upcoming = iter(tasks)
    began, whole = time.monotonic(), False
    try:
        while True:
            while len(waiting) < AHEAD * workers and (task := next(upcoming, None)) is not None:
                with _interrupts_later():
                    waiting.append((task, pool.executor.submit(function, task)))  # starts a worker when one is wanting
            if not waiting:
                break
            task, future = waiting.pop(0)
            yield task, future.result()
        whole = True
    except BrokenProcessPool:
        mend = "most often memory ran out: run the same command with fewer --workers"
        raise PunaError("a worker process was killed", where=label, mend=mend) from None
    finally:
        if whole and time.monotonic() - began < BRIEF:
            pool.wait()
        else:
            pool.end()


def end_workers() -> None:
    """End the workers that wait for another map, before work that wants their memory."""
    if _Workers.kept is not None:
        kept, _Workers.kept = _Workers.kept, None
        kept.end()


class _Workers:
    """A pool whose processes wait for the next map: starting one costs half a second, more than many a map takes."""

    kept: _Workers | None = None

    def __init__(self, number: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.executor = ProcessPoolExecutor(
            number, mp_context=context, initializer=_begin_worker, initargs=(os.getpid(),)
        )
        self._made = self._surroundings(number)

    @classmethod
    def waiting(cls, number: int) -> _Workers:
        """`number` workers: those that wait, when they were started as they would be now, else new ones."""
        kept, cls.kept = cls.kept, None
        if kept is not None:
            processes = list((kept.executor._processes or {}).values())
            alive = not kept.executor._broken and all(process.is_alive() for process in processes)
            if alive and kept._made == cls._surroundings(number):
                return kept
            kept.end()
        return cls(number)

    def wait(self) -> None:
        """Be there for the next map. Elsewhere than in the main thread workers would end with the thread that started
        them, whose death is the signal that their parent died."""
        if _Workers.kept is None and threading.current_thread() is threading.main_thread():
            _Workers.kept = self
        else:
            self.end()

    def end(self) -> None:
        if self._made[0] != os.getpid():  # forked since: they are the parent's
            return
        processes = list((self.executor._processes or {}).values())
        self.executor.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.terminate()
            process.join(STOPPING)

    @staticmethod
    def _surroundings(number: int) -> tuple[object, ...]:
        """What a worker takes over when it starts."""
        return os.getpid(), number, dict(os.environ), list(sys.path)


@contextmanager
def _interrupts_later() -> Iterator[None]:
    """Hold interrupts back in the block; one that arrived meanwhile is raised at its end.

    A worker started in it is deaf to Ctrl-C from its first instruction (it inherits the mask of signals), not only once
    it has imported what it needs; and it is not left half-started by a parent interrupted between two steps of that.
    """
    arrived: list[int] = []
    handlers = {}
    if threading.current_thread() is threading.main_thread():  # Python interrupts no other thread
        for number in stopping():
            handlers[number] = signal.signal(number, lambda number, _: arrived.append(number)) or signal.SIG_DFL
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if arrived:
            signal.raise_signal(arrived[0])


def _begin_worker(parent: int) -> None:
    """Leave interrupts to the parent, and end when it ends, even by SIGKILL."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    if sys.platform == "linux":
        set_death_signal = 1
        ctypes.CDLL(None).prctl(set_death_signal, signal.SIGKILL)
    threading.Thread(target=_watch_parent, args=(parent,), daemon=True).start()


def _watch_parent(parent: int) -> None:
    # Where the kernel has no death signal, and for a parent that died before it was asked for.
    while os.getppid() == parent:
        time.sleep(0.2)
    os._exit(1)
