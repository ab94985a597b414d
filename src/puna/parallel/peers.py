"""What ranks show each other beside their collectives: that they live, and what went wrong first.

A collective waits for every rank, also for one that is stopped, swapped out or on a machine that froze. So a thread of
each rank counts up once a second in the store by which ranks found each other; rank 0 looks at all others, and they at
rank 0. Who does not count for SILENT seconds is accused. A rank that is gone closes its connections, which ends the
collectives of the others; who is gone is told by its process, or from elsewhere by the same count. What goes wrong
first, on whichever rank, is kept in the store: that one is said, and the other ranks end without a word. They end soon,
also out of a collective that would wait for ever, and take down an accused rank that a stopped process may be.

Time in which this thread did not run either does not count, so a machine that slept accuses nobody.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import torch.distributed as dist

from puna import processes
from puna.errors import Interrupted, PunaError, ToldElsewhere
from puna.parallel.mesh import Mesh
from puna.progress import tell

LOOK = 1.0  # seconds between two counts
SILENT = 30.0  # seconds without one
GONE = 3  # counts of every other rank without one, once a collective has ended with an error
LATEST = 30.0  # seconds in which it is known who is gone, on machines so busy that counts do not come
GRACE = 5.0  # seconds in which a rank may end by itself after another's error
STATUS = 75  # EX_TEMPFAIL, as watchdog.py's
GOES_ON = "torchrun --max-restarts begins again by itself; the same command goes on from the last checkpoint"


_trainings = itertools.count()  # of this process; all ranks have the same


class Peers:
    """The ranks of one training, seen from this one. `state` gives this rank's step and a number that grows while work
    goes on; `alive` is called when that of another rank has grown."""

    def __init__(self, mesh: Mesh, state: Callable[[], tuple[int, int]], alive: Callable[[], object]) -> None:
        self._rank, self._ranks = mesh.rank, mesh.layout.ranks
        self._watched = range(1, self._ranks) if mesh.first else range(1)
        self._state, self._alive = state, alive
        # A connection of its own: a wait of the main thread would hold the other one.
        store = dist.distributed_c10d._get_default_store().clone()  # type: ignore[attr-defined]
        self._store = dist.distributed_c10d.PrefixStore(f"peers/{next(_trainings)}", store)
        self._ended = threading.Event()
        self._seen: dict[int, dict[str, Any]] = {}
        self._still: dict[int, float] = {}
        self._counted = 0
        self._me = {"pid": os.getpid(), "born": processes.birth(os.getpid()), **_here()}

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Count and look while the block lasts; an error that ends it is told, or another rank's was before."""
        self._count()
        threading.Thread(target=self._watch, name="peers", daemon=True).start()
        try:
            yield
        except Interrupted:
            raise
        except Exception as error:
            with _undisturbed():
                judged = self._judged(error)
            raise judged from error
        finally:
            self._ended.set()
            with suppress(RuntimeError):
                self._count(over=True)

    def look(self, seconds: float) -> int | None:
        """Count, and see who does: the rank that does not for too long. seconds: since the look before."""
        self._count()
        for rank in self._watched:
            seen = self._read(rank)
            before = self._seen.get(rank, {})
            if seen.get("over") or seen.get("count") != before.get("count"):
                self._still[rank] = 0.0
            else:
                self._still[rank] = self._still.get(rank, 0.0) + min(seconds, 2 * LOOK)
            if seen.get("work") != before.get("work"):
                self._alive()
            self._seen[rank] = seen
        return next((rank for rank, still in self._still.items() if still > SILENT), None)

    def first(self, what: str, accused: int | None = None) -> bool:
        """Keep what went wrong here, if nothing went wrong before; whether it is the first."""
        mine = json.dumps({"rank": self._rank, "what": what, "accused": accused})
        return bool(self._store.compare_set("error", "", mine).decode() == mine)

    def _watch(self) -> None:
        looked = time.monotonic()
        with suppress(RuntimeError):  # the store is gone, and with it rank 0 or torchrun: collectives end too
            while not self._ended.wait(LOOK):
                now = time.monotonic()
                silent = self.look(now - looked)
                looked = now
                if silent is not None:
                    self._accuse(silent)
                if self._store.check(["error"]):
                    self._end()

    def _accuse(self, rank: int) -> None:
        step = self._state()[0] + 1
        what = f"step {step}: {self._named(rank)} gave no sign of life for {SILENT:.0f} s; {GOES_ON}"
        if self.first(what, rank):
            tell(f"error: {what}")

    def _end(self) -> None:
        """Another rank ended this training: so does this one, if need be out of the middle of a collective."""
        accused = json.loads(self._store.get("error"))["accused"]
        if accused is not None and accused != self._rank:
            seen = self._read(accused)
            if _there(seen):
                with suppress(ProcessLookupError):
                    os.kill(seen["pid"], signal.SIGKILL)
        if not self._ended.wait(GRACE):
            os._exit(STATUS)

    def _judged(self, error: Exception) -> Exception:
        """What this rank ends with: its own error when it is the first, with rank and step."""
        step = self._state()[0]
        where = f"rank {self._rank}, step {step + 1}"
        if isinstance(error, PunaError):
            what = f"{where}: {error}"
            if self.first(what):
                return type(error)(error.what, where=f"{where}: {error.where}".removesuffix(": "), mend=error.mend)
            return ToldElsewhere(what)
        if not isinstance(error, RuntimeError):
            return error if self.first(f"{where}: {error!r}") else ToldElsewhere(where)
        lost = self._lost()
        if lost is None and not self._store.check(["error"]):
            return error if self.first(f"{where}: {error!r}") else ToldElsewhere(where)
        what = "" if lost is None else f"{self._named(lost)} is gone"
        if not self.first(f"{where}: {what}", lost):
            return ToldElsewhere(where)
        return PunaError(what, where=where, mend=GOES_ON)

    def _lost(self) -> int | None:
        """The rank that is gone: one of this machine when its process is, another when all but such have counted GONE
        times and it did not once. So seconds alone accuse nobody where machines are busy. None: all count, or somebody
        said more."""
        before = {rank: self._read(rank).get("count", 0) for rank in range(self._ranks)}
        until = time.monotonic() + LATEST
        while not self._store.check(["error"]):
            late = time.monotonic() > until
            seen = {rank: self._read(rank) for rank in before}
            silent = [rank for rank in seen if rank != self._rank and seen[rank].get("count", 0) == before[rank]]
            there = {rank: _there(seen[rank]) for rank in silent}
            if gone := [rank for rank in silent if there[rank] is False]:
                return min(gone)
            fair = all(seen[rank]["count"] - before[rank] >= GONE for rank in seen if rank not in silent)
            elsewhere = [rank for rank in silent if there[rank] is None]
            if not silent or late or (fair and elsewhere):
                return min(elsewhere, default=None)
            time.sleep(LOOK / 2)
        return None

    def _count(self, over: bool = False) -> None:
        self._counted += 1
        told = {**self._me, "count": self._counted, "work": self._state()[1], "over": over}
        self._store.set(str(self._rank), json.dumps(told))

    def _read(self, rank: int) -> dict[str, Any]:
        if not self._store.check([str(rank)]):
            return {}
        return dict(json.loads(self._store.get(str(rank))))

    def _named(self, rank: int) -> str:
        seen = self._read(rank)
        return f"rank {rank} (process {seen['pid']} on {seen['host']})" if seen else f"rank {rank}"


@contextmanager
def _undisturbed() -> Iterator[None]:
    """torchrun ends all ranks when one is gone, also the one that is about to say which."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def _there(seen: Mapping[str, Any]) -> bool | None:
    """Whether the process of a rank that says this of itself is there; None where that is not known from here."""
    if not _here().items() <= seen.items():
        return None
    return bool(processes.birth(seen["pid"]) == seen["born"])


def _here() -> dict[str, str]:
    """Within which numbers of processes mean something."""
    return {"host": socket.gethostname(), "namespace": processes.namespace()}
