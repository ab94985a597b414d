"""Steps: what is done stays done, what changed is redone and named, what was killed goes on."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from puna import storage
from puna.errors import InputError
from puna.records import read_records
from puna.steps import Context, Step, run_steps

ran: list[str] = []


def _write(text: str, context: Context) -> Mapping[str, Any]:
    ran.append(context.name)
    storage.write(context.folder / f"{context.name}.txt", text.encode())
    return {"length": len(text)}


def _copy(context: Context) -> Mapping[str, Any]:
    ran.append(context.name)
    storage.write(context.folder / f"{context.name}.txt", (context.folder / "first.txt").read_bytes()[:1])
    return {}


def _graph(text: str = "abc", note: str = "") -> list[Step]:
    return [
        Step("first", lambda context: _write(text, context), ("first.txt",), values={"text": text, "note": note}),
        Step("second", _copy, ("second.txt",), ("first",)),
        Step("third", _copy, ("third.txt",), ("second",)),
    ]


def _go(folder: Path, steps: list[Step], **options: Any) -> list[str]:
    ran.clear()
    run_steps(folder, steps, workers=1, **options)
    return list(ran)


def test_done_steps_are_skipped(tmp_path: Path) -> None:
    assert _go(tmp_path, _graph()) == ["first", "second", "third"]
    assert _go(tmp_path, _graph()) == []
    assert read_records(tmp_path)["first"]["counts"] == {"length": 3}


def test_a_target_does_only_what_it_needs(tmp_path: Path) -> None:
    assert _go(tmp_path, _graph(), targets=["second"]) == ["first", "second"]


def test_a_changed_value_redoes_what_depends_on_it_and_says_which_and_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _go(tmp_path, _graph("abc"))
    assert _go(tmp_path, _graph("xyz")) == ["first", "second", "third"]
    said = capsys.readouterr().err
    assert 'first: done again, since text changed from "abc" to "xyz"' in said
    assert "second: done again, since first gave something else" in said


def test_a_change_stops_where_the_result_is_the_same(tmp_path: Path) -> None:
    _go(tmp_path, _graph("abc"))
    assert _go(tmp_path, _graph("axx")) == ["first", "second"]
    assert _go(tmp_path, _graph("axx", note="new")) == ["first"]


def test_what_is_superseded_stays_until_it_is_cleaned(tmp_path: Path) -> None:
    _go(tmp_path, _graph("abc"))
    _go(tmp_path, _graph("xyz"))
    (kept,) = (tmp_path / "superseded").glob("first-*/first.txt")
    assert kept.read_text() == "abc"


def test_a_damaged_output_is_noticed_and_made_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _go(tmp_path, _graph())
    (tmp_path / "first.txt").write_text("ab")
    assert _go(tmp_path, _graph()) == ["first"]
    assert "another size than recorded" in capsys.readouterr().err
    (tmp_path / "second.txt").write_text("z")
    assert _go(tmp_path, _graph()) == ["second"]
    (tmp_path / "third.txt").unlink()
    assert _go(tmp_path, _graph()) == ["third"]


def test_a_file_with_another_time_and_the_same_bytes_counts_as_done(tmp_path: Path) -> None:
    _go(tmp_path, _graph())
    (tmp_path / "first.txt").write_text("abc")
    os.utime(tmp_path / "first.txt", ns=(1, 1))
    assert _go(tmp_path, _graph()) == []


def test_verify_reads_everything_again(tmp_path: Path) -> None:
    _go(tmp_path, _graph())
    path = tmp_path / "first.txt"
    before = path.stat().st_mtime_ns
    path.write_text("abd")
    os.utime(path, ns=(before, before))
    assert _go(tmp_path, _graph()) == []
    assert _go(tmp_path, _graph(), verify=True) == ["first"]


@pytest.mark.promise("formats")
def test_a_record_of_a_newer_format_is_refused(tmp_path: Path) -> None:
    _go(tmp_path, _graph())
    path = tmp_path / "records" / "first.json"
    storage.write_json(path, storage.read_json(path) | {"format": 99})
    with pytest.raises(InputError, match="newer Puna"):
        _go(tmp_path, _graph())


def test_a_step_that_needs_a_later_one_is_a_mistake_in_the_graph(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="do not stand before it"):
        run_steps(tmp_path, list(reversed(_graph())), workers=1)


def test_two_steps_of_one_name_are_a_mistake_in_the_graph(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="two steps are called first"):
        run_steps(tmp_path, [*_graph(), _graph()[0]], workers=1)


def _task(task: int, scratch: Path) -> Mapping[str, Any]:
    ran.append(f"task {task}")
    if task == 2 and not (scratch / "go").exists():
        raise KeyboardInterrupt
    storage.write(scratch / f"{task}.out", b"x" * task)
    return {"square": task * task, "files": [(scratch / f"{task}.out").relative_to(scratch.parents[2]).as_posix()]}


def _mapped(context: Context) -> Mapping[str, Any]:
    results = context.map(_task, [0, 1, 2, 3], label="tasks", name=str)
    return {"squares": [result["square"] for result in results]}


def test_an_interrupted_step_redoes_only_tasks_that_had_not_ended(tmp_path: Path) -> None:
    graph = [Step("mapped", _mapped, ("{work}/*.out",))]
    ran.clear()
    with pytest.raises(KeyboardInterrupt):
        run_steps(tmp_path, graph, workers=1)
    assert ran == ["task 0", "task 1", "task 2"]
    (scratch,) = (tmp_path / "work" / "mapped").iterdir()
    (scratch / "go").touch()
    (scratch / "1.out").unlink()  # a record whose file is gone does not count
    ran.clear()
    records = run_steps(tmp_path, graph, workers=1)
    assert ran == ["task 1", "task 2", "task 3"]
    assert records["mapped"]["counts"] == {"squares": [0, 1, 4, 9]}


def test_parts_of_other_values_are_never_taken_for_this_ones(tmp_path: Path) -> None:
    def half(context: Context) -> Mapping[str, Any]:
        storage.write(context.folder / "parts" / "old", b"old")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_steps(tmp_path, [Step("parts", half, ("parts/*",), values={"v": 1})], workers=1)

    def whole(context: Context) -> Mapping[str, Any]:
        storage.write(context.folder / "parts" / "new", b"new")
        return {}

    records = run_steps(tmp_path, [Step("parts", whole, ("parts/*",), values={"v": 2})], workers=1)
    assert list(records["parts"]["outputs"]) == ["parts/new"]


def test_an_old_value_that_comes_back_finds_what_it_had_made(tmp_path: Path) -> None:
    _go(tmp_path, _graph("abc"))
    _go(tmp_path, _graph("xyz"))
    assert _go(tmp_path, _graph("abc")) == []
    assert (tmp_path / "third.txt").read_text() == "a"
    assert _go(tmp_path, _graph("xyz")) == []


def test_a_value_that_comes_back_keeps_the_tasks_that_it_had_finished(tmp_path: Path) -> None:
    def graph(value: int) -> list[Step]:
        return [Step("mapped", _mapped, ("{work}/*.out",), values={"value": value})]

    for value in (1, 2):
        with pytest.raises(KeyboardInterrupt):
            run_steps(tmp_path, graph(value), workers=1)
    for scratch in (tmp_path / "work" / "mapped").iterdir():
        (scratch / "go").touch()
    ran.clear()
    run_steps(tmp_path, graph(1), workers=1)
    assert ran == ["task 2", "task 3"]


class _Killed(BaseException):
    pass


def test_killed_while_an_old_result_is_set_aside_nothing_of_it_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, proved: Callable[[str], None]
) -> None:
    def many(text: str) -> list[Step]:
        def work(context: Context) -> Mapping[str, Any]:
            ran.append(context.name)
            for number in range(4):
                storage.write(context.folder / "many" / f"{number}", f"{text}{number}".encode())
            return {}

        return [Step("many", work, ("many/*",), values={"text": text})]

    for border_number in itertools.count():
        folder = tmp_path / str(border_number)
        _go(folder, many("old"))
        events = [border_number]

        def border(event: str, location: str, events: list[int] = events) -> None:
            events[0] -= 1
            if events[0] < 0:
                raise _Killed

        monkeypatch.setattr(storage, "border", border)
        killed = False
        try:
            _go(folder, many("new"))
        except _Killed:
            killed = True
        monkeypatch.setattr(storage, "border", lambda event, location: None)
        if not killed:
            break
        finished = read_records(folder).get("many", {}).get("values") == {"text": "new"}
        again = _go(folder, many("old"))
        assert [(folder / "many" / str(number)).read_text() for number in range(4)] == [f"old{n}" for n in range(4)]
        assert again == []
        assert _go(folder, many("new")) == ([] if finished else ["many"])
        assert (folder / "many" / "3").read_text() == "new3"
    assert border_number > 20
    proved(f"an old result set aside for a new value: ended at each of {border_number} borders")


def test_the_value_that_changed_is_named_however_deep_it_stands(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def graph(rate: float, version: str) -> list[Step]:
        values = {"train": {"batch": 256, "learning_rate": rate}, "inputs": [{"name": "a" * 90, "version": version}]}
        return [Step("first", lambda context: _write("x", context), ("first.txt",), values=values)]

    _go(tmp_path, graph(0.01, "1"))
    _go(tmp_path, graph(0.02, "2"))
    said = capsys.readouterr().err
    assert "train.learning_rate changed from 0.01 to 0.02" in said
    assert 'inputs[0].version changed from "1" to "2"' in said
    assert "batch" not in said


def test_a_change_stops_at_tasks_that_made_the_same_files(tmp_path: Path) -> None:
    def graph(value: int) -> list[Step]:
        def tasks(context: Context) -> Mapping[str, Any]:
            ran.append(context.name)
            storage.write(context.scratch / "same.out", b"same")
            return {}

        return [
            Step("tasks", tasks, ("{work}/*.out",), values={"value": value}),
            Step("after", lambda context: _write("x", context), ("after.txt",), ("tasks",)),
        ]

    assert _go(tmp_path, graph(1)) == ["tasks", "after"]
    assert _go(tmp_path, graph(2)) == ["tasks"]


def test_a_step_that_the_recipe_has_no_more_is_set_aside(tmp_path: Path) -> None:
    _go(tmp_path, _graph())
    _go(tmp_path, _graph()[:2])
    assert not (tmp_path / "third.txt").exists()
    assert read_records(tmp_path).keys() == {"first", "second"}
    assert _go(tmp_path, _graph()) == []


@pytest.mark.parametrize("table", ["values", "inputs", "outputs"])
def test_a_record_of_another_shape_means_not_done(tmp_path: Path, table: str) -> None:
    _go(tmp_path, _graph())
    path = tmp_path / "records" / "second.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {table: []}))
    assert "second" in _go(tmp_path, _graph())
    assert _go(tmp_path, _graph()) == []


@pytest.mark.parametrize("damage", ["", "[]", "{}", "nonsense", '{"format": 1}'])
def test_a_damaged_record_means_not_done(tmp_path: Path, damage: str) -> None:
    _go(tmp_path, _graph())
    (tmp_path / "records" / "second.json").write_text(damage)
    (tmp_path / "records" / "third.begun.json").write_text(damage)
    assert "second" in _go(tmp_path, _graph())
    assert _go(tmp_path, _graph()) == []


def test_a_damaged_task_record_means_that_the_task_is_done_again(tmp_path: Path) -> None:
    graph = [Step("mapped", _mapped, ("{work}/*.out",))]
    with pytest.raises(KeyboardInterrupt):
        run_steps(tmp_path, graph, workers=1)
    (scratch,) = (tmp_path / "work" / "mapped").iterdir()
    (scratch / "go").touch()
    (scratch / "0.json").write_text("{}")
    record = json.loads((scratch / "1.json").read_text())
    (scratch / "1.json").write_text(json.dumps(record | {"sizes": []}))
    ran.clear()
    run_steps(tmp_path, graph, workers=1)
    assert ran == ["task 0", "task 1", "task 2", "task 3"]
