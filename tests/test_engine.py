"""The engine: the same results for any number of workers, and no orphan that writes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from puna import engine
from puna.engine import map_tasks
from puna.errors import PunaError


def _square(task: int) -> tuple[int, bool]:
    return task * task, "torch" in sys.modules


def _die(task: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _raise(task: int) -> None:
    raise PunaError("bad", where=f"task {task}")


def _ignores_a_closed_terminal(task: int) -> bool:
    return signal.getsignal(signal.SIGHUP) == signal.SIG_IGN


def test_under_nohup_workers_too_outlive_the_terminal() -> None:
    old = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        done = list(map_tasks(_ignores_a_closed_terminal, [0, 1, 2], workers=2, label="nohup"))
    finally:
        signal.signal(signal.SIGHUP, old)
    assert done == [(0, True), (1, True), (2, True)]


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_results_come_in_the_order_of_the_tasks(workers: int) -> None:
    tasks = list(range(23))
    results = [(task, value) for task, (value, _) in map_tasks(_square, tasks, workers=workers, label="squares")]
    assert results == [(task, task * task) for task in tasks]


@pytest.mark.promise("house")
def test_workers_start_without_what_the_parent_has_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    import types

    monkeypatch.setitem(sys.modules, "torch", sys.modules.get("torch") or types.ModuleType("torch"))
    assert not any(torch for _, (_, torch) in map_tasks(_square, [1, 2, 3], workers=2, label="squares"))


@pytest.mark.promise("errors")
def test_an_exception_of_a_task_reaches_the_caller() -> None:
    with pytest.raises(PunaError, match="task 0: bad"):
        list(map_tasks(_raise, [0, 1], workers=2, label="raising"))


@pytest.mark.promise("errors")
def test_a_killed_worker_is_one_line_with_the_mend() -> None:
    with pytest.raises(PunaError, match="a worker process was killed; most often memory ran out"):
        list(map_tasks(_die, [0, 1], workers=2, label="dying"))


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], set[int]]]:
    """Process numbers of workers that wait, after a map of three tasks."""

    def pids() -> set[int]:
        list(map_tasks(_square, [1, 2, 3], workers=2, label="squares"))
        return set() if engine._Workers.kept is None else set(engine._Workers.kept.executor._processes)

    engine.end_workers()
    monkeypatch.setattr(engine, "BRIEF", float("inf"))
    yield pids
    engine.end_workers()


def test_workers_wait_for_the_next_map_while_they_would_be_started_alike(
    kept: Callable[[], set[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = kept()
    assert first
    assert first <= kept()
    monkeypatch.setenv("PUNA_SOMETHING", "else")
    other = kept()
    assert other
    assert not other & first
    assert not any(psutil.pid_exists(pid) for pid in first)
    engine.end_workers()
    assert not any(psutil.pid_exists(pid) for pid in other)


def test_workers_end_after_a_long_map_a_failed_one_and_one_that_was_left(
    kept: Callable[[], set[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert kept()
    with pytest.raises(PunaError):
        list(map_tasks(_raise, [0, 1], workers=2, label="raising"))
    assert engine._Workers.kept is None
    assert kept()
    next(map_tasks(_square, [1, 2, 3], workers=2, label="left"))
    assert engine._Workers.kept is None
    monkeypatch.setattr(engine, "BRIEF", 0.0)
    assert not kept()


def test_a_worker_that_died_while_it_waited_costs_nothing(kept: Callable[[], set[int]]) -> None:
    first = kept()
    assert engine._Workers.kept is not None
    for process in [*engine._Workers.kept.executor._processes.values()]:
        process.kill()
        process.join()
    assert not kept() & first


def test_workers_do_not_outlive_a_thread_that_started_them(kept: Callable[[], set[int]]) -> None:
    thread = threading.Thread(target=kept)
    thread.start()
    thread.join()
    assert engine._Workers.kept is None


INTERRUPTED = """
import os, signal
from engine_task import double
from puna.engine import map_tasks
if __name__ == "__main__":
    print([result for _, result in map_tasks(double, [1, 2, 3], workers=2, label="doubling")])
else:  # a worker, which imports this file before anything of the engine runs in it
    os.kill(os.getpid(), signal.SIGINT)
"""


@pytest.mark.promise("resume")
def test_an_interrupt_does_not_reach_workers_even_while_they_start(tmp_path: Path) -> None:
    (tmp_path / "engine_task.py").write_text("def double(task):\n    return 2 * task\n")
    (tmp_path / "main.py").write_text(INTERRUPTED)
    done = subprocess.run([sys.executable, str(tmp_path / "main.py")], capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    assert done.stdout == "[2, 4, 6]\n"


@pytest.mark.promise("resume")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_while_a_worker_is_started_comes_after_it(number: int) -> None:
    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(number, stop)
    started = False
    try:
        with pytest.raises(KeyboardInterrupt), engine._interrupts_later():
            os.kill(os.getpid(), number)
            started = True
        assert started
        assert signal.getsignal(number) is stop
    finally:
        signal.signal(number, before)


SLEEPS = """
import sys, time
sys.path.insert(0, sys.argv[1])
from engine_task import forever
from puna.engine import map_tasks
if __name__ == "__main__":
    list(map_tasks(forever, [sys.argv[2] + "/a", sys.argv[2] + "/b"], workers=2, label="sleeping"))
"""


@pytest.mark.promise("resume")
def test_workers_die_with_a_killed_parent(tmp_path: Path) -> None:
    (tmp_path / "engine_task.py").write_text(
        "import os, time\nfrom pathlib import Path\n\n\ndef forever(task):\n"
        "    Path(task).write_text(str(os.getpid()))\n    time.sleep(600)\n"
    )
    (tmp_path / "main.py").write_text(SLEEPS)
    command = [sys.executable, str(tmp_path / "main.py"), str(tmp_path), str(tmp_path)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as parent:
        pids = [_written(tmp_path / name, parent) for name in ("a", "b")]
        parent.kill()
        parent.wait()
        _, alive = psutil.wait_procs([psutil.Process(p) for p in pids if psutil.pid_exists(p)], timeout=30)
        assert not [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]


def _written(path: Path, writer: subprocess.Popen[bytes]) -> int:
    while not (path.exists() and path.read_text()):
        assert writer.poll() is None, "it ended before its workers began"
        time.sleep(0.02)
    return int(path.read_text())
