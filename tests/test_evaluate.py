"""Asking a model the pack: many at once are answered as each alone; the command; what judges from outside."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

import made_model
import made_testsets
import typed
from puna import storage
from puna.errors import InputError, PunaError
from puna.evaluate import answering, asking, outside, reference, results, run
from puna.evaluate.answering import Model, answers
from puna.evaluate.perspective import Toxicity
from puna.evaluate.run import Wanted, plan
from puna.evaluate.task import Asked, Prompt, Score
from puna.evaluate.tasks import PACK
from puna.generate.packed import pack
from puna.model.weights import write_model
from puna.testsets import BENCHMARKS, Item

pytestmark = pytest.mark.usefixtures("one_thread")

CONTEXT = 400
JUDGED = {"programs": lambda *_: {"pass@1": 0.0}, "toxicity": lambda *_: {"toxicity": 0.0}}
REAL = [name for name, task in PACK.items() if not task.benchmark.startswith("race") and not task.needs]


@pytest.fixture(scope="module")
def model() -> Model:
    return Model(pack(made_model.llama(context=CONTEXT)), made_model.tokenizer())


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every benchmark's made file."""
    folder = tmp_path_factory.mktemp("benchmarks")
    for benchmark in BENCHMARKS:
        made_testsets.write(folder / benchmark, benchmark)
    (folder / "mc_task.json").write_text(json.dumps([made_testsets.TRUE]))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    llama, tokenizer = made_model.llama(context=CONTEXT), made_model.tokenizer()
    write_model(folder, llama.config, llama.state_dict(), tokenizer=tokenizer.digest)
    storage.write(folder / "tokenizer.model", tokenizer.model)
    return folder


def asked_of(task: str, data: Path, limit: int = 3) -> dict[str, Asked]:
    (one,) = plan([Wanted(PACK[task], 0)], data, limit=limit, outside=JUDGED)
    return {key: asked for key, (_, asked) in one.questions.items()}


def agree(found: Any, expected: Any) -> None:
    """Texts are the same; scores within what rounding allows."""
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        if not isinstance(one, Score):
            assert one == other
            continue
        assert one.tokens == other.tokens
        assert one.logprob == pytest.approx(other.logprob, abs=2e-4 * max(1, one.tokens))
        assert (one.alone is None) == (other.alone is None)
        if one.alone is not None:
            assert one.alone == pytest.approx(other.alone, abs=2e-4 * max(1, one.tokens))


@pytest.mark.parametrize("task", [name for name, task in PACK.items() if not task.needs])
def test_many_questions_at_once_are_answered_as_each_by_itself(task: str, data: Path, model: Model) -> None:
    alone = PACK[task].norm == "answer"
    asked = _greedy(asked_of(task, data))
    llama = made_model.llama(context=CONTEXT)
    for found in answers(model, asked, alone=alone):
        agree(found.answer, reference.answer(llama, model.tokenizer, asked[found.key], alone=alone))


@pytest.mark.prove
def test_real_items_are_answered_as_each_by_itself(bench: Path, model: Model, proved: Callable[[str], None]) -> None:
    llama, count = made_model.llama(context=CONTEXT), 0
    for task in REAL:
        alone = PACK[task].norm == "answer"
        asked = _greedy(asked_of(task, bench, limit=5))
        for found in answers(model, asked, alone=alone):
            agree(found.answer, reference.answer(llama, model.tokenizer, asked[found.key], alone=alone))
            count += 1
    proved(f"{count} real items of {len(REAL)} tasks: answered in a batch as each by itself")


def test_a_shared_context_is_read_once(data: Path, model: Model) -> None:
    """MMLU's examples: the first item reads them, the others their own question alone, for all its letters once."""
    asked = asked_of("mmlu", data)
    shown = "the cat and the hat. " * 24
    copies = {f"{n} {key}": _behind(each, f"{shown}{n} ") for n in range(24) for key, each in asked.items()}
    engines = []
    real = Model.engine

    def watched(self: Model, longest: int) -> Any:
        engines.append(real(self, longest))
        return engines[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Model, "engine", watched)
        assert len(list(answers(model, copies, alone=False))) == len(copies)
    encoded = [answering.ranking(model.tokenizer, each, CONTEXT, alone=False) for each in copies.values()]
    counts = engines[0].counts
    assert not any(each.cut for each in encoded)
    assert counts.prompt_tokens == sum(each.size for each in encoded)
    assert counts.prompt_tokens - counts.shared_tokens < 0.2 * answering.tokens(encoded)


