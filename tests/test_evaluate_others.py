"""Tasks that only lm-eval has, as `puna evaluate --tasks` asks them: found, refused, kept, and its numbers."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest

import made_model
import made_testsets
from choice_task import CHOICE
from made_checkpoint import begin, land
from puna import storage
from puna.errors import InputError
from puna.evaluate.answering import Model, answers
from puna.evaluate.results import NAME
from puna.generate import Generator
from puna.generate.packed import pack
from typed import said

pytest.importorskip("lm_eval", reason="lm-eval is not installed: pip install 'puna[eval]'")
from lm_eval.evaluator import evaluate
from lm_eval.tasks import TaskManager

from puna.evaluate.harness import model as asking
from puna.evaluate.harness import others
from puna.evaluate.harness.model import HarnessModel
from puna.evaluate.harness.offline import offline

pytestmark = pytest.mark.usefixtures("one_thread")

TEXT = """
task: made_text
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: generate_until
repeats: 2
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{answer}}}}"
generation_kwargs: {{until: ["."], max_gen_toks: 6, do_sample: true, temperature: 0.9}}
metric_list: [{{metric: exact_match, aggregation: mean, higher_is_better: true}}]
"""
GROUP = (
    "group: made_both\ntask: [made_choice, made_text]\naggregate_metric_list: [{metric: acc, weight_by_size: true}]\n"
)
HUB = "task: made_hub\ndataset_path: nobody/such_data\ntest_split: test\ndoc_to_text: a\ndoc_to_target: b\n"
BROKEN = "task: made_broken\ndataset_path: json\ncustom_dataset: !function reach.data\ntest_split: test\n"
REACH = "import socket\n\n\ndef data(**_):\n    socket.create_connection(('127.0.0.1', 9), 1)\n"
ROWS = [
    {
        "question": f"the cat {number} and",
        "choices": [" the hat", " the end", " café"],
        "gold": number % 3,
        "answer": "x",
    }
    for number in range(6)
]


@pytest.fixture
def include(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "tasks"
    folder.mkdir()
    data = folder / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    for name, text in (("choice", CHOICE), ("text", TEXT)):
        (folder / f"{name}.yaml").write_text(text.format(data=data))
    for name, text in (("group", GROUP), ("hub", HUB), ("broken", BROKEN)):
        (folder / f"{name}.yaml").write_text(text)
    (folder / "reach.py").write_text(REACH)
    return folder


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return land(begin(tmp_path / "run"), 10)


def test_a_command_asks_a_task_of_others_beside_one_of_the_pack(
    tmp_path: Path, include: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made_testsets.write(tmp_path / "benchmarks", "piqa")
    words = ["--tasks", "piqa,made_both", "--include", include, "--data", tmp_path / "benchmarks"]
    code, out, err = said(capsys, "evaluate", checkpoint.parent.parent, *words)
    assert code == 0, err
    told = json.loads((tmp_path / "run/evaluations/benchmarks" / checkpoint.name / NAME).read_text())
    assert [each["task"] for each in told["results"]] == ["piqa"]
    found = {each["task"]: each for each in told["others"]}
    assert list(found) == ["made_both", "made_choice", "made_text"]
    assert found["made_choice"]["version"] == "3"
    assert found["made_choice"]["by"].startswith("lm-eval 0.")
    assert found["made_choice"]["items"] == found["made_choice"]["of"] == len(ROWS)
    assert "### Other tasks" in out
    assert "| PIQA | 0 |" in out
    assert f"| made_choice | 0 | acc | {found['made_choice']['values']['acc']['mean']:.4f} ± " in out


def test_its_numbers_are_those_of_lm_eval(tmp_path: Path, include: Path) -> None:
    llama, tokenizer = made_model.llama(), made_model.tokenizer()
    loaded, model = Generator(llama, tokenizer, storage.place(".")), Model(pack(llama), tokenizer)
    tasks = others.Tasks(["made_choice"], include, None, None)
    (found,) = tasks.ask(loaded, model, tmp_path / "answers", "m")
    plain = TaskManager(include_path=include, include_defaults=False).load("made_choice")
    told = evaluate(HarnessModel(loaded), plain, bootstrap_iters=100)["results"]["made_choice"]
    assert found.values.keys() == {"acc", "acc_norm"}
    for name, value in found.values.items():
        assert value.mean == pytest.approx(told[f"{name},none"])
        assert value.error == pytest.approx(told[f"{name}_stderr,none"])
        assert value.items == len(ROWS)


@pytest.mark.promise("resume")
@pytest.mark.parametrize("name", ["made_choice", "made_text"])
def test_what_was_answered_is_kept_and_not_asked_again(
    name: str, tmp_path: Path, include: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    llama, tokenizer = made_model.llama(), made_model.tokenizer()
    loaded, model = Generator(llama, tokenizer, storage.place(".")), Model(pack(llama), tokenizer)
    asked: list[int] = []

    def scored(self: HarnessModel, left: dict[str, Any]) -> Any:
        asked.append(len(left))
        return real(self, left)

    def answered(model: Model, left: dict[str, Any], *, alone: bool) -> Any:
        asked.append(len(left))
        return answers(model, left, alone=alone)

    real = HarnessModel._scored
    monkeypatch.setattr(HarnessModel, "_scored", scored)
    monkeypatch.setattr(asking, "answers", answered)
    whole = others.Tasks([name], include, None, None)
    first = whole.ask(loaded, model, tmp_path / "whole", "m")
    others.Tasks([name], include, None, 2).ask(loaded, model, tmp_path / "kept", "m")
    location = tmp_path / "kept" / others.NAME
    location.write_bytes(location.read_bytes()[:-9])  # a killed process leaves a half line
    assert whole.ask(loaded, model, tmp_path / "kept", "m") == first
    assert whole.ask(loaded, model, tmp_path / "kept", "m") == first
    each = {"made_choice": 3, "made_text": 2}[name]  # choices, or samples, of an item
    assert asked == [6 * each, 2 * each, 4 * each + 1, 0]
    with pytest.raises(InputError, match="holds answers of another model"):
        whole.ask(loaded, model, tmp_path / "kept", "another")


@pytest.mark.promise("errors")
def test_what_cannot_be_asked_is_said_in_one_line(
    tmp_path: Path, include: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(name: str, *words: object) -> str:
        code, out, err = said(capsys, "evaluate", checkpoint, "--tasks", name, "--data", tmp_path, *words)
        assert code == 2, err
        assert not out
        return err.splitlines()[-1]

    told = refused("made_hub", "--include", include)
    assert "made_hub: its data set nobody/such_data is not on this machine, and nothing is fetched" in told
    assert "made_broken: lm-eval cannot run it: no network is reached" in refused("made_broken", "--include", include)
    (include / "cut.yaml").write_text("task: cut\n  data: [\n")
    assert "cut.yaml:2: cannot be read as YAML (mapping values" in refused("cut", "--include", include)
    (include / "cut.yaml").write_bytes(b"\xff\xfe\x00")
    assert "cut.yaml: cannot be read as YAML" in refused("cut", "--include", include)
    assert "no folder" in refused("made_choice", "--include", tmp_path / "nowhere")
    assert not list((tmp_path / "run").rglob("results.json"))
    monkeypatch.setattr(others, "TaskManager", lambda **_: Index())
    assert refused("hellaswagg").endswith("did you mean hellaswag?")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "is no task of the pack; did you mean boolq? for a task of lm-eval: pip install 'puna[eval]'" in refused(
        "bolq"
    )


class Index:
    """Of an lm-eval that has one task."""

    def __init__(self) -> None:
        self.task_index = {"arc_easy": None}
        self.all_tasks = ["arc_easy"]


@pytest.mark.promise("alone")
def test_no_network_is_reached_while_it_lasts() -> None:
    import huggingface_hub.constants as hub

    before = hub.HF_HUB_OFFLINE
    tries = (
        lambda: socket.create_connection(("127.0.0.1", 9), 1),
        lambda: socket.getaddrinfo("localhost", 80),
        lambda: socket.gethostbyname("localhost"),
    )
    with offline():
        assert hub.HF_HUB_OFFLINE
        for each in tries:
            with pytest.raises(ConnectionError, match="no network is reached during evaluation"):
                each()
    assert before == hub.HF_HUB_OFFLINE
    socket.getaddrinfo("127.0.0.1", 80)


@pytest.mark.prove
def test_lm_evals_own_tasks_are_found_by_name_and_refused_without_their_data() -> None:
    """The whole index is read: some ten seconds."""
    tasks = others.Tasks(["arc_easy", "mmlu_anatomy"], None, None, None)
    with pytest.raises(InputError, match="its data set allenai/ai2_arc is not on this machine"):
        tasks.demand()
    with pytest.raises(InputError, match=r"is no task, neither here nor of lm-eval .*did you mean arc_"):
        others.Tasks(["arc_eezy"], None, None, None)
    with pytest.raises(InputError, match=r"did you mean boolq or (?!boolq\b)"):
        others.Tasks(["bolq"], None, None, None)
