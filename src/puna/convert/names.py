"""What the same tensor is called in each form, and the two layouts of rotary heads.

Meta and GGUF turn neighbouring elements of a head together, (0, 1), (2, 3), ...; Hugging Face turns element i with
element i + head_dim / 2. A model is the same in both when the rows of wq and wk are put in the other order, head by
head; with grouped heads wk has fewer heads than wq, which is why each is told its own number.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from torch import Tensor

from puna.model.config import ModelConfig

# Meta's name without `.weight` -> those of Hugging Face and of GGUF; N is the number of a layer.
_NAMES = {
    "tok_embeddings": ("model.embed_tokens", "token_embd"),
    "layers.N.attention_norm": ("model.layers.N.input_layernorm", "blk.N.attn_norm"),
    "layers.N.attention.wq": ("model.layers.N.self_attn.q_proj", "blk.N.attn_q"),
    "layers.N.attention.wk": ("model.layers.N.self_attn.k_proj", "blk.N.attn_k"),
    "layers.N.attention.wv": ("model.layers.N.self_attn.v_proj", "blk.N.attn_v"),
    "layers.N.attention.wo": ("model.layers.N.self_attn.o_proj", "blk.N.attn_output"),
    "layers.N.ffn_norm": ("model.layers.N.post_attention_layernorm", "blk.N.ffn_norm"),
    "layers.N.feed_forward.w1": ("model.layers.N.mlp.gate_proj", "blk.N.ffn_gate"),
    "layers.N.feed_forward.w2": ("model.layers.N.mlp.down_proj", "blk.N.ffn_down"),
    "layers.N.feed_forward.w3": ("model.layers.N.mlp.up_proj", "blk.N.ffn_up"),
    "norm": ("model.norm", "output_norm"),
    "output": ("lm_head", "output"),
}
TO_HUGGING_FACE = {ours: theirs for ours, (theirs, _) in _NAMES.items()}
TO_GGUF = {ours: theirs for ours, (_, theirs) in _NAMES.items()}
FROM_HUGGING_FACE = {theirs: ours for ours, theirs in TO_HUGGING_FACE.items()}
FROM_GGUF = {theirs: ours for ours, theirs in TO_GGUF.items()}


def renamed(name: str, table: Mapping[str, str]) -> str | None:
    """`name` by the table; None when it is no tensor of a LLaMA there."""
    match = re.fullmatch(r"(.*?)(?:\.(0|[1-9]\d{0,5})\.(.*))?\.weight", name)
    if match is None:
        return None
    stem, number, rest = match.groups()
    found = table.get(f"{stem}.N.{rest}" if number is not None else stem)
    return None if found is None else f"{found.replace('.N.', f'.{number}.')}.weight"


def half_split(weight: Tensor, heads: int) -> Tensor:
    """Rows of wq or wk (heads * head_dim, dim) from Meta's order to Hugging Face's."""
    return weight.reshape(heads, -1, 2, *weight.shape[1:]).transpose(1, 2).reshape(weight.shape)


def interleaved(weight: Tensor, heads: int) -> Tensor:
    """Rows of wq or wk from Hugging Face's order to Meta's; undoes `half_split`."""
    return weight.reshape(heads, 2, -1, *weight.shape[1:]).transpose(1, 2).reshape(weight.shape)


def rotary_heads(name: str, config: ModelConfig) -> int:
    """How many heads of the tensor `name` (Meta's) are turned; 0 for one that is not."""
    if name.endswith(".attention.wq.weight"):
        return config.heads
    return config.kv_heads if name.endswith(".attention.wk.weight") else 0


def in_order(names: Iterable[str]) -> list[str]:
    """Names with their numbers in order: layer 2 before layer 10."""
    return sorted(names, key=lambda name: [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)])
