"""Questions over a model: answers are those of each text alone in any batch; what is kept, cut, drawn, refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import made_model
from puna.errors import InputError
from puna.evaluate import chosen, encoded, reference, run
from puna.evaluate.answering import Answered, Model, answers, tokens_a_second
from puna.evaluate.task import Answer, Asked, Choice, Prompt, Ranking, Score
from puna.evaluate.tasks import PACK
from puna.generate.packed import pack
from puna.testsets import Item

pytestmark = pytest.mark.usefixtures("one_thread")

TOLERANCE = 1e-4  # nats a token
CONTEXT = 320


@pytest.fixture(scope="module")
def llama() -> torch.nn.Module:
    return made_model.llama(context=CONTEXT)


@pytest.fixture(scope="module")
def model(llama: torch.nn.Module) -> Model:
    return Model(pack(llama), made_model.tokenizer())  # type: ignore[arg-type]


def _with_slots(model: Model, slots: int) -> Model:
    return Model(model.packed, model.tokenizer, slots)


def _asked(bench: Path, *names: str, limit: int = 3) -> dict[str, Asked]:
    plans = run.plan([run.Wanted(PACK[name], 0) for name in names], bench, limit=limit)
    return {f"{plan.wanted.name} {key}": asked for plan in plans for key, (_, asked) in plan.questions.items()}


def _known(model: Model, asked: dict[str, Asked], *, alone: bool = True) -> dict[str, Answer]:
    return {found.key: found.answer for found in answers(model, asked, alone=alone)}


def _assert_alike(left: Answer, right: Answer) -> None:
    assert len(left) == len(right)
    for one, other in zip(left, right, strict=True):
        if isinstance(one, str):
            assert one == other
            continue
        assert isinstance(other, Score)
        assert one.tokens == other.tokens
        assert one.logprob == pytest.approx(other.logprob, abs=TOLERANCE * max(1, one.tokens))
        assert (one.alone is None) == (other.alone is None)
        if one.alone is not None:
            assert one.alone == pytest.approx(other.alone, abs=TOLERANCE * max(1, one.tokens))


RANKED = ("piqa", "siqa", "hellaswag", "winogrande", "arc_challenge", "openbookqa", "crows_pairs", "winogender")


def test_real_items_are_scored_as_each_text_alone(bench: Path, llama: torch.nn.Module, model: Model) -> None:
    asked = _asked(bench, *RANKED, "boolq", limit=2)
    known = _known(model, asked)
    assert known.keys() == asked.keys()
    for key, each in asked.items():
        _assert_alike(known[key], reference.answer(llama, model.tokenizer, each, alone=True))  # type: ignore[arg-type]


def test_real_questions_are_answered_as_each_alone(bench: Path, llama: torch.nn.Module, model: Model) -> None:
    asked: dict[str, Asked] = {
        key: Prompt(each.text, each.stop, 12)
        for key, each in _asked(bench, "naturalquestions", "gsm8k", limit=2).items()
        if isinstance(each, Prompt)
    }
    known = _known(model, asked)
    for key, each in asked.items():
        _assert_alike(known[key], reference.answer(llama, model.tokenizer, each, alone=False))  # type: ignore[arg-type]


def test_neither_batch_nor_order_changes_an_answer(bench: Path, model: Model) -> None:
    asked = _asked(bench, "arc_easy", "piqa", "naturalquestions", limit=3)
    first = _known(_with_slots(model, 1), asked)
    for slots in (7, 64):
        known = _known(_with_slots(model, slots), dict(reversed(asked.items())))
        for key in asked:
            _assert_alike(first[key], known[key])


def test_samples_follow_from_the_item_alone(model: Model) -> None:
    asked: dict[str, Asked] = {str(number): Prompt("the cat", (), 6, 3, 0.9, 0.95) for number in range(4)}
    known = _known(_with_slots(model, 5), asked)
    assert len({text for texts in known.values() for text in texts}) > 4
    assert _known(_with_slots(model, 2), {"2": asked["2"]}) == {"2": known["2"]}


@given(st.text(max_size=12), st.text(max_size=12))
@settings(deadline=None)
def test_no_part_of_a_text_is_lost_at_the_border(context: str, text: str) -> None:
    tokenizer = made_model.tokenizer()
    found = encoded.pair(tokenizer, Choice(context, text))
    assert [*found.context, *found.choice] == tokenizer.begin(context + text)
    assert found.context[0] == tokenizer.bos
    spelt = tokenizer.decode_bytes(found.context)
    assert context.encode().startswith(spelt)
    if context + text != context:
        assert found.choice


def test_a_text_without_a_context_has_one_where_a_tokenizer_begins_none(model: Model) -> None:
    class Bare(type(made_model.tokenizer())):  # type: ignore[misc]  # as SmolLM2's, whose texts begin without <s>
        def begin(self, text: str) -> list[int]:
            return self.encode(text) or [self.bos]

    bare = Bare(made_model.tokenizer().model)
    found = encoded.pair(bare, Choice("", "the cat"))
    assert found == encoded.Pair((bare.bos,), tuple(bare.encode("the cat")))
    asked: dict[str, Asked] = {"pair": Ranking((Choice("", "the cat"), Choice("", "the hat")))}
    assert len(_known(Model(model.packed, bare), asked, alone=False)["pair"]) == 2


@given(st.text(max_size=40), st.lists(st.text(max_size=20), min_size=1, max_size=4), st.integers(2, 40))
@settings(deadline=None)
def test_what_does_not_fit_loses_its_beginning_alike_for_all_choices(context: str, texts: list[str], most: int) -> None:
    tokenizer = made_model.tokenizer()
    asked = Ranking(tuple(Choice(context, text) for text in texts))
    whole = encoded.ranking(tokenizer, asked, 1000, alone=True)
    found = encoded.ranking(tokenizer, asked, most, alone=True)
    assert not whole.cut
    assert found.cut == (whole.size > most or found != whole)
    assert found.size <= most
    for before, after in zip(whole.pairs, found.pairs, strict=True):
        assert after.context[0] == tokenizer.bos
        assert after.context[1:] == before.context[len(before.context) - len(after.context) + 1 :]
        assert after.choice == before.choice[: most - 1]


def test_a_cut_item_is_counted(model: Model) -> None:
    asked: dict[str, Asked] = {"long": Ranking((Choice("x" * 500, " a"),)), "short": Ranking((Choice("x", " a"),))}
    asked["prompt"] = Prompt("y" * 500, (), 4)
    assert {one.key: one.cut for one in answers(model, asked, alone=False)} == {
        "long": True,
        "short": False,
        "prompt": True,
    }


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("humaneval", "humaneval: runs programs that the model wrote; give --allow-code, or leave it out"),
        ("realtoxicityprompts", "realtoxicityprompts: needs scores of its continuations; give --toxicity perspective"),
    ],
)
def test_what_nobody_judges_is_refused_in_one_line(tmp_path: Path, name: str, line: str) -> None:
    with pytest.raises(InputError) as caught:
        run.plan([run.Wanted(PACK[name], 0)], tmp_path)
    assert str(caught.value).startswith(line)


def test_numbers_are_means_with_their_standard_error(tmp_path: Path) -> None:
    items = [Item("crows_pairs", "test", str(n), "", "", ("a", "b"), extra={"bias": "ab"[n % 2]}) for n in range(4)]
    asked = Ranking((Choice("", "a"), Choice("", "b")))
    plan = run.Plan(
        run.Wanted(PACK["crows_pairs"], 0),
        "token",
        {item.id: (item, asked) for item in items},
        PACK["crows_pairs"].judge,
        chosen.Items(tmp_path, {}, (), {}),
    )
    better, worse = Score(-1.0, 1), Score(-2.0, 1)
    known = {str(n): (better, worse) if n != 1 else (worse, better) for n in range(4)}
    result = run.judged(plan, known, cut=1)
    assert result.value == run.Value(0.75, pytest.approx(0.25), 4, (0.25, 1.0), 4)
    assert (result.items, result.of, result.cut) == (4, 1508, 1)
    assert result.groups["a"]["stereotype"] == run.Value(1.0, 0.0, 2, None, 2)
    assert result.groups["b"]["stereotype"] == run.Value(0.5, pytest.approx(0.5), 2, (0.0, 1.0), 2)


@pytest.mark.promise("resume")
def test_what_is_answered_is_not_asked_again(
    bench: Path, tmp_path: Path, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def counting(model: Model, questions: dict[str, Asked], *, alone: bool) -> Iterator[Answered]:
        for found in answers(model, questions, alone=alone):
            asked.append(found.key)
            yield found

    monkeypatch.setattr(run, "answers", counting)
    (few,) = run.plan([run.Wanted(PACK["arc_easy"], 0)], bench, limit=2)
    (more,) = run.plan([run.Wanted(PACK["arc_easy"], 0)], bench, limit=4)
    location = tmp_path / "answers.jsonl"
    run.answer(few, model, location, "a model")
    assert set(asked) == set(few.questions)
    whole = run.answer(more, model, location, "a model")
    assert sorted(asked) == sorted(more.questions)
    kept = location.read_bytes()
    location.write_bytes(kept[:-7])  # a killed process leaves a half line
    advanced: list[int] = []
    assert run.answer(more, model, location, "a model", advance=lambda: advanced.append(1)) == whole
    assert (len(asked), len(advanced)) == (5, 4)
    (by_answer,) = run.plan([run.Wanted(PACK["arc_easy"], 0)], bench, limit=4, norm="answer")
    run.answer(by_answer, model, location, "a model")
    assert len(asked) == 9
    run.answer(more, model, location, "a model")
    assert len(asked) == 9
    with pytest.raises(InputError, match="holds answers of another model; give another --out, or remove that file"):
        run.answer(more, model, location, "another")


KILLED = """
import os, sys
from pathlib import Path
import torch
import made_model
from puna.evaluate import kept, run
from puna.evaluate.answering import Model
from puna.evaluate.tasks import PACK
from puna.generate.packed import pack

