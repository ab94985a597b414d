"""What is told of runs: nothing damaged hides the rest, and nothing that is over is called now."""

from __future__ import annotations

import json
import os
import shutil
import socket
import time
from pathlib import Path

import pytest

from care_run import begin, hold, home, run
from puna import lock, storage
from puna.care import clean, listing, status
from puna.errors import InputError

__all__ = ["home", "run"]  # fixtures


def _progress(run: Path, **more: object) -> None:
    told = {"format": 1, "pid": os.getpid(), "host": socket.gethostname(), "label": "training", "done": 6, "total": 24}
    told |= {"unit": "steps", "note": "loss 5.000", "seconds_left": 3700.0, "time": time.time() + 1000}
    (run / "progress.json").write_text(json.dumps(told | more))


def _listed(root: Path) -> dict[str, listing.RunLine]:
    return {line.name: line for line in listing.listed(root)}


def test_a_finished_run_is_listed_with_its_quality_beside_the_best_baseline(run: Path) -> None:
    line = _listed(run.parent)["tiny"]
    bits = storage.read_json(run / "evaluations" / "heldout.json")["bits_per_byte"]["all"]
    best = min(bits.keys() - {"model"}, key=lambda name: bits[name])
    assert (line.recipe, line.state, line.size) == ("tiny", "done", sum(storage.tree(run).values()))
    assert (line.bits_per_byte, line.best_baseline, line.baseline_bits_per_byte) == (bits["model"], best, bits[best])
    assert (line.training_step, line.training_steps) == (24, 24)
    text = listing.table(run.parent, [line])
    assert f"{bits['model']:.3f} bits/byte" in text
    assert f"{bits[best]:.3f}" in text
    assert f"puna status {run}" in text
    assert json.loads(json.dumps(line.as_json()))["state"] == "done"


def test_the_list_fits_80_columns(run: Path) -> None:
    shutil.copytree(run, run.parent / "a run with another and longer name")
    (run.parent / "broken").mkdir()
    (run.parent / "broken" / "log.txt").touch()
    (run.parent / "broken" / "recipe.toml").write_text("name = 'broken'\n[modell]\ndim = 3\n")
    text = listing.table(run.parent, listing.listed(run.parent))
    assert all(len(line) <= 80 for line in text.splitlines()[:-2])


def test_no_runs_is_a_line_that_says_what_to_type(tmp_path: Path) -> None:
    assert listing.listed(tmp_path) == []
    assert "puna run laptop" in listing.table(tmp_path, [])
    assert "there is nothing at" in listing.table(tmp_path / "none", listing.listed(tmp_path / "none"))
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is a file"):
        listing.listed(tmp_path / "file")


def test_runs_are_found_below_a_folder_behind_a_link_and_when_named_themselves(run: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "one" / "two").mkdir(parents=True)
    (root / ".hidden").mkdir()
    shutil.copytree(run, root / "one" / "two" / "deep")
    shutil.copytree(run, root / ".hidden" / "run")
    (root / "linked").symlink_to(run)
    (root / "round").symlink_to(root)
    (root / "gone").symlink_to(root / "nowhere")
    (root / "recipe.toml").touch()
    assert set(_listed(root)) == {"one/two/deep", "linked"}
    assert set(_listed(run)) == {"tiny"}


def test_a_damaged_run_does_not_hide_the_others(run: Path) -> None:
    root = run.parent
    for name in ("no recipe", "no text", "bad records", "newer", "bad files", "strange name"):
        shutil.copytree(run, root / name)
    (root / "no recipe" / "recipe.toml").unlink()
    (root / "no text" / "recipe.toml").write_bytes(b"\xff\xfe\0")
    for path in (root / "bad records" / "records").iterdir():
        path.write_bytes(b"[1, 2")
    value = storage.read_json(root / "newer" / "records" / "train.json")
    storage.write_json(root / "newer" / "records" / "train.json", {**value, "format": 99})
    for name in ("metrics.jsonl", "evaluations/heldout.json", "log.txt", "progress.json", "run.lock"):
        (root / "bad files" / name).write_bytes(b'{"step": "x", "loss": []}\n[]\n\xff\n{"a":')
    Path(os.fsdecode(os.fsencode(root / "strange name" / "work") + b"/\xff\xfe")).touch()
    (root / "empty" / "records").mkdir(parents=True)
    shutil.copytree(root / "bad records" / "records", root / "records alone" / "records")
    lines = _listed(root)
    states = {name: line.state for name, line in lines.items()}
    assert states == {
        "tiny": "done", "no recipe": "broken", "no text": "broken", "bad records": "stopped", "newer": "newer",
        "bad files": "done", "strange name": "done", "records alone": "broken",
    }  # fmt: skip
    assert lines["no recipe"].said == "recipe.toml is missing"
    assert "puna recipe show RECIPE" in status.status(root / "no text").as_text()
    assert "newer Puna" in lines["newer"].said
    for line in lines.values():
        text = status.status(line.folder).as_text() + listing.table(root, [line])
        assert "Traceback" not in text
        json.dumps(status.status(line.folder).as_json())
    listing.table(root, list(lines.values())).encode("utf-8", "backslashreplace")


