"""The tasks of a run on Ray Core, with the bytes that processes give.

Ray places tasks and tells what was lost; what makes a run whole is the run folder, as everywhere: outputs are renamed
into place and a task's record is written behind them, so a task may run twice, even at once, on a node that was taken
for dead. A task whose process or node was lost is done again, until it was lost FAILURES times; what a task itself
raises is not done again. ground.py has what must be the same on every node, work.py what a worker does.

`ray` is the cluster that RAY_ADDRESS names, else one of this machine for as long as the command lasts; `ray://` is
Ray's client protocol, for a command that runs outside of the cluster.
"""

from __future__ import annotations

import importlib
import io
import os
import secrets
import signal
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

from puna import storage
from puna.cluster.ground import DRIVER, MEND, Ground, versions
from puna.cluster.work import Raised, check, work
from puna.errors import InputError, PunaError
from puna.processes import stopping
from puna.progress import say
from puna.storage import Place

T = TypeVar("T")
R = TypeVar("R")

CLIENT = "ray://"
FAILURES = 3  # of one task, with which the run ends
AHEAD = 4  # tasks whose turn has not come, for each that may run: a bound on what is kept of them
QUEUED = 2  # tasks given out for each CPU, so that none waits, and a cluster that can grow sees what for
# Seconds before a task that was lost is given out again: a dead node is given tasks until Ray has noticed its death.
RESTS = 1.0, 20.0
PAUSE = 0.1  # seconds between two looks at tasks that all rest
BEAT = 1.0  # seconds after which an interrupt is noticed at the latest
STOPPING = 10.0  # seconds in which cancelled tasks are waited for
ANSWERED = 10.0  # seconds in which a cluster must take a connection
STORE = 100_000_000  # bytes of memory that a local cluster's objects may take; only results pass through it


def refuse_missing() -> None:
    """InputError where Ray is not installed."""
    if find_spec("ray") is None:
        raise InputError("Ray is not installed here", where="--engine ray", mend="pip install 'puna[ray]'")


@contextmanager
def connected(
    asked: str, folder: Place, inputs: Iterable[tuple[str, int]], most: int | None, here: int
) -> Iterator[Cluster]:
    """A cluster on whose every node the run's places were seen.

    asked: `ray`, or ray://HOST:PORT. folder: the run folder, absolute, which this process holds. inputs: local files
    that tasks read, and their bytes. most: tasks at once; None: as many as the cluster has CPUs. here: CPUs of this
    machine, for a cluster of it alone.
    Raises InputError when the cluster does not answer, or a node is not as this process needs it.
    """
    refuse_missing()
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would tell others of every run
    ray = importlib.import_module("ray")
    nonce = secrets.token_hex(16)
    with redirect_stdout(_Nobody()):  # where Ray prints what is lost; it is said here in other words
        try:
            apart = _connect(ray, asked, most or here)
            storage.write(folder / DRIVER, nonce.encode())
            ground = Ground(str(folder), nonce, str(Path.cwd()), versions(), tuple(inputs))
            cluster = Cluster(ray, ray.put(ground), most, apart=apart)
            cluster.check(ground)
            yield cluster
        finally:
            with suppress(Exception):  # whoever holds the run next does both
                forget(folder)
                storage.sweep(folder)  # killed processes leave files half-written; no task is under way any more
            ray.shutdown()


def forget(folder: Place) -> None:
    """Have workers of an earlier driver of this run end themselves, where there still are any."""
    if storage.look(folder / DRIVER):
        storage.remove(folder / DRIVER)


@dataclass
class _Out:
    """A task that was given out."""

    task: Any
    result: Any = None
    done: bool = False
    lost: int = 0
    rests_until: float = 0.0


