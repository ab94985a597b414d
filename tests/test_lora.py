"""Adapters: they compute what a merged model computes, their gradients are its, and peft reads their files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

import made_finetune
import made_model
import typed
from made_finetune import PAIRS, SMALL, tune
from puna import storage
from puna.convert import export, own
from puna.convert.parts import Parts
from puna.errors import InputError
from puna.finetune import lora
from puna.finetune.choose import Source
from puna.finetune.lora import Adapted, Lora
from puna.finetune.packing import laid
from puna.model.llama import Llama
from puna.model.weights import load_checkpoint, read_tensors

peft = pytest.importorskip("peft", reason="adapters are peft's")
ASKED = Lora(rank=3, alpha=5.0)
LEARNING = replace(SMALL, lora=ASKED, learning_rate=1e-2)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_finetune.model(tmp_path_factory.mktemp("base") / "model")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_finetune.data(tmp_path_factory.mktemp("data") / "pairs.jsonl")


def _adapted(mode: str = "reference", dtype: torch.dtype = torch.float64) -> Llama:
    made = made_model.llama()
    Adapted(ASKED, 7, mode).attach(made, dtype)  # type: ignore[arg-type]
    return made


def _trained(model: Llama) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in model.named_parameters() if tensor.requires_grad}


def _moved(model: Llama) -> dict[str, Tensor]:
    """The adapters, each given values as if it had learnt."""
    chance = torch.Generator().manual_seed(3)
    adapters = _trained(model)
    for tensor in adapters.values():
        tensor.data = 0.3 * torch.randn(tensor.shape, generator=chance, dtype=torch.float64)
    return adapters


def test_only_adapters_learn_and_at_first_they_change_nothing() -> None:
    plain, made = made_model.llama().double(), _adapted()
    tokens = torch.arange(20)[None]
    assert torch.equal(plain.logits(tokens), made.logits(tokens))
    adapters = _trained(made)
    assert len(adapters) == 2 * 7 * made.config.layers
    assert all(".lora_" in name and tensor.dtype == torch.float32 for name, tensor in adapters.items())
    again = _trained(_adapted("selective"))
    assert all(torch.equal(tensor, again[name]) for name, tensor in adapters.items())


@pytest.mark.promise("twins")
@pytest.mark.parametrize("mode", ["reference", "selective"])
def test_loss_and_gradients_are_those_of_the_merged_model(mode: str) -> None:
    """dA = scale B' dW and dB = scale dW A', with dW the gradient of the whole weight."""
    made = _adapted(mode)
    adapters = _moved(made)
    whole = made_model.llama().double()
    state = {name: tensor.detach() for name, tensor in whole.state_dict().items()}
    for name, tensor in state.items():
        down, up = (adapters.get(lora._beside(name, which)) for which in ("lora_A", "lora_B"))
        if down is not None and up is not None:
            tensor += ASKED.alpha / ASKED.rank * (up @ down)
    batch = [torch.from_numpy(each) for each in _batch()]
    losses = [each.loss(*batch).nats for each in (made, whole)]
    for loss in losses:
        torch.autograd.backward(loss)
    torch.testing.assert_close(*losses, rtol=1e-9, atol=0)
    weights = dict(whole.named_parameters())
    for name, tensor in adapters.items():
        stem, which = name.removesuffix(".default.weight").rsplit(".", 1)
        other = adapters[f"{stem}.{'lora_B' if which == 'lora_A' else 'lora_A'}.default.weight"].detach()
        gradient = weights[f"{stem}.weight"].grad
        assert gradient is not None
        expected = ASKED.scale * (other.T @ gradient if which == "lora_A" else gradient @ other.T)
        torch.testing.assert_close(tensor.grad, expected, rtol=1e-6, atol=1e-9)


def _batch() -> tuple[object, ...]:
    made = laid([PAIRS], 160, made_model.tokenizer().eos)
    return made.tokens_BL1, made.segments_BL, made.scored_BL


def test_merged_as_peft_merges() -> None:
    made = _adapted(dtype=torch.float32)
    adapters = {name: tensor.detach().float() for name, tensor in _moved(made).items()}
    for name, tensor in _trained(made).items():
        tensor.data = adapters[name]
    found = lora.merged(made_model.llama().state_dict(), adapters, ASKED)
    for name, module in made.named_modules():
        if isinstance(module, peft.tuners.lora.LoraLayer):
            module.merge()
            torch.testing.assert_close(found[f"{name}.weight"], module.get_base_layer().weight, rtol=1e-6, atol=1e-7)


@pytest.mark.usefixtures("one_thread")
def test_a_model_with_adapters_is_one_for_every_command_and_its_base_is_kept(
    model: Path,
    data: Path,
    tmp_path: Path,
) -> None:
    out = tmp_path / "chat"
    found = tune(model, [Source(data)], out, LEARNING)
    assert found["answers"]["after"]["loss"] < found["answers"]["before"]["loss"]
    before, after = (read_tensors(folder / "model.safetensors") for folder in (model, out / "model"))
    for name, tensor in before.items():
        assert torch.equal(tensor, after[name]) == ("norm" in name or "embeddings" in name or name == "output.weight")
    kept = read_tensors(next((out / "checkpoints").iterdir()) / "model.safetensors")
    assert all(".lora_" in name for name in kept)
    assert tune(model, [Source(data)], out, LEARNING) == found
    with pytest.raises(InputError, match="settings: lora differ"):
        tune(model, [Source(data)], out, replace(LEARNING, lora=Lora(2, 5.0)))
    with pytest.raises(InputError, match="does not fit its config"):
        load_checkpoint(next((out / "checkpoints").iterdir()))


@pytest.mark.usefixtures("one_thread")
def test_interrupted_it_ends_with_the_same_bits(
    model: Path,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def stop(event: str, location: str) -> None:
        if "step-000004" in location and event == "before rename":
            raise OSError("gone")

    whole, cut = tmp_path / "whole", tmp_path / "cut"
    tune(model, [Source(data)], whole, LEARNING)
    with monkeypatch.context() as patch, pytest.raises(Exception, match="gone"):
        patch.setattr(storage, "border", stop)
        tune(model, [Source(data)], cut, LEARNING)
    assert not (cut / "model").exists()
    tune(model, [Source(data)], cut, LEARNING)
    for name in ("model/model.safetensors", "adapter/adapter_model.safetensors"):
        assert (whole / name).read_bytes() == (cut / name).read_bytes()


@pytest.mark.promise("exports")
@pytest.mark.usefixtures("one_thread")
def test_peft_puts_the_adapter_on_the_exported_base(model: Path, data: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    tune(model, [Source(data)], tmp_path / "chat", LEARNING)
    export(model, "hf", tmp_path / "base", dtype="f32")
    theirs = peft.PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(tmp_path / "base"), tmp_path / "chat/adapter"
    )
    ours: Parts = own.read(tmp_path / "chat")
    tokens = torch.tensor([PAIRS[0].ids.tolist()])
    torch.testing.assert_close(theirs(tokens).logits.detach(), ours.model().logits(tokens), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--lora-alpha", "4"), "--lora-alpha is of adapters; give their rank with --lora"),
        (("--lora", "4", "--layer", "hand"), "--layer hand trains all weights; with --lora choose auto, reference"),
    ],
)
def test_what_is_typed_wrong_is_one_line(
    words: tuple[str, ...], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, _, errors = typed.said(capsys, "finetune", "model", "data", *words, "--out", str(tmp_path / "out"))
    assert status == 2
    assert said in errors.splitlines()[-1]


def test_without_peft_it_is_said_before_anything_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lora.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"--lora needs peft; pip install 'puna\[lora\]'"):
        tune(tmp_path / "model", [], tmp_path / "out", LEARNING)