def test_who_holds_a_run_and_where_it_stopped_is_told(run: Path) -> None:
    with lock.locked(run):
        assert _listed(run.parent)["tiny"].state == "running"
        assert f"process {os.getpid()}" in status.status(run).as_text()
    begin(run, "evaluate")
    line = _listed(run.parent)["tiny"]
    assert (line.state, line.step) == ("stopped", "evaluate")
    assert "at evaluate, step 24 of 24" in line.said
    hold(run)
    assert _listed(run.parent)["tiny"].state == "interrupted"
    assert "interrupted at evaluate" in status.status(run).as_text()
    hold(run, host="elsewhere")
    assert _listed(run.parent)["tiny"].state == "held"
    assert "on elsewhere" in _listed(run.parent)["tiny"].said


def test_what_no_longer_holds_is_not_called_done(run: Path, home: Path) -> None:
    recipe = (run / "recipe.toml").read_text()
    (run / "recipe.toml").write_text(recipe.replace("learning_rate = 0.01", "learning_rate = 0.02"))
    line = _listed(run.parent)["tiny"]
    assert (line.state, line.said.split(",")[0]) == ("stopped", "changed since its report")
    (run / "recipe.toml").write_text(recipe)
    value = storage.read_json(run / "records" / "mixture.json")
    storage.write_json(run / "records" / "mixture.json", {**value, "produced": "xxh3:another"})
    line = _listed(run.parent)["tiny"]
    assert (line.state, line.bits_per_byte, line.loss) == ("stopped", None, None)
    by_name = {step.name: step.state for step in status.status(run).steps}
    assert (by_name["mixture"], by_name["train"], by_name["report"]) == ("done", "to come", "to come")


def test_status_tells_how_far_what_runs_now_is(run: Path) -> None:
    begin(run, "train")
    _progress(run)
    with lock.locked(run):
        told = status.status(run, lambda recipe: ["mixture", "train", "evaluate", "new"])
    assert [(step.name, step.state) for step in told.steps] == [
        ("mixture", "done"), ("train", "under way"), ("evaluate", "to come"), ("new", "to come")
    ]  # fmt: skip
    text = " ".join(told.as_text().split())
    assert "Now train: training 25 %, loss 5.000, 1 h 01 min left" in text
    assert "1 done, 1 under way, 2 to come" in text
    assert "Training step 24 of 24 (100 %)" in text
    assert all(len(line) <= 80 for line in told.as_text().splitlines() if str(run) not in line)
    assert told.as_json()["progress"]["fresh"] is True


def test_what_a_dead_or_silent_process_told_last_is_not_called_now(run: Path) -> None:
    begin(run, "train")
    _progress(run, time=time.time() - 600)
    with lock.locked(run):
        told = status.status(run)
        assert told.progress is not None
        assert not told.progress.fresh
        assert "nothing was told for 10 min" in " ".join(told.as_text().split())
        _progress(run, pid=1)
        assert not status.status(run).as_json()["progress"]["fresh"]
    _progress(run)
    hold(run)
    text = " ".join(status.status(run).as_text().split())
    assert "is dead" in text
    assert "Last seen 0 s ago: training 25 %, loss 5.000 Steps" in text
    assert "Now" not in text
    assert f"puna run {run}/recipe.toml --out {run}" in text


def test_status_ends_with_the_last_whole_lines_of_the_log(run: Path) -> None:
    with (run / "log.txt").open("a") as log:
        log.writelines(f"2026-01-01 00:00:00 line {number}\n" for number in range(20))
        log.write("2026-01-01 00:00:00 half a li")
    assert [line.split()[-1] for line in status.status(run).log] == ["15", "16", "17", "18", "19"]


def test_a_folder_that_is_no_run_is_one_line_with_the_mend(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "none"):
        for command in (status.status, clean.plan):
            with pytest.raises(InputError, match="puna ls"):
                command(folder)


@pytest.mark.parametrize("told", [{"pid": "abc"}, {"pid": None}, {"host": 7}, {"born": []}])
def test_a_damaged_lock_is_nobodys(run: Path, told: dict[str, object]) -> None:
    hold(run)
    path = run / "run.lock"
    path.write_text(json.dumps(json.loads(path.read_text()) | told))
    assert lock.holder(run) is None
    assert status.status(run, lambda recipe: []).as_text()
    assert _listed(run.parent)["tiny"].state == "done"
