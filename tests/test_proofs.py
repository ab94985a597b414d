"""Promises 1 and 2 on whole runs: kills at every step, any number of workers, any order of inputs, any folder.

Slow, so run by `make prove`. Each proof compares the bit-stable artefacts with those of an undisturbed run.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import tiny
from puna import storage

pytestmark = pytest.mark.prove

# A `puna` that ends itself by SIGKILL at the n-th write, sync or rename after a step has begun.
DIES = """
import os, signal, sys
from puna import cli, storage

def border(event, location):
    global begun, left
    begun = begun or location.endswith(f"records/{step}.begun.json") and event == "after rename"
    if begun:
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

if __name__ == "__main__":
    step, left, begun = sys.argv[1], int(sys.argv[2]), False
    storage.border = border
    sys.argv = ["puna", *sys.argv[3:]]
    cli.main()
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe, its dumps, and `undisturbed`: a run with one worker."""
    folder = tmp_path_factory.mktemp("home")
    tiny.write(folder)
    done = _run(folder, "undisturbed", "--workers", "1")
    assert done.returncode == 0, done.stderr
    return folder


def _run(home: Path, out: str | Path, *options: str) -> subprocess.CompletedProcess[str]:
    return tiny.puna("run", home / "tiny.toml", "--out", out, "--threads", "1", *options, cwd=home)


def _steps(home: Path) -> list[str]:
    """Every step in the order in which they were done."""
    records = list((home / "undisturbed" / "records").iterdir())
    return [path.stem for path in sorted(records, key=lambda path: path.stat().st_mtime_ns)]


def test_killed_within_every_step_the_same_command_ends_as_an_undisturbed_run(home: Path, tmp_path: Path) -> None:
    dies = tmp_path / "dies.py"
    dies.write_text(DIES)
    chance = random.Random(20)
    killed = []
    for step in _steps(home):
        command = [sys.executable, dies, step, str(chance.randint(0, 5)), "run", home / "tiny.toml", "--out", "killed"]
        done = subprocess.run(
            [*map(str, command), "--threads", "1", "--workers", "2"],
            cwd=home,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode in (-9, 0), done.stderr
        killed += [step] * (done.returncode == -9)
    print(f"killed {len(killed)} times, in: {', '.join(killed)}")
    assert len(killed) >= len(_steps(home)) - 2  # a step with fewer events than the number drawn is not hit
    done = _run(home, "killed", "--workers", "2")
    assert done.returncode == 0, done.stderr
    assert tiny.stable(home / "killed") == tiny.stable(home / "undisturbed")
    assert not list((home / "killed").rglob(f"{storage.TEMPORARY}*"))


def test_killed_ten_times_at_random_moments_the_same_command_ends_as_an_undisturbed_run(home: Path) -> None:
    chance = random.Random(7)
    kills = 0
    command = [sys.executable, "-m", "puna.cli", "run", "tiny.toml", "--out", "random", "--threads", "1"]
    while kills < 10:
        with subprocess.Popen(command, cwd=home, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
            try:
                process.wait(chance.uniform(0.5, 6))
            except subprocess.TimeoutExpired:
                os.kill(process.pid, signal.SIGKILL)
                kills += 1
                continue
        assert process.returncode == 0
        shutil.rmtree(home / "random" / "checkpoints")  # it got through: take something away and go on killing
        shutil.rmtree(home / "random" / "documents")
    done = _run(home, "random")
    assert done.returncode == 0, done.stderr
    assert tiny.stable(home / "random") == tiny.stable(home / "undisturbed")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_stop_training_saves_and_leaves_and_goes_on(home: Path, number: signal.Signals) -> None:
    out = home / f"stopped-{number.name}"
    command = [sys.executable, "-m", "puna.cli", "run", "tiny.toml", "--out", str(out), "--threads", "1"]
    with subprocess.Popen(command, cwd=home, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        while not (out / "metrics.jsonl").exists() or len((out / "metrics.jsonl").read_bytes().splitlines()) < 3:
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(number)
        _, said = process.communicate(timeout=120)
    assert process.returncode == 130, said
    assert "Traceback" not in said
    assert list((out / "checkpoints").glob("step-*"))
    done = _run(home, out)
    assert done.returncode == 0, done.stderr
    assert "training goes on after step" in done.stderr
    assert tiny.stable(out) == tiny.stable(home / "undisturbed")


def test_two_workers_shuffled_inputs_and_another_folder_give_the_same_bytes(home: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "ein Ordner mit Leerzeichen, ünï"
    tiny.write(elsewhere)
    text = (elsewhere / "tiny.toml").read_text()
    listed = f'inputs = ["{elsewhere.as_posix()}/dumps/*.xml.bz2"]'
    assert listed in text
    dumps = [f'"{path.as_posix()}"' for path in sorted((elsewhere / "dumps").iterdir(), reverse=True)]
    text = text.replace(listed, f"inputs = [{', '.join(dumps)}]")
    text = text.replace(
        '["package:markdown-it-py", "package:packaging", "package:mdurl", "package:pluggy"]',
        '["package:pluggy", "package:mdurl", "package:markdown-it-py", "package:packaging"]',
    )
    (elsewhere / "tiny.toml").write_text(text)
    out = elsewhere / "läufe" / "zweiter lauf"
    done = tiny.puna("run", elsewhere / "tiny.toml", "--out", out, "--workers", "2", "--threads", "1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert tiny.stable(out) == tiny.stable(home / "undisturbed")


def test_tasks_of_any_size_give_the_same_documents(home: Path) -> None:
    done = _run(home, "tasks", "data.task_size=20KB", "data.partitions=7")
    assert done.returncode == 0, done.stderr
    assert tiny.stable(home / "tasks") == tiny.stable(home / "undisturbed")


def test_a_read_only_run_folder_is_one_line(home: Path, tmp_path: Path) -> None:
    """A bind mount in a namespace of its own, since to root a folder without write permission is writable."""
    folder = tmp_path / "read only"
    folder.mkdir()
    python = f"'{sys.executable}' -m puna.cli run '{home}/tiny.toml' --out '{folder}/run'"
    script = f"mount --bind '{folder}' '{folder}' && mount -o remount,bind,ro '{folder}' && exec {python}"
    done = subprocess.run(["unshare", "-m", "sh", "-c", script], capture_output=True, text=True, check=False)
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip(f"no mount namespace here: {done.stderr.strip()}")
    assert done.returncode == 2, done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith("error: ")
    assert "cannot make the run folder (Read-only file system)" in done.stderr
