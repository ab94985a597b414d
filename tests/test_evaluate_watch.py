"""Benchmarks along a training: every checkpoint once, none torn, the trainer untouched, and what goes with what."""

from __future__ import annotations

import json
import os
import shutil
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

import made_testsets
from made_checkpoint import begin, land
from puna import lock, storage
from puna.errors import InputError
from puna.evaluate import watching
from puna.evaluate.asking import Asking, ask, held
from puna.evaluate.results import folder_of
from puna.evaluate.run import Wanted
from puna.evaluate.tasks import PACK
from puna.lock import Held

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def asking(tmp_path: Path) -> Asking:
    for name in ("piqa", "hellaswag"):
        made_testsets.write(tmp_path / "benchmarks" / name, name)
    wanted = [Wanted(PACK[name], 0) for name in ("piqa", "hellaswag")]
    return Asking(wanted, (), tmp_path / "benchmarks", lambda folder: {})


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return begin(tmp_path / "run")


def done(run: Path) -> None:
    storage.write_json(run / "records" / "train.json", {})


def test_each_checkpoint_is_asked_once_as_it_lands(run: Path, asking: Asking) -> None:
    land(run, 10)
    land(run, 20, whole=False)
    looks: list[float] = []

    def sleep(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 1:
            land(run, 20)
            land(run, 30)
        elif len(looks) == 2:
            land(run, 40)
            done(run)

    found = [asked.name for asked in watching.watch(run, asking, sleep)]
    assert found == ["run, step-000010", "run, step-000030", "run, step-000020", "run, step-000040"]
    assert looks == [watching.PAUSE] * 2
    rows = json.loads((run / "evaluations" / "benchmarks" / "curve.json").read_text())["rows"]
    assert [row["step"] for row in rows] == [10, 20, 30, 40]
    assert rows[0]["tokens"] == 1000
    assert rows[0]["loss"] == 8.0
    assert rows[0]["bits_per_byte"] == 2.9
    assert set(rows[0]) >= {"piqa-0", "hellaswag-0"}
    other = replace(asking, wanted=[asking.wanted[0]])
    ask(run, other, run / "evaluations" / "benchmarks" / "mine")  # is none of a checkpoint
    ask(watching.landed(run)[0], other)  # hellaswag's result stays, behind this call's
    watching.write_curve(run)
    kept = json.loads((run / "evaluations" / "benchmarks" / "curve.json").read_text())["rows"]
    assert kept == rows
    again = list(watching.watch(run, asking, sleep))
    assert len(again) == 4  # from what is kept
    assert len(looks) == 2


def test_a_checkpoint_that_training_removes_meanwhile_is_passed_over(
    run: Path, asking: Asking, monkeypatch: pytest.MonkeyPatch
) -> None:
    land(run, 10)
    gone = land(run, 20)
    done(run)
    real = watching.ask

    def ask(model: Path, asked: Asking) -> object:
        if model.name == gone.name:
            shutil.rmtree(gone)
        return real(model, asked)

    monkeypatch.setattr(watching, "ask", ask)
    assert [asked.name for asked in watching.watch(run, asking)] == ["run, step-000010"]


def test_one_that_another_process_asks_is_passed_over_and_asked_when_that_is_done(
    run: Path, asking: Asking, capsys: pytest.CaptureFixture[str]
) -> None:
    first, newest = land(run, 10), land(run, 20)
    done(run)
    folder = folder_of(newest)
    with ExitStack() as other:
        other.enter_context(held(folder))
        with pytest.raises(Held, match=rf"step-000020: held by process {os.getpid()} on .* running; wait for it or"):
            ask(newest, asking)
        found = watching.watch(run, asking, lambda seconds: other.close())
        assert next(found).name == "run, step-000010"
        assert [asked.name for asked in found] == ["run, step-000020"]
    assert capsys.readouterr().err.count("is held by process") == 1
    with lock.locked(run):  # as a training does
        ask(first, asking)


def test_what_is_wrong_is_said_and_not_waited_for(run: Path, asking: Asking, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no run folder"):
        next(watching.watch(tmp_path, asking))
    land(run, 10)
    shutil.rmtree(asking.data / "piqa")
    with pytest.raises(InputError, match="holds no validation items of PIQA"):
        next(watching.watch(run, asking))


def test_correlations_are_pearson_s_over_the_checkpoints_that_have_both() -> None:
    rows = [
        {"step": step, "tokens": step, "loss": loss, "bits_per_byte": None, "piqa-0": {"mean": mean, "error": 0.1}}
        for step, loss, mean in ((1, 9.0, 0.1), (2, 8.0, 0.3), (3, 7.0, 0.2))
    ]
    found = watching.correlations([*rows, {"step": 4, "tokens": 4, "loss": 6.0, "bits_per_byte": None}])
    assert found["loss"]["piqa-0"] == pytest.approx(-0.5)
    assert found["bits per byte"] == {}
    assert watching.correlations(rows[:2])["loss"] == {}
    assert watching.pearson([(1, 2), (2, 2), (3, 2)]) is None
    said = watching.as_markdown(rows)
    assert "| 2 | 2 | 8.000 | - | 0.3000 ± 0.1000 |" in said
    assert "Correlation with loss: PIQA, 0-shot -0.50." in said
