"""The model over tokens of many texts at once: matrices see them as one batch, attention each within its own slot.

A few tokens are one call of kernel.cpp. What stands here is its twin, and what reads prompts; the readable twin of both
is `Llama.forward`, with one text and `Cache`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from puna.generate.native import MOST
from puna.generate.packed import Packed
from puna.generate.slots import Slots
from puna.model.attention import attention
from puna.model.layer import rms_norm
from puna.model.rotary import Rope, rotate


class Span(NamedTuple):
    """Tokens that are read behind those of a slot: its positions start .. start + length - 1."""

    slot: int
    start: int
    length: int


@torch.no_grad()
def forward(model: Packed, slots: Slots, rope: Rope, tokens: Sequence[int], spans: Sequence[Span]) -> Tensor:
    """Hidden states behind the last norm, x_ND, of all `tokens`, those of the first span first.

    rope: the table of positions 0 .. slots.context - 1. Writes keys and values into the slots; `Slots.wrote` is the
    caller's.
    """
    config, device = model.config, model.device
    places = [span.start + i for span in spans for i in range(span.length)]
    x_ND = F.embedding(torch.tensor(tokens, device=device), model.embedding_VD).float()
    if model.native is not None and len(tokens) <= MOST:
        model.native(x_ND, slots, rope, [span.slot for span in spans for _ in range(span.length)], places)
        return rms_norm(x_ND, model.norm_D, config.norm_epsilon)
    positions = torch.tensor(places, device=device)
    turned = Rope(rope.cos_LF[positions], rope.sin_LF[positions])
    widths = [config.dim, config.kv_heads * config.head_dim, config.kv_heads * config.head_dim]
    for index, layer in enumerate(model.layers):
        normed_ND = rms_norm(x_ND, layer.attention_norm_D, config.norm_epsilon)
        q_NHK, k_NGK, v_NGK = (
            part.view(len(tokens), -1, config.head_dim) for part in torch.split(layer.qkv(normed_ND), widths, dim=-1)
        )
        q_NHK, k_NGK = rotate(q_NHK[None], turned)[0], rotate(k_NGK[None], turned)[0]
        x_ND = x_ND + layer.wo(_attention(q_NHK, k_NGK, v_NGK, *slots.layer(index), spans))
        normed_ND = rms_norm(x_ND, layer.ffn_norm_D, config.norm_epsilon)
        a_NF, b_NF = layer.w13(normed_ND).chunk(2, dim=-1)
        x_ND = x_ND + layer.w2(F.silu(a_NF) * b_NF)
    return rms_norm(x_ND, model.norm_D, config.norm_epsilon)


def _attention(
    q_NHK: Tensor, k_NGK: Tensor, v_NGK: Tensor, keys_BGSK: Tensor, values_BGSK: Tensor, spans: Sequence[Span]
) -> Tensor:
    """Write the new keys and values; (N, dim), each token's attention over its slot up to itself."""
    outputs, first = [], 0
    for slot, start, length in spans:
        rows, end = slice(first, first + length), start + length
        keys_BGSK[slot, :, start:end] = k_NGK[rows].transpose(0, 1)
        values_BGSK[slot, :, start:end] = v_NGK[rows].transpose(0, 1)
        q_1HLK = q_NHK[rows].transpose(0, 1)[None]
        output_1HLK, _ = attention(q_1HLK, keys_BGSK[slot, None, :, :end], values_BGSK[slot, None, :, :end])
        outputs.append(output_1HLK[0].transpose(0, 1).flatten(1))
        first += length
    return torch.cat(outputs)
