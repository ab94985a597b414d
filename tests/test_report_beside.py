"""What the report tells of a run beside its text and its training: energy, and models finetuned from it."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from puna.cost.carbon import TABLE_15, Account, Stage
from puna.model.weights import digest, read_tensors
from puna.report import energy, facts, finetuned
from puna.report.facts import Facts

FIXTURE = Path(__file__).parent / "fixtures" / "run-1"


def account(*stages: Stage) -> Facts:
    return Facts(name="mine", carbon=Account(stages, 0.5, 1.1, 100.0, 4, ()))


def test_the_stages_of_the_data_are_one_row_and_the_run_stands_below_the_papers_models() -> None:
    data = [Stage("reading and cleaning", 3600.0, 2.0, "measured"), Stage("encoding", 1800.0, 1.0, "formula")]
    said = energy.spent(account(*data, Stage("training", 7200.0, 4.0, "measured")))
    assert re.search("data, all its stages</th>.*?1.h.30.min</td>.*?>3.00000</td>.*?>measured and formula</td>", said)
    assert '<td class="n">7.00000</td><td class="n">3.50000</td>' in said
    assert (
        '<strong>mine</strong></th><td class="n">none</td><td class="n">0.007000</td><td class="n">0.003500</td>'
        in said
    )
    for row in TABLE_15:
        assert row.model in said


def test_energy_that_nobody_knows_is_no_zero_and_no_column() -> None:
    said = energy.spent(account(Stage("training", 7200.0, None, "unknown")))
    assert "kWh</th>" not in said
    assert "is no zero" in said
    assert "0.00000" not in said
    assert "Not there yet" in energy.spent(Facts())


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return Path(shutil.copytree(FIXTURE, tmp_path / "runs" / "mine"))


def finetune(run: Path, name: str, *, base: str = "mine", of: str = "") -> Path:
    """A finetuning beside the run, of its newest checkpoint unless `of` is another digest."""
    weights = digest(read_tensors(run / "checkpoints" / "step-000240" / "model.safetensors"))
    folder = run.parent / name
    (folder / "evaluations").mkdir(parents=True)
    (folder / "finetune.json").write_text(json.dumps({"format": 1, "model": {"name": base, "digest": of or weights}}))
    samples = [{"prompt": "<b>why?", "before": "the the", "after": "because"}]
    measured = {"answers": {"before": {"loss": 4.5}, "after": {"loss": 3.25}}, "samples": samples}
    (folder / "evaluations" / "finetune.json").write_text(json.dumps(measured))
    return folder


def test_answers_before_and_after_a_finetuning_of_this_run_are_shown(run: Path) -> None:
    assert "None lies beside this run" in finetuned.gallery(facts.read(run))
    finetune(run, "chat")
    finetune(run, "of-other-weights", of="xxh3:00")
    finetune(run, "of-another", base="another")
    damaged = finetune(run, "damaged")
    (damaged / "evaluations" / "finetune.json").write_text("{")
    found = facts.read(run)
    assert [name for name, _ in found.finetuned] == ["chat"]
    said = finetuned.gallery(found)
    assert "4.500 before, 3.250 after" in said
    assert "&lt;b&gt;why?" in said
    assert said.index("the the") < said.index("because")


def test_measures_of_another_shape_say_less_and_never_fail() -> None:
    for measured in (None, [], {"samples": 3}, {"samples": [3, {"prompt": None}]}, {"answers": {"before": 1}}):
        assert "chat" in finetuned.gallery(Facts(finetuned=(("chat", measured),)))
