"""Promises 1 and 2 on whole runs: kills at every step, any number of workers, any order of inputs, any folder.

Slow, so run by `make prove`. Each proof compares the bit-stable artefacts with those of an undisturbed run.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import tiny
from puna import storage

pytestmark = pytest.mark.prove

# A `puna` that lists every write, sync, rename and removal of its own and of its workers, each with the step that it
# belongs to, or sends itself SIGKILL, or the signal of the plan, at the one that the plan names. Spawned workers import
# it as __mp_main__.
SHIM = """
import json, os, signal, sys
from puna import cli, storage

plan = json.loads(os.environ["PLAN"])
worker = __name__ == "__mp_main__"
step = os.environ.get("STEP", "")
met = 0

def border(event, location):
    global step, met
    inside = location.rpartition(plan["out"] + "/")[2]
    if inside.startswith(("log.txt", "run.lock")):
        return  # how often a bar is logged is a matter of time
    if event == "after rename" and inside.endswith(".begun.json") and not worker:
        step = os.environ["STEP"] = inside.removeprefix("records/").removesuffix(".begun.json")
    if "list" in plan:
        line = json.dumps([worker, step, event, inside]) + "\\n"
        with open(plan["list"], "a") as file:
            file.write(line)
        return
    if worker == plan["worker"] and plan["step"] in ("", step) and plan["like"] in f"{event} {inside}":
        met += 1
        if met == plan["number"] + 1:
            os.kill(os.getpid(), plan.get("signal", signal.SIGKILL))

storage.border = border
if __name__ == "__main__":
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whoever runs the tests may have set it aside, as nohup does
    cli.main()
"""


class Border(NamedTuple):
    """A write, sync, rename or removal, before or after it."""

    worker: bool
    step: str
    event: str
    location: str

    @property
    def text(self) -> str:
        return f"{self.event} {self.location}"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe, its dumps, and `undisturbed`: a run with one worker."""
    folder = tmp_path_factory.mktemp("home")
    tiny.write(folder)
    (folder / "shim.py").write_text(SHIM)
    done = _run(folder, "undisturbed", "--workers", "1")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def borders(home: Path) -> list[Border]:
    """All borders of an undisturbed run with two workers."""
    found = _listed(home, "listed")
    assert tiny.stable(home / "listed") == tiny.stable(home / "undisturbed")
    return found


def _run(home: Path, out: str | Path, *options: str) -> subprocess.CompletedProcess[str]:
    return tiny.puna("run", home / "tiny.toml", "--out", out, "--threads", "1", *options, cwd=home)


