"""Scores held to those of lm-eval's own scorers, item by item on real files, where the two protocols coincide.

Where they differ it is said here, and the texts that show the difference are left out by a stated rule. The same scores
are held to examples worked by hand in test_evaluate_tasks.py and test_evaluate_worked.py.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import itertools
import random
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from puna import testsets
from puna.evaluate import exact, worked
from puna.evaluate.task import Choice, Ranking, Score
from puna.evaluate.tasks import PACK, programs
from puna.testsets.mathematics import boxed

pytest.importorskip("lm_eval", reason="lm-eval is not installed: pip install 'puna[eval]'")
from lm_eval.api.metrics import exact_match_hf_evaluate
from lm_eval.filters.extraction import RegexFilter

# Of its task nq_open: case and punctuation count for nothing, and articles go; but in these spellings only, so that
# answers with an article in capitals are left out here.
ARTICLES = ["\\b(?:The |the |An |A |The |a |an )"]
CAPITALS = re.compile(r"\b(?:THE|AN)\b")
# Of its task gsm8k.
STRICT, FLEXIBLE = RegexFilter(r"#### (\-?[0-9\.\,]+)"), RegexFilter(r"(-?[$0-9.,]{2,})|(-?[0-9]+)", group_select=-1)
IGNORED = [",", "\\$", "(?s).*#### ", "\\.$"]


def _exact(answer: str, right: str, ignored: list[str], *, punctuation: bool = True) -> bool:
    told = exact_match_hf_evaluate([answer], [right], ignored, ignore_case=True, ignore_punctuation=punctuation)
    return bool(told["exact_match"] == 1)


@pytest.mark.parametrize("benchmark", ["naturalquestions", "triviaqa"])
def test_free_answers_are_right_where_lm_evals_exact_match_says_so(
    bench: Path, benchmark: str, proved: Callable[[str], None]
) -> None:
    items = [item for item in testsets.read(benchmark, bench) if not CAPITALS.search(" ".join(item.answers))]
    compared, right = 0, 0
    for number, item in enumerate(items):
        first, other = item.answers[0], items[number - 1].answers[0]
        for answer in (*item.answers[:4], f"the {first}", f"{first}!", f"'{first}'", other, f"{first} {other}"):
            theirs = any(_exact(answer, each, ARTICLES) for each in item.answers)
            assert exact.exact(answer, item.answers) == theirs, (item.id, answer)
            compared, right = compared + 1, right + theirs
    assert 0 < right < compared
    proved(f"{benchmark}: {compared:,} answers of {len(items)} items judged as by lm-eval's exact match")


def test_answers_of_gsm8k_are_those_that_lm_evals_filters_find(bench: Path, proved: Callable[[str], None]) -> None:
    items = list(testsets.read("gsm8k", bench))
    for number, item in enumerate(items):
        solution = item.extra["solution"]
        ((gold,),) = STRICT.apply([[solution]], [{}])
        assert _exact(gold, item.answers[0], IGNORED, punctuation=False), item.id
        other = items[number - 1].answers[0]
        sums = (
            f"10 - 4 = {other}",
            f"The answer is 10 - 4 = {item.answers[0]}.",
            f"So 2 * 3 = 6\n#### {item.answers[0]}",
        )
        whole = f"{item.extra['plain']}\nThe answer is {item.answers[0]}."
        for made in (whole, f"So it is {other} in all.", "I see.", *sums):
            ((found,),) = FLEXIBLE.apply([[made]], [{}])
            theirs = _exact(found, solution, IGNORED, punctuation=False)
            judged = PACK["gsm8k"].judge(item, Ranking(()), (made,), "none")
            assert judged == {"accuracy": float(theirs)}, (item.id, made)
    proved(f"gsm8k: golds and {6 * len(items):,} answers of {len(items)} items as lm-eval's filters find them")


@pytest.fixture
def minerva(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """lm-eval's module of minerva_math without the programs for algebra that it asks for, which are not called here."""
    pytest.importorskip("sympy", reason="sympy is not installed: pip install 'puna[sample]'")
    version = importlib.metadata.version
    monkeypatch.setattr(
        importlib.metadata, "version", lambda name: "4.11" if name == "antlr4-python3-runtime" else version(name)
    )
    verify = ModuleType("math_verify")
    verify.parse = verify.verify = None  # type: ignore[attr-defined]
    for name, module in (("antlr4", ModuleType("antlr4")), ("math_verify", verify)):
        monkeypatch.setitem(sys.modules, name, module)
    yield importlib.import_module("lm_eval.tasks.minerva_math.utils")
    sys.modules.pop("lm_eval.tasks.minerva_math.utils", None)


