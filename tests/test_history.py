"""What a training wrote of itself may be damaged afterwards: it is read as far as it can be, without a traceback."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import made_training as made
from puna import storage, trace
from puna.train import history
from trained_again import At, Killed

DEEP = "[" * 200_000
HUGE = {"step": 3, "action": "rewind", "read": [0, 10**12], "rewound": [0, 10**12]}


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training killed behind step 9 of 12, its last checkpoint that of step 8."""
    folder = made.make(tmp_path_factory.mktemp("killed"))

    def die(*_: Any) -> None:
        raise Killed

    with pytest.raises(Killed):
        made.run(folder, callbacks=[At(9, step=die)])
    return folder


def changed(path: Path, number: int, **values: Any) -> None:
    lines = path.read_text("utf-8").splitlines()
    lines[number] = json.dumps(json.loads(lines[number]) | values)
    path.write_text("\n".join(lines) + "\n", "utf-8")


@pytest.mark.promise("errors")
@pytest.mark.parametrize(
    "values",
    [
        {"saves": float("nan")},
        {"wall_seconds": 10**400},
        {"wall_seconds": -(10**9)},
        {"spike": [1]},
        {"spike": HUGE},
        {"spike": HUGE | {"read": [12, 8]}},
        {"spike": HUGE | {"read": [-4, 0], "documents": None}},
        {"spike": HUGE | {"action": "observe", "read": [8, 12], "documents": [{"id": []}]}},
    ],
)
def test_a_line_of_metrics_that_says_what_cannot_be_stops_neither_training_nor_trace(
    killed: Path, tmp_path: Path, values: dict[str, Any]
) -> None:
    folder = Path(shutil.copytree(killed, tmp_path / "run"))
    changed(folder / "metrics.jsonl", 2, **values)
    found = trace.step(str(folder), 3)
    assert found.documents
    assert found.as_text()
    assert made.run(folder)["steps"] == 12
    assert 0 < history.summary(folder / "metrics.jsonl")["goodput"] <= 1


@pytest.mark.promise("errors")
@pytest.mark.parametrize(
    "values", [{"first": 3}, {"first": None}, {"first": ["a"]}, {"windows": "4"}, {"nats": "AAA="}, {"nats": 7}]
)
def test_a_line_of_window_losses_that_cannot_be_read_is_none(
    killed: Path, tmp_path: Path, values: dict[str, Any]
) -> None:
    folder = Path(shutil.copytree(killed, tmp_path / "run"))
    assert history.window_losses(folder / "losses.jsonl", 3) is not None
    changed(folder / "losses.jsonl", 0, **values)
    assert history.window_losses(folder / "losses.jsonl", 3) is None
    assert trace.step(str(folder), 3).window_losses == ()
    assert made.run(folder)["steps"] == 12


@pytest.mark.promise("errors")
def test_json_that_never_ends_and_a_folder_for_a_file_are_no_traceback(killed: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(killed, tmp_path / "run"))
    with (folder / "losses.jsonl").open("a") as file:
        file.write(DEEP + "\n")
    (folder / "machine.json").write_text(DEEP)
    assert trace.step(str(folder), 3).documents
    made.run(folder)
    (folder / "machine.json").unlink()
    (folder / "machine.json").mkdir()
    made.run(folder)
    assert storage.read_json(folder / "machine.json")[0]["rebuilt"]
