"""The run folder: one writer, and nobody's files overwritten."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from puna import recipe as recipes
from puna.errors import InputError
from puna.run import open_run, read_recipe

RECIPE = recipes.load("laptop")


def test_a_run_folder_holds_its_resolved_recipe_and_no_lock_when_closed(tmp_path: Path) -> None:
    with open_run(tmp_path / "run", RECIPE) as run:
        assert run.path("run.lock").exists()
    assert read_recipe(tmp_path / "run") == RECIPE
    assert not (tmp_path / "run" / "run.lock").exists()


def test_a_folder_that_another_process_writes_to_is_refused(tmp_path: Path) -> None:
    hold = (
        "import sys, time\nfrom pathlib import Path\nfrom puna import recipe\nfrom puna.run import open_run\n"
        "with open_run(Path(sys.argv[1]), recipe.load('laptop')):\n    print('held', flush=True)\n    time.sleep(600)\n"
    )
    command = [sys.executable, "-c", hold, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
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
    (tmp_path / "run.lock").write_text(json.dumps({"host": socket.gethostname(), "pid": 1, "born": "never"}))
    (tmp_path / "documents").mkdir()
    (tmp_path / "documents" / ".part-0.parquet-1-1").write_text("half")
    with open_run(tmp_path, RECIPE):
        pass
    assert "process 1 on" in capsys.readouterr().err
    assert not list((tmp_path / "documents").iterdir())


def test_a_holder_on_another_host_needs_take_over(tmp_path: Path) -> None:
    with open_run(tmp_path, RECIPE):
        pass
    (tmp_path / "run.lock").write_text(json.dumps({"host": "elsewhere", "pid": 1, "born": "x"}))
    with pytest.raises(InputError, match="held by process 1 on elsewhere; stop it there, or add --take-over"):
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
