"""Checkpoints: whole or passed over by name, and enough to go on to the same bits."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open

import made_training as made
from puna import storage
from puna.errors import InputError
from puna.train import checkpoint
from puna.train.checkpoint import Kept
from puna.train.history import cut_back
from puna.train.position import Position

FILES = ["checkpoint.json", "config.json", "model.safetensors", "optimizer.safetensors", "state.json"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose checkpoints are those of steps 8 and 12."""
    folder = made.make(tmp_path_factory.mktemp("trained") / "run")
    made.run(folder)
    return folder


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))


def damage(path: Path, how: str) -> None:
    if how == "missing":
        path.unlink()
        return
    data = bytearray(path.read_bytes())
    if how == "flipped":
        data[len(data) // 2] ^= 1
    else:
        del data[-1:]
    path.write_bytes(data)


@pytest.mark.promise("alone")
def test_the_newest_ones_are_kept_and_no_file_needs_unpickling(trained: Path) -> None:
    folders = sorted((trained / "checkpoints").iterdir())
    assert [folder.name for folder in folders] == ["step-000008", "step-000012"]
    for folder in folders:
        assert sorted(path.name for path in folder.iterdir()) == FILES
        for path in folder.iterdir():
            if path.suffix == ".json":
                json.loads(path.read_bytes())
            else:
                with safe_open(path, framework="numpy") as file:
                    assert len(list(file.keys())) > 10


@pytest.mark.promise("formats")
def test_the_marker_lists_size_and_digest_of_every_other_file(trained: Path) -> None:
    folder = trained / "checkpoints" / "step-000012"
    marker = storage.read_json(folder / "checkpoint.json")
    assert (marker["format"], marker["step"], marker["fingerprint"]) == (1, 12, made.FINGERPRINT)
    assert marker["files"] == {
        name: {"size": storage.size(folder / name), "digest": storage.digest(folder / name)} for name in FILES[1:]
    }


@pytest.mark.parametrize("how", ["missing", "flipped", "truncated"])
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(
    run: Path, name: str, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if (name, how) == ("checkpoint.json", "truncated"):
        how = "missing"  # its last byte is only the end of the line
    damage(run / "checkpoints" / "step-000012" / name, how)
    found = checkpoint.newest(run / "checkpoints", made.FINGERPRINT)
    told = capsys.readouterr().err
    assert found is not None
    assert found.path.name == "step-000008"
    assert "step-000012" in told
    assert name in told


def test_training_goes_on_from_before_the_damage_to_the_same_bits(run: Path, trained: Path) -> None:
    damage(run / "checkpoints" / "step-000012" / "optimizer.safetensors", "flipped")
    made.run(run)
    assert made.result(run) == made.result(trained)


def test_without_an_intact_checkpoint_it_says_so_and_what_to_delete(run: Path) -> None:
    for path in (run / "checkpoints").iterdir():
        damage(path / "model.safetensors", "truncated")
    with pytest.raises(InputError, match=r"no checkpoint in it is intact; delete the folder .*checkpoints") as refused:
        made.run(run)
    assert refused.value.exit_status == 2
    shutil.rmtree(run / "checkpoints")
    assert made.run(run)["steps"] == 12


def test_checkpoints_of_another_fingerprint_are_neither_used_nor_removed(run: Path) -> None:
    assert checkpoint.newest(run / "checkpoints", "e" * 32) is None
    checkpoint.prune(run / "checkpoints", Kept(1), "e" * 32)
    assert len(list((run / "checkpoints").iterdir())) == 2
    checkpoint.prune(run / "checkpoints", Kept(1), made.FINGERPRINT)
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["step-000012"]


@pytest.mark.promise("formats")
def test_a_checkpoint_of_a_newer_puna_is_refused(run: Path) -> None:
    marker = run / "checkpoints" / "step-000012" / "checkpoint.json"
    storage.write_json(marker, {**storage.read_json(marker), "format": 2})
    with pytest.raises(InputError, match=r"newer Puna .*format 2.*update puna"):
        made.run(run)


def test_folders_whose_files_were_moved_away_are_no_checkpoints(tmp_path: Path) -> None:
    (tmp_path / "checkpoints" / "step-000004").mkdir(parents=True)
    assert checkpoint.newest(tmp_path / "checkpoints", made.FINGERPRINT) is None


@settings(deadline=None, max_examples=50)
@given(st.lists(st.booleans(), max_size=30))
def test_the_position_knows_which_windows_changed_no_weight(taken: list[bool]) -> None:
    position = Position()
    for took in taken:
        position = position.after(windows=4, tokens=128, loss=1.0 if took else None)
    unused = [window for first, end in position.skipped for window in range(first, end)]
    assert unused == [4 * step + offset for step, took in enumerate(taken) if not took for offset in range(4)]
    assert all(end < first for (_, end), (first, _) in zip(position.skipped, position.skipped[1:], strict=False))
    assert (position.step, position.taken, position.cursor) == (len(taken), sum(taken), 4 * len(taken))
    assert position.nonfinite_in_a_row == next((n for n, took in enumerate(reversed(taken)) if took), len(taken))


def test_metrics_are_cut_back_to_the_checkpoint_and_other_lines_stay(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(
        b'{"step": 1, "loss": 2.5}\n{"note": "x"}\n{"step": 2, "loss": 2.4}\n{"step": 3, "loss": 2.3}\n{"st'
    )
    cut_back(path, 2)
    assert path.read_bytes() == b'{"step": 1, "loss": 2.5}\n{"note": "x"}\n{"step": 2, "loss": 2.4}\n'
    cut_back(path, 0)
    assert path.read_bytes() == b'{"note": "x"}\n'
    cut_back(tmp_path / "none.jsonl", 5)
    assert not (tmp_path / "none.jsonl").exists()
