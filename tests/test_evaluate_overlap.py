"""Items that stand in the documents a run trained on: found as decontamination finds them, once, told and set apart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from made_checkpoint import begin, land
from made_tokens import document
from puna.data.document import Document, Origin, write_documents
from puna.evaluate import asking, overlap, run
from puna.evaluate.results import NAME
from puna.evaluate.run import Wanted
from puna.evaluate.tables import TABLES, filled
from puna.evaluate.tasks import PACK
from puna.evaluate.writing import latex
from puna.recipe_data import Decontaminate

pytestmark = pytest.mark.usefixtures("one_thread")

WORDS = [f"word{number}" for number in range(20)]


def _goal(number: int) -> str:
    """Sixteen words that no other item has in that order."""
    return " ".join(f"{WORDS[(number * 7 + place * (number + 1)) % len(WORDS)]}{number}" for place in range(16))


def _items(folder: Path, count: int = 6) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    lines = [{"goal": _goal(number), "sol1": "Heat.", "sol2": "Cool."} for number in range(count)]
    (folder / "valid.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "valid-labels.lst").write_text("1\n" * count)
    return folder


def _documents(run: Path, texts: list[str], name: str = "00000") -> None:
    made = [
        Document(document(number), "wikipedia", document(number), "en", text, Origin("d", "k", "f", 0, "", "t", "", ""))
        for number, text in enumerate(texts)
    ]
    write_documents(run / "documents" / "wikipedia" / f"{name}.parquet", made)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return land(begin(tmp_path / "run"), 10)


def _plans(folder: Path, limit: int | None = None) -> list[run.Plan]:
    return run.plan([Wanted(PACK["piqa"], 0)], folder, limit=limit)


TEXTS = [
    f"Something stands before. {_goal(1).upper()}, and behind it.",
    " ".join(_goal(2).split()[:12]) + " and so on",  # twelve words are not thirteen
    *[f"{number} times: {_goal(3)}" for number in range(11)],  # in more than ten documents
    *[f"{number} times: {_goal(4)}" for number in range(10)],
]


def _plain(texts: list[str], folder: Path) -> set[str]:
    """The readable twin: windows of thirteen words, by sets of tuples."""

    def windows(text: str) -> set[tuple[str, ...]]:
        words = "".join(c if c.isalnum() or c == "_" else " " for c in text.lower()).split()
        return {tuple(words[place : place + 13]) for place in range(len(words) - 12)}

    seen = [windows(text) for text in texts]
    found = set()
    for key, (item, _) in _plans(folder)[0].questions.items():
        times = [sum(gram in each for each in seen) for gram in windows(item.question)]
        if any(0 < count <= 10 for count in times):
            found.add(key)
    return found


def test_what_shares_thirteen_words_is_found_but_for_what_many_documents_have(tmp_path: Path, checkpoint: Path) -> None:
    folder = _items(tmp_path / "piqa")
    _documents(checkpoint.parent.parent, TEXTS[:9])
    _documents(checkpoint.parent.parent, TEXTS[9:], "00001")
    (plan,) = overlap.compared(_plans(folder), checkpoint)
    assert plan.found is not None
    questions = {plan.questions[key][0].question for key in plan.found}
    assert questions == {_goal(1), _goal(4)}
    assert plan.found == _plain(TEXTS, folder)


def test_the_pass_is_made_once_and_again_where_something_changed(
    tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, whole = _items(tmp_path / "piqa"), checkpoint.parent.parent
    _documents(whole, TEXTS)
    looked: list[list[str]] = []

    def look(items: Any, shards: Any, values: Decontaminate) -> Any:
        looked.append(list(items))
        return real(items, shards, values)

    real = overlap.look
    monkeypatch.setattr(overlap, "look", look)
    first = overlap.compared(_plans(folder), checkpoint)
    few = overlap.compared(_plans(folder, limit=2), checkpoint)
    assert looked == [["piqa"]]
    assert first[0].found is not None
    assert few[0].found == first[0].found & few[0].questions.keys()
    _documents(whole, [*TEXTS, _goal(0)])
    (again,) = overlap.compared(_plans(folder), checkpoint)
    assert len(again.found or ()) == len(first[0].found) + 1
    _items(folder, 7)
    overlap.compared(_plans(folder), checkpoint)
    assert len(looked) == 3
    kept = whole / "evaluations" / "benchmarks" / overlap.NAME
    for text in ("[]", "{}", '{"format": 1, "benchmarks": 3}'):
        kept.write_text(text)
        assert overlap.compared(_plans(folder), checkpoint)[0].found == again.found
    assert len(looked) == 6


def test_a_model_without_a_run_is_compared_with_nothing(tmp_path: Path, checkpoint: Path) -> None:
    plans = _plans(_items(tmp_path / "piqa"))
    assert overlap.compared(plans, checkpoint) == plans  # a run without documents
    assert overlap.compared(plans, tmp_path / "imported" / "model") == plans


def test_found_items_are_said_marked_and_the_score_without_them_stands_beside(
    tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, whole = _items(tmp_path / "piqa"), checkpoint.parent.parent
    _documents(whole, TEXTS)
    asked = asking.Asking([Wanted(PACK["piqa"], 0)], (), folder, lambda folder: {})
    found = asking.ask(whole, asked)
    said = capsys.readouterr()
    assert "PIQA: 2 of 6 items share text with documents that this run trained on; the score without" in said.err
    (result,) = found.results
    (stored,) = json.loads((found.folder / NAME).read_text())["results"]
    assert (result.found, stored["found"]) == (2, 2)
    assert result.clean["accuracy"].items == stored["clean"]["accuracy"]["items"] == 4
    table = filled(TABLES[3], found.results, "mine")
    assert table.rows[-1].cells[1].endswith(" †")
    assert table.rows[-1].cells[0] == "-"
    note = "† PIQA: 2 of the 6 items share text with documents that the model trained on; accuracy without them: "
    assert any(each.startswith(f"{note}{result.clean['accuracy'].mean:.4f}") for each in table.notes)
    assert r"$\dagger$" in latex(table)
    assert " † |" in asking.as_text(found)
    lines = (folder / "valid.jsonl").read_text()
    (folder / "valid.jsonl").write_text(lines.replace("Cool.", "Chill."))
    left = asking.ask(whole, asking.Asking(asked.wanted, (), folder, lambda folder: {}, compare=False))
    assert left.results[0].found is None
    assert not left.results[0].clean
    said = capsys.readouterr()
    assert "PIQA: valid.jsonl is another file than when this was asked before; what changed" in said.err
