"""What `puna doctor` promises: it sees what is missing, says the mend, and stands whatever the machine does."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from doctor_findings import files, one
from puna import doctor
from puna.doctor import kernels, software, torch_build
from puna.doctor.ask import Answer, Question, looked, python
from puna.doctor.finding import Finding, as_json, as_text

TORCH = {
    "version": "2.13.0", "cuda": None, "rocm": None, "threads": 2, "kernels": "AVX2", "wrong": [], "gpus": [],
    "metal": False, "features": ["avx2", "avx512_f"],
}  # fmt: skip


def _program(path: Path, script: str) -> str:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def _torch(**changed: Any) -> Answer:
    return Answer(json.dumps(TORCH | changed))


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Finding]]:
    folder = tmp_path_factory.mktemp("doctor") / "runs"
    return folder, doctor.examine(folder)


def test_this_machine_is_told_as_one_json_document(here: tuple[Path, list[Finding]]) -> None:
    told = json.loads(json.dumps(as_json(here[1])))
    assert told["format"] == 1
    assert told["state"] == doctor.worst(here[1])
    for finding in told["findings"]:
        assert finding.keys() == {"name", "state", "what", "mend"}
        assert (finding["state"] == "ok") == (not finding["mend"]), finding
    names = [finding["name"] for finding in told["findings"]]
    assert len(names) == len(set(names))
    required = [name for name in names if name.startswith("package ")]
    assert len(required) == len([line for line in metadata.requires("puna") or [] if "extra ==" not in line])
    extras = metadata.metadata("puna").get_all("Provides-Extra") or []
    assert {"torch", "C++ compiler", "memory", "disk", "GPU", *(f"extra {name}" for name in extras)} <= set(names)


def test_nothing_is_left_where_runs_go(here: tuple[Path, list[Finding]]) -> None:
    assert list(here[0].parent.iterdir()) == []


def test_the_text_fits_80_columns_and_is_aligned(here: tuple[Path, list[Finding]]) -> None:
    bad = Finding("package mwparserfromhell", "error", "x" * 300 + " a\nb\x1b[31m", "pip install " + "y" * 200)
    text = as_text([*here[1], bad])
    assert max(map(len, text.splitlines())) <= 80
    assert "\x1b" not in text
    rows = text.partition("\n\n")[0].splitlines()
    column = min(len(row) - len(row.lstrip()) for row in rows if row.startswith(" "))
    assert all(row[column - 2 : column] == "  " and row[column] != " " for row in rows)
    assert text.endswith("A run fails until the errors are mended.")
    assert all(row.split()[0] in ("ok", "note", "WARNING", "ERROR") for row in rows if row[0] != " ")


@pytest.mark.promise("alone")
def test_without_path_it_reaches_no_network_and_loads_nothing_heavy(tmp_path: Path) -> None:
    # Every Python process runs sitecustomize at its start, also those that doctor starts.
    guard = f"import socket\nsocket.socket.connect = lambda *a: open({str(tmp_path / 'reached')!r}, 'w')\n"
    (tmp_path / "sitecustomize.py").write_text(guard)
    heavy = "{'torch', 'pyarrow', 'numpy', 'matplotlib', 'sentencepiece'}"
    code = f"import sys; from puna import doctor; f = doctor.examine({str(tmp_path)!r})\n"
    code += f"print(len(f), doctor.worst(f), sorted({heavy} & set(sys.modules)))"
    environment = {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stderr == ""
    assert int(done.stdout.split()[0]) > 20
    assert done.stdout.strip().endswith("[]")
    assert not (tmp_path / "reached").exists()


def test_a_folder_that_was_removed_under_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    found = one(doctor.examine("runs"))
    assert (found.state, found.mend) == ("error", "cd to a folder that is there")


def test_a_probe_that_fails_or_hangs_is_a_finding() -> None:
    failed = one(looked("memory", lambda: 1 // 0))  # type: ignore[arg-type, return-value]
    assert (failed.name, failed.state) == ("memory", "warning")
    assert "by zero" in failed.what
    late = one(looked("disk", lambda: time.sleep(60) or [], seconds=0.1))
    assert "did not answer within 0.1 s" in late.what


def test_a_program_that_hangs_is_killed_with_what_it_started(tmp_path: Path) -> None:
    script = _program(
        tmp_path / "hangs", f"sleep 600 & echo $! > {tmp_path}/new; mv {tmp_path}/new {tmp_path}/pid; wait"
    )
    with Question([script], 600):
        while not (tmp_path / "pid").exists():
            time.sleep(0.01)
    state = Path("/proc", (tmp_path / "pid").read_text().strip(), "stat")
    deadline = time.monotonic() + 60
    while state.exists() and state.read_text().rsplit(")", 1)[1].split()[0] != "Z":
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_what_was_said_before_the_time_was_over_is_kept(tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    with Question([_program(tmp_path / "hangs", f"echo said; touch {begun}; sleep 600")], 0.5) as question:
        while not begun.exists():
            time.sleep(0.01)
        assert question.answer() == Answer("said\n", "did not answer within 0.5 s")


def test_a_program_that_cannot_be_started_or_fails_says_so(tmp_path: Path) -> None:
    assert "could not be started" in Question([str(tmp_path / "none")], 5).answer().problem
    assert Question([_program(tmp_path / "a", "echo why >&2; exit 3")], 5).answer().problem == "why"
    assert Question([_program(tmp_path / "b", "exit 3")], 5).answer().problem == "ended with status 3"
    assert Question([_program(tmp_path / "c", "kill -ILL $$")], 5).answer().problem == "was ended by SIGILL"


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("raise ImportError('libgomp.so.1: cannot open')", "libgomp.so.1: cannot open"),
        ("raise ModuleNotFoundError(\"No module named 'torch'\")", "No module named 'torch'"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGILL)", "was ended by SIGILL"),
        ("import sys; sys.exit(0)", "printed nothing"),
        ("x = 1", "has no attribute 'ones'"),
        ("import time; time.sleep(600)", "did not answer within 1 s"),
    ],
)
def test_a_broken_torch_is_an_error_and_no_crash(
    code: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "torch.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    with Question(python("torch_loads.py"), 1 if "sleep" in code else 60) as question:
        answer = question.answer()
    found = one(torch_build.torch(answer))
    assert found.state == "error"
    assert told in found.what
    assert one(torch_build.gpus(answer, None)).state == "ok"
    assert torch_build.features(answer) == []


def test_the_build_of_torch_is_told() -> None:
    assert "CPU build" in one(torch_build.torch(_torch())).what
    cuda = one(torch_build.torch(_torch(cuda="13.0")))
    assert cuda.state == "note"
    assert "CUDA 13.0 build" in cuda.what
    assert "+cpu" in cuda.mend
    assert "bfloat16" in one(torch_build.torch(_torch(wrong=["bfloat16"]))).what


def test_what_a_run_would_compute_on_is_told() -> None:
    cases = [
        (_torch(), None, "ok", "none: a run computes on the processor"),
        (
            _torch(gpus=["A100"]),
            None,
            "note",
            "A100; a run computes on it (train.device=auto), as no run of Puna did yet",
        ),
        (
            _torch(metal=True),
            None,
            "note",
            "Apple GPU (Metal), which Puna does not use: a run computes on the processor",
        ),
        (_torch(), Answer("NVIDIA H100, 81559 MiB\n"), "note", "NVIDIA H100, 81559 MiB, which this torch does not see"),
        (_torch(), Answer("", "did not answer within 5 s"), "note", "did not answer"),
        (Answer("", "was ended by SIGKILL"), Answer("NVIDIA H100, 81559 MiB\n"), "note", "H100"),
    ]
    for torch, nvidia, state, told in cases:
        found = one(torch_build.gpus(torch, nvidia))
        assert found.state == state
        assert told in found.what
        assert ("on the processor" in found.what) == (told[:4] != "A100")


def _installed(folder: Path, name: str, version: str, code: str = "") -> None:
    files(
        folder,
        {
            f"{name}-{version}.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
            f"{name}-{version}.dist-info/RECORD": f"{name}/__init__.py,,\n",
            f"{name}/__init__.py": code,
        },
    )


def _packages(monkeypatch: pytest.MonkeyPatch, *required: str) -> list[Finding]:
    monkeypatch.setattr(software.metadata, "requires", lambda name: list(required))
    with Question(python("package_loads.py", *software.modules()), 60) as question:
        return software.packages(question.answer())


def test_each_package_is_held_against_the_range_that_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _installed(tmp_path, "oldone", "1.26")
    _installed(tmp_path, "goodone", "2.1+cpu", "print('[noise]'); print('[1, 2, 3]')")
    _installed(tmp_path, "strange", "one")
    monkeypatch.syspath_prepend(tmp_path)
    ranges = ("oldone>=2.0", "goodone<3,>=2", "strange>=1", "absent>=1", 'never; extra == "test"')
    old, good, strange, absent = _packages(monkeypatch, *ranges)
    assert (old.state, old.what) == ("error", "oldone 1.26 is not in the range >=2.0")
    assert old.mend.endswith("-m pip install 'oldone>=2.0'")
    assert (good.state, good.what) == ("ok", "2.1+cpu (asked for: <3,>=2)")
    assert strange.state == "error"
    assert (absent.state, absent.what) == ("error", "absent is not installed")


def test_a_package_that_cannot_be_imported_is_told_and_the_others_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _installed(tmp_path, "fine", "1.0")
    _installed(tmp_path, "raises", "1.0", "raise ImportError('undefined symbol: PyFoo')")
    _installed(tmp_path, "exits", "1.0", "raise SystemExit(0)")
    _installed(tmp_path, "crashes", "1.0", "import os; os.abort()")
    monkeypatch.syspath_prepend(tmp_path)
    found = {one.name: one for one in _packages(monkeypatch, "fine", "raises", "exits", "crashes")}
    assert [one.state for one in found.values()] == ["ok", "error", "error", "error"]
    assert "undefined symbol: PyFoo" in found["package raises"].what
    assert "SIGABRT" in found["package crashes"].what
    assert found["package crashes"].mend.endswith("--force-reinstall")


def test_a_missing_extra_says_what_it_is_for_and_how_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    required = ['absent-one; extra == "test"', 'absent-two; extra == "sample"', "numpy"]
    monkeypatch.setattr(software.metadata, "requires", lambda name: required)
    found = {one.name: one for one in software.extras()}
    assert found["extra test"].state == "note"
    assert found["extra test"].what == "make test: absent-one is not installed"
    assert "pip install" in found["extra test"].mend
    assert "[test]" in found["extra test"].mend
    assert found["extra sample"].state == "warning"
    assert found["extra check"].state == "ok"


def test_packages_are_not_compared_where_packaging_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "packaging.requirements", None)
    assert software.extras() == []
    found = one(software.packages(Answer("")))
    assert found.state == "warning"
    assert found.mend.endswith("pip install packaging")


def test_a_puna_that_is_not_installed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(software.metadata, "version", none)
    monkeypatch.setattr(software.metadata, "requires", none)
    monkeypatch.setattr(software.metadata, "metadata", none)
    assert one(software.itself()).state == "warning"
    assert software.packages(Answer("")) == software.extras() == []


def test_an_old_python_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    project = (Path(__file__).parents[1] / "pyproject.toml").read_text()
    assert f'requires-python = ">={software.OLDEST[0]}.{software.OLDEST[1]}"' in project
    monkeypatch.setattr(software.sys, "version_info", (3, 10, 1))
    assert one(software.interpreter()).state == "error"


def _compiler(seconds: float = 60) -> Finding:
    with Question(python("compiler_works.py"), seconds) as question:
        return one(kernels.compiler(question.answer()))


def test_a_compiler_that_fails_hangs_or_is_missing_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = 'case "$1" in -dump*) echo 9.9; exit;; esac'
    monkeypatch.setenv(
        "CXX", _program(tmp_path / "fails", f"{version}; echo 'x.h:1: fatal error: Python.h' >&2; exit 1")
    )
    failed = _compiler()
    assert failed.state == "warning"
    assert "fails 9.9 builds no library" in failed.what
    assert "python3-dev" in failed.mend
    monkeypatch.setenv("CXX", _program(tmp_path / "empty", f"{version}; exit 0"))
    assert "cannot be loaded" in _compiler().what
    monkeypatch.setenv("CXX", _program(tmp_path / "hangs", "sleep 60"))
    assert "did not answer within 1 s" in _compiler(1).what
    monkeypatch.delenv("CXX")
    monkeypatch.setenv("PATH", str(tmp_path))
    missing = _compiler()
    assert missing.state == "warning"
    assert "laptop-plain" in missing.what
    assert "install g++" in missing.mend


def test_paths_that_the_compiler_cannot_take_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def told(torch: str | None) -> Finding:
        answer = json.dumps({"compiler": "g++ 12.2.0", "problem": "", "torch": torch})
        return one(kernels.compiler(Answer(answer)))

    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", "/tmp")
    spaced = told("/somewhere/a b/torch/__init__.py")
    assert spaced.state == "warning"
    assert "torch lies in a path with a space (/somewhere/a b/torch)" in spaced.what
    assert told("/somewhere/ab/torch/__init__.py").state == told(None).state == "ok"
    monkeypatch.setattr(tempfile, "tempdir", "/somewhere/a b")
    assert "temporary files lies in a path with a space" in told(None).what
    monkeypatch.setattr(tempfile, "tempdir", "/tmp")
    monkeypatch.setenv("CXX", "ccache g++")
    assert told(None).state == "note"


@pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not on PATH")
def test_a_torch_in_a_folder_with_a_space_is_taken_by_the_link_that_training_makes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files(tmp_path, {"a b/torch/__init__.py": "", "cache dir/file": ""})
    monkeypatch.syspath_prepend(tmp_path / "a b")
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert "torch lies" not in _compiler().what
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache dir"))
    assert "torch lies in a path with a space" in _compiler().what
