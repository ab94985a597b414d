"""Real starts by torchrun: what is killed, stops or is asked to end goes on, and nothing that was saved is lost."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import tiny

pytestmark = pytest.mark.prove

HANGS = 600.0  # seconds of a start; a busy machine takes ten times an idle one's
ENDS = 60.0  # seconds in which all ranks end behind one that is gone or hangs
SETTINGS = ("train.dtype=float32", "train.steps=160", "train.checkpoint_every=20", "train.save=beside")


class Start:
    """`torchrun -m puna train` with two ranks."""

    def __init__(self, folder: Path, *options: str, restarts: int = 0) -> None:
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        command += ["--max-restarts", str(restarts), "-m", "puna", "train", str(folder / "tiny.toml")]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
        self.run = folder / "run"
        self._log = (folder / "said").open("a+")
        self._process = subprocess.Popen(
            [*command, "--out", str(self.run), *SETTINGS, *options],
            env=environment,
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )

    def until(self, step: int) -> None:
        """Until the checkpoint of that step stands."""
        limit = time.monotonic() + HANGS
        while not (self.run / "checkpoints" / f"step-{step:06d}" / "checkpoint.json").exists():
            assert self._process.poll() is None, self.said()
            assert time.monotonic() < limit, self.said()
            time.sleep(0.02)

    def pid(self, rank: int) -> int:
        (found,) = self._pids(str(rank))
        return found

    def _pids(self, *ranks: str) -> Iterator[int]:
        """Of the ranks that run, which torchrun gives sessions of their own."""
        for path in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):
                told = dict(each.partition("=")[::2] for each in path.read_text(errors="replace").split("\0"))
                if told.get("LOCAL_RANK") in ranks and str(self.run) in (path.parent / "cmdline").read_text():
                    yield int(path.parent.name)

    def ended(self, seconds: float = HANGS) -> int:
        return self._process.wait(seconds)

    def said(self) -> str:
        self._log.seek(0)
        return self._log.read()

    def end(self) -> None:
        """Kill all of it at once."""
        for pid in (self._process.pid, *self._pids("0", "1")):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()
        self._log.close()


@pytest.fixture
def started() -> Iterator[Callable[..., Start]]:
    starts: list[Start] = []

    def start(folder: Path, *options: str, restarts: int = 0) -> Start:
        starts.append(Start(folder, *options, restarts=restarts))
        return starts[-1]

    yield start
    for one in starts:
        one.end()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a recipe whose tokens are there and whose model is not trained."""
    folder = tmp_path_factory.mktemp("made") / "tiny"
    tiny.write(folder)
    done = tiny.puna("tokens", folder / "tiny.toml", "--out", folder / "run", *SETTINGS)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def undisturbed(made: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = Path(shutil.copytree(made, tmp_path_factory.mktemp("undisturbed") / "tiny"))
    one = Start(folder)
    assert one.ended() == 0, one.said()
    one.end()
    return tiny.stable(folder / "run")


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "tiny"))


@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_that_is_killed_costs_the_steps_since_the_last_checkpoint(
    folder: Path, undisturbed: dict[str, str], started: Callable[..., Start], rank: int, proved: Callable[[str], None]
) -> None:
    one = started(folder, restarts=1)
    one.until(60)
    os.kill(one.pid(rank), signal.SIGKILL)
    assert one.ended() == 0, one.said()
    assert tiny.stable(folder / "run") == undisturbed
    (after,) = re.findall(r"training goes on after step (\d+) of 160", one.said())
    assert int(after) >= 60
    proved("ranks of a torchrun killed with -9: it began again by itself and ended with the same bytes")


def test_all_ranks_killed_at_once_the_same_command_goes_on(
    folder: Path, undisturbed: dict[str, str], started: Callable[..., Start]
) -> None:
    for step in (40, 100):
        one = started(folder)
        one.until(step)
        one.end()
    last = started(folder)
    assert last.ended() == 0, last.said()
    assert tiny.stable(folder / "run") == undisturbed


@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_that_is_stopped_is_named_and_all_end_within_a_minute(
    folder: Path, undisturbed: dict[str, str], started: Callable[..., Start], rank: int
) -> None:
    one = started(folder)
    one.until(40)
    pids = [one.pid(each) for each in range(2)]
    os.kill(pids[rank], signal.SIGSTOP)
    assert one.ended(ENDS) != 0
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
    assert re.search(rf"error: step \d+: rank {rank} \(process {pids[rank]} on .*gave no sign of life", one.said())
    last = started(folder)
    assert last.ended() == 0, last.said()
    assert tiny.stable(folder / "run") == undisturbed


def test_torchrun_asked_to_end_saves_the_step_under_way(
    folder: Path, undisturbed: dict[str, str], started: Callable[..., Start]
) -> None:
    one = started(folder, "train.checkpoint_every=150")
    while not re.search(r"training: +\d+ %, step", one.said()):
        time.sleep(0.1)
    os.kill(one.pid(1), signal.SIGTERM)
    one.ended()
    assert re.search(r"stopped after step \d+ of 160, saved in", one.said())
    last = started(folder, "train.checkpoint_every=150")
    assert last.ended() == 0, last.said()
    assert tiny.stable(folder / "run") == undisturbed
