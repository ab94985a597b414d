"""Several ranks on this machine: processes with one gloo group between them, which call a test's functions.

A test module asks for the fixture `ranks` and calls `ranks(4).run(function, ...)`: each of four processes calls
`function(...)`, a function of the module's own, and what they return comes back by rank. The processes are forked once
a module and keep their group, their imports and what functions leave in module globals, so that a call costs
milliseconds. They are forked from a server (rank_server.py) that has torch loaded and never ran any of it: where
threads of torch or of OpenMP run, a fork would hang. Three things end a group: an error, of which the first one is
raised with its rank; a rank that dies; the time limit, behind which each rank tells where it is. The next call then
gets a fresh one.

No rank outlives the tests: each is killed when the server ends, and the server ends with the tests' process.
"""

from __future__ import annotations

import os
import pickle
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, Listener, wait
from pathlib import Path
from typing import Any

import pytest

HANGS = 300.0  # seconds of one call behind which it counts as hanging; a busy machine takes ten times an idle one's


class RankError(AssertionError):
    """What went wrong on a rank first: its traceback, its death, or where it hangs."""

    def __init__(self, rank: int, what: str, late: Sequence[int] = ()) -> None:
        super().__init__(f"rank {rank}: {what}")
        self.rank = rank
        self.late = list(late)
        """Ranks that had not ended by themselves when the time for that was over."""


class Ranks:
    """A group of `count` processes; `run` calls a function on each."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.pids: list[int] = []
        """Of the processes by rank, while the group lives."""
        self._pipes: list[Connection] = []

    def run(
        self, function: Callable[..., Any], *arguments: Any, seconds: float = HANGS, grace: float = 1.0
    ) -> list[Any]:
        """What `function(*arguments)` returns on each rank, by rank. It is found by its module and name, and what goes
        in and comes out is pickled. RankError: what went wrong first; behind that, the others have `grace` seconds to
        end by themselves."""
        if not self.pids:
            self._begin()
        call = pickle.dumps((function, arguments))
        try:
            for pipe in self._pipes:
                with suppress(BrokenPipeError):  # it died between two calls, which its missing answer tells
                    pipe.send_bytes(call)
            return self._answers(time.monotonic() + seconds, grace)
        except BaseException:
            self.end()
            raise

    def end(self) -> None:
        """Kill what is left of the group, whatever it does."""
        for pid in self.pids:
            _server().kill(pid)
        for pipe in self._pipes:
            pipe.close()
        if self.pids:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._pipes, self.pids = [], []

    def _begin(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="ranks-"))
        key = secrets.token_bytes(16)
        with Listener(("127.0.0.1", 0), authkey=key) as listener:
            for rank in range(self.count):
                self.pids.append(_server().fork(rank, self.count, str(self._folder), listener.address[1], key.hex()))
                self._pipes.append(listener.accept())

    def _answers(self, limit: float, grace: float) -> list[Any]:
        answers: dict[int, Any] = {}
        errors: list[tuple[float, int, str]] = []
        while len(answers) < self.count:
            waiting = {pipe: rank for rank, pipe in enumerate(self._pipes) if rank not in answers}
            # Behind the first error the others get a moment: one that came before it may still be on its way.
            ready = wait(list(waiting), grace if errors else max(0.0, limit - time.monotonic()))
            if not ready:
                break
            for pipe in ready:
                rank = waiting[pipe]  # type: ignore[index]
                answers[rank] = None
                try:
                    ended, error, answers[rank] = pickle.loads(self._pipes[rank].recv_bytes())
                except (EOFError, OSError):
                    ended, error = 0.0, f"ended with status {_server().kill(self.pids[rank])}"
                if error:
                    errors.append((ended, rank, error))
        late = [rank for rank in range(self.count) if rank not in answers]
        if errors:
            _, rank, error = min(errors)
            raise RankError(rank, error, late)
        if late:
            raise RankError(late[0], f"no answer, of ranks {late}:\n{self._stacks(late)}")
        return [answers[rank] for rank in range(self.count)]

    def _stacks(self, late: list[int]) -> str:
        """Where ranks that do not answer are; one that is stopped says nothing."""
        for rank in late:
            with suppress(ProcessLookupError):
                os.kill(self.pids[rank], signal.SIGUSR1)
        time.sleep(1.0)
        return "\n".join(f"rank {rank}: {(self._folder / f'stacks-{rank}').read_text()}" for rank in late)


@pytest.fixture(scope="module")
def ranks() -> Iterator[Callable[[int], Ranks]]:
    """`ranks(4)`: the module's group of four processes."""
    groups: dict[int, Ranks] = {}
    yield lambda count: groups.setdefault(count, Ranks(count))
    for group in groups.values():
        group.end()


class _Server:
    """The process that ranks are forked from; one for all tests of this process."""

    def __init__(self) -> None:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "GLOO_SOCKET_IFNAME": "lo"}
        command = [sys.executable, str(Path(__file__).with_name("rank_server.py"))]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self._process = subprocess.Popen(command, env=environment, text=True, **pipes)  # type: ignore[call-overload]

    def fork(self, *arguments: int | str) -> int:
        """The pid of a new rank."""
        return self._ask("fork", *arguments)

    def kill(self, pid: int) -> int:
        """Its status, a signal's number below 0; killed here if it lives."""
        return self._ask("kill", pid)

    def _ask(self, *words: int | str) -> int:
        print(*words, file=self._process.stdin, flush=True)
        return int(self._process.stdout.readline())


_servers: list[_Server] = []


def _server() -> _Server:
    if not _servers:
        _servers.append(_Server())
    return _servers[0]
