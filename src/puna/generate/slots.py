"""Keys and values of many texts at once: a slot each, of different lengths, in memory that is set aside once.

A slot keeps what it read until another text takes it, so that a prompt that begins as an earlier one did, or as one
that is being read, computes only what is its own: the rest is in its slot already or is copied from another. That is
how n samples of a prompt, the questions behind the same examples, and the turns of a chat share what they have in
common.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from puna.errors import InputError
from puna.model.config import ModelConfig
from puna.tokenizer.prefix import common


class Slots:
    """The cache. keys and values: (layers, slots, kv_heads, context, head_dim), f32.

    context: positions a slot, at most the model's own, which are all that training saw.
    """

    def __init__(
        self, config: ModelConfig, slots: int, context: int | None = None, *, device: torch.device | str | None = None
    ) -> None:
        self.context = min(context or config.context, config.context)
        shape = (config.layers, slots, config.kv_heads, self.context, config.head_dim)
        try:
            self.keys, self.values = _zeros(shape, device), _zeros(shape, device)
        except (RuntimeError, MemoryError):  # torch has no name for memory that it does not get
            what = f"there is no memory for keys and values of {slots} slots x {self.context} tokens"
            raise InputError(what, mend="give fewer slots, or a smaller context") from None
        self._ids = np.zeros((slots, self.context), np.int64)
        self._filled = [0] * slots
        self._busy = [False] * slots
        self._left = [0] * slots  # when it became free
        self._clock = 0

    @property
    def bytes(self) -> int:
        """What the cache takes in memory."""
        return self.keys.nbytes + self.values.nbytes

    @property
    def free(self) -> int:
        """Slots that nobody has."""
        return self._busy.count(False)

    def filled(self, slot: int) -> int:
        """Positions of `slot` whose keys and values stand."""
        return self._filled[slot]

    def take(self, ids: Sequence[int], most: int) -> int:
        """A free slot for a text that begins with `ids`; up to `most` of them may stand in it already (`filled`).

        The free slot with the most in common is taken; where another has more, that is copied from it.
        """
        wanted = np.asarray(ids[: max(most, 0)], np.int64)
        alike = [common(wanted, self._ids[slot, : self._filled[slot]]) for slot in range(len(self._busy))]
        free = [slot for slot, busy in enumerate(self._busy) if not busy]
        # Of those with nothing in common the one that was left longest ago, so that what is kept is what is recent.
        slot = max(free, key=lambda one: (alike[one], -self._left[one]))
        source = max(range(len(alike)), key=lambda one: alike[one])
        if alike[source] > alike[slot]:
            slot = min(free, key=lambda one: self._left[one])
            shared = alike[source]
            for memory in (self.keys, self.values):
                memory[:, slot, :, :shared] = memory[:, source, :, :shared]
            self._ids[slot, :shared] = self._ids[source, :shared]
            alike[slot] = shared
        self._filled[slot] = alike[slot]
        self._busy[slot] = True
        return slot

    def wrote(self, slot: int, ids: Sequence[int]) -> None:
        """Count `ids`, whose keys and values were written behind those of `slot`, as read."""
        end = self._filled[slot] + len(ids)
        self._ids[slot, self._filled[slot] : end] = ids
        self._filled[slot] = end

    def clear(self, slot: int) -> None:
        """Forget what `slot` read; it stays taken."""
        self._filled[slot] = 0

    def leave(self, slot: int, *, keep: bool = True) -> None:
        """Give `slot` back. keep: whether what it holds may be shared still."""
        self._clock += 1
        self._busy[slot] = False
        self._left[slot] = self._clock
        if not keep:
            self._filled[slot] = 0

    def shared(self, ids: Sequence[int]) -> int:
        """How many of the first of `ids` stand in some slot."""
        wanted = np.asarray(ids, np.int64)
        return max(common(wanted, self._ids[slot, :filled]) for slot, filled in enumerate(self._filled))

    def layer(self, index: int) -> tuple[Tensor, Tensor]:
        """Keys and values of one layer, (slots, kv_heads, context, head_dim) each."""
        return self.keys[index], self.values[index]


def _zeros(shape: tuple[int, ...], device: torch.device | str | None) -> Tensor:
    """On a CPU as the system gives it: what no text ever fills is never touched, and takes no memory."""
    if torch.device(device or "cpu").type == "cpu":
        return torch.from_numpy(np.zeros(shape, np.float32))
    return torch.zeros(shape, device=device)
