"""The model card: filled from the run that made the model, silent where its files are, sound to the hub's reader."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import made_finetune
import made_model
from made_finetune import SMALL, tune
from puna import convert
from puna.convert import own
from puna.convert.parts import Parts
from puna.cost.carbon import Account, Stage
from puna.evaluate import results
from puna.evaluate import run as running
from puna.evaluate.run import Result, Value
from puna.finetune.choose import Source
from puna.generate import load
from puna.publish import model_card, model_facts
from puna.publish.model_facts import ModelFacts, Text
from puna.report.facts import Facts

FIXTURE = Path(__file__).parent / "fixtures" / "run-1"


def read(card: str) -> Any:
    """What the hub's own reader makes of it."""
    return huggingface_hub.ModelCard(card)  # type: ignore[no-untyped-call]


def result(task: str, metric: str, value: Value, **more: Any) -> Result:
    values: dict[str, Any] = {"values": {metric: value}, "groups": {}, "files": {}} | more
    return Result(task, 1, 0, metric, "token", "token", value.items, 1508, 0, 0, **values)


PAIRS = result(
    "crows_pairs", "stereotype", Value(0.5, 0.05, 100, (0.4, 0.6), 100),
    groups={"age": {"stereotype": Value(0.25, 0.1, 20, (0.1, 0.45), 20)}},
)  # fmt: skip


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A finished run of one source, of an earlier version."""
    return Path(shutil.copytree(FIXTURE, tmp_path / "small"))


def test_an_export_has_the_card_of_its_run(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    convert.export(run, "hf", out, card=model_card.of(run), licence="apache-2.0")
    card = read((out / "README.md").read_text())
    told = card.data.to_dict()
    assert told["license"] == "apache-2.0"
    assert told["language"] == ["en"]
    assert told["datasets"] == ["wikipedia"]
    assert told["library_name"] == "transformers"
    assert card.data.model_name == "small"
    scores = {each.dataset_type: each for each in card.data.eval_results}
    heldout = json.loads((run / "evaluations" / "heldout.json").read_text())["bits_per_byte"]
    assert scores["heldout-wikipedia"].metric_value == pytest.approx(heldout["wikipedia"]["model"], abs=1e-6)
    assert scores["heldout-wikipedia"].metric_type == "bits_per_byte"
    for said in (
        "| wikipedia | 100.0 % | 2.45 | 8 | en (8) | CC-BY-SA (8) |",
        "AdamW 0.9, 0.95, weight decay 0.1",
        "| tokens | 30,720 |",
        "| all | 1.365 | 1.056 (ngram) |",
        "Benchmarks: not evaluated.",
        "Not evaluated: RealToxicityPrompts, basic;",
        "Energy and emissions: not known.",
    ):
        assert said in card.text, said
    assert str(tmp_path) not in card.content


def test_benchmarks_stand_in_it_with_how_sure_they_are(run: Path) -> None:
    checkpoint = run / "checkpoints" / "step-000240"
    loaded = load(checkpoint)
    digest = running.model_digest(checkpoint, loaded.tokenizer.digest, "f32")
    boolq = result("boolq", "accuracy", Value(0.625, 0.25, 4))
    folder, name = results.folder_of(checkpoint), results.name_of(checkpoint)
    results.write(folder, name, [PAIRS, boolq], [], digest=digest, dtype="f32")
    card = read(model_card.of(run)(own.read(run), ""))
    for said in (
        "| BoolQ, 0-shot | accuracy | 0.6250, standard error 0.2500 | 4 of 1,508 items |",
        "| CrowS-Pairs, 0-shot | stereotype | 0.5000, 95 % interval [0.4000, 0.6000] | 100 of 1,508 items |",
        "| CrowS-Pairs, 0-shot: age | stereotype | 0.2500, 95 % interval [0.1000, 0.4500] | 20 |",
        "bootstrap samples, seed 1, over 100 pairs of sentences",
    ):
        assert said in card.text, said
    scores = {each.dataset_type: each for each in card.data.eval_results}
    assert scores["boolq"].metric_value == 0.625
    assert scores["crows_pairs"].metric_name.startswith("stereotype, 95 % interval")
    # The same scores of other weights are not this model's.
    results.write(folder, name, [PAIRS, boolq], [], digest="another", dtype="f32")
    assert "Benchmarks: not evaluated." in model_card.of(run)(own.read(run), "")


def test_an_older_checkpoint_has_no_scores_of_the_newest(run: Path) -> None:
    later = run / "checkpoints" / "step-000480"
    shutil.copytree(run / "checkpoints" / "step-000240", later)
    card = model_card.of(run / "checkpoints" / "step-000240")(own.read(run), "")
    assert "bits_per_byte" not in card
    assert "Trained from nothing." in card
    assert "| wikipedia | 100.0 % |" in card


def test_emissions_are_in_grams_and_never_a_zero_that_nobody_measured(run: Path) -> None:
    told = model_facts.of(run)
    parts = own.read(run)
    assert "co2_eq_emissions" not in model_card.text(told, parts)
    known = Account((Stage("training", 3600.0, 2.0, "formula"),), 0.385, 1.1, 100.0, 4, ())
    with_energy = ModelFacts(told.run, told.newest, told.texts, known, known=told.known)
    card = read(model_card.text(with_energy, parts))
    assert card.data.to_dict()["co2_eq_emissions"]["emissions"] == pytest.approx(770.0)
    assert card.data.to_dict()["co2_eq_emissions"]["hardware_used"] == "a processor, 1 threads"
    assert "2 kWh and 0.77 kg CO2eq" in card.text
    assert "by the formula of the paper" in card.text


def test_a_finetuned_model_says_what_it_learnt_and_from_which_model(tmp_path: Path) -> None:
    base = made_finetune.model(tmp_path / "base")
    data = made_finetune.data(tmp_path / "pairs.jsonl")
    tune(base, [Source(data)], tmp_path / "tuned", SMALL)
    parts = own.read(tmp_path / "tuned")
    card = read(model_card.of(tmp_path / "tuned")(parts, ""))
    assert "Finetuned on instructions from base." in card.text
    assert "| pairs.jsonl | 1 | " in card.text
    assert "Loss of held-out answers" in card.text
    assert json.dumps(parts.chat_template, ensure_ascii=False) in card.text
    assert "apply_chat_template" in card.text
    assert "finetuned" in card.data.tags
    steps = [{"step": "train", "energy": {"cpu_seconds": 9.0, "package_joules": 3.6e6, "share": 0.5}}]
    (tmp_path / "tuned" / "energy.json").write_text(json.dumps({"format": 1, "steps": steps}))
    card = read(model_card.of(tmp_path / "tuned")(parts, ""))
    emissions = card.data.to_dict()["co2_eq_emissions"]
    assert emissions["emissions"] == pytest.approx(1000 * 0.5 * 1.1 * 0.385)
    assert emissions["training_type"] == "fine-tuning"
    assert "0.55 kWh and 0.2" in card.text
    assert "kg CO2eq for the finetuning alone" in card.text
    assert str(tmp_path) not in card.content


def test_of_an_imported_model_nothing_is_claimed(tmp_path: Path) -> None:
    model = made_finetune.model(tmp_path / "given")
    card = model_card.of(model)(own.read(model), "")
    assert "Training data" not in card
    assert "not evaluated" in card
    assert read(card).data.to_dict().keys() == {"license", "library_name", "pipeline_tag", "tags"}


@given(
    st.text(max_size=30), st.text(max_size=20), st.text(max_size=20), st.floats(0, 1e-7), st.text(max_size=20)
)  # fmt: skip
@settings(deadline=None, max_examples=60)
def test_no_name_breaks_the_card(name: str, licence: str, language: str, value: float, processor: str) -> None:
    """Whatever a recipe, a document or a processor is called, and however small a number is."""
    mixture = {"sources": {"wikipedia": {"windows": 3, "epochs": 1.0}}}
    facts = Facts(name=name, mixture=mixture, machine=[{"cpu": processor, "threads": 1}])
    text = Text(3)
    text.languages[language], text.licences[licence] = 3, 3
    carbon = Account((Stage("training", 1.0, value, "measured"),), 0.385, 1.1, None, 1, ())
    known = {("crows_pairs", 0): result("crows_pairs", "stereotype", Value(value, value, 2))}
    told = ModelFacts(facts, True, {"wikipedia": text}, carbon, known=known)
    model = made_model.llama(context=32)
    parts = Parts(model.config, {"a": torch.zeros(2, 3)}, made_model.tokenizer(), name=name)
    card = read(model_card.text(told, parts, licence))
    assert card.data.to_dict()["license"] == (licence or "other")
    assert card.data.eval_results[0].metric_value == pytest.approx(value, abs=1e-6)
    assert card.text.lstrip().startswith("# ")
    assert card.data.to_dict()["co2_eq_emissions"]["emissions"] == pytest.approx(385 * value, abs=1e-6)