def test_answers_of_math_are_one_where_minervas_normalisation_makes_them_one(
    bench: Path, minerva: ModuleType, proved: Callable[[str], None]
) -> None:
    """Ours makes more answers one, such as rational numbers. Where Minerva's says that two are one, so does ours."""
    items = list(testsets.read("math", bench))
    normalised = minerva.normalize_final_answer
    compared, ours_alone = 0, []
    for number, item in enumerate(items):
        solution, gold = item.extra["solution"], item.answers[0]
        assert minerva.remove_boxed(minerva.last_boxed_only_string(solution)) == boxed(solution), item.id
        other = items[number - 1].answers[0]
        spelt = [f"${gold}$", *(gold.replace(*each) for each in (("\\frac", "\\dfrac"), (" ", ""), (",\\!", ",")))]
        spelt += [] if "=" in gold else [f"x = {gold}", f"f(x)={gold}"]
        spelt += [] if "\\" in gold or "=" in gold else [f"\\text{{{gold}}}"]
        spelt += [f"{gold} units"] if re.search(r"\d\)?$|\\pi$|\d\}$", gold) else []
        for answer in (gold, *spelt, other):
            theirs = normalised(answer) == normalised(gold)
            mine = worked.same(worked.plain(answer), worked.plain(gold))
            assert mine or not theirs, (item.id, answer, gold)
            ours_alone += [(answer, gold)] if mine and not theirs else []
            compared += 1
    assert all("\\dfrac" in answer or worked.rational(worked.plain(gold)) is not None for answer, gold in ours_alone)
    proved(
        f"math: {compared:,} answers of {len(items)} items, none that Minerva's normalisation takes is refused; "
        f"{len(ours_alone)} are taken beyond it"
    )


@pytest.mark.parametrize("benchmark", ["piqa", "arc_challenge", "siqa"])
def test_accuracies_are_those_of_lm_evals_multiple_choice(
    bench: Path, benchmark: str, proved: Callable[[str], None]
) -> None:
    """Drawn log-probabilities of real choices: `acc` is ours without a norm, `acc_norm` ours by characters. lm-eval
    counts those of a choice as it stands, we those without white space around it."""
    datasets = pytest.importorskip("datasets", reason="datasets is not installed")
    from lm_eval.api.task import ConfigurableTask

    items = [item for item in testsets.read(benchmark, bench) if all(each == each.strip() for each in item.choices)]
    rows = [{"choices": list(item.choices), "gold": item.gold} for item in items]
    task = ConfigurableTask(
        config={
            "task": benchmark,
            "custom_dataset": lambda **_: {"test": datasets.Dataset.from_list(rows)},
            **{"output_type": "multiple_choice", "test_split": "test", "doc_to_text": ""},
            **{"doc_to_choice": "choices", "doc_to_target": "gold"},
            "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
        }
    )
    chance = random.Random(9)
    right = 0.0
    for item, row in zip(items, rows, strict=True):
        nats = [-chance.uniform(0.5, 3) * len(choice) ** 0.9 for choice in item.choices]
        theirs = task.process_results(row, [(each, False) for each in nats])
        asked = Ranking(tuple(Choice("", f" {choice}") for choice in item.choices))
        ours = PACK[benchmark].judge(item, asked, tuple(Score(each, 3) for each in nats), "char")
        assert (ours["accuracy/none"], ours["accuracy/char"]) == (theirs["acc"], theirs["acc_norm"]), item.id
        right += theirs["acc_norm"]
    assert 0 < right < len(items)
    proved(f"{benchmark}: acc and acc_norm of {len(items)} items are lm-eval's")


@pytest.mark.prove  # its module takes long to import
def test_the_share_of_true_answers_is_lm_evals_mc2(bench: Path, proved: Callable[[str], None]) -> None:
    theirs = pytest.importorskip("lm_eval.tasks.truthfulqa.utils", reason="lm-eval's truthfulqa cannot be imported")
    items = [item for item in testsets.read("truthfulqa", bench) if "mc2" in item.extra]
    chance = random.Random(9)
    for item in items:
        nats = [chance.uniform(-30, -1) for _ in (*item.choices, *item.extra["mc2"])]
        asked = PACK["truthfulqa"].ask(item, "")
        ours = PACK["truthfulqa"].judge(item, asked, tuple(Score(each, 3) for each in nats), "none")
        labels = {"mc2_targets": {"labels": [int(true) for _, true in item.extra["mc2"]]}}
        answers = [(each, False) for each in nats[len(item.choices) :]]
        assert ours["mc2"] == pytest.approx(theirs.process_results_mc2(labels, answers)["acc"])
    proved(f"truthfulqa: mc2 of {len(items)} items is lm-eval's")


def test_pass_at_k_is_that_of_lm_evals_cruxeval() -> None:
    """Its humaneval asks a hub for its scorer; the estimate of another of its tasks is the same formula."""
    theirs = importlib.import_module("lm_eval.tasks.cruxeval.utils")
    for samples, k in itertools.product((1, 2, 5, 20, 200), (1, 2, 10, 80, 100)):
        for passed in range(0, samples + 1, max(1, samples // 20)) if k <= samples else ():
            expected = theirs._pass_at_k(samples, passed, k)
            assert programs.pass_at(k, samples, passed) == pytest.approx(expected, abs=1e-12)
