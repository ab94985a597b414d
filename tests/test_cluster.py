"""What a cluster does with tasks, on a Ray made here that loses what it is told to; test_ray.py has the real one."""

from __future__ import annotations

import multiprocessing
import random
import subprocess
import sys
import types
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tiny
from puna import cluster, storage
from puna.cluster import DRIVER, ground
from puna.cluster.ground import Ground, stand, versions
from puna.engine import map_tasks, opened, refuse_unknown
from puna.errors import InputError, PunaError
from puna.steps import Context, Step, run_steps
from ray_nodes import HANGS


class RayError(Exception): ...


class RayTaskError(RayError): ...


class WorkerCrashedError(RayError): ...


class NodeDiedError(RayError): ...


class MadeRay:
    """Ray as cluster/ uses it, in this process: tasks end in a random order, and some are lost."""

    exceptions = types.SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)

    def __init__(self, seed: int = 0, losses: dict[Any, int] | None = None, cpus: int = 2) -> None:
        self.chance, self.losses, self.cpus = random.Random(seed), Counter(losses or {}), cpus
        self.under_way: dict[int, Callable[[], Any]] = {}
        self.given = self.most = 0
        self.cancelled: list[int] = []

    def put(self, value: Any) -> Any:
        return value

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": float(self.cpus)}

    def remote(self, **options: Any) -> Callable[[Any], Any]:
        assert options == {"num_cpus": 1, "max_retries": 0}
        return lambda function: types.SimpleNamespace(remote=lambda *arguments: self._give(function, arguments))

    def _give(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> int:
        self.given += 1
        self.under_way[self.given] = lambda: self._do(function, arguments)
        self.most = max(self.most, len(self.under_way))
        return self.given

    def _do(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        if self.losses[arguments[-1]] > 0:
            self.losses[arguments[-1]] -= 1
            raise self.chance.choice([WorkerCrashedError, NodeDiedError])("lost")
        return function(*arguments)

    def wait(self, references: list[int], **options: Any) -> tuple[list[int], list[int]]:
        chosen = self.chance.choice(references)
        return [chosen], [each for each in references if each != chosen]

    def get(self, reference: int) -> Any:
        return self.under_way.pop(reference)()

    def cancel(self, reference: int, force: bool) -> None:
        self.cancelled.append(reference)


@pytest.fixture(autouse=True)
def _stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ground, "_stood", {"made"})
    monkeypatch.setattr(cluster, "RESTS", (0.0, 0.0))
    monkeypatch.setattr(cluster, "PAUSE", 0.0)


def _cluster(ray: MadeRay, most: int | None = None) -> cluster.Cluster:
    return cluster.Cluster(ray, Ground("", "made", "", (), ()), most)


def _mapped(ray: MadeRay, function: Callable[[Any], Any], tasks: list[Any], most: int | None = None) -> Iterator[Any]:
    return map_tasks(function, tasks, workers=9, label="  made: a map", name=str, engine=_cluster(ray, most))


@pytest.mark.promise("order")
@given(st.integers(0, 40), st.integers(0, 2**32), st.sampled_from([None, 1, 3]), st.data())
@settings(max_examples=60, deadline=None)
def test_results_come_in_the_order_of_the_tasks_whatever_is_lost(
    count: int, seed: int, most: int | None, data: st.DataObject
) -> None:
    losses = data.draw(st.dictionaries(st.integers(0, max(0, count - 1)), st.integers(0, 2)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ground, "_stood", {"made"})
        patch.setattr(cluster, "RESTS", (0.0, 0.0))
        patch.setattr(cluster, "PAUSE", 0.0)
        ray = MadeRay(seed, losses)
        done = list(_mapped(ray, lambda task: task * task, list(range(count)), most))
    assert done == [(task, task * task) for task in range(count)]
    assert ray.given == count + sum(n for task, n in losses.items() if task < count)
    assert ray.most <= (most or cluster.QUEUED * ray.cpus)


def _ended(task: int, scratch: Path) -> dict[str, Any]:
    return {"task": task}


@pytest.mark.parametrize(("apart", "told"), [(True, ["tasks on a cluster"]), (False, None)])
def test_what_other_machines_took_is_not_in_a_step_s_energy_and_its_record_says_so(
    apart: bool, told: list[str] | None, tmp_path: Path
) -> None:
    engine = cluster.Cluster(MadeRay(), Ground("", "made", "", (), ()), None, apart=apart)
    steps = [
        Step("mapped", lambda context: context.map(_ended, [0, 1], label="tasks", name=str), ()),
        Step("here", lambda context: 1, ()),
    ]
    records = run_steps(tmp_path, steps, workers=1, engine=engine)
    assert records["mapped"]["energy"].get("unseen") == told
    assert "unseen" not in records["here"]["energy"]


def test_what_is_kept_of_tasks_whose_turn_has_not_come_is_bounded() -> None:
    ray = MadeRay()
    taken = 0

    def tasks() -> Iterator[int]:
        nonlocal taken
        for task in range(1000):
            taken += 1
            yield task

    results = _cluster(ray).results(abs, tasks(), label="", name=str)  # type: ignore[arg-type]
    for number, _ in enumerate(results, start=1):
        assert taken <= number + cluster.AHEAD * ray.cpus


@pytest.mark.promise("errors")
def test_a_task_lost_three_times_ends_the_run_and_names_it_and_the_cause(capsys: pytest.CaptureFixture[str]) -> None:
    ray = MadeRay(losses={5: 3})
    with pytest.raises(PunaError, match=r"made: a map: 5 was lost 3 times, at last since its (worker process|node) "):
        list(_mapped(ray, abs, list(range(9))))
    assert capsys.readouterr().err.count("5 is done again, since its ") == 2
    assert set(ray.cancelled) == set(ray.under_way)


def _wrong(task: int) -> None:
    error = InputError("is wrong", where="a file", mend="mend it")
    error.add_note("a note")
    raise error


class _Peculiar(Exception):
    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


def _peculiar(task: int) -> None:
    raise _Peculiar(1, 2)


@pytest.mark.promise("errors")
def test_what_a_task_raises_comes_out_with_its_type_and_notes_and_is_not_done_again() -> None:
    ray = MadeRay()
    with pytest.raises(InputError, match="a file: is wrong; mend it") as caught:
        list(_mapped(ray, _wrong, [1]))
    assert caught.value.where == "a file"
    assert caught.value.__notes__ == ["a note"]
    assert "in _wrong" in str(caught.value.__cause__)
    assert ray.given == 1
    with pytest.raises(RuntimeError, match="_Peculiar: 1 and 2"):
        list(_mapped(MadeRay(), _peculiar, [1]))


def _ground(folder: Path, /, **changes: Any) -> Ground:
    storage.write(folder / DRIVER, b"mine")
    return replace(Ground(str(folder), "mine", str(Path.cwd()), versions(), ()), **changes)


@pytest.mark.promise("errors")
def test_a_node_that_is_not_as_the_driver_is_named_with_what_differs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "SEEN", 0.0)
    other = (("Python", "3.99"), ("pyarrow", "0.1"))
    with pytest.raises(InputError, match=r"node .*: Python 3\.\d+ where the driver has 3\.99, pyarrow .* has 0\.1; "):
        stand(_ground(tmp_path, versions=other))
    with pytest.raises(
        InputError, match=r"does not see what the driver wrote into .*nowhere; give --out a folder that every node"
    ):
        stand(_ground(tmp_path, folder=str(tmp_path / "nowhere")))
    dump = tmp_path / "dump"
    with pytest.raises(InputError, match=r"does not see the input .*dump; keep raw dumps where every node reads them"):
        stand(_ground(tmp_path, inputs=((str(dump), 3),)))
    dump.write_bytes(b"four")
    with pytest.raises(InputError, match=r"sees another file as .*dump"):
        stand(_ground(tmp_path, inputs=((str(dump), 3),)))
    with pytest.raises(PunaError, match="was taken over by another driver"):
        stand(_ground(tmp_path, nonce="older"))


WATCHES = """
import sys, time
from puna.cluster import ground
ground.LOOKS = 0.05, 0.05
ground.stand(ground.Ground(sys.argv[1], "mine", sys.argv[1], ground.versions(), ()))
print("stands", flush=True)
time.sleep(600)
"""


@pytest.mark.promise("resume")
@pytest.mark.parametrize("ends", ["gone", "another"])
def test_a_worker_ends_when_its_driver_is_no_more_that_of_the_run(tmp_path: Path, ends: str) -> None:
    _ground(tmp_path)
    command = [sys.executable, "-c", WATCHES, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout
        assert worker.stdout.readline() == "stands\n"
        if ends == "gone":
            with opened("processes", tmp_path, [], None):  # as the next command on this run does
                pass
        else:
            storage.write(tmp_path / DRIVER, b"other")
        assert worker.wait(HANGS) == 1


def _twice(folder: Path, go: Any) -> None:
    from puna.steps import _run_task

    go.wait()
    for task in range(8):
        _run_task(_write_slowly, folder, folder / "work" / "step" / "abc", (f"task-{task}", task))


def _write_slowly(task: int, scratch: storage.Place) -> dict[str, Any]:
    with storage.create(scratch / f"{task}.bin") as file:
        for _ in range(20):
            file.write(bytes([task]) * 1000)
            file.flush()
    return {"task": task, "files": [f"work/step/abc/{task}.bin"]}


@pytest.mark.promise("resume")
def test_a_task_that_runs_twice_at_once_writes_once(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    go = spawn.Barrier(3)
    copies = [spawn.Process(target=_twice, args=(tmp_path, go)) for _ in range(3)]
    for copy in copies:
        copy.start()
    for copy in copies:
        copy.join(HANGS)
        assert copy.exitcode == 0
    scratch = tmp_path / "work" / "step" / "abc"
    assert sorted(path.name for path in scratch.iterdir()) == sorted(
        name for task in range(8) for name in (f"{task}.bin", f"task-{task}.json")
    )
    context = Context(tmp_path, "step", "abc", 1, {})
    results = context.map(_fails, list(range(8)), label="twice", name=lambda task: f"task-{task}")
    assert [result["task"] for result in results] == list(range(8))
    assert all((scratch / f"{task}.bin").read_bytes() == bytes([task]) * 20_000 for task in range(8))


def _fails(task: int, scratch: storage.Place) -> dict[str, Any]:
    raise AssertionError("its record stands")


def test_two_machines_with_one_number_of_a_process_write_under_different_names(tmp_path: Path) -> None:
    code = "import os; os.getpid = lambda: 7\nfrom puna import storage; print(storage.aside(storage.place('x')))"
    names = {subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout for _ in range(2)}
    assert len(names) == 2


@pytest.mark.promise("errors")
def test_an_engine_that_is_none_or_not_installed_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("dask", "ray:", "ray://", "ray://head"):
        with pytest.raises(
            InputError, match=r"--engine: no engine is named .*; give processes, ray or ray://HOST:PORT"
        ):
            refuse_unknown(name)
    monkeypatch.setattr(cluster, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"--engine ray: Ray is not installed here; pip install 'puna\[ray\]'"):
        refuse_unknown("ray")
    done = tiny.puna("data", "laptop", "--engine", "spark", "--out", tmp_path / "run")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: --engine: no engine is named 'spark'")
    assert not (tmp_path / "run").exists()


@pytest.mark.promise("house")
def test_nothing_loads_ray_but_its_engine() -> None:
    code = "import sys, puna.workflow, puna.cluster, puna.cluster.work; print('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


class LeavingRay(MadeRay):
    """Two nodes, of which the first goes while it is asked."""

    __version__ = "made"

    def nodes(self) -> list[dict[str, Any]]:
        return [{"Alive": True, "Resources": {"CPU": 1}, "NodeID": letter * 56} for letter in "ab"]

    def remote(self, **options: Any) -> Callable[[Any], Any]:
        def lose() -> None:
            raise NodeDiedError("gone")

        def give(ground: Ground) -> int:
            self.given += 1
            self.under_way[self.given] = lose if self.given == 1 else lambda: None
            return self.given

        asked = types.SimpleNamespace(remote=give)
        asked.options = lambda **strategy: asked
        return lambda function: asked


def test_a_node_that_goes_while_it_is_asked_ends_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'puna[ray]'")
    found = _cluster(LeavingRay())
    found.check(Ground("", "made", "", (), ()))
    said = capsys.readouterr().err
    assert "a node of the cluster went while it was asked, since its node died" in said
    assert "Ray made: 1 node, 2 CPUs" in said