class Cluster:
    """A Ray cluster that this process is a driver of: an engine."""

    def __init__(self, ray: Any, ground: Any, most: int | None, *, apart: bool = True) -> None:
        self._ray, self._ground, self._most, self.apart = ray, ground, most, apart
        self._work = ray.remote(num_cpus=1, max_retries=0)(work)

    @property
    def workers(self) -> int:
        """Tasks that run at once, at most: as many as are asked for, or as there are CPUs by now."""
        return self._most or max(1, self._cpus())

    def results(
        self, function: Callable[[T], R], tasks: Sequence[T], *, label: str, name: Callable[[T], str]
    ) -> Iterator[tuple[T, R]]:
        """As `engine.map_tasks`, for which this is."""
        sent = self._ray.put(function)
        upcoming = iter(tasks)
        turn: deque[_Out] = deque()
        under_way: dict[Any, _Out] = {}
        resting: list[_Out] = []

        def give(out: _Out) -> None:
            under_way[self._work.remote(self._ground, sent, out.task)] = out

        try:
            while True:
                workers = self.workers
                at_once = self._most or QUEUED * workers
                for out in [each for each in resting if each.rests_until <= time.monotonic()]:
                    resting.remove(out)
                    give(out)
                while len(under_way) + len(resting) < at_once and len(turn) < AHEAD * workers:
                    if (task := next(upcoming, None)) is None:
                        break
                    turn.append(_Out(task))
                    give(turn[-1])
                if not turn:
                    return
                if not under_way and not turn[0].done:
                    time.sleep(PAUSE)
                for reference in self._ray.wait([*under_way], timeout=BEAT)[0] if under_way else ():
                    out = under_way.pop(reference)
                    if not self._taken(out, reference, label, name):
                        resting.append(out)
                while turn and turn[0].done:
                    first = turn.popleft()
                    yield first.task, first.result
        finally:
            self._stop(list(under_way))

    def check(self, ground: Ground) -> None:
        """Have every node of now look for what a task needs."""
        strategy = importlib.import_module("ray.util.scheduling_strategies").NodeAffinitySchedulingStrategy
        alive = [node for node in self._ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
        if not alive:
            say("the cluster has no CPU now; its tasks wait for nodes")
        asked = [
            self._ray.remote(num_cpus=0, max_retries=FAILURES)(check)
            .options(scheduling_strategy=strategy(node["NodeID"], soft=False))
            .remote(self._ground)
            for node in alive
        ]
        there = 0
        for reference in asked:
            try:
                found = self._got(reference)
            except self._ray.exceptions.RayError as error:
                say(f"a node of the cluster went while it was asked, since {_why(error)}")
                continue
            if isinstance(found, Raised):
                raise found.here() from None
            there += 1
        say(f"Ray {self._ray.__version__}: {there} node{'s' * (there != 1)}, {self._cpus()} CPUs")

    def _cpus(self) -> int:
        return int(self._ray.cluster_resources().get("CPU", 0))

    def _taken(self, out: _Out, reference: Any, label: str, name: Callable[[Any], str]) -> bool:
        """Whether the task gave a result; False when it must be given out again. Raises what the task raised."""
        try:
            out.result = self._got(reference)
        except self._ray.exceptions.RayError as error:
            out.lost += 1
            why = _why(error)
            if out.lost >= FAILURES:
                mend = "most often memory ran out: give nodes more of it for each CPU, or fewer --workers"
                what = f"{name(out.task)} was lost {FAILURES} times, at last since {why}"
                raise PunaError(what, where=label.strip(), mend=mend) from None
            out.rests_until = time.monotonic() + RESTS[out.lost - 1]
            say(f"{label}: {name(out.task)} is done again, since {why}")
            return False
        if isinstance(out.result, Raised):
            raise out.result.here()
        out.done = True
        return True

    def _got(self, reference: Any) -> Any:
        """What a worker gave. InputError when it could not even load what it was to do."""
        try:
            return self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            why = str(error).strip().splitlines()[-1]
            raise InputError(f"a node cannot run Puna ({why})", where="--engine ray", mend=MEND) from None

    def _stop(self, under_way: list[Any]) -> None:
        with suppress(Exception):
            for reference in under_way:
                self._ray.cancel(reference, force=True)
            if under_way:
                self._ray.wait(under_way, num_returns=len(under_way), timeout=STOPPING)


def _connect(ray: Any, asked: str, cpus: int) -> bool:
    """Whether the cluster is one that was there before, whose processes are none of this one's."""
    address = asked if asked.startswith(CLIENT) else os.environ.get("RAY_ADDRESS", "")
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    _refuse_silent(address)
    handlers = {number: signal.getsignal(number) for number in stopping()}
    try:
        if address.startswith(CLIENT):
            ray.init(address, **quiet)
        elif address and address != "local":
            ray.init(address=address, **quiet)
        else:
            ray.init(address="local", num_cpus=cpus, include_dashboard=False, object_store_memory=STORE, **quiet)
    except ImportError as error:
        where = f"--engine {asked}"
        raise InputError(f"{error}", where=where, mend="pip install 'ray[client]' of the cluster's version") from None
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        why = " ".join(str(error).split())
        mend = "see with ray status that it is up"
        raise InputError(f"no cluster can be used ({why})", where=address or f"--engine {asked}", mend=mend) from None
    finally:
        for number, handler in handlers.items():  # Ray ends the process by handlers of its own
            signal.signal(number, handler)
    return address not in ("", "local")


def _refuse_silent(address: str) -> None:
    """Where nothing answers, Ray asks for minutes."""
    host, _, port = address.removeprefix(CLIENT).rpartition(":")
    if not port.isdecimal():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), ANSWERED).close()
    except (OSError, OverflowError) as error:
        mend = "see with ray status that the cluster is up"
        raise InputError(f"no cluster answers ({error})", where=address, mend=mend) from None


def _why(error: Exception) -> str:
    reasons = {
        "WorkerCrashedError": "its worker process was killed",
        "NodeDiedError": "its node died",
        "LocalRayletDiedError": "its node died",
        "OutOfMemoryError": "its node ran out of memory and ended it",
        "ObjectLostError": "its result was lost with a node",
        "TaskUnschedulableError": "its node died",
    }
    kinds = [kind.__name__ for kind in type(error).__mro__]
    first = next(iter(str(error).strip().splitlines()), kinds[0])
    return next((reasons[kind] for kind in kinds if kind in reasons), f"{kinds[0]}: {first}")


class _Nobody(io.TextIOBase):
    """Takes text and keeps none of it."""

    def write(self, text: str) -> int:
        return len(text)
