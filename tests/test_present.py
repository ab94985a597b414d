"""Benchmarks that are present when a run ends: which are asked, resumed after a kill, told on screen and page."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import made_model
import made_testsets
from puna import last_screen, recipe, report, storage, workflow
from puna.data import pipeline
from puna.data.brought import Look
from puna.data.pipeline import Located
from puna.errors import InputError
from puna.evaluate import present
from puna.model.weights import write_model
from small_recipe import RECIPE

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder where a command is given, with a recipe and a run's checkpoint."""
    monkeypatch.chdir(tmp_path)
    Path("small.toml").write_text(RECIPE)
    llama, tokenizer = made_model.llama(context=200), made_model.tokenizer()
    checkpoint = tmp_path / "run" / "checkpoints" / "step-000010"
    write_model(checkpoint, llama.config, llama.state_dict(), tokenizer=tokenizer.digest)
    storage.write_json(checkpoint / "checkpoint.json", {"format": 1, "files": {}})
    storage.write(tmp_path / "run" / "tokenizer" / "tokenizer.model", tokenizer.model)
    return tmp_path


def _recipe(*overrides: str) -> recipe.Recipe:
    return recipe.load("small.toml", overrides)


def _bring(*benchmarks: str, folder: str = "benchmarks") -> None:
    """Their made files, those of boolq with three items."""
    for each in benchmarks:
        made_testsets.write(Path(folder) / each, each)
    if "boolq" in benchmarks:
        file = next(Path(folder, "boolq").glob("*dev*"))
        file.write_text(file.read_text() * 3)


def test_nothing_is_asked_where_nothing_lies() -> None:
    assert present.present(_recipe()) is None
    Path("benchmarks").mkdir()
    Path("benchmarks/a_script.py").write_text("print()\n")
    assert present.present(_recipe()) is None
    _bring("boolq")
    assert present.present(_recipe()) is not None
    assert present.present(_recipe('evaluate.benchmarks=""')) is None
    assert workflow._tables(_recipe('evaluate.benchmarks=""')) == []


def test_benchmarks_that_are_kept_out_and_asked_are_two_steps() -> None:
    _bring("boolq", "piqa")
    both = _recipe('decontaminate.benchmarks=["benchmarks"]', 'sources.wikipedia.inputs=["x"]')
    steps = workflow.build(both, {"wikipedia": Located((), [])}, workflow.Options(), Look(names_only=True))
    names = [step.name for step in steps]
    assert {"benchmarks", "tables"} <= set(names)
    assert len(names) == len(set(names))
    assert not pipeline.OF_SOME_SOURCES.keys() & workflow.OF_SOME_RUNS.keys()


@pytest.mark.promise("errors")
def test_a_folder_that_a_recipe_names_must_hold_some() -> None:
    with pytest.raises(InputError, match=r'evaluate\.benchmarks: elsewhere: holds no file of a benchmark; name .*""'):
        present.present(_recipe("evaluate.benchmarks=elsewhere"))


def test_what_decides_an_evaluation_changes_with_files_tasks_and_limit() -> None:
    _bring("boolq", "humaneval", folder="elsewhere")
    asked = "evaluate.benchmarks=elsewhere"
    first = present.present(_recipe(asked))
    assert first is not None
    assert (first["items"], set(first["tasks"])) == (200, {"boolq"})  # programs need a cage
    assert present.present(_recipe(asked)) == first
    assert present.present(_recipe(asked, "evaluate.benchmark_items=3")) == first | {"items": 3}
    _bring("piqa", folder="elsewhere")
    more = present.present(_recipe(asked))
    assert more is not None
    assert set(more["tasks"]) == {"boolq", "piqa"}
    assert first["files"].items() < more["files"].items()


def test_tasks_are_asked_within_the_limit_and_told(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _bring("boolq", "piqa", "gsm8k")
    counts = present.evaluate(home / "run", _recipe("evaluate.benchmark_items=2"))
    assert [(one["task"], one["shots"]) for one in counts["results"]] == [("boolq", 0), ("piqa", 0)]
    assert max(one["items"] for one in counts["results"]) <= 2
    assert "gsm8k, 8-shot is left out: holds too few examples of GSM8k" in capsys.readouterr().err
    tables = storage.read_json(home / "run" / "evaluations" / "tables" / "tables.json")
    assert tables["model"] == "run, step-000010"
    assert [(one["table"], one["grid"][0]) for one in tables["tables"]] == [(3, ["", "BoolQ", "PIQA"])]
    lines = last_screen._benchmarks(home / "run", {"tables": counts})
    assert [line.split()[:3] for line in lines[2:4]] == [["boolq", "0", "2"], ["piqa", "0", "1"]]
    assert lines[-1].endswith("run/evaluations/tables/tables.md")
    assert last_screen._benchmarks(home / "run", {}) == []
    page = report.write(home / "run").read_text()
    assert "Table 3: Zero-shot performance on common sense reasoning" in page
    assert "<strong>run, step-000010</strong>" in page
    assert "LLaMA 65B" in page


@pytest.mark.promise("resume")
def test_killed_between_two_answers_the_same_call_asks_only_what_is_left(home: Path) -> None:
    _bring("boolq")
    asked = _recipe()
    whole = present.evaluate(home / "run", asked)
    results = (home / "run" / "evaluations" / "tables" / "results.json").read_bytes()
    storage.remove(home / "run" / "evaluations")
    code = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom puna import recipe\n"
        "from puna.evaluate import kept, present\n"
        "add = kept.Kept.add\n"
        "def killed(self, *given, **named):\n"
        "    add(self, *given, **named); os.kill(os.getpid(), signal.SIGKILL)\n"
        "kept.Kept.add = killed\n"
        "present.evaluate(Path(sys.argv[1]), recipe.load('small.toml'))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(home / "run")], capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL
    answers = home / "run" / "evaluations" / "tables" / "boolq-0.jsonl"
    left = answers.read_bytes()
    assert [("item" in json.loads(line)) for line in left.splitlines()] == [False, True]
    assert present.evaluate(home / "run", asked) == whole
    assert answers.read_bytes().startswith(left)
    assert (home / "run" / "evaluations" / "tables" / "results.json").read_bytes() == results


def test_files_that_went_are_named_with_the_mend(home: Path) -> None:
    with pytest.raises(InputError, match=r'benchmarks: holds no file .* any more; bring them back, or set .*=""'):
        present.evaluate(home / "run", _recipe())
    assert not Path("run/evaluations").exists()
