"""The carbon account: Table 15 to the printed digit, three ways to an energy, and no zero that nobody measured."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

import typed
from puna import recipe
from puna.cost import carbon
from puna.cost.carbon import TABLE_15, of_records
from puna.report.energy import spent
from puna.report.facts import Facts

SAID = recipe.load("laptop").carbon
RAPL = {"cpu_seconds": 100.0, "package_joules": 36_000.0, "share": 0.5}


def _records(**energy: Any) -> dict[str, Any]:
    return {step.replace("_", "."): {"energy": taken} if taken else {} for step, taken in energy.items()}


@pytest.mark.parametrize("row", TABLE_15, ids=lambda row: row.model)
def test_table_15_is_recomputed_to_the_digit_that_the_paper_prints(row: carbon.Published) -> None:
    mwh, tonnes = row.again()
    assert mwh == pytest.approx(row.gpu_hours * 400 * 1.1 / 1e6)
    assert tonnes == pytest.approx(mwh * 0.385)
    assert round(tonnes) == row.tonnes
    if row.model == "LLaMA-65B":
        assert f"{mwh:.2f}" == "449.84"
        assert math.floor(mwh) == row.mwh
        assert "449.84" in row.note
    elif row.model == "BLOOM-175B":
        assert round(mwh) == 476
        assert row.mwh == 475
        assert "476.47" in row.note
    else:
        assert (round(mwh), row.note) == (row.mwh, "")


def test_the_published_rows_are_those_of_the_paper(bench: Path) -> None:
    told = json.loads((bench.parent / "paper_tables.json").read_text())["table15_carbon"]
    assert {row.model.removeprefix("LLaMA-"): (row.gpu_hours, row.mwh, row.tonnes) for row in TABLE_15} == {
        model: (each["gpu_hours"], each["mwh"], each["tco2eq"]) for model, each in told.items()
    }


def test_measured_energy_is_this_works_share_with_pue() -> None:
    found = of_records(SAID, _records(extract_wikipedia=RAPL, train=RAPL))
    assert [stage.name for stage in found.stages] == ["reading and cleaning", "training"]
    # 36 kJ x 0.5 x 1.1 are 5.5 Wh, twice.
    assert found.kwh == pytest.approx(0.011)
    assert found.how == "measured"
    assert found.as_json()["kg_co2eq"] == pytest.approx(0.011 * 0.385)


def test_by_the_formula_a_processor_counts_by_the_time_that_it_was_used() -> None:
    found = of_records(SAID, _records(train={"cpu_seconds": 7200.0}), watts=100, cores=4)
    # Two hours of one of four threads that take 100 W together: 50 Wh, and PUE.
    assert found.kwh == pytest.approx(0.055)
    assert found.how == "formula"


def test_a_stated_power_is_shared_by_the_threads_of_the_machine_that_did_the_work() -> None:
    """Whoever asks, as for a run that was moved, may have another number of them."""
    moved = {"cpu_seconds": 7200.0, "threads": 4}
    assert of_records(SAID, _records(train=moved), watts=100).kwh == pytest.approx(0.055)
    assert of_records(SAID, _records(train=moved), watts=100, cores=8).kwh == pytest.approx(0.0275)
    two = of_records(SAID, _records(train=moved, evaluate=moved | {"threads": 2}), watts=100)
    assert two.kwh == pytest.approx(0.165)
    assert "processor time / the hardware threads of each step's machine x 100 W" in carbon.as_text(two)


def test_energy_that_is_known_is_never_shown_as_zero() -> None:
    found = of_records(SAID, _records(train={"cpu_seconds": 0.05, "threads": 4}), watts=40)
    assert found.kwh == pytest.approx(0.05 / 4 * 40 * 1.1 / 3.6e6)
    text = carbon.as_text(found)
    assert "1.5e-07     5.9e-08  formula" in text
    assert "0.0000" not in text
    assert "1.5e-10 MWh, 5.9e-11 tCO2eq" in text


def test_energy_that_nobody_knows_is_unknown_and_not_zero() -> None:
    found = of_records(SAID, _records(train={"cpu_seconds": 7200.0}))
    assert found.kwh is None
    assert found.as_json()["kg_co2eq"] is None
    text = carbon.as_text(found)
    assert "Not in it: attempts that were interrupted" in text
    assert "unknown" in text
    assert "give --watts" in text
    assert "0.00000" not in text


def test_one_stage_that_is_unknown_leaves_the_whole_unknown() -> None:
    found = of_records(SAID, _records(train=RAPL, evaluate={"cpu_seconds": 1.0}))
    assert (found.kwh, found.how) == (None, "unknown")
    assert [stage.how for stage in found.stages] == ["measured", "unknown"]


def test_what_computed_and_was_not_counted_leaves_its_stage_unknown_and_is_named() -> None:
    """Of a training on GPUs that nobody counts, the processors' energy is the smallest part."""
    told = RAPL | {"unseen": ["GPUs whose energy cannot be read"]}
    for records in ({"train": told}, {"train": {"cpu_seconds": 5.0, "unseen": told["unseen"]}}):
        found = of_records(SAID, _records(extract_wikipedia=RAPL, **records), watts=100)
        assert [(stage.how, stage.kwh) for stage in found.stages] == [
            ("measured", pytest.approx(0.0055)),
            ("unknown", None),
        ]
        assert found.kwh is None
        assert found.as_json()["unseen"] == ["train (GPUs whose energy cannot be read)"]
        text = carbon.as_text(found)
        assert "more computed than was counted: train (GPUs whose energy cannot be read)." in text
        assert "give --watts" not in text
        assert "train (GPUs whose energy cannot be read)" in spent(Facts(carbon=found))
    assert of_records(SAID, _records(train=RAPL | {"unseen": 5})).how == "measured"  # damage is passed over