torch.set_num_threads(1)
model = Model(pack(made_model.llama(context=320)), made_model.tokenizer(), 2)
(plan,) = run.plan([run.Wanted(PACK[sys.argv[3]], 0)], Path(sys.argv[1]), limit=6)
left = 3
def die():
    global left
    left -= 1
    if not left:
        os.kill(os.getpid(), 9)
run.answer(plan, model, Path(sys.argv[2]), "a model", advance=die)
"""


@pytest.mark.promise("resume")
@pytest.mark.parametrize("task", ["piqa", "naturalquestions"])  # choices are scored, texts are made
def test_killed_it_keeps_what_was_answered_and_ends_alike(task: str, bench: Path, tmp_path: Path, model: Model) -> None:
    location = tmp_path / "killed.jsonl"
    command = [sys.executable, "-c", KILLED, str(bench), str(location), task]
    paths = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": paths}, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    lines = [json.loads(line) for line in location.read_text("utf-8").splitlines()]
    assert len(lines) == 1 + 3
    (plan,) = run.plan([run.Wanted(PACK[task], 0)], bench, limit=6)
    mine = _with_slots(model, 2)
    again = run.answer(plan, mine, location, "a model")
    kept = [json.loads(line) for line in location.read_text("utf-8").splitlines()]
    assert kept[:4] == lines
    undisturbed = run.answer(plan, mine, tmp_path / "whole.jsonl", "a model")
    assert (len(kept), again.values) == (1 + 6, undisturbed.values)
    whole = (tmp_path / "whole.jsonl").read_text("utf-8").splitlines()
    assert sorted(one.get("texts", []) for one in kept) == sorted(json.loads(one).get("texts", []) for one in whole)


def test_the_speed_of_drawing_is_tried(model: Model) -> None:
    assert tokens_a_second(model, Prompt("the cat", (), 8, 4, 0.6, 0.95), 0.05) > 0
