"""Puna's own training step, as the loop takes it, on tokens of any kind."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from puna.model import modes, weights
from puna.model.config import ModelConfig
from puna.model.llama import Llama
from puna.model.loss import plain_cross_entropy
from puna.recipe import Train
from puna.train.optimizer import Optimizer


class Ours:
    """A model and its optimizer. Calling it takes one step on tokens_BL1, (windows, context + 1), at `rate`."""

    def __init__(
        self,
        config: ModelConfig,
        train: Train,
        dtype: torch.dtype,
        mode: modes.Mode,
        *,
        compiles: bool,
        plain_loss: bool = False,
        seed: int = 1,
    ) -> None:
        """plain_loss: with all logits in memory, as autograd does it, to have something beside the chunked loss."""
        self.model = Llama(config, dtype=torch.float32)
        weights.initialise(self.model, seed)
        self.optimizer = Optimizer(self.model, dtype, train)
        self._micro_batch = train.micro_batch
        self._plain_loss = plain_loss
        modes.use(self.model, mode, compiles=compiles)

    def __call__(self, tokens_BL1: Tensor, rate: float) -> float:
        """Mean nats per token, before the step."""
        nats = self.gradients(tokens_BL1)
        self.optimizer.step(rate, self.optimizer.gradient_norm())
        self.optimizer.drop_gradients()
        return nats

    def gradients(self, tokens_BL1: Tensor) -> float:
        count, nats = tokens_BL1[:, 1:].numel(), 0.0
        for part in torch.split(tokens_BL1, self._micro_batch or len(tokens_BL1)):
            part_nats = self._nats(part)
            torch.autograd.backward(part_nats / count)
            self.optimizer.collect()
            nats += part_nats.item()
        return nats / count

    @torch.no_grad()
    def loss(self, tokens_BL1: Tensor) -> float:
        """Mean nats per token."""
        return self._nats(tokens_BL1).item() / tokens_BL1[:, 1:].numel()

    def masters(self) -> Mapping[str, Tensor]:
        return self.optimizer.masters

    def _nats(self, tokens_BL1: Tensor) -> Tensor:
        if not self._plain_loss:
            return self.model.loss(tokens_BL1).nats
        hidden_ND = self.model(tokens_BL1[:, :-1]).flatten(0, 1)
        return plain_cross_entropy(hidden_ND, self.model.output_weight, tokens_BL1[:, 1:].flatten()).nats
