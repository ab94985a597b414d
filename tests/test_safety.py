"""Bias, toxicity and truthfulness in the report: results read back for the model they are of, and for no other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import made_model
import made_testsets
from puna import storage
from puna.errors import InputError
from puna.evaluate import results, run, stored
from puna.evaluate.answering import Model
from puna.evaluate.others import Other
from puna.evaluate.run import Result, Value, Wanted
from puna.evaluate.tables import TABLES
from puna.evaluate.tasks import PACK
from puna.formats import Newer
from puna.generate import load
from puna.generate.packed import pack
from puna.model.weights import write_model
from puna.report import facts, safety, tables

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A checkpoint of a run that was trained on nothing."""
    run_folder = tmp_path / "mine"
    made = run_folder / "checkpoints" / "step-000010"
    made.mkdir(parents=True)
    model, tokenizer = made_model.llama(context=96), made_model.tokenizer()
    write_model(made, model.config, model.state_dict(), tokenizer=tokenizer.digest)
    seal(made)
    (run_folder / "tokenizer").mkdir()
    (run_folder / "tokenizer" / "tokenizer.model").write_bytes(tokenizer.model)
    return made


def seal(checkpoint: Path) -> None:
    """Write the checkpoint's record of its files."""
    files = {each.name: each for each in checkpoint.iterdir() if each.is_file() and each.name != "checkpoint.json"}
    told = {name: {"size": each.stat().st_size, "digest": storage.digest(each)} for name, each in files.items()}
    (checkpoint / "checkpoint.json").write_text(json.dumps({"format": 1, "step": 10, "files": told}))


def ask(checkpoint: Path, data: Path, *names: str) -> list[Result]:
    loaded = load(checkpoint)
    digest = run.model_digest(checkpoint, loaded.tokenizer.digest, "f32")
    plans = run.plan([Wanted(PACK[name], 0) for name in names], data)
    folder = results.folder_of(checkpoint)
    found = run.evaluate(plans, Model(pack(loaded.model), loaded.tokenizer), folder, digest)
    results.write(
        folder, results.name_of(checkpoint), found, [], digest=digest, dtype="f32", energy={"cpu_seconds": 1.5}
    )
    return found


def test_what_was_asked_before_is_read_back_and_another_call_keeps_it(checkpoint: Path, tmp_path: Path) -> None:
    assert stored.of(checkpoint) == {}
    for name in ("crows_pairs", "winogender"):
        made_testsets.write(tmp_path / "data", name)
    (pairs,) = ask(checkpoint, tmp_path / "data", "crows_pairs")
    (sentences,) = ask(checkpoint, tmp_path / "data", "winogender")
    assert stored.of(checkpoint) == {("crows_pairs", 0): pairs, ("winogender", 0): sentences}
    ask(checkpoint, tmp_path / "data", "crows_pairs")
    assert stored.of(checkpoint).keys() == {("crows_pairs", 0), ("winogender", 0)}
    told = storage.read_json(results.folder_of(checkpoint) / results.NAME)
    assert told["energy"] == [{"cpu_seconds": 1.5}] * 3  # of each call, those before it too


def test_what_tasks_of_lm_eval_gave_before_stands_in_json_and_report(checkpoint: Path) -> None:
    found = [Other(name, "1", None, 6, 9, {"acc": Value(0.5, 0.25, 6)}, "lm-eval 0.4") for name in ("first", "second")]
    folder, digest = (
        results.folder_of(checkpoint),
        run.model_digest(checkpoint, load(checkpoint).tokenizer.digest, "f32"),
    )
    for each in found:
        results.write(folder, "mine", [], [], [each], digest=digest, dtype="f32", energy={})
    told = results.as_json(folder, "mine", [], [], found[1:])
    assert [[each["task"] for each in told[name]] for name in ("others", "earlier_others")] == [["second"], ["first"]]
    assert stored.read(checkpoint) == ({}, found[::-1])
    page = tables.asked(facts.read(checkpoint.parent.parent))
    assert "Other tasks" in page
    for each in found:
        assert f"{each.task}: 6 of 9 items; its first items, so that the numbers do not compare; version 1" in page
    assert page.count("0.5000") == page.count("0.2500") == 2


def test_results_of_other_weights_are_nobody_s(checkpoint: Path, tmp_path: Path) -> None:
    """Training went on under the same name: the numbers are not those of this model."""
    made_testsets.write(tmp_path / "data", "crows_pairs")
    ask(checkpoint, tmp_path / "data", "crows_pairs")
    other = made_model.llama(context=96, seed=7)
    write_model(checkpoint, other.config, other.state_dict(), tokenizer=made_model.tokenizer().digest)
    seal(checkpoint)
    assert stored.of(checkpoint) == {}


def test_a_damaged_or_newer_table_is_one_line_and_the_report_goes_on(checkpoint: Path) -> None:
    file = results.folder_of(checkpoint) / results.NAME
    file.parent.mkdir(parents=True)
    for told, error in (({"format": 99}, Newer), ({"format": 1}, InputError), ([], InputError)):
        file.write_text(json.dumps(told))
        with pytest.raises(error):
            stored.of(checkpoint)
    assert "results.json of the benchmarks" in facts.read(checkpoint.parent.parent).unreadable


def test_the_section_has_the_papers_rows_this_models_and_what_was_not_asked(checkpoint: Path, tmp_path: Path) -> None:
    made_testsets.write(tmp_path / "data", "crows_pairs")
    found = facts.read(checkpoint.parent.parent)
    bare = safety.section(found)
    assert bare.count("This model was not asked") == 4
    assert "LLaMA 65B" in bare
    (result,) = ask(checkpoint, tmp_path / "data", "crows_pairs")
    said = safety.section(facts.read(checkpoint.parent.parent))
    assert said.count("This model was not asked") == 3
    assert f"{100 * result.value.mean:.1f}" in said
    for number in (11, 12, 13, 14):
        assert f"Table {number}: {TABLES[number].title}" in said
    for name, _ in safety.SAYS:
        assert f"<strong>{name}</strong>" in said
