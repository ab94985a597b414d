"""AdamW on float32 master weights, with the gradient's norm bounded (section 2.3: 0.9, 0.95, decay 0.1, clip 1.0).

The model computes with working copies of the masters, in bfloat16 where the processor has it. Gradients are taken to
float32 before they are summed, bounded and used, and the copies are made anew from the masters after every step, so that
no small change is lost to the short type. In float32 a working copy is its master: nothing is held twice.

Decay: the paper gives 0.1 and does not say for which tensors. Here it acts on those with two dimensions (linear weights,
embeddings), and not on the norms' weights, as is usual.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from puna.recipe import Train


class Optimizer:
    """The masters, their moments, and the model that follows them.

    `taken` counts the steps that were taken: AdamW's own count, which a skipped step does not raise.
    """

    def __init__(self, model: nn.Module, masters: Mapping[str, Tensor], dtype: torch.dtype, train: Train) -> None:
        """model: parameters of any type, filled here. masters: name -> float32 tensor, owned by the optimizer now."""
        self.masters = {name: masters[name] for name, _ in model.named_parameters()}
        self.taken = 0
        self._clip = train.clip
        self._working = dict(model.named_parameters())
        for name, working in self._working.items():
            working.data = self.masters[name].to(dtype)
        groups = [
            {"params": [m for m in self.masters.values() if m.dim() == 2], "weight_decay": train.weight_decay},
            {"params": [m for m in self.masters.values() if m.dim() != 2], "weight_decay": 0.0},
        ]
        self._adamw = torch.optim.AdamW(groups, betas=(train.beta1, train.beta2), eps=train.epsilon, fused=True)
        for master in self.masters.values():
            self._adamw.state[master] = {
                "step": torch.zeros(()),
                "exp_avg": torch.zeros_like(master),
                "exp_avg_sq": torch.zeros_like(master),
            }

    def collect(self) -> None:
        """Add the gradients that a backward pass left on the working copies to the masters', in float32."""
        for name, working in self._working.items():
            if working.grad is None:
                continue
            master = self.masters[name]
            if master.grad is None:
                master.grad = working.grad.to(torch.float32)
            else:
                master.grad += working.grad
            working.grad = None

    def gradient_norm(self) -> float:
        """Norm of all collected gradients together."""
        return float(torch.nn.utils.get_total_norm(self._gradients()))

    def step(self, learning_rate: float, norm: float) -> None:
        """Take one step along the collected gradients, scaled down to the clip where `norm`, theirs, is above it."""
        if norm > self._clip:
            torch._foreach_mul_(self._gradients(), self._clip / norm)
        for group in self._adamw.param_groups:
            group["lr"] = learning_rate
        self._adamw.step()
        self.taken += 1
        with torch.no_grad():
            for name, working in self._working.items():
                working.copy_(self.masters[name])

    def drop_gradients(self) -> None:
        for tensor in (*self.masters.values(), *self._working.values()):
            tensor.grad = None

    def state(self) -> dict[str, Tensor]:
        """Both moments of every master: `exp_avg.NAME` and `exp_avg_sq.NAME`, float32."""
        return {
            f"{moment}.{name}": self._adamw.state[master][moment]
            for name, master in self.masters.items()
            for moment in ("exp_avg", "exp_avg_sq")
        }

    def restore(self, state: Mapping[str, Tensor], taken: int) -> None:
        """Go on from the moments that `state` gave after `taken` steps."""
        for name, own in self.state().items():
            own.copy_(state[name])
        for master in self.masters.values():
            self._adamw.state[master]["step"].fill_(taken)
        self.taken = taken

    def _gradients(self) -> list[Tensor]:
        return [master.grad for master in self.masters.values() if master.grad is not None]


def is_finite(*values: float) -> bool:
    return all(math.isfinite(value) for value in values)
