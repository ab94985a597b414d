"""lm-eval on both sides: its requests over a model of ours, and our pack in its own evaluator and command."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import made_model
from puna import storage
from puna.errors import InputError
from puna.evaluate import ranking, reference, run
from puna.evaluate.answering import Model, answers
from puna.evaluate.encoded import pair
from puna.evaluate.task import Answer, Choice, Prompt, Score
from puna.evaluate.tasks import PACK
from puna.generate import Generator
from puna.generate.packed import pack
from puna.model.llama import Llama

pytest.importorskip("lm_eval", reason="lm-eval is not installed: pip install 'puna[eval]'")
from lm_eval.api.instance import Instance
from lm_eval.evaluator import evaluate
from lm_eval.tasks import TaskManager

from puna.evaluate.harness import __main__ as writing
from puna.evaluate.harness import agreement
from puna.evaluate.harness.model import HarnessModel

pytestmark = pytest.mark.usefixtures("one_thread")
NAMES = ("boolq", "arc_challenge", "winogrande", "crows_pairs", "truthfulqa")
LIMIT = 3


@pytest.fixture(scope="module")
def llama() -> Llama:
    return made_model.llama(context=320)


@pytest.fixture(scope="module")
def harness(llama: Llama) -> HarnessModel:
    return HarnessModel(Generator(llama, made_model.tokenizer(), storage.place(".")))


def _asked(kind: str, *arguments: tuple[Any, ...]) -> list[Instance]:
    return [Instance(kind, {}, each, number) for number, each in enumerate(arguments)]


def test_its_requests_get_what_each_text_alone_gives(llama: Llama, harness: HarnessModel) -> None:
    tokenizer = made_model.tokenizer()
    texts = [("the cat and", " the hat"), ("the cat and ", "the bat"), ("", "the end"), ("naïve", " café, 東京 🦜")]
    found = harness.loglikelihood(_asked("loglikelihood", *texts))
    texts[1] = ("the cat and", " the bat")
    for told, (context, text) in zip(found, texts, strict=True):
        one = pair(tokenizer, Choice(context, text))
        assert told[0] == pytest.approx(reference.logprob(llama, one), abs=1e-3)
        assert told.tokens == len(one.choice)
    with torch.no_grad():
        ids = tokenizer.begin("the cat and")
        likeliest = int(llama.logits(torch.tensor([ids]))[0, -1].argmax())
    likely = tokenizer.decode([likeliest])
    if pair(tokenizer, Choice("the cat and", likely)).choice == (likeliest,):
        assert harness.loglikelihood(_asked("loglikelihood", ("the cat and", likely)))[0][1]
    assert harness.loglikelihood([]) == []


def test_whole_texts_are_scored_to_their_last_token(llama: Llama, harness: HarnessModel) -> None:
    text = made_model.TEXT
    ids = np.array(made_model.tokenizer().begin(text))
    (found,) = harness.loglikelihood_rolling(_asked("loglikelihood_rolling", (text,)))
    with torch.no_grad():
        logprobs = llama.logits(torch.tensor(ids[None, :-1]))[0].log_softmax(-1)
    assert found == pytest.approx(sum(float(logprobs[i, number]) for i, number in enumerate(ids[1:])), abs=1e-2)


def test_texts_are_made_and_settings_that_are_not_known_are_refused(llama: Llama, harness: HarnessModel) -> None:
    settings = {"until": ["\n", "."], "max_gen_toks": 9, "do_sample": False}
    asked = _asked("generate_until", ("the cat", settings), ("the end", {**settings, "until": "t"}))
    expected = [
        reference.answer(llama, made_model.tokenizer(), Prompt(text, stop, 9), alone=False)[0]
        for text, stop in (("the cat", ("\n", ".")), ("the end", ("t",)))
    ]
    assert harness.generate_until(asked) == expected
    with pytest.raises(InputError, match="a task asks for num_beams = 4; it may set until"):
        harness.generate_until(_asked("generate_until", ("the cat", {"num_beams": 4})))


def test_the_pack_in_its_evaluator_gives_the_numbers_of_ours(
    bench: Path, tmp_path: Path, llama: Llama, harness: HarnessModel
) -> None:
    names = writing.write(tmp_path, bench)
    assert "puna_naturalquestions_64shot" in names
    assert not any("humaneval" in name or "toxicity" in name for name in names)
    manager = TaskManager(include_path=str(tmp_path), include_defaults=False)
    wanted = [f"puna_{name}_0shot" for name in NAMES]
    tasks = manager.load(wanted)["tasks"]
    found = evaluate(harness, tasks, limit=LIMIT, bootstrap_iters=0, log_samples=False)["results"]
    model = Model(pack(llama), made_model.tokenizer())
    plans = run.plan([run.Wanted(PACK[name], 0) for name in NAMES], bench, limit=LIMIT)
    for name, result in zip(NAMES, run.evaluate(plans, model, tmp_path / "answers", "m"), strict=True):
        for metric, value in result.values.items():
            assert found[f"puna_{name}_0shot"][f"{metric},none"] == pytest.approx(value.mean, abs=1e-3), metric


class Peer:
    """What lm-eval asks of a model for texts, by the readable twin. nats: added to each text's score; shift: ids by
    which a border is another one."""

    def __init__(self, llama: Llama, nats: dict[str, float] | None = None, shift: int = 0) -> None:
        self.llama, self.nats, self.shift = llama, nats or {}, shift
        self.prefix_token_id = made_model.tokenizer().bos

    def tok_encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        tokenizer = made_model.tokenizer()
        return tokenizer.begin(text)[self.shift :] if add_special_tokens else tokenizer.encode(text)[self.shift :]

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool) -> list[tuple[float, bool]]:
        pairs = [pair(made_model.tokenizer(), Choice(*request.args)) for request in requests]
        texts = [request.args[1] for request in requests]
        known = [reference.logprob(self.llama, one) for one in pairs]
        return [(logprob + self.nats.get(text, 0.0), False) for logprob, text in zip(known, texts, strict=True)]


@pytest.mark.parametrize("name", ["openbookqa", "crows_pairs", "winogender"])
def test_answers_are_held_to_those_of_another_model(bench: Path, llama: Llama, name: str) -> None:
    model = Model(pack(llama), made_model.tokenizer())
    (plan,) = run.plan([run.Wanted(PACK[name], 0)], bench, limit=LIMIT)
    asked_all = {key: asked for key, (_, asked) in plan.questions.items()}
    ours = {one.key: one.answer for one in answers(model, asked_all, alone=plan.alone)}
    assert agreement.unlike_ids(Peer(llama), plan, model) == ""
    found = agreement.compare(plan, ours, agreement.asked_of(Peer(llama), plan))
    assert (found.items, found.unlike, found.ours) == (LIMIT, (), found.theirs)
    assert found.farthest <= agreement.TOLERANCE
    assert found.texts == sum((1 + plan.alone) * len(each.choices) for _, each in plan.questions.values())
    assert "is Pair(" in agreement.unlike_ids(Peer(llama, shift=1), plan, model)

    (key, (item, asked)) = next(iter(plan.questions.items()))
    worst = min(range(len(item.choices)), key=lambda n: ranking.value(asked.choices[n], ours[key][n], plan.norm))
    other = agreement.compare(plan, ours, agreement.asked_of(Peer(llama, {asked.choices[worst].text: 500.0}), plan))
    assert other.farthest == pytest.approx(500, abs=1)
    assert (key in other.unexplained) == (plan.norm != "answer")  # there both parts get the same


def test_two_best_that_a_rounding_turns_round_are_a_tie(bench: Path) -> None:
    (plan,) = run.plan([run.Wanted(PACK["piqa"], 0)], bench, limit=1)
    ((key, (_, asked)),) = plan.questions.items()

    def scored(*nats: float) -> dict[str, Answer]:
        lengths = [len(choice.text) - 1 for choice in asked.choices]
        return {key: tuple(Score(-length + more, 9) for length, more in zip(lengths, nats, strict=True))}

    near = agreement.TOLERANCE / 2
    tie = agreement.compare(plan, scored(near, 0.0), scored(0.0, near))
    assert (tie.ties, tie.unlike, tie.unexplained) == ((key,), (key,), ())
    apart = agreement.compare(plan, scored(1.0, 0.0), scored(0.0, 1.0))
    assert (apart.ties, apart.unlike, apart.unexplained) == ((), (key,), (key,))


@pytest.mark.prove
@pytest.mark.promise("alone")
def test_its_own_command_runs_the_pack_without_a_network(bench: Path, tmp_path: Path) -> None:
    """`lm_eval --model dummy --include_path`: every name is found, and nothing is asked of a hub."""
    writing.write(tmp_path / "pack", bench)
    command = [sys.executable, "-m", "lm_eval", "--model", "dummy", "--include_path", str(tmp_path / "pack")]
    command += ["--tasks", "puna_piqa_0shot,puna_mmlu_5shot,puna_triviaqa_5shot,puna_gsm8k_maj_8shot", "--limit", "2"]
    offline = {"HF_HOME": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    environment = {**os.environ, **offline, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    for name in ("puna_piqa_0shot", "puna_mmlu_5shot", "puna_triviaqa_5shot", "puna_gsm8k_maj_8shot"):
        assert name in done.stdout
