"""GGUF, the form of llama.cpp: one file with shape, tokenizer and tensors, often quantised.

Its rotary layout for `llama` is Meta's, so nothing is turned here. Norms are always F32 in it. What llama.cpp would
compute otherwise than Puna (scaled rotary angles, factors for each of them, experts, other widths) is refused by name.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from puna import __version__
from puna.convert import gguf_file, gguf_tokenizer, quants
from puna.convert.keys import NOT_LLAMA, Keys
from puna.convert.names import FROM_GGUF, TO_GGUF, in_order, renamed
from puna.convert.parts import Parts
from puna.errors import InputError
from puna.model.config import ModelConfig
from puna.storage import Place

DTYPES = ("f32", "bf16", "f16", "q8_0", "q4_0")
_FILE_TYPES = {"f32": 0, "f16": 1, "q4_0": 2, "q8_0": 7, "bf16": 32}


def read(path: Place) -> Parts:
    """The parts of a file, quantised tensors in f32; InputError, naming key or tensor, for what is damaged or no
    LLaMA."""
    where = str(path)
    with gguf_file.opened(path) as (header, data):
        keys = Keys(header.keys, where)
        state: dict[str, Tensor] = {}
        for name, entry in header.entries.items():
            ours = renamed(name, FROM_GGUF)
            if name == "rope_freqs.weight":
                raise InputError(f"{name}: its rotary angles have factors of their own", where=where, mend=NOT_LLAMA)
            if ours is None:
                raise InputError(f"{name[:200]!r} is not a tensor of a LLaMA", where=where, mend=NOT_LLAMA)
            state[ours] = gguf_file.tensor(data, entry, f"{where}: {name}")
    if "tok_embeddings.weight" not in state:
        raise InputError("token_embd.weight is missing", where=where)
    rows = state["tok_embeddings.weight"].shape[0]
    config = _config(keys, rows, tied="output.weight" not in state)
    tokenizer, settings = gguf_tokenizer.read(keys, rows)
    name = keys.text("general.name") or path.stem
    return Parts(config, _norms_as_written(state), tokenizer, settings, name=name).checked(where)


def write(path: Place, parts: Parts, *, dtype: str) -> None:
    """Write the parts as one file. dtype: of DTYPES; norms are F32. InputError for a width that has no whole blocks."""
    state = {}
    for name in in_order(parts.state):
        theirs = renamed(name, TO_GGUF)
        assert theirs is not None
        state[theirs] = (parts.state[name], _type(parts.state[name], dtype, name))
    gguf_file.write(path, _keys(parts, dtype), state)


def rounded(parts: Parts, dtype: str) -> dict[str, Tensor]:
    """The tensors as they come out of a file of this dtype."""
    found = {}
    for name, tensor in parts.state.items():
        kind = _type(tensor, dtype, name)
        found[name] = quants.decode(quants.encode(tensor, kind), kind, tuple(tensor.shape), name)
    return _norms_as_written(found)


def _type(tensor: Tensor, dtype: str, name: str) -> quants.Type:
    kind = quants.BY_NAME["F32" if tensor.dim() == 1 else dtype.upper()]
    if tensor.shape[-1] % kind.block:
        what = f"{name} has rows of {tensor.shape[-1]}, and {dtype} takes multiples of {kind.block}"
        raise InputError(what, mend="export it as f16, bf16 or f32")
    return kind


def _config(keys: Keys, rows: int, tied: bool) -> ModelConfig:
    architecture = keys.text("general.architecture")
    if architecture != "llama":
        raise InputError(f"general.architecture = {architecture[:60]!r}", where=keys.where, mend=NOT_LLAMA)
    keys.only("llama.expert_count", 0, why="Puna's model has no experts")
    for key in ("llama.rope.scaling.type", "llama.rope.scaling.factor", "llama.rope.scale_linear"):
        keys.only(key, "none", 1, why="scaled rotary angles are not known here")
    for key in ("attention.clamp_kqv", "attention.max_alibi_bias", "attention.sliding_window", "logit_scale"):
        keys.only(f"llama.{key}", 0, why="Puna's model has none")
    dim, heads = keys.size("llama.embedding_length"), keys.size("llama.attention.head_count")
    for key in ("rope.dimension_count", "attention.key_length", "attention.value_length"):
        keys.only(f"llama.{key}", dim // heads, why=f"Puna's heads are {dim // heads} wide, and turned whole")
    return keys.config(
        dim=dim,
        heads=heads,
        kv_heads=keys.size("llama.attention.head_count_kv", heads),
        layers=keys.size("llama.block_count"),
        hidden=keys.size("llama.feed_forward_length"),
        vocabulary=rows,
        context=keys.size("llama.context_length"),
        rope_base=_shortest(keys.number("llama.rope.freq_base", 10000.0)),
        norm_epsilon=_shortest(keys.number("llama.attention.layer_norm_rms_epsilon")),
        tied=tied,
    )


def _keys(parts: Parts, dtype: str) -> dict[str, tuple[str, Any]]:
    config = parts.config
    return {
        "general.architecture": ("text", "llama"),
        "general.type": ("text", "model"),
        "general.name": ("text", parts.name),
        "general.description": ("text", f"exported by Puna {__version__}"),
        "general.file_type": ("u32", _FILE_TYPES[dtype]),
        "general.quantization_version": ("u32", 2),
        "llama.block_count": ("u32", config.layers),
        "llama.context_length": ("u32", config.context),
        "llama.embedding_length": ("u32", config.dim),
        "llama.feed_forward_length": ("u32", config.hidden),
        "llama.attention.head_count": ("u32", config.heads),
        "llama.attention.head_count_kv": ("u32", config.kv_heads),
        "llama.attention.layer_norm_rms_epsilon": ("f32", config.norm_epsilon),
        "llama.rope.freq_base": ("f32", config.rope_base),
        "llama.rope.dimension_count": ("u32", config.head_dim),
        "llama.vocab_size": ("u32", config.vocabulary),
        **gguf_tokenizer.written(parts),
    }


def _norms_as_written(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Norms in the dtype of the matrices, where that holds them exactly: GGUF keeps them in F32 whatever they were."""
    kinds = {tensor.dtype for tensor in state.values() if tensor.dim() > 1}
    if len(kinds) != 1:
        return state
    kind = kinds.pop()
    narrow = {name: tensor.to(kind) for name, tensor in state.items()}
    return narrow if all(torch.equal(narrow[name].float(), tensor.float()) for name, tensor in state.items()) else state


def _shortest(value: float) -> float:
    """The shortest decimal that is the same f32: GGUF keeps 1e-5 as 9.999999747378752e-06."""
    single = torch.tensor(value, dtype=torch.float32).item()
    for digits in range(1, 18):
        short = float(f"{value:.{digits}g}")
        if torch.tensor(short, dtype=torch.float32).item() == single:
            return short
    return value
