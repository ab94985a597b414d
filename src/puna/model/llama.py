"""The reference LLaMA (paper, section 2.2): the model that every faster path is tested against.

- Pre-normalisation with RMSNorm, computed in f32; SwiGLU; rotary embeddings at each layer; no biases.
- Tensors have Meta's names (`tok_embeddings`, `layers.0.attention.wq`, ...), so a state dict is a checkpoint.
- Modules here only hold tensors. What is computed is in `layer.py` and `loss.py`, functions of raw tensors.
- It is made with empty tensors, on any device ("meta" too): `weights.initialise` or `load_state_dict(state,
  assign=True)` fills them.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from puna.model.cache import Cache, LayerCache
from puna.model.config import ModelConfig
from puna.model.layer import LayerWeights, layer, rms_norm
from puna.model.loss import Loss, cross_entropy
from puna.model.rotary import Rope, rope_table


class Llama(nn.Module):
    """A LLaMA of the given shape, its tensors not yet filled."""

    def __init__(
        self, config: ModelConfig, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__()
        self.config = config
        with torch.device(device or torch.get_default_device()):
            self.tok_embeddings = Weight(config.vocabulary, config.dim, dtype=dtype)
            self.layers = nn.ModuleList(Layer(config, dtype) for _ in range(config.layers))
            self.norm = Weight(config.dim, dtype=dtype)
            if not config.tied:
                self.output = Weight(config.vocabulary, config.dim, dtype=dtype)

    def forward(self, tokens_BL: Tensor, segments: Tensor | None = None, cache: Cache | None = None) -> Tensor:
        """Hidden states behind the last norm, (batch, length, dim), for tokens_BL, (batch, length) integers.

        With a cache, the tokens follow those it has read. segments: (batch, positions so far), see `attention`.
        """
        length = tokens_BL.shape[1]
        start = 0
        if cache is not None:
            cache.room_for(length)
            start = cache.filled
        x_BLD = _embed(tokens_BL, self.tok_embeddings.weight)
        rope = rope_table(length, self.config.head_dim, self.config.rope_base, start=start, device=x_BLD.device)
        for index, block in enumerate(self.layers):
            x_BLD = block(x_BLD, rope, segments, None if cache is None else cache.layer(index))
        if cache is not None:
            cache.advance(length)
        return rms_norm(x_BLD, self.norm.weight, self.config.norm_epsilon)

    def logits(self, tokens_BL: Tensor, segments: Tensor | None = None, cache: Cache | None = None) -> Tensor:
        """Scores of every piece as the next token, (batch, length, vocabulary), in the model's dtype."""
        return F.linear(self(tokens_BL, segments, cache), self.output_weight)

    def loss(self, tokens_BL1: Tensor, segments: Tensor | None = None, scored_BL: Tensor | None = None) -> Loss:
        """Sum of nats of the last L tokens of each row of L + 1, and their number.

        The sum is what is differentiated; who knows the number of tokens of the whole step divides by it. The logits
        of the batch never stand in memory together. segments: (batch, L). scored_BL: which of the L count; None: all.
        """
        hidden_BLD = self(tokens_BL1[:, :-1], segments)
        targets_BL = tokens_BL1[:, 1:]
        if scored_BL is not None:
            targets_BL = torch.where(scored_BL, targets_BL, -1)
        return cross_entropy(hidden_BLD.flatten(0, 1), self.output_weight, targets_BL.flatten())

    @property
    def output_weight(self) -> Tensor:
        """(vocabulary, dim): the output's tensor, which is the embedding's in a tied model."""
        return self.tok_embeddings.weight if self.config.tied else self.output.weight

    @property
    def dtype(self) -> torch.dtype:
        return self.norm.weight.dtype

    @property
    def device(self) -> torch.device:
        return self.norm.weight.device


class Weight(nn.Module):
    """One tensor, named `....weight`, as Meta's linear, embedding and norm modules name theirs."""

    def __init__(self, *shape: int, dtype: torch.dtype | None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(shape, dtype=dtype))


class Attention(nn.Module):
    def __init__(self, config: ModelConfig, dtype: torch.dtype | None) -> None:
        super().__init__()
        keys = config.kv_heads * config.head_dim
        self.wq = Weight(config.dim, config.dim, dtype=dtype)
        self.wk = Weight(keys, config.dim, dtype=dtype)
        self.wv = Weight(keys, config.dim, dtype=dtype)
        self.wo = Weight(config.dim, config.dim, dtype=dtype)


class FeedForward(nn.Module):
    def __init__(self, config: ModelConfig, dtype: torch.dtype | None) -> None:
        super().__init__()
        self.w1 = Weight(config.hidden, config.dim, dtype=dtype)
        self.w2 = Weight(config.dim, config.hidden, dtype=dtype)
        self.w3 = Weight(config.hidden, config.dim, dtype=dtype)


class Layer(nn.Module):
    """Holds the tensors of one layer and hands them to `layer`, or to what modes.py put in its place; the unit that is
    compiled and sharded."""

    def __init__(self, config: ModelConfig, dtype: torch.dtype | None) -> None:
        super().__init__()
        self.function: Callable[..., Tensor] = layer
        self.epsilon = config.norm_epsilon
        self.attention = Attention(config, dtype)
        self.feed_forward = FeedForward(config, dtype)
        self.attention_norm = Weight(config.dim, dtype=dtype)
        self.ffn_norm = Weight(config.dim, dtype=dtype)

    def weights(self) -> LayerWeights:
        attention, feed_forward = self.attention, self.feed_forward
        return LayerWeights(
            attention_norm=self.attention_norm.weight,
            wq=attention.wq.weight,
            wk=attention.wk.weight,
            wv=attention.wv.weight,
            wo=attention.wo.weight,
            ffn_norm=self.ffn_norm.weight,
            w1=feed_forward.w1.weight,
            w2=feed_forward.w2.weight,
            w3=feed_forward.w3.weight,
        )

    def forward(self, x_BLD: Tensor, rope: Rope, segments: Tensor | None, cache: LayerCache | None) -> Tensor:
        return self.function(x_BLD, self.weights(), rope, segments, epsilon=self.epsilon, cache=cache)


def _embed(tokens_BL: Tensor, weight_VD: Tensor) -> Tensor:
    """Rows of weight_VD, (batch, length, dim)."""
    if torch.is_grad_enabled() and weight_VD.requires_grad:
        # On CPUs the gradient of a 16-bit table is summed in 16 bits, where a frequent piece's sum stops growing.
        wide = torch.promote_types(weight_VD.dtype, torch.float32)
        return F.embedding(tokens_BL, weight_VD.to(wide)).to(weight_VD.dtype)
    return F.embedding(tokens_BL, weight_VD)
