"""The command line: what it says and with which status it ends."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.main import get_command

from puna import cli, last_screen, progress, workflow
from puna import recipe as recipes
from puna.errors import InputError, Interrupted, PunaError
from puna.run import open_run
from puna.steps import Step, run_steps

PUNA = [sys.executable, "-m", "puna.cli"]


def _run(monkeypatch: pytest.MonkeyPatch, work: Callable[..., str], *arguments: str) -> int | str | None:
    old = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    monkeypatch.setattr(workflow, "work", work)
    monkeypatch.setattr(sys, "argv", ["puna", *(arguments or ("data", "laptop"))])
    try:
        with pytest.raises(SystemExit) as end:
            cli.main()
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
    return end.value.code


def _raises(error: BaseException) -> Callable[..., str]:
    def work(*arguments: object) -> str:
        raise error

    return work


def _sends(number: signal.Signals) -> Callable[..., str]:
    def work(*arguments: object) -> str:
        os.kill(os.getpid(), number)
        raise AssertionError("the signal did nothing")

    return work


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_command_says_that_it_goes_on_and_ends_with_130(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    old = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background starts with it ignored
    try:
        assert _run(monkeypatch, _sends(number)) == 130
    finally:
        signal.signal(signal.SIGINT, old)
    assert capsys.readouterr().err == "interrupted; the same command goes on where it was\n"


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (
            InputError("no such thing", where="x.toml", mend="name another"),
            2,
            "error: x.toml: no such thing; name another",
        ),
        (PunaError("the disk is full"), 1, "error: the disk is full"),
        (Interrupted("stopped after step 3"), 130, "stopped after step 3"),
    ],
    ids=["input", "work", "interrupted"],
)
def test_an_error_is_one_line_with_its_status(
    error: PunaError, status: int, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(monkeypatch, _raises(error)) == status
    assert capsys.readouterr().err.splitlines()[0] == line


def test_a_command_that_is_done_ends_with_0_and_prints_its_result(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(monkeypatch, lambda *arguments: "the last screen") == 0
    assert capsys.readouterr().out == "the last screen\n"


def test_a_defect_keeps_its_traceback_and_says_what_to_report(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(monkeypatch, _raises(KeyError("samples"))) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("internal error: this is a defect of Puna. Please report it")
    assert lines[1].startswith("Puna 0")
    assert lines[2] == "Traceback (most recent call last):"
    assert lines[-1] == "KeyError: 'samples'"


def test_an_error_of_the_work_says_that_it_goes_on_and_where_the_log_lies(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def work(*arguments: object) -> str:
        error = PunaError("the disk is full")
        error.add_note("the step was tokenizer")
        progress.failed(error, "runs/laptop/log.txt")
        raise error

    assert _run(monkeypatch, work) == 1
    kept = "what was finished is kept, and the same command goes on from there"
    told = f"{kept}; the step was tokenizer; the log is runs/laptop/log.txt"
    assert capsys.readouterr().err.splitlines() == [told, "error: the disk is full"]


@pytest.mark.parametrize("error", [PunaError("no space"), KeyError("samples"), KeyboardInterrupt()], ids=repr)
def test_the_log_holds_with_what_the_work_ended(error: BaseException) -> None:
    lines: list[str] = []
    progress.configure(log=SimpleNamespace(line=lines.append))
    try:
        progress.failed(error, "log.txt")
    finally:
        progress.configure()
    known = {PunaError: "no space", KeyError: "KeyError: 'samples'", KeyboardInterrupt: "interrupted"}
    assert lines[-1].endswith(f" {known[type(error)]}")


def test_a_package_that_is_missing_is_no_defect(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(monkeypatch, _raises(ModuleNotFoundError("No module named 'numpy'", name="numpy"))) == 1
    mend = "the installation is not whole: puna doctor says what is missing"
    assert capsys.readouterr().err == f"error: No module named 'numpy'; {mend}\n"


def test_memory_that_runs_out_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(monkeypatch, _raises(MemoryError())) == 1
    assert capsys.readouterr().err == "error: memory ran out; give fewer --workers, or a smaller train.micro_batch\n"


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (("run", ""), "RECIPE"),
        (("run", "laptop", "--out", ""), "--out"),
        (("run", "laptop", "--out="), "--out"),
        (("status", ""), "RUN"),
        (("generate", "", "The"), "MODEL"),
        (("ls", ""), "ROOT"),
        (("doctor", "--out", ""), "--out"),
    ],
    ids=" ".join,
)
def test_an_empty_word_is_named(
    words: tuple[str, ...], name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(monkeypatch, _raises(AssertionError()), *words) == 2
    assert capsys.readouterr().err == f"error: {name} is empty; is a variable of the shell unset?\n"


def test_a_recipe_that_is_no_file_of_a_recipes_size_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo(tmp_path / "pipe.toml")
    (tmp_path / "large.toml").write_bytes(b"\n" * 1_000_001)
    monkeypatch.chdir(tmp_path)
    for name, what in (
        ("pipe.toml", "is not a regular file"),
        ("/dev/zero", "is not a regular file"),
        ("large.toml", "holds 1.0 MB; a recipe is TOML of at most 1.0 MB"),
    ):
        assert _run(monkeypatch, _raises(AssertionError()), "recipe", "show", name) == 2
        assert capsys.readouterr().err.startswith(f"error: {name}: {what}")


def test_a_checkpoint_that_cannot_be_read_is_not_called_missing(tmp_path: Path) -> None:
    from puna.generate import find

    (tmp_path / "recipe.toml").touch()
    with pytest.raises(InputError, match="has no checkpoint yet"):
        find(tmp_path)
    (tmp_path / "checkpoints" / "step-000007").mkdir(parents=True)
    with pytest.raises(InputError, match="holds no whole checkpoint"):
        find(tmp_path)


@pytest.mark.parametrize("words", [("--help",), *((name, "--help") for names in cli.GROUPS.values() for name in names)])
def test_help_fits_80_columns_and_says_how_the_command_ends(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert _run(monkeypatch, _raises(AssertionError()), *words) == 0
    told = capsys.readouterr().out
    assert max(map(len, told.splitlines())) <= 80
    assert "..." not in re.sub(r"(ARGS\]|VALUE\]|NAME\]|PART\]|DATA\}|RUN\})\.\.\.", "", told).replace(
        "llama-7b, ...", ""
    )
    assert re.search(r"Examples?:\n    \S*puna", told) or words[0] == "completion"
    assert "Exit status: 0 " in told


def test_every_command_stands_in_one_group(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    grouped = [name for names in cli.GROUPS.values() for name in names]
    assert sorted(grouped) == sorted(get_command(cli.app).commands)
    assert _run(monkeypatch, _raises(AssertionError()), "--help") == 0
    told = capsys.readouterr().out
    assert [name for name in grouped if f"\n  {name} " not in told] == []
    assert [told.index(heading) for heading in cli.GROUPS] == sorted(told.index(heading) for heading in cli.GROUPS)


def test_json_is_one_document_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "runs" / "laptop"
    run.mkdir(parents=True)
    (run / "recipe.toml").write_text(recipes.as_toml(recipes.load("laptop")))
    (run / "log.txt").touch()
    for words in (("recipe", "show", "laptop"), ("ls", str(run.parent)), ("status", str(run)), ("clean", str(run))):
        assert _run(monkeypatch, _raises(AssertionError()), *words, "--json") == 0
        shown = capsys.readouterr()
        assert isinstance(json.loads(shown.out), dict)
        assert shown.err == ""


def test_status_knows_the_steps_that_are_to_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "recipe.toml").write_text(recipes.as_toml(recipes.load("laptop")))
    (tmp_path / "log.txt").touch()
    assert _run(monkeypatch, _raises(AssertionError()), "status", str(tmp_path), "--json") == 0
    steps = json.loads(capsys.readouterr().out)["steps"]
    assert steps[0]["name"] == "inputs.github"
    assert steps[-1] == {"name": "report", "state": "to come", "seconds": None}


def test_the_keys_of_a_recipe_are_the_table_of_the_docs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(monkeypatch, _raises(AssertionError()), "recipe", "keys") == 0
    assert capsys.readouterr().out == recipes.key_table()


def test_a_result_that_nobody_reads_is_no_error_and_one_that_cannot_be_written_is() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([*PUNA, "recipe", "show", "laptop"], stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")
    if Path("/dev/full").exists():
        with Path("/dev/full").open("wb") as full:
            done = subprocess.run([*PUNA, "recipe", "list"], stdout=full, stderr=subprocess.PIPE, check=False)
        assert (done.returncode, done.stderr) == (1, b"error: standard output: No space left on device\n")


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&- <&-"])
def test_closed_streams_break_nothing_and_no_file_takes_their_place(closed: str, tmp_path: Path) -> None:
    command = f'"$0" -m puna.cli recipe show none {closed}; echo "status $?"'
    done = subprocess.run(["sh", "-c", command, sys.executable], capture_output=True, text=True, check=False)
    assert done.stdout == "status 2\n"
    assert done.stderr.count("\n") == (0 if "2>&-" in closed else 1)


COUNTS = {
    "documents.stackexchange": {
        "training": {"documents": 1_234_567, "bytes": 12_345_678_901},
        "heldout": {"documents": 1_234, "bytes": 12_345_678},
    },
    "tokens.stackexchange": {"tokens": 3_210_987_654},
    "mixture": {"epochs": {"stackexchange": 1.02}},
    "train": {"tokens": 3_210_987_654, "steps": 250_017, "loss": 1.873, "checkpoint": "checkpoints/step-250017"},
}
BITS = dict.fromkeys(("model", "ngram", "xz", "xz_primed", "zstd", "zstd_primed", "uniform"), 1.234)
VALUE = {"mean": -0.625, "error": 0.125}
CLOZE = {"items": 12_345, "cut": 0} | dict.fromkeys(("model", "ngram", "frequency", "chance", "difference"), VALUE)


def _screen(folder: Path, monkeypatch: pytest.MonkeyPatch, target: str | None = None) -> str:
    made = {step: {"counts": counts, "seconds": 3600.0} for step, counts in COUNTS.items()}
    made["baselines"] = {"counts": {}, "seconds": 0.0, "values": {"ngram_order": 5}}
    monkeypatch.setattr(last_screen, "read_records", lambda folder: made)
    (folder / "evaluations").mkdir(parents=True, exist_ok=True)
    bits = {"bits_per_byte": {"stackexchange": BITS | {"model": 1.1}, "all": BITS}}
    (folder / "evaluations" / "heldout.json").write_text(json.dumps(bits))
    cloze = {"results": {"stackexchange": CLOZE, "books": CLOZE, "all": CLOZE}}
    (folder / "evaluations" / "cloze.json").write_text(json.dumps(cloze))
    return last_screen.last_screen(folder, target)


def test_the_last_screen_fits_80_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    screen = _screen(Path("runs"), monkeypatch)
    assert max(map(len, screen.splitlines())) <= 80
    assert "stackexchange: the model beats all others" in screen
    assert re.search(r"^all +12,345( +-62\.5 ± 12\.5){4}$", screen, re.MULTILINE)


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"model": VALUE, "chance": VALUE}, ["books", "7", "-62.5 ± 12.5", "-62.5 ± 12.5"]),  # without an n-gram model
        ({"model": {"mean": 1.0, "error": None}}, ["books", "7", "100.0"]),
    ],
)
def test_what_was_not_measured_of_cloze_items_leaves_no_column(row: Mapping[str, object], told: list[str]) -> None:
    lines = last_screen.cloze({"books": {"items": 7, **row}, "all": {"items": 7, **row}}, "4-gram")
    assert [line.startswith("all") for line in lines] == [False] * 4
    assert re.split("  +", lines[-1]) == told
    assert "4-gram" not in "".join(lines)
    assert last_screen.cloze({}, "4-gram") == []


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (None, ["generate", "my run", "The history of"]),
        ("documents", ["tokenizer", "my run/recipe.toml", "--out", "my run"]),
        ("tokenizer", ["tokens", "my run/recipe.toml", "--out", "my run"]),
        ("mixture", ["train", "my run/recipe.toml", "--out", "my run"]),
        ("train", ["run", "my run/recipe.toml", "--out", "my run"]),
    ],
)
def test_the_next_command_can_be_copied_from_where_one_is(
    target: str | None, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "a venv" / "puna"
    program.parent.mkdir()
    program.touch(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", os.defpath)
    for called, command in (("a venv/puna", "a venv/puna"), ("/of/a/module/__main__.py", "puna")):
        monkeypatch.setattr(sys, "argv", [called])
        told = _screen(Path("my run"), monkeypatch, target).splitlines()[-1]
        assert shlex.split(told) == ["Next", command, *words]
    monkeypatch.setenv("PATH", str(program.parent))
    monkeypatch.setattr(sys, "argv", ["a venv/puna"])
    assert " puna " in _screen(Path("my run"), monkeypatch, target).splitlines()[-1]


def test_the_log_of_a_run_ends_with_what_the_run_ended_with(tmp_path: Path) -> None:
    def fail(context: object) -> None:
        raise PunaError("the disk is full")

    with pytest.raises(PunaError) as caught, open_run(tmp_path / "run", recipes.load("laptop")) as run:
        run_steps(run.folder, [Step("tokenizer", fail, ())], workers=1)
    log = tmp_path / "run" / "log.txt"
    assert caught.value.__notes__ == ["the step was tokenizer", f"the log is {log}"]
    assert log.read_text().endswith(" the disk is full\n")


@pytest.mark.promise("errors")
@pytest.mark.parametrize(
    "command", [["bench", "train", "laptop"], ["train", "laptop"], ["generate", "m"], ["chat", "m"], ["serve", "m"]]
)
def test_more_threads_than_a_machine_has_are_refused_before_anything_is_loaded(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["puna", *command, "--threads", "100000000"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: Invalid value for '--threads'")