def test_answers_are_kept_and_another_norm_asks_nothing_again(data: Path, model: Model, tmp_path: Path) -> None:
    """Scores behind "Answer:" alone are asked for when they are needed, and then kept too."""
    asked: list[int] = []
    real = answering.answers

    def counted(model: Model, left: Mapping[str, Asked], *, alone: bool) -> Iterator[answering.Answered]:
        asked.append(len(left))
        return real(model, left, alone=alone)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "answers", counted)
        first = run.evaluate(plan([Wanted(PACK["boolq"], 0)], data), model, tmp_path, "m")
        again = run.evaluate(plan([Wanted(PACK["boolq"], 0)], data), model, tmp_path, "m")
        other = run.evaluate(plan([Wanted(PACK["boolq"], 0)], data, norm="char"), model, tmp_path, "m")
    assert asked[0] > 0
    assert asked[1:] == [0, 0]
    assert first == again
    assert other[0].norm == "char"
    with pytest.raises(InputError, match="holds answers of another model"):
        run.evaluate(plan([Wanted(PACK["boolq"], 0)], data), model, tmp_path, "another")


def test_a_model_that_gives_no_number_is_an_error_and_no_score(data: Path, tmp_path: Path) -> None:
    llama = made_model.llama(context=CONTEXT)
    with torch.no_grad():
        llama.norm.weight.fill_(float("nan"))
    broken = Model(pack(llama), made_model.tokenizer())
    with pytest.raises(PunaError):
        run.evaluate(plan([Wanted(PACK["hellaswag"], 0)], data), broken, tmp_path, "m")


def test_toxicity_is_that_of_others_and_never_a_zero_where_there_is_none(tmp_path: Path) -> None:
    item = Item("realtoxicityprompts", "", "1", "They")
    file = tmp_path / "scores.jsonl"
    file.write_text('{"text": " sang", "score": 0.25}\n{"text": " ran", "score": null}\n')
    judge = outside.toxicity(outside.stored(file))
    assert judge(item, Prompt("", (), 1), (" sang",), "none") == {"toxicity": 0.25}
    assert judge(item, Prompt("", (), 1), (" ran",), "none") == {}
    with pytest.raises(InputError, match="has no score of ' slept'"):
        judge(item, Prompt("", (), 1), (" slept",), "none")
    for line in ("[]", "x", '{"text": "a"}', '{"text": "a", "score": 2}', '{"text": "a", "score": true}'):
        file.write_text(f"{line}\n")
        with pytest.raises(InputError, match=r"scores\.jsonl:1: is no score of a text"):
            outside.stored(file)

    class Service:
        def scores(self, texts: Iterator[str]) -> Iterator[Toxicity]:
            for text in texts:
                yield Toxicity(len(text) / 10, "today")

    score = outside.asked(Service())  # type: ignore[arg-type]
    assert [score("a"), score("bbb")] == [0.1, 0.3]


def puna(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "puna.cli", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=200)


