"""What goes on beside the steps: held-out loss, the watchdog, trackers. None of it changes a bit of the training."""

from __future__ import annotations

import importlib.util
import math
import os
import shutil
import signal
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

import made_training as made
from made_tokens import Spelling
from puna.data.document import Document, Origin, write_documents
from puna.errors import InputError, Interrupted
from puna.evaluate import heldout, while_training
from puna.evaluate.while_training import HeldoutLoss
from puna.model.bits import bits
from puna.model.weights import load_checkpoint, write_tensors
from puna.train import trackers, watchdog
from puna.train.extras import refuse_missing
from ranks import Ranks
from trained_again import At, Killed

EVERY = "train.evaluate_every=3"


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = made.make(tmp_path_factory.mktemp("tokens"))
    for source, texts in (("github", ["x = 1\n" * 9]), ("wikipedia", ["tea poi taro", "", "ulu niu " * 12])):
        held = [
            Document(f"{number:032x}", source, str(number), "en", text, Origin("d", "k", "f", 0, "", "", "", ""))
            for number, text in enumerate(texts)
        ]
        write_documents(folder / "heldout" / source / "00000.parquet", held)
    return folder


@pytest.fixture(scope="module")
def undisturbed(tokens: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = Path(shutil.copytree(tokens, tmp_path_factory.mktemp("undisturbed") / "run"))
    made.run(folder)
    return folder


@pytest.fixture
def folder(tokens: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tokens, tmp_path / "run"))


@pytest.fixture(autouse=True)
def spelled(monkeypatch: pytest.MonkeyPatch) -> None:
    """The run's tokenizer is the one that spells bytes."""
    monkeypatch.setattr(heldout, "_tokenizer", lambda _: Spelling())


def run(folder: Path, *overrides: str, **options: Any) -> dict[str, Any]:
    recipe = made.recipe(EVERY, *overrides)
    return made.run(
        folder, EVERY, *overrides, callbacks=[HeldoutLoss(recipe), *options.pop("callbacks", ())], **options
    )


def on_rank(folder: Path, *overrides: str) -> None:
    """As `puna train` does by torchrun: the first rank alone measures."""
    heldout._tokenizer = lambda _: Spelling()  # type: ignore[assignment,return-value]
    if dist.get_rank() == 0:
        run(folder, *overrides)
    else:
        made.run(folder, EVERY, *overrides)


@pytest.mark.prove
@pytest.mark.parametrize(("count", "mesh"), [(2, ()), (4, ("train.mesh.tensor=2",))])
def test_ranks_that_share_a_model_measure_what_one_process_does(
    ranks: Callable[[int], Ranks], tokens: Path, folder: Path, tmp_path: Path, count: int, mesh: tuple[str, ...]
) -> None:
    settings = ("train.save=beside", "train.dtype=float32")
    alone = Path(shutil.copytree(tokens, tmp_path / "alone"))
    run(alone, *settings)
    ranks(count).run(on_rank, folder, *settings, *mesh)
    one, many = measured(alone), measured(folder)
    assert list(one) == list(many) == [3, 6, 9, 12]
    for step, found in one.items():
        for source, scores in found.items():
            assert many[step][source] == pytest.approx(scores, rel=1e-5), (step, source)


def measured(folder: Path) -> dict[int, Any]:
    return {line["step"]: line["heldout"] for line in made.told(folder) if "heldout" in line}


@pytest.mark.promise("honest")
def test_held_out_loss_is_told_by_source_and_is_that_of_the_checkpoint(folder: Path, undisturbed: Path) -> None:
    run(folder, "train.save=beside", "train.keep=9")
    assert made.result(folder) == made.result(undisturbed)
    found = measured(folder)
    assert list(found) == [3, 6, 9, 12]
    for step, by_source in found.items():
        model = load_checkpoint(folder / "checkpoints" / f"step-{step:06d}")
        total = 0.0
        for source, text in (("github", ["x = 1\n" * 9]), ("wikipedia", ["tea poi taro", "ulu niu " * 12])):
            documents = [heldout.framed(ids) for ids in Spelling().encode_batch(text)]
            cost = bits(model, documents, 32, 16)
            size = sum(len(one.encode()) for one in text)
            nats = float(cost.nats.sum())
            total += nats
            assert by_source[source]["nats_per_token"] == pytest.approx(nats / int(cost.tokens.sum()), abs=1e-6)
            assert by_source[source]["bits_per_byte"] == pytest.approx(nats / math.log(2) / size, abs=1e-6)
            assert by_source[source]["bytes"] == size
        assert by_source["all"]["nats_per_token"] * by_source["all"]["tokens"] == pytest.approx(total, rel=1e-5)
        assert list(by_source) == ["github", "wikipedia", "all"]


