"""Training: the optimizer as it is written, no step with a non-finite number, and the same bits after any history."""

from __future__ import annotations

import math
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import made_training as made
from puna import storage
from puna.errors import InputError, Interrupted, PunaError
from puna.model.config import ModelConfig
from puna.model.llama import Llama
from puna.model.weights import initialise, load_checkpoint
from puna.tokens.windows import Windows
from puna.train import loop, machine
from puna.train.callbacks import Callback, Training
from puna.train.optimizer import Optimizer
from puna.train.schedule import learning_rate
from trained_again import At, Killed, die


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made.make(tmp_path_factory.mktemp("tokens"))


@pytest.fixture(scope="module")
def undisturbed(tokens: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was trained in one go."""
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    shutil.copytree(tokens, folder)
    made.run(folder)
    return folder


@pytest.fixture
def folder(tokens: Path, tmp_path: Path) -> Path:
    """A run that has its tokens and no training."""
    return Path(shutil.copytree(tokens, tmp_path / "run"))


@pytest.mark.promise("paper")
def test_the_loss_falls_and_every_line_says_where_the_training_was(undisturbed: Path) -> None:
    lines = made.metrics(undisturbed)
    assert [line["step"] for line in lines] == list(range(1, 13))
    assert [line["tokens"] for line in lines] == [128 * step for step in range(1, 13)]
    train = made.recipe().train
    assert [line["learning_rate"] for line in lines] == [learning_rate(step, 12, train) for step in range(1, 13)]
    assert lines[0]["loss"] == pytest.approx(math.log(300), rel=0.02)
    assert lines[-1]["loss"] < lines[0]["loss"] - 0.2
    assert all(line["seconds"] > 0 and line["tokens_per_second"] > 0 and line["grad_norm"] > 0 for line in lines)


def test_a_finished_training_is_left_as_it_is_and_gives_the_same_summary(undisturbed: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in undisturbed.rglob("*") if path.is_file()}
    summary = made.run(undisturbed)
    assert before == {path: path.stat().st_mtime_ns for path in undisturbed.rglob("*") if path.is_file()}
    assert summary["steps"] == 12
    assert summary["tokens"] == 12 * 128
    assert summary["loss"] == made.metrics(undisturbed)[-1]["loss"]
    assert summary["checkpoint"] == "checkpoints/step-000012"


@pytest.mark.promise("order")
def test_training_reads_the_windows_in_their_order_and_goes_on_where_it_was(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[torch.Tensor] = []
    loss = Llama.loss
    monkeypatch.setattr(
        Llama, "loss", lambda model, tokens, *rest: (read.append(tokens), loss(model, tokens, *rest))[1]
    )
    with pytest.raises(Killed):
        made.run(folder, "train.micro_batch=3", callbacks=[At(7, step=die)])
    windows = torch.from_numpy(Windows(folder).batch(0, 48))
    assert torch.equal(torch.cat(read), windows[:28])
    read.clear()
    made.run(folder, "train.micro_batch=3")
    assert torch.equal(torch.cat(read), windows[16:])  # from the checkpoint of step 4 on


def cut_metrics(folder: Path, lines: int) -> None:
    path = folder / "metrics.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:lines]))


@pytest.mark.parametrize(
    ("damage", "said", "start"),
    [
        (lambda folder: (folder / "metrics.jsonl").unlink(), "metrics.jsonl lacks lines", 0),
        (lambda folder: cut_metrics(folder, 9), "metrics.jsonl lacks lines", 8),
        (lambda folder: cut_metrics(folder, 7), "metrics.jsonl lacks lines", 0),
        (lambda folder: (folder / "metrics.jsonl").write_bytes(b"\xff}\n" * 12), "metrics.jsonl lacks lines", 0),
    ],
)
def test_a_finished_training_whose_history_is_damaged_is_done_again_as_far_as_it_must(
    undisturbed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: Any, said: str, start: int
) -> None:
    folder = Path(shutil.copytree(undisturbed, tmp_path / "run"))
    damage(folder)
    with pytest.raises(Killed):
        made.run(folder, callbacks=[At(start + 1, step=die)])
    left = sorted(path.name for path in (folder / "checkpoints").iterdir())
    assert left == (["step-000008"] if start else [])
    assert said in capsys.readouterr().err
    made.run(folder)
    assert made.result(folder) == made.result(undisturbed)
    assert storage.read_json(folder / "machine.json")[-1]["start_step"] == start


@pytest.mark.parametrize("text", [None, "[{", "[]", "7"])
def test_a_lost_list_of_machines_costs_no_checkpoint(
    undisturbed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str | None
) -> None:
    folder = Path(shutil.copytree(undisturbed, tmp_path / "run"))
    shutil.rmtree(folder / "checkpoints" / "step-000012")
    before = storage.read_json(folder / "machine.json")[0]
    if text is None:
        (folder / "machine.json").unlink()
    else:
        (folder / "machine.json").write_text(text)
    made.run(folder)
    assert "does not tell how this training began" in capsys.readouterr().err
    assert made.result(folder) == made.result(undisturbed)
    first, second = storage.read_json(folder / "machine.json")
    assert first["rebuilt"]
    assert (first["start_step"], second["start_step"]) == (0, 8)
    assert all(before[key] == first[key] for key in ("torch", "threads", "dtype", "kernels", "fingerprint"))


def test_another_distance_of_lines_does_not_make_a_checkpoint_worthless(folder: Path) -> None:
    with pytest.raises(Killed):
        made.run(folder, "train.log_every=3", callbacks=[At(8, step=die)])
    made.run(folder, "train.log_every=2")
    assert [line["step"] for line in made.metrics(folder)] == [3, 6, 10, 12]
    made.run(folder, "train.log_every=1")
    assert [segment["start_step"] for segment in storage.read_json(folder / "machine.json")] == [0, 8]


def test_ended_by_an_exception_within_writes_it_resumes_to_the_same_bits(
    folder: Path, undisturbed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = {"left": 1}

    def border(event: str, location: str) -> None:
        calls["left"] -= 1
        if calls["left"] == 0:
            raise Killed

    monkeypatch.setattr(storage, "border", border)
    kills = 0
    for distance in range(3, 70, 7):  # every start gets a little further, from the first line to the last checkpoint
        calls["left"] = distance
        try:
            made.run(folder)
        except Killed:
            kills += 1
    calls["left"] = -1
    made.run(folder)
    assert kills >= 5
    assert made.result(folder) == made.result(undisturbed)


@pytest.mark.parametrize(("event", "name"), [("after write", "metrics.jsonl"), ("before rename", "step-000008")])
def test_sigkill_between_and_within_checkpoints_changes_no_bit(
    folder: Path, undisturbed: Path, event: str, name: str
) -> None:
    program = f"""
import os, pathlib, signal, made_training
from puna import storage
def border(event, location):
    lines = pathlib.Path({str(folder)!r}, "metrics.jsonl")
    if event == {event!r} and location.endswith({name!r}) and len(lines.read_text().splitlines()) >= 7:
        os.kill(os.getpid(), signal.SIGKILL)
storage.border = border
made_training.run(pathlib.Path({str(folder)!r}))
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    child = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False
    )
    assert child.returncode == -signal.SIGKILL, child.stderr
    assert len(made.metrics(folder)) in (7, 8)
    made.run(folder)
    assert made.result(folder) == made.result(undisturbed)
    starts = [segment["start_step"] for segment in storage.read_json(folder / "machine.json")]
    assert starts == [0, 4]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_the_step_ends_with_130_and_puts_the_old_handlers_back(
    folder: Path, undisturbed: Path, number: int
) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    with pytest.raises(Interrupted, match=r"step 6 of 12.*step-000006") as stopped:
        made.run(folder, callbacks=[At(6, gradients=lambda training: os.kill(os.getpid(), number))])
    assert stopped.value.exit_status == 130
    assert before == [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    made.run(folder)
    assert made.result(folder) == made.result(undisturbed)


def test_a_signal_that_comes_after_a_step_was_saved_saves_the_next(folder: Path) -> None:
    with pytest.raises(Interrupted, match="step 6 of 12"):
        made.run(folder, callbacks=[At(5, step=lambda training: os.kill(os.getpid(), signal.SIGTERM))])
    assert (folder / "checkpoints" / "step-000006").is_dir()


def poison(training: Training) -> None:
    gradient = training.optimizer.masters["layers.1.attention.wo.weight"].grad
    assert gradient is not None
    gradient[0, 0] = math.nan


def tensors(training: Training) -> list[torch.Tensor]:
    optimizer = training.optimizer
    held = [*optimizer.masters.values(), *optimizer.state().values(), *training.model.parameters()]
    return [tensor.detach().clone() for tensor in held]


def test_a_step_with_a_non_finite_gradient_is_never_taken(folder: Path) -> None:
    seen: list[list[torch.Tensor]] = []
    look = [At(number, step=lambda training: seen.append(tensors(training))) for number in (4, 5)]
    made.run(folder, callbacks=[At(5, gradients=poison), *look])
    assert all(torch.equal(before, after) for before, after in zip(*seen, strict=True))
    lines = made.metrics(folder)
    assert [line["step"] for line in lines if line["skipped"]] == [5]
    assert lines[4]["grad_norm"] is None
    state = storage.read_json(folder / "checkpoints" / "step-000012" / "state.json")
    assert state["skipped"] == [[16, 20]]
    assert (state["step"], state["taken"]) == (12, 11)
    assert all(math.isfinite(line["loss"]) for line in lines)


def test_a_step_with_a_non_finite_loss_is_never_taken(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = loop.collect_gradients
    planted_losses = {3: math.inf, 4: math.nan}

    def planted(training: Training, *rest: Any) -> Any:
        loss, nats = measured(training, *rest)
        return planted_losses.get(training.position.step + 1, loss), nats

    monkeypatch.setattr(loop, "collect_gradients", planted)
    made.run(folder)
    lines = made.metrics(folder)
    assert [line["step"] for line in lines if line["skipped"]] == [3, 4]
    assert [line["loss"] for line in lines[2:4]] == [None, None]
    state = storage.read_json(folder / "checkpoints" / "step-000012" / "state.json")
    assert state["skipped"] == [[8, 16]]


def test_too_many_non_finite_steps_in_a_row_end_the_training_in_one_line(folder: Path) -> None:
    always = [At(number, gradients=poison) for number in range(3, 13)]
    with pytest.raises(PunaError, match=r"3 steps in a row, up to step 5; try a lower train\.learning_rate"):
        made.run(folder, "train.max_nonfinite=2", callbacks=always)
    assert len(made.metrics(folder)) == 5


def test_skipped_steps_in_a_row_are_still_counted_after_a_restart(folder: Path) -> None:
    class Leaving(Callback):
        def gradients(self, training: Training) -> None:
            poison(training)
            os.kill(os.getpid(), signal.SIGTERM)

    for _ in range(2):
        with pytest.raises(Interrupted):
            made.run(folder, "train.max_nonfinite=2", callbacks=[Leaving()])
    with pytest.raises(PunaError, match="3 steps in a row"):
        made.run(folder, "train.max_nonfinite=2", callbacks=[Leaving()])


def test_another_machine_is_refused_and_named_unless_it_is_allowed(
    folder: Path, undisturbed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(undisturbed / "checkpoints" / "step-000008", folder / "checkpoints" / "step-000008")
    for name in ("metrics.jsonl", "machine.json"):
        shutil.copy(undisturbed / name, folder / name)
    with pytest.raises(InputError, match=r"threads 1 \(here 2\).*--allow-other-machine") as refused:
        made.run(folder, threads=2)
    assert refused.value.exit_status == 2
    other = "float32" if machine.choose(made.recipe().train, 1).dtype == "bfloat16" else "bfloat16"
    with pytest.raises(InputError, match=rf"dtype \w+ \(here {other}\)"):
        made.run(folder, f"train.dtype={other}")
    assert made.run(folder, threads=2, allow_other=True)["steps"] == 12
    assert "threads 1 (here 2)" in capsys.readouterr().err


@pytest.mark.promise("order")
def test_the_cut_into_micro_batches_changes_no_more_than_rounding(folder: Path, tmp_path: Path) -> None:
    whole = Path(shutil.copytree(folder, tmp_path / "whole"))
    made.run(whole, "train.dtype=float32")
    made.run(folder, "train.dtype=float32", "train.micro_batch=3")
    for left, right in zip(made.metrics(whole), made.metrics(folder), strict=True):
        assert left["loss"] == pytest.approx(right["loss"], rel=2e-5)
        assert left["grad_norm"] == pytest.approx(right["grad_norm"], rel=2e-4)


def test_metrics_are_written_every_so_many_steps_and_at_the_last(folder: Path) -> None:
    made.run(folder, "train.log_every=5")
    assert [line["step"] for line in made.metrics(folder)] == [5, 10, 12]


def test_threads_and_determinism_are_put_back(folder: Path) -> None:
    before = (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled())
    seen: list[tuple[int, bool]] = []
    look = At(1, step=lambda _: seen.append((torch.get_num_threads(), torch.are_deterministic_algorithms_enabled())))
    made.run(folder, "train.steps=12", callbacks=[look], threads=1)
    assert seen == [(1, True)]
    assert before == (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled())


@pytest.mark.promise("paper")
@pytest.mark.parametrize("norm", [0.5, 1.0, 1.1, 30.0])
def test_only_what_of_a_gradient_s_norm_is_above_the_clip_is_taken_off(norm: float) -> None:
    model = Llama(ModelConfig(dim=8, heads=2, kv_heads=2, layers=1, hidden=16, vocabulary=11), dtype=torch.float32)
    initialise(model, 1)
    optimizer = Optimizer(model, torch.float32, made.recipe().train)
    for master in optimizer.masters.values():
        master.grad = torch.ones_like(master)
    whole = optimizer.gradient_norm()
    for master in optimizer.masters.values():
        master.grad = torch.full_like(master, norm / whole)
    optimizer.step(0.01, optimizer.gradient_norm())
    assert optimizer.gradient_norm() == pytest.approx(
        min(norm, 1.0), rel=1e-5
    )  # that of the gradients as they were used


@pytest.mark.promise("twins")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_optimizer_is_adamw_as_it_is_written_with_decay_on_matrices_only(dtype: torch.dtype) -> None:
    train = made.recipe().train
    model = Llama(ModelConfig(dim=8, heads=2, kv_heads=2, layers=1, hidden=16, vocabulary=11), dtype=torch.float32)
    initialise(model, 1)
    plain = {name: parameter.detach().double() for name, parameter in model.named_parameters()}
    optimizer = Optimizer(model, dtype, train)
    first = {name: torch.zeros_like(weight) for name, weight in plain.items()}
    second = {name: torch.zeros_like(weight) for name, weight in plain.items()}
    for step in range(1, 4):
        tokens = torch.arange(22).reshape(2, 11) % 11
        for part in tokens:
            torch.autograd.backward(model.loss(part[None]).nats * step)
            optimizer.collect()
        gradients = {name: master.grad.double() for name, master in optimizer.masters.items()}  # type: ignore[union-attr]
        norm = math.sqrt(sum(float(gradient.square().sum()) for gradient in gradients.values()))
        assert optimizer.gradient_norm() == pytest.approx(norm, rel=1e-6)
        optimizer.step(0.01, norm)
        optimizer.drop_gradients()
        for name, weight in plain.items():
            gradient = gradients[name] / max(1.0, norm)
            first[name] = 0.9 * first[name] + 0.1 * gradient
            second[name] = 0.95 * second[name] + 0.05 * gradient**2
            decayed = weight * (1 - 0.01 * 0.1) if weight.dim() == 2 else weight
            root = (second[name] / (1 - 0.95**step)).sqrt() + 1e-8
            plain[name] = decayed - 0.01 * first[name] / (1 - 0.9**step) / root
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(optimizer.masters[name].double(), plain[name], rtol=2e-5, atol=1e-7)
            assert torch.equal(parameter, optimizer.masters[name].to(dtype))


def test_a_checkpoint_s_model_is_the_masters_in_float32(undisturbed: Path) -> None:
    model = load_checkpoint(undisturbed / "checkpoints" / "step-000012", dtype=None)
    assert model.dtype == torch.float32
    assert model.config == ModelConfig.from_recipe(made.recipe(), 300)


@pytest.mark.prove
def test_compiled_training_gives_the_same_bits_again(folder: Path, tmp_path: Path) -> None:
    if machine.why_not_compiled():
        pytest.skip(f"kernels cannot be compiled: {machine.why_not_compiled()}")
    again = Path(shutil.copytree(folder, tmp_path / "again"))
    leave = At(5, gradients=lambda training: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(Interrupted):
        made.run(again, "train.compile=on", threads=2, callbacks=[leave])
    torch.compiler.reset()
    for place in (folder, again):
        made.run(place, "train.compile=on", threads=2)
    assert made.result(folder) == made.result(again)
