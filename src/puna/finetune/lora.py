"""Low-rank adapters (LoRA), by the peft library: linear weights stay as they are, and beside each two thin ones learn.

peft makes the adapters, computes with them, and defines the files that they are kept in; here they are put on Puna's
model, whose linear weights are plain tensors, and merged into it again. What learns is a few hundredths of the model,
so masters, moments and checkpoints are; the model itself stands in memory once, in the type of the computation. Layers
are computed by autograd, since the hand-written backward pass is one of all weights. The paper trains all weights;
this is for machines where those do not fit.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from puna import storage
from puna.convert.names import TO_HUGGING_FACE, half_split, renamed, rotary_heads
from puna.errors import InputError
from puna.model.attention import attention
from puna.model.config import ModelConfig
from puna.model.layer import LayerWeights, rms_norm
from puna.model.llama import Layer, Llama
from puna.model.modes import selectively
from puna.model.rotary import Rope, rotate
from puna.model.weights import write_tensors
from puna.storage import Place

LINEAR = {"attention": ("wq", "wk", "wv", "wo"), "feed_forward": ("w1", "w2", "w3")}
ADAPTER = "default"  # peft's own name of a model's first one
LORA_RATE = 2e-4  # the highest learning rate unless another is given: adapters begin at nothing
MODES = ("auto", "reference", "selective")


@dataclass(frozen=True)
class Lora:
    """What is asked of the adapters."""

    rank: int
    """Columns of one thin weight and rows of the other."""
    alpha: float
    """What they give is multiplied by alpha / rank."""

    @property
    def scale(self) -> float:
        return self.alpha / self.rank


@dataclass(frozen=True)
class Adapted:
    """What a course is told (train/course.py) of a training in which adapters learn."""

    lora: Lora
    seed: int
    mode: Literal["reference", "selective"]

    def attach(self, model: Llama, dtype: torch.dtype) -> None:
        """Put adapters beside the linear weights of `model` and leave them alone to be trained. Their first weights
        are a function of the seed; behind them the model computes what it did before."""
        model.to(dtype).requires_grad_(False)
        for block in cast(list[Layer], model.layers):
            for half, names in LINEAR.items():
                for name in names:
                    setattr(getattr(block, half), name, _linear(getattr(getattr(block, half), name).weight))
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of things that transformers' models have
            torch.manual_seed(self.seed)
            _peft().inject_adapter_in_model(_config(self.lora, [*LINEAR["attention"], *LINEAR["feed_forward"]]), model)
        for tensor in model.parameters():
            if tensor.requires_grad:
                tensor.data = tensor.data.to(torch.float32)
        for block in cast(list[Layer], model.layers):
            block.function = partial(_kept if self.mode == "selective" else _layer, block)


def refuse_missing() -> None:
    """InputError where peft is not installed."""
    if importlib.util.find_spec("peft") is None:
        raise InputError("--lora needs peft", mend="pip install 'puna[lora]'")


def merged(state: Mapping[str, Tensor], adapters: Mapping[str, Tensor], lora: Lora) -> dict[str, Tensor]:
    """The model's tensors in f32 with what the adapters learnt added: W + scale B A."""
    found = {}
    for name, tensor in state.items():
        wide = tensor.to(torch.float32)
        down, up = (adapters.get(_beside(name, which)) for which in ("lora_A", "lora_B"))
        found[name] = wide if down is None or up is None else wide + lora.scale * (up @ down)
    return found


def write(folder: Place, adapters: Mapping[str, Tensor], lora: Lora, config: ModelConfig) -> None:
    """Write the adapters into `folder` in peft's form, under Hugging Face's names: `PeftModel.from_pretrained` puts
    them on the base model that was exported with `puna export --to hf`."""
    tensors = {}
    targets = set()
    for half, names in LINEAR.items():
        for layer in range(config.layers):
            for name in names:
                ours = f"layers.{layer}.{half}.{name}.weight"
                theirs = cast(str, renamed(ours, TO_HUGGING_FACE)).removesuffix(".weight")
                targets.add(theirs.rpartition(".")[2])
                down, up = adapters[_beside(ours, "lora_A")], adapters[_beside(ours, "lora_B")]
                heads = rotary_heads(ours, config)
                tensors[f"base_model.model.{theirs}.lora_A.weight"] = down
                tensors[f"base_model.model.{theirs}.lora_B.weight"] = half_split(up, heads) if heads else up
    write_tensors(folder / "adapter_model.safetensors", tensors)
    said = _config(lora, sorted(targets)).to_dict()
    storage.write_json(folder / "adapter_config.json", {name: _plain(value) for name, value in said.items()})


def _config(lora: Lora, targets: list[str]) -> Any:
    return _peft().LoraConfig(
        r=lora.rank, lora_alpha=lora.alpha, target_modules=targets, lora_dropout=0.0, bias="none", task_type="CAUSAL_LM"
    )


def _peft() -> Any:
    import peft  # type: ignore[import-not-found, import-untyped, unused-ignore]

    return peft


def _plain(value: Any) -> Any:
    """A value of peft's config as JSON holds it: sets in order, enumerations by their text."""
    if isinstance(value, set):
        return sorted(value)
    return getattr(value, "value", value)


def _beside(name: str, which: str) -> str:
    return f"{name.removesuffix('.weight')}.{which}.{ADAPTER}.weight"


def _linear(weight: nn.Parameter) -> nn.Linear:
    """torch's module around a tensor; what peft puts adapters on."""
    made = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    made.weight = weight
    return made


def _layer(
    block: Layer,
    x_BLD: Tensor,
    weights: LayerWeights,
    rope: Rope,
    segments: Tensor | None = None,
    comm: None = None,
    *,
    epsilon: float,
    cache: None = None,
) -> Tensor:
    """`layer` (model/layer.py) by the modules of a block, adapters and all."""
    normed, inner = rms_norm(x_BLD, weights.attention_norm, epsilon), block.attention
    projected = (
        linear(normed).unflatten(-1, (-1, 2 * rope.cos_LF.shape[-1])) for linear in (inner.wq, inner.wk, inner.wv)
    )
    q_BLHK, k_BLGK, v_BLGK = projected
    q_BHLK, k_BGLK, v_BGLK = (each.transpose(1, 2) for each in (rotate(q_BLHK, rope), rotate(k_BLGK, rope), v_BLGK))
    x_BLD = x_BLD + inner.wo(attention(q_BHLK, k_BGLK, v_BGLK, segments)[0].transpose(1, 2).flatten(-2))
    normed, outer = rms_norm(x_BLD, weights.ffn_norm, epsilon), block.feed_forward
    return x_BLD + cast(Tensor, outer.w2(F.silu(outer.w1(normed)) * outer.w3(normed)))


def _kept(block: Layer, x_BLD: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Of which the outputs of matmuls and of attention are kept, as in the mode `selective`."""
    if not torch.is_grad_enabled():
        return _layer(block, x_BLD, *args, **kwargs)
    return selectively(partial(_layer, block, **kwargs), x_BLD, *args)
