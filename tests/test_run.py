"""The run folder: one writer, and nobody's files overwritten."""

from __future__ import annotations

import errno
import fcntl
import json
import multiprocessing
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from puna import recipe as recipes
from puna.errors import InputError
from puna.run import open_run, read_recipe

RECIPE = recipes.load("laptop")

HOLDS = """
import sys
from pathlib import Path
from puna import recipe
from puna.run import open_run
with open_run(Path(sys.argv[1]), recipe.load("laptop")):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_run_folder_holds_its_resolved_recipe_and_no_lock_when_closed(tmp_path: Path) -> None:
    with open_run(tmp_path / "run", RECIPE) as run:
        assert (run.folder / "run.lock").exists()
    assert read_recipe(tmp_path / "run") == RECIPE
    assert not (tmp_path / "run" / "run.lock").exists()


def test_a_folder_that_another_process_writes_to_is_refused(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDS, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(InputError, match=f"held by process {other.pid} on .*, which is running"):
            open_run(tmp_path, RECIPE).__enter__()
        other.kill()
    with open_run(tmp_path, RECIPE):
        pass  # a dead holder on this host is taken over


def test_a_dead_holder_is_taken_over_with_a_line_and_its_half_written_files_go(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with open_run(tmp_path, RECIPE):
        pass
    (tmp_path / "run.lock").write_text(
        json.dumps({"host": socket.gethostname(), "pid": 1, "born": "never", "flock": True})
    )
    (tmp_path / "documents").mkdir()
    (tmp_path / "documents" / ".part-0.parquet-1-1").write_text("half")
    with open_run(tmp_path, RECIPE):
        pass
    assert "process 1 on" in capsys.readouterr().err
    assert not list((tmp_path / "documents").iterdir())


def test_a_living_holder_in_another_pid_namespace_is_refused_and_its_files_stay(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDS, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        half = tmp_path / ".part-0.parquet-1-1"
        half.write_text("half")
        # As the lock of a process 1 elsewhere looks from here: no such process, or another one of that number.
        for pid in (1, os.getpid()):
            _write_lock(tmp_path, pid=pid, namespace="another", flock=True)
            for take_over in (False, True):
                with pytest.raises(InputError, match=f"held by process {pid} on .*, which is running"):
                    open_run(tmp_path, RECIPE, take_over=take_over).__enter__()
        assert half.exists()
        other.kill()
    _write_lock(tmp_path, pid=1, namespace="another", flock=True)
    with open_run(tmp_path, RECIPE):
        assert not half.exists()  # the kernel says that it is gone, whatever its number


def test_without_flock_a_holder_in_another_pid_namespace_is_as_on_another_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(file: object, operation: int) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(fcntl, "flock", missing)
    with open_run(tmp_path, RECIPE):
        assert json.loads((tmp_path / "run.lock").read_bytes())["flock"] is False
        with pytest.raises(InputError, match=f"held by process {os.getpid()} on .*, which is running"):
            open_run(tmp_path, RECIPE).__enter__()
    _write_lock(tmp_path, pid=os.getpid(), namespace="another", flock=False)
    with pytest.raises(InputError, match="in another PID namespace or before a reboot; stop it there"):
        open_run(tmp_path, RECIPE).__enter__()
    with open_run(tmp_path, RECIPE, take_over=True):
        pass


def test_the_lock_is_not_held_on_by_what_was_started_under_it(tmp_path: Path) -> None:
    with open_run(tmp_path, RECIPE):
        worker = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(600,))
        worker.start()
        program = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, close_fds=False)
    try:
        with open_run(tmp_path, RECIPE):
            assert worker.is_alive()
            assert program.poll() is None
    finally:
        for process in (worker, program):
            process.kill()
        worker.join()
        program.communicate()


def test_a_living_holder_is_refused_also_when_its_flock_is_lost_with_its_file(tmp_path: Path) -> None:
    with open_run(tmp_path, RECIPE):
        (tmp_path / "run.lock.held").unlink()
        with pytest.raises(InputError, match=f"held by process {os.getpid()} on .*, which is running"):
            open_run(tmp_path, RECIPE).__enter__()


def test_the_flock_of_another_host_can_be_taken_over(tmp_path: Path) -> None:
    with open_run(tmp_path, RECIPE):
        _write_lock(tmp_path, host="elsewhere", flock=True)
        with pytest.raises(
            InputError, match="held by process 1 on elsewhere; stop it there, or give puna run --take-over"
        ):
            open_run(tmp_path, RECIPE).__enter__()
        with open_run(tmp_path, RECIPE, take_over=True):
            assert json.loads((tmp_path / "run.lock").read_bytes())["flock"] is True


def test_a_holder_on_another_host_needs_take_over(tmp_path: Path) -> None:
    with open_run(tmp_path, RECIPE):
        pass
    (tmp_path / "run.lock").write_text(json.dumps({"host": "elsewhere", "pid": 1, "born": "x"}))
    with pytest.raises(InputError, match="held by process 1 on elsewhere; stop it there, or give puna run --take-over"):
        open_run(tmp_path, RECIPE).__enter__()
    with open_run(tmp_path, RECIPE, take_over=True):
        pass


def test_a_folder_made_by_a_recipe_of_another_name_is_refused(tmp_path: Path) -> None:
    with open_run(tmp_path, recipes.load("laptop-plain")):
        pass
    with pytest.raises(InputError, match="was made by the recipe 'laptop-plain', not 'laptop'"):
        open_run(tmp_path, RECIPE).__enter__()


def test_a_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="holds files but no run"):
        open_run(tmp_path, RECIPE).__enter__()
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_file_where_the_folder_should_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("mine")
    with pytest.raises(InputError, match="a file stands where the run folder should be"):
        open_run(tmp_path / "run", RECIPE).__enter__()
    with pytest.raises(InputError, match="cannot make the run folder"):
        open_run(tmp_path / "run" / "below", RECIPE).__enter__()


def _write_lock(folder: Path, **fields: object) -> None:
    lock = {"format": 1, "host": socket.gethostname(), "pid": 1, "born": "never", **fields}
    (folder / "run.lock").write_text(json.dumps(lock))
