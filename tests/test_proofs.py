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
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import tiny
from puna import storage

pytestmark = pytest.mark.prove

# A `puna` that lists every write, sync, rename and removal of its own and of its workers, each with the step that it
# belongs to, or ends itself by SIGKILL at the one that the plan names. Spawned workers import it as __mp_main__.
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
        if met > plan["number"]:
            os.kill(os.getpid(), signal.SIGKILL)

storage.border = border
if __name__ == "__main__":
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
    home: Path, borders: list[Border]
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


def test_a_worker_killed_within_a_write_is_one_line_and_the_same_command_goes_on(
    home: Path, borders: list[Border]
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


def test_killed_at_random_lines_of_its_log_the_same_command_ends_as_an_undisturbed_run(home: Path) -> None:
    """The moment is drawn as a line to wait for, which no command writes before its imports are done."""
    chance = random.Random(7)
    out = home / "random"
    command = [sys.executable, "-m", "puna.cli", "run", "tiny.toml", "--out", "random", "--threads", "1"]
    kills = 0
    within = set()
    while kills < 10:
        awaited = _lines(out) + chance.randint(2, 12)
        with subprocess.Popen(command, cwd=home, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
            while process.poll() is None and _lines(out) < awaited:
                time.sleep(0.002)
            process.kill()
        if process.returncode == -signal.SIGKILL:
            kills += 1
            within |= {path.name for path in (out / "records").glob("*.begun.json")}
            continue
        assert process.returncode == 0
        shutil.rmtree(out / "checkpoints")  # it got through: take something away and go on killing
        shutil.rmtree(out / "documents")
    assert len(within) >= 3, f"kills within {within} only"
    _ends_as_undisturbed(home, "random")


def _lines(out: Path) -> int:
    log = out / "log.txt"
    return log.read_bytes().count(b"\n") if log.exists() else 0


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