def _shimmed(home: Path, out: str, plan: Mapping[str, Any], *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "shim.py", "run", "tiny.toml", "--out", out, "--threads", "1", "--workers", "2"]
    return subprocess.run(
        [*command, *options],
        cwd=home,
        env={**os.environ, "COLUMNS": "100", "PLAN": json.dumps({**plan, "out": out})},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def _listed(home: Path, out: str, *options: str) -> list[Border]:
    lines = home / f"{out}.borders"
    done = _shimmed(home, out, {"list": str(lines)}, *options)
    assert done.returncode == 0, done.stderr
    return [Border(*json.loads(line)) for line in lines.read_text().splitlines()]


def _killed(home: Path, out: str, *options: str, step: str = "", like: str = "", number: int = 0) -> None:
    """Start the command, and have it killed at a border in `step` whose text holds `like`, after `number` others."""
    plan = {"worker": False, "step": step, "like": like, "number": number}
    done = _shimmed(home, out, plan, *options)
    assert done.returncode == -signal.SIGKILL, f"not killed at {plan}: {done.returncode} {done.stderr}"


def _ends_as_undisturbed(home: Path, out: str) -> None:
    done = _run(home, out, "--workers", "2")
    assert done.returncode == 0, done.stderr
    assert tiny.stable(home / out) == tiny.stable(home / "undisturbed")
    assert not list((home / out).rglob(f"{storage.TEMPORARY}*"))


def test_killed_within_every_step_the_same_command_ends_as_an_undisturbed_run(
    home: Path, borders: list[Border], proved: Callable[[str], None]
) -> None:
    chance = random.Random(20)
    counts = Counter(border.step for border in borders if border.step and not border.worker)
    records = {path.stem for path in (home / "undisturbed" / "records").iterdir()}
    assert counts.keys() == records
    for step, count in counts.items():
        if step != "train":
            _killed(home, "killed", step=step, number=chance.randrange(count))
            continue
        _killed(home, "killed", step=step, like="metrics.jsonl", number=chance.randrange(10))
        for name in ("step-000007", "step-000014", "step-000021", "step-000024"):
            events = [border.event for border in borders if name in border.location and border.step == "train"]
            within = events.index("before rename") + 1  # the borders behind are of its removal
            _killed(home, "killed", step=step, like=name, number=chance.randrange(within))
    _ends_as_undisturbed(home, "killed")
    proved(f"a whole run on two workers: killed once in each of {len(counts)} steps, five times in training")


def test_a_worker_killed_within_a_write_is_one_line_and_the_same_command_goes_on(
    home: Path, borders: list[Border], proved: Callable[[str], None]
) -> None:
    chance = random.Random(21)
    writes: dict[str, list[str]] = {}
    for border in borders:
        if border.worker and border.event == "before rename":
            writes.setdefault(border.step, []).append(border.text)
    assert {step.split(".")[0] for step in writes} >= {"extract", "duplicates", "documents"}
    for step, texts in writes.items():
        plan = {"worker": True, "step": step, "like": chance.choice(sorted(texts)), "number": 0}
        done = _shimmed(home, "workers", plan)
        assert done.returncode == 1, f"{plan}: {done.stderr}"
        last = done.stderr.strip().splitlines()[-1]
        assert last.startswith("error: "), done.stderr
        assert "a worker process was killed" in last
        assert "Traceback" not in done.stderr
    _ends_as_undisturbed(home, "workers")
    proved(f"a worker killed within a write in each of {len(writes)} steps")


@pytest.mark.parametrize("changed", ["train.learning_rate=2e-2", "data.shard_size=50KB"])
def test_killed_while_an_old_result_is_set_aside_the_old_value_again_gives_the_old_result(
    home: Path, changed: str
) -> None:
    chance = random.Random(22)
    name = changed.partition("=")[0]
    shutil.copytree(home / "undisturbed", home / name)
    count = sum("superseded/" in border.location for border in _listed(home, name, changed))
    assert count > 4
    for kill in range(2):
        out = f"{name}-{kill}"
        shutil.copytree(home / "undisturbed", home / out)
        _killed(home, out, changed, like="superseded/", number=chance.randrange(count))
        _ends_as_undisturbed(home, out)


def test_killed_from_outside_as_steps_begin_the_same_command_ends_as_an_undisturbed_run(
    home: Path, proved: Callable[[str], None]
) -> None:
    """The step to wait for is drawn; where in it the kill falls is left to the machine, and nothing depends on it."""
    out = home / "outside"
    records = sorted((home / "undisturbed" / "records").glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
    steps = [path.stem for path in records]
    command = [sys.executable, "-m", "puna.cli", "run", "tiny.toml", "--out", "outside", "--threads", "1"]
    kills = 0
    for number in sorted(random.Random(7).sample(range(len(steps)), 10)):
        done, begun = (out / "records" / f"{steps[number]}{end}" for end in (".json", ".begun.json"))
        if done.exists():
            continue  # the kill before fell later than the step that it waited for
        with subprocess.Popen(command, cwd=home, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
            while process.poll() is None and not (begun.exists() or done.exists()):
                time.sleep(0.002)
            process.kill()
        assert process.returncode in (0, -signal.SIGKILL)
        kills += process.returncode != 0
    assert kills
    _ends_as_undisturbed(home, "outside")
    proved(f"killed from outside {kills} times as another step had begun")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_asked_to_stop_training_saves_and_leaves_and_goes_on(home: Path, number: signal.Signals) -> None:
    name = f"stopped-{number.name}"
    out = home / name
    third = {"worker": False, "step": "train", "like": "after write metrics.jsonl", "number": 2, "signal": number}
    stopped = _shimmed(home, name, third)
    assert stopped.returncode == 130, stopped.stderr
    assert "Traceback" not in stopped.stderr
    assert [path.name for path in (out / "checkpoints").iterdir()] == ["step-000003"]
    done = _run(home, out)
    assert done.returncode == 0, done.stderr
    assert "training goes on after step" in done.stderr
    assert tiny.stable(out) == tiny.stable(home / "undisturbed")


@pytest.mark.promise("order")
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


@pytest.mark.promise("order")
def test_tasks_of_another_size_give_the_same_result(home: Path) -> None:
    done = _run(home, "tasks", "data.task_size=20KB", "data.partitions=7")
    assert done.returncode == 0, done.stderr
    assert tiny.stable(home / "tasks") == tiny.stable(home / "undisturbed")


@pytest.mark.promise("errors")
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
