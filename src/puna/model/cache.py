"""Keys and values of the positions read so far, so that a token is decoded without reading its past again.

The memory is set aside once, (batch, kv_heads, length, head_dim) for each layer, and filled from the front: no tensor
grows while decoding, and what decoding needs is known before it starts.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from puna.model.config import ModelConfig


class LayerCache(NamedTuple):
    """One layer's keys and values, (batch, kv_heads, length, head_dim) each, of which `filled` positions are read."""

    keys_BGSK: Tensor
    values_BGSK: Tensor
    filled: int

    def extend(self, k_BGLK: Tensor, v_BGLK: Tensor) -> tuple[Tensor, Tensor]:
        """Write L new positions behind the filled ones; all keys and values up to them, (batch, kv_heads, S, ..)."""
        end = self.filled + k_BGLK.shape[2]
        self.keys_BGSK[:, :, self.filled : end] = k_BGLK
        self.values_BGSK[:, :, self.filled : end] = v_BGLK
        return self.keys_BGSK[:, :, :end], self.values_BGSK[:, :, :end]


class Cache:
    """The static cache of a whole model. `filled` is the number of positions read, the same in every row."""

    def __init__(
        self,
        config: ModelConfig,
        batch: int,
        length: int,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
    ) -> None:
        shape = (config.layers, 2, batch, config.kv_heads, length, config.head_dim)
        self._memory = torch.zeros(shape, dtype=dtype, device=device)
        self.length = length
        self.filled = 0

    def layer(self, index: int) -> LayerCache:
        return LayerCache(self._memory[index, 0], self._memory[index, 1], self.filled)

    def advance(self, count: int) -> None:
        """Count `count` more positions as read; called once every layer has written them."""
        self.filled += count

    def room_for(self, count: int) -> None:
        """Raise ValueError unless `count` more positions fit."""
        if self.filled + count > self.length:
            raise ValueError(f"the cache holds {self.length} positions; {self.filled} are read, {count} more came")

    def clear(self) -> None:
        """Forget everything read; the memory stays."""
        self.filled = 0
