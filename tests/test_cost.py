"""What each stage of the data cost is told from the records alone, whichever steps there are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from puna import cost, recipe, workflow
from puna.cost import carbon
from puna.data.brought import Look
from puna.data.pipeline import Located
from puna.steps import Context, Step, run_steps
from puna.storage import Place


def _record(seconds: float, **counts: Any) -> dict[str, Any]:
    return {"counts": counts, "work": {"tasks": 2, "seconds": seconds}, "seconds": seconds}


def test_every_step_of_a_run_is_work_on_data_or_behind_it(bench: Path) -> None:
    made = recipe.load("laptop", [f"evaluate.benchmarks={bench}"])
    inputs = {name: Located((), []) for name, source in made.sources.items() if source.inputs}
    steps = workflow.build(made, inputs, workflow.Options(), Look(names_only=True))
    stages = {step.name.partition(".")[0] for step in steps}
    assert {"tables", "cloze_items"} <= stages
    assert stages <= cost.LABELS.keys() | cost.BEHIND
    assert not cost.LABELS.keys() & cost.BEHIND
    assert cost.BEHIND - {"manifest", "mixture"} == carbon.STAGES.keys()


def test_stages_sum_over_sources_and_read_what_their_kind_reads() -> None:
    found = cost.stages(
        {
            "tokens.c4": _record(4.0, bytes=90),
            "extract.wikipedia": _record(2.0, input_bytes=100, kept={"bytes": 300}),
            "extract.c4": _record(3.0, input_bytes=50, kept={"bytes": 100}),
            "lines.c4": _record(1.0),
            "heldout": _record(1.0),
            "lm": _record(5.0, input_bytes=7),
            "strange.c4": _record(1.0),
            "strange": _record(1.0),
            "train": _record(100.0),
            "older.c4": {"counts": {}, "seconds": 9.0},
        }
    )
    assert list(found) == ["extract", "lines", "lm", "heldout", "tokens", "strange"]
    told = {name: (part.bytes, part.seconds) for name, part in found.items()}
    assert told["extract"] == (150, 5.0)
    assert told["lines"] == (100, 1.0)
    assert told["heldout"] == (400, 1.0)
    assert told["lm"] == (7, 5.0)
    assert told["tokens"] == (90, 4.0)
    assert told["strange"] == (100, 2.0)
    assert found["extract"].rate == 30.0
    assert found["lines"].label == "repeated paragraphs"
    assert {name: part.seconds for name, part in found["extract"].sources.items()} == {"wikipedia": 2.0, "c4": 3.0}
    assert found["lm"].as_json(17.0) == {
        "label": "language models trained",
        "bytes": 7,
        "seconds": 5.0,
        "share": 0.2941,
    }


def test_damaged_records_cost_nothing_and_end_nothing() -> None:
    assert (
        cost.stages({"extract.c4": {"work": 3, "counts": []}, "lines.c4": {}, "x": {"work": {"seconds": "much"}}}) == {}
    )


def _work(task: int, scratch: Place) -> dict[str, Any]:
    return {"task": task}


def test_a_steps_work_is_that_of_all_its_tasks_those_done_before_among_them(tmp_path: Path) -> None:
    stops: list[int] = [1]

    def work(context: Context) -> dict[str, Any]:
        results = context.map(_work, list(range(5)), label="tasks", name=str)
        if stops:
            raise KeyboardInterrupt
        return {"tasks": [result["task"] for result in results]}

    step = Step("extract.c4", work, ("{work}/*.parquet",))
    try:
        run_steps(tmp_path, [step], workers=1)
    except KeyboardInterrupt:
        stops.clear()
    (scratch,) = (tmp_path / "work" / "extract.c4").iterdir()
    for number in range(5):
        path = scratch / f"{number}.json"
        path.write_text(path.read_text().split('"seconds":')[0] + '"seconds": 100.0, "sizes": {}\n}')
    record = run_steps(tmp_path, [step], workers=1)["extract.c4"]
    assert record["counts"] == {"tasks": [0, 1, 2, 3, 4]}
    assert record["work"]["tasks"] == 5
    assert 500.0 <= record["work"]["seconds"] < 600.0
