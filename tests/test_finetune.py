"""Finetuning: answers alone are learnt, packed examples do not see each other, and a killed one goes on."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import made_finetune
import made_model
import typed
from made_finetune import PAIRS, SMALL, tune
from puna.convert.parts import Parts
from puna.cost import carbon
from puna.errors import InputError
from puna.finetune import tune as tuning
from puna.finetune.choose import Source
from puna.finetune.examples import Example, Message
from puna.finetune.measure import Measured, answer_nats, change
from puna.finetune.packing import laid
from puna.finetune.templated import Encoded, encode
from puna.model import modes
from puna.model.weights import read_tensors


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_finetune.model(tmp_path_factory.mktemp("base") / "model")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_finetune.data(tmp_path_factory.mktemp("data") / "pairs.jsonl")


def test_an_answer_and_the_piece_that_ends_it_are_learnt_and_nothing_else() -> None:
    tokenizer = made_model.tokenizer()
    learnt = PAIRS[0].ids[PAIRS[0].scored].tolist()
    assert learnt[-1] == tokenizer.eos
    assert tokenizer.decode(learnt[:-1]) == "the hat."
    assert (
        tokenizer.decode(PAIRS[0].ids[~PAIRS[0].scored].tolist()) == "### Instruction:\nthe cat?\n\n### Response:\n\n"
    )


def test_of_several_turns_every_answer_is_learnt() -> None:
    llama, tokenizer = made_model.llama(), made_model.tokenizer()
    template, _ = tuning._templated(Parts(llama.config, dict(llama.state_dict()), tokenizer))
    said = [("system", "S"), ("user", "the cat?"), ("assistant", "the hat."), ("user", "and?"), ("assistant", "bat.")]
    encoded = encode(Example(tuple(Message(*pair) for pair in said), ""), template, tokenizer)
    assert tokenizer.decode(encoded.ids[encoded.scored].tolist()) == "the hat.bat."
    assert encoded.scored.sum() == sum(len(tokenizer.encode(text)) + 1 for text in ("the hat.", "bat."))


@pytest.mark.parametrize("mode", ["reference", "hand", "selective"])
def test_packed_examples_have_the_loss_and_the_gradient_that_they_have_alone(mode: modes.Mode) -> None:
    model = made_model.llama().double()
    modes.use(model, mode, compiles=False)

    def gradients(*rows: list[Encoded]) -> tuple[float, dict[str, Tensor]]:
        made = laid(rows, 160, made_model.tokenizer().eos)
        model.zero_grad()
        loss = model.loss(*(torch.from_numpy(each) for each in (made.tokens_BL1, made.segments_BL, made.scored_BL)))
        torch.autograd.backward(loss.nats)
        return loss.nats.item(), {name: tensor.grad.clone() for name, tensor in model.named_parameters()}  # type: ignore[union-attr]

    together, packed = gradients(PAIRS)  # rotary tables are of f32, and differ by where an example stands
    apart = [gradients([each]) for each in PAIRS]
    assert together == pytest.approx(sum(loss for loss, _ in apart), rel=1e-9)
    for name, gradient in packed.items():
        torch.testing.assert_close(gradient, sum(each[name] for _, each in apart), rtol=1e-4, atol=1e-6)  # type: ignore[arg-type]


def test_no_token_of_an_example_sees_one_of_another() -> None:
    model = made_model.llama().double()
    made = laid([PAIRS], 160, made_model.tokenizer().eos)
    embedded = torch.nn.functional.embedding(torch.from_numpy(made.tokens_BL1[:, :-1]), model.tok_embeddings.weight)
    embedded = embedded.detach().requires_grad_()
    from puna.model.rotary import rope_table

    x = embedded
    rope = rope_table(160, model.config.head_dim, model.config.rope_base)
    for block in model.layers:
        x = block(x, rope, torch.from_numpy(made.segments_BL), None)
    segments = torch.from_numpy(made.segments_BL)[0]
    for number in range(len(PAIRS)):
        (gradient,) = torch.autograd.grad(x[0, segments == number].square().sum(), embedded, retain_graph=True)
        reached = gradient[0].abs().sum(1) > 0
        assert not reached[segments != number].any()
        assert reached[segments == number].all()


def test_the_loss_of_held_out_answers_is_that_of_each_alone() -> None:
    model = made_model.llama()
    together = answer_nats(model, PAIRS, 64, 2, lambda amount: None)
    alone = [answer_nats(model, [each], 64, 2, lambda amount: None)[0] for each in PAIRS]
    assert together == pytest.approx(alone, rel=1e-5)


def test_a_change_of_losses_is_known_better_than_the_losses() -> None:
    before = Measured((10.0, 40.0, 6.0), (5, 10, 3), None, ())
    after = Measured((5.0, 30.0, 3.0), (5, 10, 3), None, ())
    found = change(before, after)
    assert found["before"]["loss"] == 56 / 18
    assert found["change"]["loss"] == -1.0
    # Each answer became 1 nat a token cheaper: there is no doubt about the change at all.
    assert found["change"]["error"] == 0.0
    assert found["before"]["error"] > 0.1
    # Of answers of equal length it is the standard error of a mean.
    alike = change(Measured((8.0, 12.0, 16.0, 4.0), (4,) * 4, None, ()), Measured((4.0,) * 4, (4,) * 4, None, ()))
    losses = [2.0, 3.0, 4.0, 1.0]
    for name in ("before", "change"):
        assert alike[name]["error"] == pytest.approx(np.std(losses, ddof=1) / 2)
    one = change(Measured((8.0,), (4,), None, ()), Measured((4.0,), (4,), None, ()))
    assert one["change"] == {"loss": -1.0, "error": None}


@pytest.mark.usefixtures("one_thread")
def test_a_finetuned_model_is_one_for_every_command(model: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "chat"
    found = tune(model, [Source(data)], out, SMALL)
    assert found["answers"]["after"]["loss"] < found["answers"]["before"]["loss"]
    from puna import load
    from puna.generate.chat import find as find_template

    loaded = load(out)
    template = find_template(loaded.folder, loaded.tokenizer)
    assert template is not None
    messages = [{"role": "user", "content": "the cat?"}]
    assert template.ids(messages, loaded.tokenizer) == PAIRS[0].ids[: int(np.argmax(PAIRS[0].scored))].tolist()
    asked = out / "model" / "benchmarks" / "boolq-0.jsonl"
    asked.parent.mkdir()
    asked.touch()
    again = tune(model, [Source(data)], out, SMALL)
    assert again == found
    assert asked.exists()  # what the model was asked since is of this very model, and stays with it
    whole = (out / "model" / "model.safetensors").read_bytes()
    (out / "model" / "model.safetensors").write_bytes(whole[:-1])
    text = tmp_path / "plain.txt"
    text.write_text("the cat and the hat.")
    more = tune(model, [Source(data)], out, SMALL, plain=text)
    assert more["bits_per_byte"]["before"] > 0
    assert more["answers"] == found["answers"]
    assert (out / "model" / "model.safetensors").read_bytes() == whole
    assert [stage.name for stage in carbon.account(out).stages if stage.cpu_seconds] == ["training", "evaluation"]


@pytest.mark.prove
@pytest.mark.usefixtures("one_thread")
def test_exported_it_reads_a_talk_as_the_same_ids_in_transformers(model: Path, data: Path, tmp_path: Path) -> None:
    from dataclasses import replace

    from transformers import AutoTokenizer

    from puna import convert, load
    from puna.generate.chat import find as find_template

    out = tmp_path / "chat"
    tune(model, [Source(data)], out, replace(SMALL, epochs=0.1))
    convert.export(out, "hf", tmp_path / "hf")
    theirs = AutoTokenizer.from_pretrained(tmp_path / "hf")
    loaded = load(out)
    template = find_template(loaded.folder, loaded.tokenizer)
    assert template is not None
    said = [("system", "be brief"), ("user", "the cat?"), ("assistant", "the hat."), ("user", "naïve\n\ncafé 東京")]
    for count in (2, 4):
        talk = [{"role": role, "content": content} for role, content in said[:count]]
        ids = theirs.apply_chat_template(talk, add_generation_prompt=True, tokenize=True)["input_ids"]
        assert list(ids) == template.ids(talk, loaded.tokenizer)


@pytest.mark.usefixtures("one_thread")
def test_another_finetuning_is_not_laid_over_one(model: Path, data: Path, tmp_path: Path) -> None:
    tune(model, [Source(data)], tmp_path / "chat", dataclasses.replace(SMALL, epochs=0.2))
    with pytest.raises(InputError, match=r"other values \(settings: epochs differ\)"):
        tune(model, [Source(data)], tmp_path / "chat", dataclasses.replace(SMALL, epochs=0.3))
    (tmp_path / "chat" / "energy.json").write_text('{"steps": 5}')
    with pytest.raises(InputError, match=r"energy\.json: is no account of energy; remove it"):
        tune(model, [Source(data)], tmp_path / "chat", dataclasses.replace(SMALL, epochs=0.2))


@pytest.mark.promise("resume")
def test_examples_that_went_from_one_source_to_another_are_another_finetuning(
    model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How often an example is read follows from whose it is, and not from what its file is called."""

    def stopped(*_: object, **__: object) -> None:
        raise RuntimeError("killed")

    def sources(folder: str, border: int) -> list[Source]:
        lines = data.read_text().splitlines(keepends=True)
        (tmp_path / folder).mkdir()
        paths = [tmp_path / folder / name for name in ("a.jsonl", f"{folder}.jsonl")]
        paths[0].write_text("".join(lines[:border]))
        paths[1].write_text("".join(lines[border:]))
        return [Source(paths[0], 2.0), Source(paths[1], 0.5)]

    monkeypatch.setattr(tuning, "follow", stopped)
    settings, out = dataclasses.replace(SMALL, heldout=0), tmp_path / "chat"
    for folder in ("first", "renamed"):
        with pytest.raises(RuntimeError, match="killed"):
            tune(model, sources(folder, 10), out, settings)
    with pytest.raises(InputError, match=r"other values \(sources differ\)"):
        tune(model, sources("moved", 11), out, settings)


