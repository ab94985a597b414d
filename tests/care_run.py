"""What tests of the care of runs share: a finished run, one with superseded results, and how processes leave a run.

The fixtures are imported by the modules that use them; the two runs are made once for all.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import socket
from pathlib import Path

import pytest

import tiny
from puna import records, storage, workflow


@pytest.fixture
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a recipe, its dumps, the finished run `run`, and `changed`, where train.steps is 9 since."""
    return _home(tmp_path_factory.getbasetemp())


@pytest.fixture
def run(home: Path, tmp_path: Path) -> Path:
    """A copy of the finished run."""
    return Path(shutil.copytree(home / "run", tmp_path / "runs" / "tiny"))


@pytest.fixture
def changed(home: Path, tmp_path: Path) -> Path:
    """A copy of the run with superseded results."""
    return Path(shutil.copytree(home / "changed", tmp_path / "runs" / "changed"))


def go(home: Path, run: Path, *overrides: str, target: str | None = None) -> str:
    """What `puna run` of the tiny recipe says, or the command that ends with `target`."""
    log = run / "log.txt"
    before = log.stat().st_size if log.exists() else 0
    workflow.work(str(home / "tiny.toml"), overrides, str(run), target, workflow.Options(workers=1, threads=1))
    return log.read_bytes()[before:].decode()


def hold(run: Path, host: str = "", born: str = "long ago") -> None:
    """The lock of a process that was killed, or of one on another host."""
    told = {"format": 1, "host": host or socket.gethostname(), "pid": os.getpid(), "born": born, "flock": True}
    (run / "run.lock").write_text(json.dumps(told))


def begin(run: Path, step: str) -> None:
    """As a process leaves a step that it had begun."""
    fingerprint = storage.read_json(run / "records" / f"{step}.json")["fingerprint"]
    (run / "records" / f"{step}.json").unlink()
    records.begin(run, step, fingerprint, 1)


def files(run: Path) -> set[str]:
    return set(storage.tree(run))


@functools.cache
def _home(base: Path) -> Path:
    folder = base / "care"
    tiny.write(folder)
    go(folder, folder / "run")
    shutil.copytree(folder / "run", folder / "changed")
    go(folder, folder / "changed", "train.steps=9")
    storage.write(folder / "changed" / "work" / "extract.github" / "0123456789abcdef" / "00000-000.parquet", b"part")
    return folder
