"""Hugging Face's form of a LLaMA: config.json, safetensors in shards, tokenizer files, generation config, model card.

What transformers would compute otherwise than Puna (scaled rotary angles, biases, sliding windows, another activation)
is refused by name. What is written loads with `AutoModelForCausalLM` and `AutoTokenizer`, without code of ours.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from puna import storage
from puna.convert import card as cards
from puna.convert import safetensors_file, tokenizer_files
from puna.convert.card import Card
from puna.convert.keys import Keys, read_settings
from puna.convert.names import (
    FROM_HUGGING_FACE,
    TO_HUGGING_FACE,
    half_split,
    in_order,
    interleaved,
    renamed,
    rotary_heads,
)
from puna.convert.parts import Parts
from puna.errors import InputError
from puna.model.config import ModelConfig
from puna.model.weights import write_tensors
from puna.storage import Place

SHARD = 5_000_000_000  # bytes, as transformers cuts them
_TORCH_NAMES = {torch.float32: "float32", torch.bfloat16: "bfloat16", torch.float16: "float16"}
_KINDS = ("llama", "mistral")  # Mistral without a sliding window is the same model


def is_one(folder: Place) -> bool:
    """Whether `folder` looks like a model of Hugging Face: a config.json that names a model_type."""
    if not storage.is_file(folder / "config.json"):
        return False
    value = read_settings(folder / "config.json")
    return isinstance(value, dict) and "model_type" in value


def read(folder: Place) -> Parts:
    """The parts of a folder; InputError, naming file and key or tensor, for what is damaged or no LLaMA."""
    path = folder / "config.json"
    keys = Keys(read_settings(path), str(path))
    config = _config(keys)
    state: dict[str, Tensor] = {}
    for shard in safetensors_file.shards(folder):
        for name, tensor in safetensors_file.tensors(shard).items():
            if name in state:
                raise InputError(f"{name} stands in two shards", where=str(shard))
            state[name] = tensor
    state = _to_ours(state, config, str(folder))
    tokenizer, settings = tokenizer_files.read(folder, config.vocabulary)
    generation = folder / "generation_config.json"
    said = read_settings(generation) if storage.is_file(generation) else {}
    parts = Parts(config, state, tokenizer, settings, said if isinstance(said, dict) else {}, folder.name)
    return parts.checked(str(folder))


def write(folder: Place, parts: Parts, *, shard_size: int = SHARD, licence: str = "", card: Card = cards.text) -> None:
    """Write the parts into `folder`. shard_size: bytes of tensors in one file, at most, but for a larger tensor. card:
    makes the README.md."""
    tokenizer_files.write(folder, parts)
    storage.write_json(folder / "config.json", _settings(parts))
    ids = {"bos_token_id": parts.tokenizer.bos, "eos_token_id": parts.tokenizer.eos}
    storage.write_json(folder / "generation_config.json", {**ids, **parts.generation})
    storage.write(folder / "README.md", card(parts, licence).encode())
    state = {}
    for name, tensor in parts.state.items():
        theirs = renamed(name, TO_HUGGING_FACE)
        assert theirs is not None
        heads = rotary_heads(name, parts.config)
        state[theirs] = half_split(tensor, heads) if heads else tensor
    shards = _cut(state, shard_size)
    if len(shards) == 1:
        write_tensors(folder / "model.safetensors", state)
        return
    table = {}
    for number, names in enumerate(shards, 1):
        file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        write_tensors(folder / file, {name: state[name] for name in names})
        table.update(dict.fromkeys(names, file))
    total = sum(tensor.nbytes for tensor in state.values())
    index = {"metadata": {"total_size": total}, "weight_map": table}
    storage.write_json(folder / "model.safetensors.index.json", index)


def _config(keys: Keys) -> ModelConfig:
    kind = keys.text("model_type")
    if kind not in _KINDS:
        raise InputError(f"model_type = {kind!r}", where=keys.where, mend=f"known are {', '.join(_KINDS)}")
    keys.only("hidden_act", "silu", why="another activation than SwiGLU's")
    for key in ("attention_bias", "mlp_bias"):
        keys.only(key, False, why="Puna's model has no biases")
    if kind == "mistral":  # where one of these is not said, transformers takes 4096, and 8 heads
        for key in ("sliding_window", "num_key_value_heads"):
            if key not in keys.values:
                mend = "write what the model has: null for no sliding window"
                raise InputError(
                    f"says no {key}, whose default for Mistral is not LLaMA's", where=keys.where, mend=mend
                )
    keys.only("sliding_window", why="Puna's attention sees the whole context")
    keys.only("partial_rotary_factor", 1, 1.0, why="Puna turns whole heads")
    keys.only("quantization_config", why="quantised weights are read from GGUF only")
    dim, heads = keys.size("hidden_size"), keys.size("num_attention_heads")
    keys.only("head_dim", dim // heads, why=f"Puna's heads are hidden_size / num_attention_heads = {dim // heads} wide")
    return keys.config(
        dim=dim,
        heads=heads,
        kv_heads=keys.size("num_key_value_heads", heads),
        layers=keys.size("num_hidden_layers"),
        hidden=keys.size("intermediate_size"),
        vocabulary=keys.size("vocab_size"),
        context=keys.size("max_position_embeddings", 2048),
        rope_base=_rope_base(keys),
        norm_epsilon=keys.number("rms_norm_eps", 1e-6),
        tied=keys.truth("tie_word_embeddings", False),
    )


def _rope_base(keys: Keys) -> float:
    """The base, from where transformers 4 and 5 keep it; InputError when the angles are scaled."""
    bases = {}
    if keys.values.get("rope_theta") is not None:
        bases["rope_theta"] = keys.number("rope_theta")
    for key in ("rope_scaling", "rope_parameters"):
        if keys.values.get(key) is None:
            continue
        inner = Keys(keys.values[key], f"{keys.where}: {key}")
        for name in ("rope_type", "type"):
            inner.only(name, "default", why="scaled rotary angles are not known here")
        inner.only("partial_rotary_factor", 1, why="Puna turns whole heads")
        if inner.values.get("rope_theta") is not None:
            bases[f"{key}.rope_theta"] = inner.number("rope_theta")
    if len(set(bases.values())) > 1:
        raise InputError(f"says two rotary bases: {bases}", where=keys.where)
    return next(iter(bases.values()), 10000.0)


def _to_ours(state: dict[str, Tensor], config: ModelConfig, where: str) -> dict[str, Tensor]:
    """Tensors under Meta's names and in its layout."""
    found = {}
    for name, tensor in state.items():
        if name.endswith("rotary_emb.inv_freq"):  # old files keep the angles, which follow from the base
            expected = config.rope_base ** (-torch.arange(0, config.head_dim, 2) / config.head_dim)
            if tensor.shape != expected.shape or not torch.allclose(tensor.float(), expected, rtol=1e-2):
                raise InputError(f"{name} is not what rope_theta = {config.rope_base:g} gives", where=where)
            continue
        ours = renamed(name, FROM_HUGGING_FACE)
        if ours is None:
            raise InputError(f"{name[:200]} is not a tensor of a LLaMA", where=where)
        if ours == "output.weight" and config.tied:
            if not torch.equal(tensor, state.get("model.embed_tokens.weight", torch.empty(0))):
                what = "tie_word_embeddings is true, but lm_head.weight is not the embedding"
                raise InputError(what, where=where, mend="set it to false in config.json if they are to differ")
            continue
        heads = rotary_heads(ours, config)
        if heads and (tensor.dim() != 2 or tensor.shape[0] % (2 * heads)):
            what = f"{name} has shape {tuple(tensor.shape)}, whose rows are not {heads} heads"
            raise InputError(what, where=where)
        found[ours] = interleaved(tensor, heads) if heads else tensor
    return found


def _settings(parts: Parts) -> dict[str, Any]:
    """The config.json of Hugging Face."""
    config = parts.config
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "dtype": _TORCH_NAMES[parts.dtype],
        "vocab_size": config.vocabulary,
        "hidden_size": config.dim,
        "intermediate_size": config.hidden,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_dim,
        "hidden_act": "silu",
        "max_position_embeddings": config.context,
        "rms_norm_eps": config.norm_epsilon,
        # transformers 4 reads the first, 5 the second
        "rope_theta": config.rope_base,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_base},
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": config.tied,
        "bos_token_id": parts.tokenizer.bos,
        "eos_token_id": parts.tokenizer.eos,
    }


def _cut(state: dict[str, Tensor], shard_size: int) -> list[list[str]]:
    """Names in order, in groups of at most so many bytes."""
    shards: list[list[str]] = [[]]
    filled = 0
    for name in in_order(state):
        size = state[name].nbytes
        if shards[-1] and filled + size > max(1, shard_size):
            shards.append([])
            filled = 0
        shards[-1].append(name)
        filled += size
    return shards