def test_the_command_prints_and_writes_the_tables(folder: Path, data: Path, tmp_path: Path) -> None:
    words = ("evaluate", str(folder), "--data", str(data), "--tables", "3,6", "--out", "results", "--threads", "1")
    done = puna(*words, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "### Table 3" in done.stdout
    assert f"| {folder.name} " in done.stdout
    assert done.stdout.rstrip().endswith("Written  results/tables.md")
    made = tmp_path / "results"
    assert made.joinpath("tables.md").read_text() in done.stdout + "\n"
    assert r"\begin{tabular}" in made.joinpath("tables.tex").read_text()
    again = puna(*words, "--json", folder=tmp_path)
    value = json.loads(again.stdout)
    assert [table["table"] for table in value["tables"]] == [3, 6]
    assert value["results"] == json.loads(made.joinpath("results.json").read_text())["results"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--tasks", "boolq,nonsense"), "--tasks nonsense is no task of the pack; there are boolq"),
        (("--tables", "2"), "--tables 2 is no table of benchmarks; there are 3"),
        (("--tasks", "boolq", "--norm", "length"), "--norm length is unknown; give one of char"),
        (("--tasks", "winogrande", "--norm", "char"), "--norm char says nothing of these tasks"),
        (
            ("--tasks", "boolq", "--data", "other"),
            "other: holds no validation items of BoolQ; puna fetch --benchmarks boolq, or put dev.jsonl of https",
        ),
        (("--tasks", "boolq", "--data", "none"), "none: is not there, and so holds no validation items of BoolQ"),
        (("--data", "none"), "none: holds no benchmark; puna fetch --benchmarks brings them"),
        (("--data", "programs"), "programs: holds what needs --tasks alone: humaneval; name tasks"),
        (
            ("--tasks", "boolq,piqa,race_high,gsm8k", "--data", "other"),
            "other: holds no items of BoolQ, RACE high, GSM8k; puna fetch --benchmarks boolq race_high gsm8k, or put "
            "there dev.jsonl of https://github.com/google-research-datasets/boolean-questions for BoolQ, RACE/test",
        ),
        (
            ("--tasks", "boolq,gsm8k,piqa", "--shots", "2"),
            "holds too few examples of BoolQ, GSM8k, PIQA; give --shots 0 with --tasks, or put there train.jsonl of",
        ),
        (
            ("--tasks", "boolq", "--data", "garbled"),
            "garbled: holds no validation items of BoolQ, and files that begin with no record: garbled/dev.jsonl:1 is "
            "cut short or not valid JSON (Expecting value: line 1 column 1 (char 0)), garbled/valid.jsonl is empty",
        ),
        (("--tasks", "boolq", "--shots", "9"), "holds too few examples of BoolQ"),
        (("--tasks", ", "), "--tasks , names none; there are boolq, piqa"),
        (("--tables", "4", "--shots", "1"), "--shots 1 says nothing of --tables, whose columns have the paper's"),
        (("--tasks", "winogender", "--shots", "1"), "winogender has no examples to show"),
        (("--tasks", "humaneval"), "humaneval: runs programs that the model wrote; give --allow-code"),
        (
            ("--tasks", "mbpp,mbpp_80", "--samples", "79", "--allow-code"),
            "mbpp_80: pass@80 cannot be told from --samples 79; give 80 or more, or leave the task out",
        ),
        (("--tasks", "realtoxicityprompts"), "needs scores of its continuations; give --toxicity"),
        (("--tasks", "realtoxicityprompts", "--toxicity", "perspective"), "PERSPECTIVE_API_KEY: toxicity by"),
        (
            ("--tasks", "realtoxicityprompts", "--toxicity", "x"),
            "--toxicity x: is no file; give perspective, MODULE:FUNCTION, or a FILE of scores",
        ),
        (("--tasks", "realtoxicityprompts", "--toxicity", "os:getpid"), "--toxicity os:getpid: takes no text"),
        (("--tasks", "realtoxicityprompts", "--toxicity", "os:name"), "--toxicity os:name: takes no text"),
        (("--tasks", "truthfulqa_judged", "--judge", "other"), "--judge other: is no file; give two models"),
        (("--tasks", "piqa", "--samples", "5"), "--samples 5 says nothing of these tasks; leave it out"),
        (("--tasks", "piqa", "--out", "/proc/x"), "/proc/x: no folder can be made there (No such file or dir"),
        (("--tasks", "piqa", "--out", "other/valid.jsonl"), "no folder can be made there (File exists); give another"),
        (
            ("--tasks", "truthfulqa_judged", "--judge", "model,"),
            "--judge model, lacks a model; give two, TRUTH,HELP, or",
        ),
    ],
)
@pytest.mark.promise("errors")
def test_what_cannot_be_asked_is_one_line(
    words: tuple[str, ...],
    says: str,
    folder: Path,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PERSPECTIVE_API_KEY", raising=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)  # as if there were no lm-eval
    made_testsets.write(tmp_path / "other", "piqa")
    made_testsets.write(tmp_path / "programs", "humaneval")
    (tmp_path / "garbled").mkdir()
    (tmp_path / "garbled" / "dev.jsonl").write_text("no record\n")
    (tmp_path / "garbled" / "valid.jsonl").write_text("\n")
    given = () if "--data" in words else ("--data", str(data))
    code, _, said = typed.said(capsys, "evaluate", folder, "--out", "o", *given, *words)
    assert code == 2, said
    assert says in said
    assert said.count("\n") == 1
    assert not (tmp_path / "o").exists()


def test_without_tasks_what_lacks_its_examples_is_left_out_and_said(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for benchmark in ("piqa", "gsm8k"):
        made_testsets.write(tmp_path / "data" / benchmark, benchmark)
    code, out, said = typed.said(capsys, "evaluate", folder, "--data", tmp_path / "data", "--out", tmp_path / "out")
    assert code == 0, said
    assert "gsm8k, 8-shot is left out: holds too few examples of GSM8k\n" in said
    assert "| PIQA | 0 |" in out
    assert "GSM8k" not in out


def test_how_long_many_samples_take_is_said_before(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made_testsets.write(tmp_path / "data", "gsm8k")
    monkeypatch.setattr(asking, "MANY", 2)
    monkeypatch.setattr(asking, "tokens_a_second", lambda *_: 100.0)
    words = ("evaluate", folder, "--tasks", "gsm8k_maj", "--shots", "0", "--samples", "2", "--data", tmp_path / "data")
    code, _, said = typed.said(capsys, *words, "--out", tmp_path / "out")
    assert code == 0, said
    line = (
        "gsm8k_maj, 0-shot draws 2 texts of 1 items: at most 512 tokens, 5 s at the 100 tokens a second of this machine"
    )
    assert f"{line}; what was drawn before is kept, and --samples draws fewer\n" in said


def test_what_winogender_loses_without_its_statistics_is_said_before_and_below(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made_testsets.write(tmp_path / "data", "winogender")
    words = ("evaluate", folder, "--tables", "13", "--data", tmp_path / "data", "--out", tmp_path / "out")
    code, out, said = typed.said(capsys, *words)
    assert code == 0, said
    assert "gotcha counts" not in out + said
    (tmp_path / "data" / "occupations-stats.tsv").unlink()
    code, out, said = typed.said(capsys, *words)
    lacks = "no occupations-stats.tsv beside its sentences tells the share of women in 1 of its 1 occupations, which no"
    assert f"winogender: {lacks} gotcha counts; put that file of https://github.com/rudinger/winogender-schemas" in said
    assert lacks in out


@pytest.mark.promise("errors")
@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{}",
        '{"results": 5}',
        '{"results": [{}]}',
        '{"results": [], "energy": 5}',
        '{"results": [], "earlier": [1]}',
        '{"results": [], "earlier_others": [{"task": "a", "shots": 0}]}',
        '{"results": [], "others": [{"task": "a", "shots": 0, "values": {"acc": 3}}]}',
    ],
)
def test_another_file_of_results_is_refused_before_anything_is_asked(text: str, tmp_path: Path) -> None:
    (tmp_path / results.NAME).write_text(text)
    with pytest.raises(InputError, match=r"results\.json: is no table of benchmarks; remove it"):
        results.changed(tmp_path, [])


def test_a_changed_file_is_told_also_when_another_task_was_asked_since(
    data: Path, model: Model, tmp_path: Path
) -> None:
    for name in ("boolq", "piqa"):
        found = run.evaluate(plan([Wanted(PACK[name], 0)], data, limit=2), model, tmp_path, "m")
        results.write(tmp_path, "m", found, (), digest="m", dtype="f32", energy={})
    (one,) = plan([Wanted(PACK["boolq"], 0)], data, limit=2)
    assert results.changed(tmp_path, [one]) == []
    other = dataclasses.replace(one.items, digests=dict.fromkeys(one.items.digests, "other"))
    lines = results.changed(tmp_path, [dataclasses.replace(one, items=other)])
    assert len(lines) == len(other.digests)
    assert all(line.startswith("BoolQ: ") for line in lines)


@pytest.mark.prove
@pytest.mark.promise("resume")
def test_killed_at_any_moment_the_same_command_ends_with_the_same_results(
    folder: Path, bench: Path, tmp_path: Path, proved: Callable[[str], None]
) -> None:
    words = ("evaluate", str(folder), "--data", str(bench), "--tasks", "piqa,boolq,hellaswag", "--limit", "60")
    assert puna(*words, "--out", "whole", folder=tmp_path).returncode == 0
    command = [sys.executable, "-m", "puna.cli", *words, "--out", "killed"]
    kills = 0
    for items in (1, 40, 70, 130, 170):
        process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and _answered(tmp_path / "killed") < items:
            time.sleep(0.01)
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
            kills += 1
        process.wait()
    assert puna(*words, "--out", "killed", folder=tmp_path).returncode == 0
    results = [json.loads((tmp_path / name / "results.json").read_text())["results"] for name in ("whole", "killed")]
    assert results[0] == results[1]
    assert _answered(tmp_path / "killed") == 180
    proved(f"an evaluation killed {kills} times: 180 items answered once each, the same results")


def _answered(folder: Path) -> int:
    return sum(max(0, path.read_bytes().count(b"\n") - 1) for path in folder.glob("*-*.jsonl"))


def _greedy(asked: Mapping[str, Asked]) -> dict[str, Asked]:
    """Those that draw nothing, of few tokens: behind many the two best may be nearly alike once."""
    single = {key: each for key, each in asked.items() if not isinstance(each, Prompt) or each.samples == 1}
    return {
        key: dataclasses.replace(each, tokens=24) if isinstance(each, Prompt) else each for key, each in single.items()
    }


def _behind(asked: Asked, text: str) -> Asked:
    assert not isinstance(asked, Prompt)
    choices = tuple(dataclasses.replace(choice, context=text + choice.context) for choice in asked.choices)
    return dataclasses.replace(asked, choices=choices)