def test_a_process_that_is_asked_to_leave_in_the_last_step_still_measures_it(folder: Path) -> None:
    with pytest.raises(Interrupted, match="step 12 of 12"):
        run(folder, callbacks=[At(12, gradients=lambda _: os.kill(os.getpid(), signal.SIGTERM))])
    assert list(measured(folder)) == [3, 6, 9, 12]  # no later process comes by there


def test_no_more_documents_are_measured_than_asked_for_but_one(folder: Path) -> None:
    run(folder, "train.evaluate_tokens=10")
    assert {one["wikipedia"]["tokens"] for one in measured(folder).values()} == {13}


def test_a_measure_that_a_kill_prevented_is_taken_first_and_none_is_there_twice(
    folder: Path, undisturbed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dying(*_: Any, **__: Any) -> Any:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(while_training, "bits", dying)
        with pytest.raises(Killed):
            run(folder)
    assert measured(folder) == {}
    with pytest.raises(Interrupted):
        run(folder, callbacks=[At(6, gradients=lambda _: os.kill(os.getpid(), signal.SIGTERM))])
    run(folder)
    steps = [line["step"] for line in made.told(folder) if "heldout" in line]
    assert steps == [3, 6, 9, 12]
    assert made.result(folder) == made.result(undisturbed)


HANGING = """
import pathlib, sys, threading, made_training
from puna.train.callbacks import Callback
class Hanging(Callback):
    def step(self, training, step):
        if step.number == 6:
            self.wait_for_ever()
    def wait_for_ever(self):
        threading.Event().wait()
made_training.run(pathlib.Path(sys.argv[1]), "train.hang_minutes=0.05", callbacks=[Hanging()])
"""


def test_a_training_that_hangs_ends_with_a_status_of_its_own_and_goes_on(folder: Path, undisturbed: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", HANGING, str(folder)]
    child = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert child.returncode == watchdog.STATUS == 75
    assert "training hangs: nothing moved on for" in child.stderr.splitlines()[-1]
    assert "Traceback" not in child.stderr
    stacks = (folder / "hang.txt").read_text()
    assert "in wait_for_ever" in stacks
    assert stacks.count("hread 0x") >= 2
    made.run(folder)
    assert made.result(folder) == made.result(undisturbed)


def test_the_watchdog_waits_longer_where_steps_are_long_and_for_the_first_one() -> None:
    dog = watchdog.Watchdog()
    dog._limit, dog._first, dog._longest = 60.0, True, 0.0
    assert dog.limit() == 180
    dog._first = False
    assert dog.limit() == 60
    dog._longest = 30.0
    assert dog.limit() == 300
    dog._first = True
    assert dog.limit() == 300


def test_time_for_which_the_process_was_stopped_is_no_hang() -> None:
    dog = watchdog.Watchdog()
    dog._training = types.SimpleNamespace(beat=1.0)  # type: ignore[assignment]
    dog._limit, dog._first, dog._longest, dog._still, dog._beat = 60.0, False, 0.0, 0.0, 1.0
    assert dog.still(3.0) == 3.0  # a look every twentieth of the limit
    assert dog.still(4000.0) == 9.0 < dog.limit()  # stopped for an hour
    dog._training.beat = 2.0
    assert dog.still(3.0) == 0.0
    assert [dog.still(3.0) for _ in range(21)][-1] == 63.0 > dog.limit()


def test_every_tensor_of_a_checkpoint_tells_the_watchdog(tmp_path: Path) -> None:
    told: list[int] = []
    tensors = {name: torch.zeros(3) for name in "abc"}
    write_tensors(tmp_path / "x.safetensors", tensors, advance=lambda: told.append(1))
    assert len(told) >= 3


def test_every_part_of_a_batch_tells_the_watchdog(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from puna.train.callbacks import Training

    told: list[int] = []
    alive = Training.alive
    monkeypatch.setattr(Training, "alive", lambda self, *rest: (told.append(self.position.step), alive(self))[1])
    run(folder, "train.micro_batch=1")
    assert told.count(5) >= 4  # four windows a step, one a part
    assert len(told) > 12 * 5 + 4


def test_numbers_of_a_line_are_scalars_by_name() -> None:
    line = {
        "format": 1,
        "step": 3,
        "loss": 2.5,
        "skipped": True,
        "grad_norm": None,
        "spike": {"score": 9, "action": "x"},
    }
    assert dict(trackers.scalars(line)) == {"loss": 2.5, "skipped": 1.0, "spike/score": 9.0}
    assert dict(trackers.scalars({"step": 3, "heldout": {"all": {"bits_per_byte": 1.5}}})) == {
        "heldout/all/bits_per_byte": 1.5
    }


@pytest.mark.promise("errors")
def test_a_missing_package_is_one_line_before_the_first_step(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for name in ("tensorboard", "wandb", "mlflow"):
        with pytest.raises(InputError, match=rf"train.log_to: {name} is not installed; pip install 'puna\[{name}\]'"):
            made.run(folder, f'train.log_to=["{name}"]')
        with pytest.raises(InputError):
            refuse_missing([name])
    assert not (folder / "metrics.jsonl").exists()


def test_tensorboard_holds_the_lines_once_after_a_stop(folder: Path, undisturbed: Path) -> None:
    pytest.importorskip("tensorboard", reason="the extra tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = 'train.log_to=["tensorboard"]'
    with pytest.raises(Killed):
        run(folder, log, callbacks=[At(5, step=_die)])
    run(folder, log)
    assert made.result(folder) == made.result(undisturbed)
    read = EventAccumulator(str(folder / "tensorboard"))
    read.Reload()
    losses = {event.step: event.value for event in read.Scalars("loss")}
    assert losses == pytest.approx({line["step"]: line["loss"] for line in made.metrics(folder)})
    assert len(read.Scalars("loss")) == 12
    assert [event.step for event in read.Scalars("heldout/all/bits_per_byte")] == [3, 6, 9, 12]


def _die(*_: Any) -> None:
    raise Killed


class Stub(types.ModuleType):
    """A tracker's package with the calls that its documentation names, which remembers them."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__spec__ = importlib.util.spec_from_loader(name, None)  # type: ignore[assignment]
        self.calls: list[tuple[str, Any]] = []
        self.runs: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        def call(*arguments: Any, **named: Any) -> Any:
            self.calls.append((name, (arguments, named)))
            return self.runs if name == "search_runs" else self

        return call

    def of(self, name: str) -> list[Any]:
        return [given for called, given in self.calls if called == name]


def test_weights_and_biases_gets_one_run_with_every_line(
    folder: Path, undisturbed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub = Stub("wandb")
    monkeypatch.setitem(sys.modules, "wandb", stub)
    made.run(folder, 'train.log_to=["wandb"]')
    assert made.result(folder) == made.result(undisturbed)
    ((_, begun),) = stub.of("init")
    assert (begun["resume"], begun["name"]) == ("allow", "laptop")
    assert begun["id"] == trackers.run_id(folder, made.FINGERPRINT)
    logged = [(named["step"], values["loss"]) for (values,), named in stub.of("log") if "loss" in values]
    assert logged == [(line["step"], line["loss"]) for line in made.metrics(folder)]
    assert len(stub.of("finish")) == 1


def test_a_run_is_the_same_to_a_tracker_when_it_goes_on_and_another_in_another_folder(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir(), there.mkdir()
    drawn = trackers.run_id(here, "a")
    assert trackers.run_id(here, "a") == drawn
    assert len({drawn, trackers.run_id(here, "b"), trackers.run_id(there, "a")}) == 3
    for broken in ("{", "[]", '{"a": 3}'):
        (there / "trackers.json").write_text(broken)
        assert len(trackers.run_id(there, "a")) == 32


def test_mlflow_gets_one_run_that_is_found_again(
    folder: Path, undisturbed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub = Stub("mlflow")
    monkeypatch.setitem(sys.modules, "mlflow", stub)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(Killed):
        made.run(folder, 'train.log_to=["mlflow"]', callbacks=[At(5, step=_die)])
    stub.runs = [types.SimpleNamespace(info=types.SimpleNamespace(run_id="r1"))]
    made.run(folder, 'train.log_to=["mlflow"]')
    assert made.result(folder) == made.result(undisturbed)
    assert [named.get("run_id") for _, named in stub.of("start_run")] == [None, "r1"]
    assert stub.of("set_tracking_uri")[0][0][0].startswith(f"sqlite:///{folder}")
    assert {named["step"] for _, named in stub.of("log_metrics")} == set(range(1, 13))


def test_a_tracker_that_fails_is_said_once_and_training_goes_on(
    folder: Path, undisturbed: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stub = Stub("wandb")

    def refuse(*_: Any, **__: Any) -> None:
        raise ConnectionError("no answer\nfrom there")

    stub.log = refuse  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wandb", stub)
    made.run(folder, 'train.log_to=["wandb"]')
    assert made.result(folder) == made.result(undisturbed)
    assert capsys.readouterr().err.count("Weights & Biases does not take what is logged (no answer); training") == 1


def test_measuring_draws_no_random_number(folder: Path) -> None:
    before = torch.get_rng_state()
    run(folder)
    assert torch.equal(before, torch.get_rng_state())
