"""Checkpoints written beside the steps: the same bits, whole or not at all, never two at once, and what is kept."""

from __future__ import annotations

import os
import shutil
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch

import made_training as made
from puna import storage
from puna.errors import Interrupted, PunaError
from puna.model import weights
from puna.train import checkpoint, memory
from puna.train.callbacks import Callback, Step, Training
from trained_again import At, Killed, die, killed_at_random

BESIDE = "train.save=beside"


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made.make(tmp_path_factory.mktemp("tokens"))


@pytest.fixture(scope="module")
def undisturbed(tokens: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = Path(shutil.copytree(tokens, tmp_path_factory.mktemp("undisturbed") / "run"))
    made.run(folder)
    return folder


@pytest.fixture
def folder(tokens: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tokens, tmp_path / "run"))


class Held:
    """Holds the writing of one checkpoint until it is let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
        self.writing, self.go = threading.Event(), threading.Event()
        self.threads: list[str] = []
        save = checkpoint.save

        def held(folder: Path, **given: object) -> object:
            self.threads.append(threading.current_thread().name)
            if given["position"].step == step:  # type: ignore[attr-defined]
                self.writing.set()
                assert self.go.wait(60)
            return save(folder, **given)  # type: ignore[arg-type]

        monkeypatch.setattr(checkpoint, "save", held)


def test_steps_go_on_while_a_checkpoint_is_written_from_the_state_of_its_step(
    folder: Path, undisturbed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held(monkeypatch, 4)

    def let_go(training: Training, step: Step) -> None:
        if step.number == 7:
            assert held.writing.wait(60)
            assert not list((folder / "checkpoints").glob("step-*"))
            held.go.set()

    class Look(Callback):
        step = staticmethod(let_go)  # type: ignore[assignment]

    done = made.run(folder, BESIDE, "train.keep=3", callbacks=[Look()])
    assert made.result(folder) == made.result(undisturbed)
    assert held.threads[:2] == ["checkpoint", "checkpoint"]
    assert held.threads[2] != "checkpoint"  # the last one is waited for anyhow
    assert (done["saves"], done["steps"]) == (2, 12)  # no line of a step tells of the last one
    assert 0 < done["goodput"] < 1
    again = Path(shutil.copytree(folder, folder.parent / "again"))
    for name in ("step-000008", "step-000012"):
        shutil.rmtree(again / "checkpoints" / name)
    made.run(again, BESIDE)  # from the checkpoint that was written while three steps changed the weights
    assert made.result(again) == made.result(undisturbed)


def test_the_next_checkpoint_waits_for_the_one_under_way(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    most = [0, 0]
    save = checkpoint.save

    def counted(place: Path, **given: object) -> object:
        most[0] += 1
        most[1] = max(most)
        saved = save(place, **given)  # type: ignore[arg-type]
        most[0] -= 1
        return saved

    monkeypatch.setattr(checkpoint, "save", counted)
    made.run(folder, BESIDE, "train.checkpoint_every=1")
    assert most == [0, 1]


def test_what_goes_wrong_in_the_thread_ends_the_training_in_that_line(
    folder: Path, undisturbed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = storage.digest

    def worn(location: storage.Location) -> str:
        return "xxh3:0" if str(location).endswith("optimizer.safetensors") else digest(location)

    with monkeypatch.context() as patched:
        patched.setattr(storage, "digest", worn)
        with pytest.raises(
            PunaError, match=r"step-000004/optimizer\.safetensors: does not read back as it was written"
        ):
            made.run(folder, BESIDE)
    assert not list((folder / "checkpoints").iterdir())
    made.run(folder, BESIDE)
    assert made.result(folder) == made.result(undisturbed)


def test_an_exception_waits_for_the_checkpoint_under_way(folder: Path, undisturbed: Path) -> None:
    with pytest.raises(Killed):
        made.run(folder, BESIDE, callbacks=[At(5, step=lambda *_: die(*_))])
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["step-000004"]
    made.run(folder, BESIDE)
    assert made.result(folder) == made.result(undisturbed)


def test_a_signal_while_a_checkpoint_is_written_saves_its_step_too(folder: Path, undisturbed: Path) -> None:
    with pytest.raises(Interrupted, match=r"step 5 of 12.*step-000005"):
        made.run(folder, BESIDE, callbacks=[At(5, gradients=lambda _: os.kill(os.getpid(), signal.SIGTERM))])
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == ["step-000004", "step-000005"]
    made.run(folder, BESIDE)
    assert made.result(folder) == made.result(undisturbed)


@pytest.mark.parametrize("save", ["beside", "between"])
def test_the_lines_that_a_checkpoint_counts_on_are_synced_before_it_stands(
    folder: Path, monkeypatch: pytest.MonkeyPatch, save: str
) -> None:
    waiting: set[str] = set()  # written since their last sync
    seen: list[str] = []

    def border(event: str, location: str) -> None:
        name = Path(location).name
        if name.endswith(".jsonl") and event in ("after write", "after sync"):
            (waiting.add if event == "after write" else waiting.discard)(name)
            seen.append(name)
        if event == "before write" and "step-000004" in location:
            assert waiting == set()
            seen.append("checkpoint")

    monkeypatch.setattr(storage, "border", border)
    with pytest.raises(Killed):
        made.run(folder, f"train.save={save}", callbacks=[At(4, step=die)])
    assert {"metrics.jsonl", "losses.jsonl", "checkpoint"} <= set(seen)


def test_without_room_for_a_copy_checkpoints_are_written_between_steps_and_that_is_said_once(
    folder: Path, undisturbed: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(memory, "available", lambda: 1000)  # the room that the layer's mode is chosen by, too
    made.run(folder, BESIDE, "train.layer=hand")
    assert capsys.readouterr().err.count("checkpoints are written between steps: a copy takes") == 1
    assert made.result(folder) == made.result(undisturbed)


def test_the_newest_the_nth_and_the_one_a_rewind_may_need_are_kept(folder: Path) -> None:
    made.run(folder, BESIDE, "train.keep=1", "train.keep_every=3", "train.checkpoint_every=5")
    kept = sorted(path.name for path in (folder / "checkpoints").iterdir())
    assert kept == ["step-000003", "step-000006", "step-000009", "step-000010", "step-000012"]


def test_a_disk_without_room_is_foreseen_before_a_checkpoint_is_begun(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from puna import space

    monkeypatch.setattr(space, "free", lambda _: 1000)
    with pytest.raises(PunaError, match=r"the checkpoint of step 4 needs about .* and 1\.0 kB are free"):
        made.run(folder, BESIDE)
    assert not list((folder / "checkpoints").glob("*"))


def test_all_that_is_kept_is_foreseen_before_the_first_step() -> None:
    from puna import space

    def need(*overrides: str) -> int:
        return space.training(made.recipe("train.steps=1000", *overrides), 300, 1000, 0).bytes

    one = space.checkpoint(made.recipe().model.parameters(300), 9 * 2 + 3).bytes
    assert need("train.keep=3") - need("train.keep=2") == one
    assert need("train.keep_every=100") - need() == 10 * one


@pytest.mark.promise("twins")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64, torch.float16])
def test_tensors_written_one_by_one_are_the_bytes_of_safetensors(tmp_path: Path, dtype: torch.dtype) -> None:
    drawn = torch.Generator().manual_seed(1)
    tensors = {f"layers.{n}.x": torch.randn(n + 1, 3, generator=drawn).to(dtype) for n in (10, 2, 0)}
    tensors["norm"] = torch.randn(5, generator=drawn).to(dtype)
    tensors["turned"] = torch.randn(4, 6, generator=drawn).to(dtype).t()
    digest = weights.write_tensors(tmp_path / "a.safetensors", tensors)
    plain = safetensors.torch.save({name: t.contiguous() for name, t in tensors.items()}, metadata={"format": "pt"})
    assert (tmp_path / "a.safetensors").read_bytes() == plain
    assert digest == storage.digest(tmp_path / "a.safetensors")


def test_wall_time_of_steps_done_again_is_not_lost(folder: Path) -> None:
    with pytest.raises(Killed):
        made.run(folder, callbacks=[At(7, step=lambda *_: die(*_))])
    gone = sum(line["wall_seconds"] for line in made.metrics(folder) if line["step"] > 4)
    made.run(folder)
    (fifth,) = (line for line in made.metrics(folder) if line["step"] == 5)
    assert fifth["wall_seconds"] > gone
    lines = made.told(folder)
    assert sum(line.get("saves", 0) for line in lines) == 2
    assert all(line["useful_seconds"] <= line["wall_seconds"] for line in made.metrics(folder))


@pytest.mark.prove
def test_killed_at_random_while_checkpoints_are_written_beside_steps_no_bit_changes(
    folder: Path, undisturbed: Path, proved: Callable[[str], None]
) -> None:
    kills = killed_at_random(folder, 8, BESIDE)
    assert made.result(folder) == made.result(undisturbed)
    proved(f"{kills} kills at random while checkpoints are written beside the steps")
