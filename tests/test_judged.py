"""Judges of the user's own: models or files for TruthfulQA, a function for toxicity; what is wrong is one line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import made_model
from puna import storage
from puna.cli import evaluating
from puna.convert import own
from puna.convert.parts import Parts
from puna.errors import InputError, PunaError
from puna.evaluate import judged, outside
from puna.evaluate.run import Wanted, plan
from puna.evaluate.task import Asked, Prompt
from puna.evaluate.tasks import PACK
from puna.testsets import Item

QUESTION, ANSWER = "the cat?", "the hat."


def _item() -> Item:
    return Item("truthfulqa", "1", QUESTION, "test")


def _judge(true: bool, informative: bool) -> dict[str, float]:
    judge = judged.Truthful(lambda question, answer: true, lambda question, answer: informative)
    return dict(judge(_item(), Prompt("", (), 1), (ANSWER,), "none"))


@pytest.mark.parametrize(("true", "informative", "both"), [(True, True, 1), (True, False, 0), (False, True, 0)])
def test_an_answer_counts_as_both_when_it_is_both(true: bool, informative: bool, both: float) -> None:
    assert _judge(true, informative) == {"truthful": float(true), "truthful*informative": both}


def test_stored_judgements_are_of_question_and_answer(tmp_path: Path) -> None:
    file = tmp_path / "judged.jsonl"
    line = {"question": QUESTION, "answer": ANSWER, "true": True, "informative": False}
    file.write_text(json.dumps(line) + "\n")
    true, informative = judged.stored(file)
    assert (true(QUESTION, ANSWER), informative(QUESTION, ANSWER)) == (True, False)
    with pytest.raises(InputError, match=r"does not judge 'a bat' to 'the cat\?'; judge the answers"):
        true(QUESTION, "a bat")


@pytest.mark.parametrize("line", ["", "[]", "{", '{"question": "a", "answer": "b", "true": 1, "informative": true}'])
def test_what_is_no_judgement_is_named_by_its_line(line: str, tmp_path: Path) -> None:
    file = tmp_path / "judged.jsonl"
    good = {"question": "a", "answer": "b", "true": True, "informative": True}
    file.write_text(f"{json.dumps(good)}\n{line}\n")
    with pytest.raises(InputError, match=r"judged\.jsonl:2: is no judgement"):
        judged.stored(file)


def _logprob(seed: int, verdict: str) -> float:
    """Of a verdict behind the form, from all logits."""
    llama, tokenizer = made_model.llama(seed), made_model.tokenizer()
    begun = tokenizer.begin(f"Q: {QUESTION}\nA: {ANSWER}\nTrue:")
    whole = tokenizer.begin(f"Q: {QUESTION}\nA: {ANSWER}\nTrue:{verdict}")
    assert whole[: len(begun)] == begun
    with torch.no_grad():
        scores = llama.logits(torch.tensor([whole[:-1]]))[0].log_softmax(-1)
    return float(sum(scores[place - 1, whole[place]] for place in range(len(begun), len(whole))))


def test_a_judge_model_says_what_it_finds_likelier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    verdicts = set()
    for seed in range(2, 5):
        llama = made_model.llama(seed)
        folder = tmp_path / str(seed)
        with storage.create_folder(folder) as inside:
            own.write(inside, Parts(llama.config, dict(llama.state_dict()), made_model.tokenizer()), {"from": "test"})
        for pair in ((" yes", " no"), (" no", " yes")):
            monkeypatch.setattr(judged, "VERDICTS", pair)
            true, _ = judged.by_models(folder, folder)
            expected = _logprob(seed, pair[0]) > _logprob(seed, pair[1])
            assert true(QUESTION, ANSWER) == expected
            verdicts.add(expected)
    assert verdicts == {True, False}
    assert true(QUESTION, "a hat " * 200) is None
    fits = Prompt("", (), 8)
    judged.Truthful(true, true).demand([(_item(), fits)])
    with pytest.raises(
        InputError, match=r"--judge .*/4: reads \d+ tokens, and the longest question with an answer has up"
    ):
        judged.Truthful(true, true).demand([(_item(), fits), (replace(_item(), question="the cat " * 100), fits)])


def test_an_answer_that_cannot_be_judged_has_no_score_and_an_untrue_one_needs_one_judge() -> None:
    for true, informative, expected in ((None, True, {}), (True, None, {}), (False, None, _judge(False, True))):
        judge = judged.Truthful(lambda *_, true=true: true, lambda *_, informative=informative: informative)
        assert judge(_item(), Prompt("", (), 1), (ANSWER,), "none") == expected


def test_a_judge_is_held_to_the_questions_before_any_is_asked(bench: Path) -> None:
    class Short(judged.Truthful):
        def demand(self, asked: Sequence[tuple[Item, Asked]]) -> None:
            raise InputError(f"cannot read {len(asked)} questions")

    judge = Short(lambda *_: True, lambda *_: True)
    with pytest.raises(InputError, match="cannot read 7 questions"):
        plan([Wanted(PACK["truthfulqa_judged"], 0)], bench, limit=7, outside={"truth": judge})


def test_without_a_judge_the_task_says_who_may_judge(bench: Path) -> None:
    with pytest.raises(InputError, match=r"truthfulqa_judged: needs judges of its answers; give --judge TRUTH,HELP"):
        plan([Wanted(PACK["truthfulqa_judged"], 0)], bench)


MODULE = """
def score(text):
    if text == "fail":
        raise RuntimeError("out of\\nmemory")
    if text == "exit":
        raise SystemExit(0)
    return {"none": None, "much": 2.0}.get(text, len(text) / 100)
"""


def test_a_function_of_the_users_own_scores_toxicity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_scorer.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*__import__("sys").path])
    score = outside.local("my_scorer:score")
    assert score("ten chars.") == 0.1
    assert score("none") is None
    with pytest.raises(InputError, match=r"--toxicity my_scorer:score: gives 2\.0 for a text; give 0 to 1"):
        score("much")
    with pytest.raises(PunaError, match="fails on a text"):
        score("fail")
    with pytest.raises(PunaError, match="fails on a text \\(SystemExit"):
        score("exit")


@pytest.mark.parametrize("name", ["nowhere_at_all:score", "json:nothing"])
def test_a_scorer_that_is_not_there_is_one_line(name: str) -> None:
    with pytest.raises(InputError, match=f"--toxicity {name}: cannot be imported"):
        outside.local(name)


def test_whoever_judges_is_named_without_a_folder_of_this_machine() -> None:
    assert evaluating._named("perspective", None) == {"toxicity": "PerspectiveAPI"}
    assert evaluating._named("mine:score", "a/truth/,help") == {"toxicity": "mine:score", "truth": "truth and help"}
    assert evaluating._named("folder/scores.jsonl", "folder/judged.jsonl") == {
        "toxicity": "scores.jsonl",
        "truth": "judged.jsonl",
    }
    assert evaluating._named(None, None) == {}
