"""A run on a Ray cluster of this machine: the bytes of processes, whoever is killed midway.

Slow, so run by `make prove`; what needs no cluster is in test_cluster.py.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

import ray_nodes
import tiny
from puna import storage
from puna.cluster import DRIVER
from ray_nodes import HANGS, Nodes

pytestmark = pytest.mark.prove


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    with ray_nodes.running() as nodes:
        yield nodes


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe, its dumps, and `processes`: a run up to its tokens with one worker."""
    folder = tmp_path_factory.mktemp("home")
    tiny.write(folder)
    done = tiny.puna("tokens", folder / "tiny.toml", "--out", folder / "processes", "--workers", "1")
    assert done.returncode == 0, done.stderr
    return folder


def _puna(home: Path, nodes: Nodes, command: str, out: str, *options: str) -> subprocess.CompletedProcess[str]:
    arguments = [sys.executable, "-m", "puna.cli", command, "tiny.toml", "--out", out, "--engine", "ray", *options]
    environment = {**os.environ, "RAY_ADDRESS": nodes.address}
    return subprocess.run(
        arguments, cwd=home, env=environment, capture_output=True, text=True, check=False, timeout=HANGS
    )


def _made(run: Path, *tops: str) -> dict[str, str]:
    found = sorted(path for top in tops for path in (run / top).rglob("*") if path.is_file())
    assert found
    return {path.relative_to(run).as_posix(): storage.digest(path) for path in found}


def _as_processes(home: Path, out: str, *more: str) -> None:
    tops = ("documents", "heldout", *more)
    assert _made(home / out, *tops) == _made(home / "processes", *tops)
    assert not list((home / out).rglob(f"{storage.TEMPORARY}*"))
    assert not (home / out / DRIVER).exists()


def test_documents_and_tokens_of_a_cluster_are_those_of_processes(home: Path, nodes: Nodes) -> None:
    done = _puna(home, nodes, "tokens", "whole")
    assert done.returncode == 0, done.stderr
    assert "2 nodes, 2 CPUs" in done.stderr
    assert "(raylet)" not in done.stdout + done.stderr
    _as_processes(home, "whole", "tokenizer", "tokens")


@pytest.mark.parametrize(
    ("whom", "like", "options"),
    [
        ("worker", "work/extract.wikipedia/", ["--workers", "1"]),
        ("node", "work/duplicates.github/", []),
    ],
)
def test_a_lost_process_or_node_costs_its_tasks_and_no_more(
    home: Path, nodes: Nodes, whom: str, like: str, options: list[str], proved: Callable[[str], None]
) -> None:
    out = f"lost-{whom}"
    nodes.plan(whom, like, home / out)
    done = _puna(home, nodes, "data", out, *options)
    assert done.returncode == 0, done.stderr
    nodes.met()
    if whom == "node":
        nodes.add()
    assert "is done again, since its " in done.stderr
    _as_processes(home, out)
    proved(f"a {whom} killed in {like.strip('/')}: the same documents")


def test_a_killed_driver_goes_on_and_its_workers_end(home: Path, nodes: Nodes) -> None:
    nodes.plan("driver", "work/extract.github/", home / "driver")
    killed = _puna(home, nodes, "data", "driver")
    assert killed.returncode < 0, killed.stderr
    worker = nodes.met()
    if psutil.pid_exists(worker):
        _, alive = psutil.wait_procs([psutil.Process(worker)], timeout=HANGS)
        assert not [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]
    done = _puna(home, nodes, "data", "driver", "--workers", "1")
    assert done.returncode == 0, done.stderr
    assert "is dead; going on where it was" in done.stderr
    _as_processes(home, "driver")


MAPS = """
import sys
from pathlib import Path

import ray_tasks
from puna import cluster
from puna.engine import map_tasks, opened
from puna.errors import PunaError

cluster.RESTS = 0.0, 0.0
found = []
with opened("ray", Path(sys.argv[1]), [], 2) as engine:
    def mapped(function, tasks):
        return map_tasks(function, tasks, workers=2, label="a map", name=str, engine=engine)

    found.append(list(mapped(ray_tasks.double, list(range(20)))))
    for function in (ray_tasks.wrong, ray_tasks.dies):
        try:
            list(mapped(function, [7]))
        except PunaError as error:
            found.append(f"{type(error).__name__} {error} {getattr(error, '__notes__', [])}")
print(*found, sep="\\n")
"""
TASKS = """
import os, signal
from pathlib import Path

from puna.errors import InputError

def double(task):
    return 2 * task

def wrong(task):
    with (Path(__file__).parent / "wrong.txt").open("a") as file:
        file.write("again")
    error = InputError("is wrong", where=f"task {task}", mend="mend it")
    error.add_note("a note")
    raise error

def dies(task):
    with (Path(__file__).parent / "dies.txt").open("a") as file:
        file.write("again")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_task_raises_comes_out_as_it_is_and_three_losses_end_the_run(tmp_path: Path, nodes: Nodes) -> None:
    (nodes.site / "ray_tasks.py").write_text(TASKS)
    environment = {**os.environ, "RAY_ADDRESS": nodes.address, "PYTHONPATH": nodes.path}
    command = [sys.executable, "-c", MAPS, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=HANGS)
    lines = done.stdout.splitlines()
    assert lines[0] == str([(task, 2 * task) for task in range(20)]), done.stderr
    assert lines[1] == "InputError task 7: is wrong; mend it ['a note']"
    assert lines[2].startswith("PunaError a map: 7 was lost 3 times, at last since its worker process was killed; ")
    assert (nodes.site / "wrong.txt").read_text() == "again"
    assert (nodes.site / "dies.txt").read_text() == 3 * "again"
