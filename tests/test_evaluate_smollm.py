"""A model of others under the pack: its answers are those that lm-eval's own Hugging Face backend gets of it.

Real items of every multiple-choice task, SmolLM2-135M-Instruct in f32: the same ids, each choice's log-probability, and
the choice of each item. `benchmarks/evaluate_agrees.py` does the same with every item.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import made_testsets
import model_of_others
import puna
from puna import testsets
from puna.evaluate import run
from puna.evaluate.answering import Model, answers
from puna.evaluate.run import Plan, Wanted
from puna.evaluate.task import Answer, Prompt
from puna.evaluate.tasks import PACK
from puna.generate.packed import pack

pytest.importorskip("lm_eval", reason="lm-eval is not installed: pip install 'puna[eval]'")
from puna.evaluate.harness import agreement

pytestmark = [pytest.mark.prove, pytest.mark.usefixtures("one_thread")]

# Items of each task, so that the peer, which reads each text by itself, takes some seconds for a task; benchmarks/
# evaluate_agrees.py asks more of them.
ITEMS = {
    ("boolq", 0): 4, ("piqa", 0): 8, ("siqa", 0): 8, ("hellaswag", 0): 5, ("winogrande", 0): 12,
    ("arc_easy", 0): 10, ("arc_challenge", 0): 5, ("openbookqa", 0): 12, ("race_middle", 0): 2, ("race_high", 0): 2,
    ("mmlu", 0): 12, ("mmlu", 5): 2, ("truthfulqa", 0): 2, ("crows_pairs", 0): 12, ("winogender", 0): 20,
}  # fmt: skip
SLOTTED = 8  # of them with three numbers of slots
MADE = ("race_middle", "race_high")  # no real items of theirs may be passed on


@pytest.fixture(scope="module")
def smollm2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model_of_others.imported(tmp_path_factory.mktemp("others") / "smollm2")


@pytest.fixture(scope="module")
def model(smollm2: Path) -> Model:
    loaded = puna.load(smollm2)
    return Model(pack(loaded.model), loaded.tokenizer)


@pytest.fixture(scope="module")
def peer(smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    exported = model_of_others.exported(smollm2, tmp_path_factory.mktemp("exported") / "hf")
    pytest.importorskip("accelerate", reason="accelerate is not installed, which lm-eval's backend needs")
    from lm_eval.models.huggingface import HFLM

    return HFLM(pretrained=str(exported), dtype="float32", device="cpu", batch_size=1)


@pytest.fixture(scope="module")
def planned(bench: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, int], Plan]:
    made = tmp_path_factory.mktemp("made")
    for name in MADE:
        made_testsets.write(made / name, name)

    def plan(name: str, shots: int) -> Plan:
        data = made / name if name in MADE else bench
        return run.plan([Wanted(PACK[name], shots)], data, limit=ITEMS[name, shots])[0]

    return plan


def _asked(plan: Plan, model: Model) -> dict[str, Answer]:
    asked = {key: asked for key, (_, asked) in plan.questions.items()}
    return {found.key: found.answer for found in answers(model, asked, alone=plan.alone)}


def test_no_task_that_ranks_is_left_out(tmp_path: Path) -> None:
    left = PACK.keys() - {name for name, _ in ITEMS}
    for name in left:
        benchmark = PACK[name].benchmark
        item = next(testsets.read(benchmark, made_testsets.write(tmp_path / name, benchmark)))
        assert isinstance(PACK[name].ask(item, ""), Prompt), name
    assert left


@pytest.mark.parametrize(("name", "shots"), ITEMS)
def test_each_item_is_answered_as_by_lm_evals_hugging_face_backend(
    name: str,
    shots: int,
    planned: Callable[[str, int], Plan],
    model: Model,
    peer: Any,
    proved: Callable[[str], None],
) -> None:
    plan = planned(name, shots)
    assert agreement.unlike_ids(peer, plan, model) == ""
    ours = _asked(plan, model)
    found = agreement.compare(plan, ours, agreement.asked_of(peer, plan))
    assert found.items == ITEMS[name, shots]
    assert found.farthest <= agreement.TOLERANCE
    assert found.unexplained == ()
    assert found.unlike or found.ours == found.theirs
    proved(
        f"SmolLM2-135M beside lm-eval's backend, {name} {shots}-shot: {found.items} items chosen alike, {found.texts} "
        f"texts at most {found.farthest:.0e} nats apart, {len(found.ties)} ties"
    )


@pytest.mark.parametrize(("name", "shots"), [("piqa", 0), ("arc_easy", 0), ("openbookqa", 0), ("mmlu", 0)])
def test_slots_of_1_7_and_64_give_the_same_answers(
    name: str, shots: int, planned: Callable[[str, int], Plan], model: Model
) -> None:
    whole = planned(name, shots)
    plan = replace(whole, questions=dict(list(whole.questions.items())[:SLOTTED]))
    known = {slots: _asked(plan, Model(model.packed, model.tokenizer, slots)) for slots in (1, 7, 64)}
    for other in (7, 64):
        found = agreement.compare(plan, known[1], known[other])
        assert found.farthest <= agreement.TOLERANCE
        assert found.unexplained == ()