@pytest.mark.parametrize(("steps", "asked", "every"), [(7, None, 1), (26, None, 2), (5000, None, 100), (26, 13, 13)])
def test_checkpoints_lie_a_tenth_of_the_steps_apart_unless_asked_otherwise(
    steps: int, asked: int | None, every: int
) -> None:
    settings = dataclasses.replace(SMALL, checkpoint_every=asked)
    reading: Any = SimpleNamespace(steps=steps)
    parts: Any = SimpleNamespace(config=None, state={})
    course = tuning._course(parts, reading, settings, 64)
    assert course.settings.checkpoint_every == every


@pytest.mark.prove
@pytest.mark.parametrize("more", [(), ("--lora", "4")], ids=["all weights", "adapters"])
@pytest.mark.usefixtures("one_thread")
def test_killed_at_any_step_it_ends_with_the_same_bits(
    model: Path, data: Path, tmp_path: Path, more: tuple[str, ...]
) -> None:
    def command(out: Path) -> list[str]:
        words = f"finetune {model} {data} --out {out} --epochs 2 --context 64 --batch 2 --micro-batch 1 --heldout 3"
        words += " --checkpoint-every 2 --threads 1 --dtype float32"
        return [sys.executable, "-m", "puna", *words.split(), *more]

    quiet = {**os.environ, "TORCHDYNAMO_DISABLE": "1", "CXX": "/nowhere"}
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert subprocess.run(command(whole), env=quiet, capture_output=True, timeout=300).returncode == 0
    for step in (2, 4):
        process = subprocess.Popen(command(killed), env=quiet, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _until(lambda step=step: (killed / "checkpoints" / f"step-{step:06d}" / "checkpoint.json").exists())  # type: ignore[misc]
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not (killed / "model").exists()
    assert subprocess.run(command(killed), env=quiet, capture_output=True, timeout=300).returncode == 0
    there, here = (read_tensors(out / "model" / "model.safetensors") for out in (whole, killed))
    assert there.keys() == here.keys()
    for name, tensor in there.items():
        assert torch.equal(tensor, here[name]), name


def _until(met: Callable[[], bool]) -> None:
    end = time.monotonic() + 120
    while not met():
        assert time.monotonic() < end
        time.sleep(0.002)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nowhere.json",), "nowhere.json: there is no such file or folder"),
        (("DATA=0",), "weight 0 is not above 0"),
        (("DATA=0.01",), "of its 23 examples an epoch reads none at a weight of 0.01; give it at least 0.0435, or"),
        (("DATA", "--mmlu", "5"), "--mmlu asks benchmarks; name their folder with --benchmarks"),
        (("DATA", "--layer", "best"), "--layer best is unknown; give one of auto, reference"),
        (("DATA", "--text", "nowhere.txt"), "nowhere.txt"),
        (("DATA", "--benchmarks", "EMPTY"), "a folder without files"),
        (("EMPTY",), "holds no file that ends with .json"),
    ],
)
def test_what_is_typed_wrong_is_one_line(
    words: tuple[str, ...],
    said: str,
    model: Path,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    typed_words = [word.replace("DATA", str(data)).replace("EMPTY", "empty") for word in words]
    status, _, errors = typed.said(capsys, "finetune", model, *typed_words, "--out", "out")
    assert status == 2
    assert said in errors.splitlines()[-1]
    assert not (tmp_path / "out" / "checkpoints").exists()


def test_the_next_command_is_told_as_a_shell_takes_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = {"answers": {"before": None}, "bits_per_byte": {"before": None}, "measured": {"before": {}, "after": {}}}
    monkeypatch.setattr(tuning, "tune", lambda *args, **kwargs: found)
    status, out, _ = typed.said(capsys, "finetune", "base", "a.json", "--out", "my chat")
    assert (status, out) == (0, "my chat: puna chat 'my chat', or generate, serve, evaluate, export\n")


def test_an_answer_that_runs_into_its_question_is_encoded_by_itself() -> None:
    from puna.generate.chat import Template

    tokenizer = made_model.tokenizer()
    joined = Template("{% for m in messages %}{{ m['content'] }}{% endfor %}", "here", {}, {})
    encoded = encode(Example((Message("user", "the c"), Message("assistant", "at and")), ""), joined, tokenizer)
    asked = joined.ids([{"role": "user", "content": "the c"}], tokenizer)
    assert encoded.ids.tolist() == [*asked, *tokenizer.encode("at and"), tokenizer.eos]
    assert encoded.scored.tolist() == [False] * len(asked) + [True] * (len(encoded.ids) - len(asked))


@pytest.mark.promise("errors")
@pytest.mark.parametrize("rank", [0, 1])
def test_ranks_are_refused_in_one_line_of_the_first(
    rank: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {"RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "localhost", "MASTER_PORT": 1}.items():
        monkeypatch.setenv(name, str(value))
    code, out, err = typed.said(capsys, "finetune", "model", "examples.json", "--out", str(tmp_path / "out"))
    assert (code != 0, out) == (True, "")
    line = "error: torchrun starts ranks, and finetuning is done by one process; give puna finetune alone\n"
    assert err == ("" if rank else line)
    assert not (tmp_path / "out").exists()
