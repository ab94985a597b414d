"""What of a run may be removed: nothing that is needed goes, whenever the removal is killed."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import pytest

import tiny
from care_run import begin, changed, files, go, hold, home, run
from puna import lock, records, storage
from puna.care import clean, listing, status
from puna.errors import InputError, PunaError
from puna.generate import load

__all__ = ["changed", "home", "run"]  # fixtures

KEPT = (
    "documents/", "heldout/", "tokenizer/", "tokens/", "evaluations/", "records/", "inputs/", "metrics.jsonl",
    "machine.json", "recipe.toml", "log.txt", "report.html", "checkpoints/step-000024/",
)  # fmt: skip


def _results(run: Path) -> dict[str, str]:
    """Digests of what a cleaning may never change."""
    kept = [name for name in files(run) if name.startswith(KEPT) and not name.startswith(("records/", "log.txt"))]
    return {name: storage.digest(run / name) for name in kept}


def _clean(run: Path, *, work: bool = False, checkpoints: bool = False) -> int:
    return clean.clean(run, clean.plan(run, work=work, checkpoints=checkpoints))


def test_a_plan_changes_nothing_and_names_no_result(changed: Path) -> None:
    before = storage.tree(changed)
    plan = clean.plan(changed, work=True, checkpoints=True)
    assert storage.tree(changed) == before
    assert {item.kind for item in plan.going} == {"tasks", "old work", "superseded", "work", "checkpoints"}
    assert not [item for item in plan.items if item.path.startswith(KEPT)]
    assert plan.as_json()["freed"] == sum(item.size for item in plan.items)
    assert sum(plan.space.values()) == sum(before.values())
    assert sum(sum(sizes.values()) for sizes in plan.steps.values()) == sum(before.values())
    text = plan.as_text()
    assert f"puna clean {changed} --work --checkpoints --yes" in text
    assert all(len(line) <= 80 for line in text.splitlines() if str(changed) not in line)
    assert not clean.plan(changed).work
    assert {item.kind for item in clean.plan(changed).going} == {"tasks", "old work", "superseded"}


def test_after_a_cleaning_everything_is_done_and_generates(run: Path, home: Path) -> None:
    before, there = _results(run), files(run)
    freed = _clean(run, work=True, checkpoints=True)
    gone = there - files(run)
    assert freed == sum(storage.size(home / "run" / name) for name in gone)
    assert not [name for name in gone if name.startswith(KEPT)]
    assert not [name for name in files(run) if name.startswith(("work/", "checkpoints/step-000021"))]
    assert not clean.plan(run, work=True, checkpoints=True).items
    said = go(home, run)
    assert "done in" not in said
    assert "done again" not in said
    assert _results(run) == before
    assert listing.listed(run)[0].state == "done"
    from puna.generate import load

    assert load(str(run)).generate("The ", tokens=3)


def test_a_changed_value_after_a_cleaning_gives_the_bytes_it_would_have_given(
    run: Path, home: Path, tmp_path: Path
) -> None:
    other, before = Path(shutil.copytree(run, tmp_path / "other")), _results(run)
    _clean(run, work=True, checkpoints=True)
    said = go(home, run, "heldout.max_overlap=0.01", target="tokenizer")
    assert "extract.wikipedia: done again, since its files were cleaned away" in said
    go(home, other, "heldout.max_overlap=0.01", target="tokenizer")
    assert _results(run) == _results(other) != before


def test_a_source_taken_out_after_a_cleaning_gives_the_bytes_it_would_have_given(
    run: Path, home: Path, tmp_path: Path
) -> None:
    """The step that comes first to read what was cleaned away foresees its space from it."""
    other = Path(shutil.copytree(run, tmp_path / "other"))
    _clean(run, work=True, checkpoints=True)
    said = go(home, run, "sources.github=none", target="documents")
    assert "extract.wikipedia: done again, since its files were cleaned away" in said
    go(home, other, "sources.github=none", target="documents")
    assert _results(run) == _results(other)


def test_a_change_that_reads_nothing_of_it_does_not_redo_what_was_cleaned(run: Path, home: Path) -> None:
    _clean(run, work=True)
    said = go(home, run, "samples.tokens=3")
    assert "samples: done again" in said
    assert "cleaned away" not in said


def test_coming_back_to_a_value_whose_results_were_removed_gives_them_again(changed: Path, home: Path) -> None:
    _clean(changed)
    assert not [name for name in files(changed) if name.startswith("superseded/")]
    said = go(home, changed)
    assert "train: done in" in said
    assert tiny.stable(changed) == tiny.stable(home / "run")


def test_work_that_steps_to_come_read_is_not_offered(run: Path) -> None:
    (run / "records" / "documents.wikipedia.json").unlink()
    plan = clean.plan(run, work=True)
    assert not [item for item in plan.items if item.kind == "work"]
    assert "work/documents.wikipedia" in " ".join(item.path for item in plan.items if item.kind == "old work")


def test_what_is_begun_and_what_a_damaged_record_speaks_of_stays(changed: Path) -> None:
    begin(changed, "extract.github")
    (changed / "records" / "extract.wikipedia.json").write_text("{")
    aside = next(path for path in (changed / "superseded").iterdir() if path.name.startswith("train-"))
    (changed / "records" / "train.json").unlink()
    records.begin(changed, "train", storage.read_json(aside / "train.json")["fingerprint"], 1)
    found = clean.plan(changed, work=True).items
    found = [item for item in found if item.step in ("extract.github", "extract.wikipedia", "train")]
    assert [item.path for item in found] == ["work/extract.github/0123456789abcdef"]


def test_half_written_files_go_once_their_process_is_dead(run: Path) -> None:
    with lock.locked(run):
        (run / "tokens" / ".part-00000.bin-1-1").write_bytes(b"x" * 7)
        assert not [item for item in clean.plan(run).items if item.kind == "leftover"]
    (run / "checkpoints" / ".part-step-000030-1-1").mkdir()
    (run / "checkpoints" / ".part-step-000030-1-1" / "state.json").write_bytes(b"x" * 5)
    hold(run)
    plan = clean.plan(run)
    assert sum(item.size for item in plan.going if item.kind == "leftover") == 12
    assert clean.clean(run, plan) == sum(item.size for item in plan.going)
    assert not [name for name in files(run) if ".part-" in name]


def test_a_running_run_is_not_cleaned(run: Path) -> None:
    before = files(run)
    with lock.locked(run):
        plan = clean.plan(run, work=True)
        assert "nothing can go" in plan.as_text()
        with pytest.raises(InputError, match="which is running"):
            clean.clean(run, plan)
        assert files(run) - {"run.lock"} == before - {"run.lock"}


def test_what_a_newer_puna_wrote_is_refused_in_one_line(run: Path) -> None:
    plan = clean.plan(run)
    path = run / "records" / "train.json"
    storage.write_json(path, {**storage.read_json(path), "format": 99})
    for again in (lambda: clean.plan(run), lambda: clean.clean(run, plan)):
        with pytest.raises(InputError, match="newer Puna"):
            again()
    assert status.status(run).state == "newer"


def test_links_are_not_followed(changed: Path, tmp_path: Path) -> None:
    away = tmp_path / "away"
    shutil.move(changed / "superseded", away)
    (changed / "superseded").symlink_to(away)
    work = next((changed / "work" / "extract.github").iterdir())
    (work / "more").symlink_to(tmp_path)
    (work / "one").symlink_to(away / "nothing")
    before = files(away)
    _clean(changed, work=True, checkpoints=True)
    assert files(away) == before
    assert (tmp_path / "runs").is_dir()


def test_the_newest_intact_checkpoint_stays(run: Path) -> None:
    weights = run / "checkpoints" / "step-000024" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    plan = clean.plan(run, checkpoints=True)
    assert plan.newest == "step-000021"
    assert not [item for item in plan.items if item.kind == "checkpoints"]


def test_a_run_on_an_object_store_is_listed_told_of_and_cleaned(run: Path) -> None:
    there = storage.place("memory://test_clean/runs/tiny")
    for name in files(run):
        storage.write(there / name, (run / name).read_bytes())
    (here,) = listing.listed(run)
    (line,) = listing.listed("memory://test_clean/runs")
    assert (line.name, line.state, line.size) == ("tiny", "done", here.size)
    assert line.bits_per_byte == here.bits_per_byte
    assert listing.listed("memory://test_clean/nothing") == []
    told = status.status(line.folder)
    assert told.space == status.status(run).space
    assert "report: done in" in told.as_text()
    plan, plan_here = (clean.plan(folder, work=True, checkpoints=True) for folder in (line.folder, run))
    assert plan.items == plan_here.items
    assert clean.clean(line.folder, plan) == clean.clean(run, plan_here)
    locks = {lock.HELD, lock.GUARD}
    assert set(storage.tree(there)) - locks == files(run) - locks
    assert listing.listed(there)[0].state == "done"
    with pytest.raises(InputError, match="puna ls"):
        status.status("memory://test_clean/runs/none")


def _killed_at(run: Path, count: int) -> bool:
    """Clean in a process of its own that dies at its `count`-th removal or write; whether it came so far."""
    plan = clean.plan(run, work=True, checkpoints=True)
    child = os.fork()
    if not child:
        left = iter(range(count))

        def border(event: str, location: str) -> None:
            if next(left, None) is None:
                os._exit(9)

        storage.border = border
        try:
            clean.clean(run, plan)
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


def _kill_and_go_on(base: Path, folder: Path, points: Iterable[int]) -> int:
    before, killed = _results(base), 0
    for count in points:
        # Linked, since that takes a tenth of the time: a cleaning changes no file in place but for the log.
        run = Path(shutil.copytree(base, folder / f"killed-{count}", copy_function=os.link))
        (run / "log.txt").unlink()
        if not _killed_at(run, count):
            break
        killed += 1
        for name, record in records.read_records(run).items():
            assert records.damaged(run, record) is None, f"{name}, killed at {count}"
        _clean(run, work=True, checkpoints=True)
        assert not clean.plan(run, work=True, checkpoints=True).items
        assert _results(run) == before
        shutil.rmtree(run)
    return killed


def test_a_cleaning_that_is_killed_leaves_a_run_that_is_done_and_the_next_one_ends_it(
    home: Path, tmp_path: Path
) -> None:
    assert _kill_and_go_on(home / "run", tmp_path, range(0, 1000, 23)) > 3
    assert _kill_and_go_on(home / "changed", tmp_path, range(5, 1000, 31)) > 3


@pytest.mark.prove
def test_a_cleaning_killed_at_every_third_write_and_removal_leaves_a_run_that_is_done(
    home: Path, tmp_path: Path
) -> None:
    killed = _kill_and_go_on(home / "changed", tmp_path, range(1, 1000, 3))
    print(f"a cleaning was killed at {killed} writes and removals")
    assert killed > 17


def test_a_value_that_cannot_work_costs_nothing(home: Path, run: Path) -> None:
    """What the disk cannot hold is refused before anything is set aside; what is refused later stays to be come back
    to, and is not cleaned away while nothing stands in its place."""
    before = {name: storage.digest(run / name) for name in files(run) if name.startswith(("checkpoints", "tokenizer"))}
    with pytest.raises(PunaError, match="train needs about"):
        go(home, run, "model.dim=65536")
    assert not (run / "superseded").exists()
    with pytest.raises(InputError):
        go(home, run, "tokenizer.pieces=300")
    with pytest.raises(InputError, match=r"no checkpoint of its present values|tokenizer"):
        load(run)
    clean.clean(run, clean.plan(run))
    assert "are taken up again" in go(home, run).replace("is taken", "are taken")
    assert {name: storage.digest(run / name) for name in before} == before


def test_a_full_disk_does_not_keep_clean_from_making_room(changed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(event: str, location: str) -> None:
        if event.startswith("before") and "remove" not in event:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), location)

    plan = clean.plan(changed)
    monkeypatch.setattr(storage, "border", full)
    assert clean.clean(changed, plan) > 0
    assert not list((changed / "superseded").glob("*/*"))
    assert not (changed / "run.lock").exists()


@pytest.mark.parametrize(
    "file", ["work/duplicates.wikipedia/*/*.hashes", "work/duplicates.wikipedia/*/*.verdicts", "work/heldout/*/*.grams",
             "work/overlap.wikipedia/*/*.overlap", "work/extract.wikipedia/*/*.parquet"]
)  # fmt: skip
def test_a_task_whose_file_is_gone_is_done_again(run: Path, home: Path, file: str) -> None:
    """Of an interrupted step: its tasks' records stand, its own does not."""
    before = _results(run)
    step = file.split("/")[1]
    (run / "records" / f"{step}.json").unlink()
    sorted(run.glob(file))[0].unlink()
    go(home, run, target="documents")
    assert (run / "records" / f"{step}.json").exists()
    go(home, run)
    assert _results(run) == before
