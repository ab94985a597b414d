"""A step of decoding of one shape, whatever is under way: what torch.compile and CUDA graphs need to run it again.

Every slot takes part in every step. One that has no token to read reads id 0 at position 0, and what it would write
there is what stood there. Sizes, addresses and the order of kernels are then the same each time, so that a GPU replays
a recorded graph and waits for no Python ("reduce-overhead" in torch.compile's documentation).

Not run on a GPU yet: on a CPU it is compared with `forward`, plain and compiled.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from puna.generate.packed import Packed
from puna.generate.slots import Slots
from puna.model.layer import rms_norm
from puna.model.rotary import Rope, rotate


class GraphedStep:
    """One token for any of the slots of `slots`. compiled: through torch.compile, with CUDA graphs on a GPU."""

    def __init__(self, model: Packed, slots: Slots, rope: Rope, *, compiled: bool = True) -> None:
        self._model, self._slots, self._rope = model, slots, rope
        self._step: Callable[..., Tensor] = step
        if compiled:
            mode = "reduce-overhead" if model.device.type == "cuda" else None
            self._step = torch.compile(step, fullgraph=True, dynamic=False, mode=mode)

    @torch.no_grad()
    def __call__(self, tokens: Sequence[int], at: Sequence[int], positions: Sequence[int]) -> Tensor:
        """Hidden states behind the last norm, x_ND, of tokens at `positions` of the slots `at`, one a slot."""
        count = self._slots.keys.shape[1]
        rows = torch.zeros(3, count, dtype=torch.int64)
        rows[:, list(at)] = torch.tensor([list(tokens), list(positions), [1] * len(at)])
        tokens_B, positions_B, active_B = rows.to(self._model.device)
        hidden_BD = self._step(
            self._model, self._slots.keys, self._slots.values, self._rope, tokens_B, positions_B, active_B.bool()
        )
        return hidden_BD[list(at)].clone()  # the next replay of a graph writes where this one did


def step(
    model: Packed,
    keys: Tensor,
    values: Tensor,
    rope: Rope,
    tokens_B: Tensor,
    positions_B: Tensor,
    active_B: Tensor,
) -> Tensor:
    """x_BD, hidden states behind the last norm, for a token of each slot; see `forward` for what it computes."""
    config = model.config
    rows = torch.arange(len(tokens_B), device=tokens_B.device)
    turned = Rope(rope.cos_LF[positions_B], rope.sin_LF[positions_B])
    seen_BS = torch.arange(keys.shape[3], device=tokens_B.device) <= positions_B[:, None]
    x_BD = F.embedding(tokens_B, model.embedding_VD).float()
    widths = [config.dim, config.kv_heads * config.head_dim, config.kv_heads * config.head_dim]
    for index, layer in enumerate(model.layers):
        normed_BD = rms_norm(x_BD, layer.attention_norm_D, config.norm_epsilon)
        q_BHK, k_BGK, v_BGK = (
            part.view(len(tokens_B), -1, config.head_dim) for part in torch.split(layer.qkv(normed_BD), widths, dim=-1)
        )
        q_BHK, k_BGK = rotate(q_BHK[None], turned)[0], rotate(k_BGK[None], turned)[0]
        for memory, new in ((keys[index], k_BGK), (values[index], v_BGK)):
            old = memory[rows, :, positions_B]
            memory[rows, :, positions_B] = torch.where(active_B[:, None, None], new, old)
        mixed_BH1K = F.scaled_dot_product_attention(
            q_BHK[:, :, None],
            keys[index],
            values[index],
            attn_mask=seen_BS[:, None, None],
            enable_gqa=config.heads != config.kv_heads,
        )
        x_BD = x_BD + layer.wo(mixed_BH1K.flatten(1))
        normed_BD = rms_norm(x_BD, layer.ffn_norm_D, config.norm_epsilon)
        a_BF, b_BF = layer.w13(normed_BD).chunk(2, dim=-1)
        x_BD = x_BD + layer.w2(F.silu(a_BF) * b_BF)
    return rms_norm(x_BD, model.norm_D, config.norm_epsilon)