def test_gpus_that_were_counted_are_added() -> None:
    found = of_records(SAID, _records(train=RAPL | {"gpu_joules": 18_000.0}))
    assert found.kwh == pytest.approx(0.011)


def test_steps_of_an_older_puna_are_named() -> None:
    found = of_records(SAID, _records(train=RAPL, tokenizer=None))
    assert found.gaps == ("tokenizer",)
    assert "made by an older Puna: tokenizer" in carbon.as_text(found)


def test_what_was_evaluated_later_is_a_stage_of_its_own(tmp_path: Path) -> None:
    """Each call of `puna evaluate` that wrote into the run, as it told what it took; damage there is passed over."""
    told = {"a": {"energy": [RAPL, RAPL]}, "b": {"energy": "much"}, "c": [], "d": {"results": []}}
    for name, value in told.items():
        path = tmp_path / "evaluations" / "benchmarks" / name / "results.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(value))
    found = of_records(SAID, _records(train=RAPL) | carbon.asked_later(tmp_path))
    assert [(stage.name, stage.kwh) for stage in found.stages] == [
        ("training", pytest.approx(0.0055)),
        ("benchmarks asked later", pytest.approx(0.011)),
    ]
    assert carbon.asked_later(tmp_path / "none") == {}


def test_a_finetuning_tells_what_its_parts_took(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    steps = [{"step": "evaluate", "energy": RAPL}, {"step": "train", "energy": RAPL}, {"step": "train", "energy": RAPL}]
    (tmp_path / "energy.json").write_text(json.dumps({"format": 1, "steps": steps}))
    found = carbon.account(tmp_path)
    assert [(stage.name, stage.kwh) for stage in found.stages] == [
        ("training", pytest.approx(0.011)),
        ("evaluation", pytest.approx(0.0055)),
    ]
    (tmp_path / "model" / "benchmarks").mkdir(parents=True)
    (tmp_path / "model" / "benchmarks" / "results.json").write_text(json.dumps({"energy": [RAPL]}))
    assert carbon.account(tmp_path).stages[-1].name == "benchmarks asked later"
    (tmp_path / "energy.json").write_text('{"steps": [5]}')
    status, _, errors = typed.said(capsys, "carbon", tmp_path)
    assert status == 2
    assert "energy.json: is no account of energy; remove it" in errors


def test_a_folder_that_is_no_run_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, _, errors = typed.said(capsys, "carbon", tmp_path)
    assert status == 2
    assert "is not a run folder" in errors
