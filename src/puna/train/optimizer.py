"""AdamW on float32 master weights, with the gradient's norm bounded (section 2.3: 0.9, 0.95, decay 0.1, clip 1.0).

The model computes with working copies of the masters, in bfloat16 where the processor has it. Gradients are taken to
float32 before they are summed, bounded and used, and the copies are made anew from the masters after every step, so
that no small change is lost to the short type. In float32 a working copy is its master: nothing is held twice. Where
ranks share a model, masters, moments and gradients here are a rank's parts of them; FSDP (parallel/sharded.py) makes
the working copies and sums the gradients.

Decay: the paper gives 0.1 and does not say for which tensors. Here it acts on those with two dimensions (linear
weights, embeddings), and not on the norms' weights, as is usual.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from puna.parallel.mesh import ALONE, Mesh, local
from puna.recipe import Train


class Optimizer:
    """The masters, their moments, and the model that follows them.

    `taken` counts the steps that were taken: AdamW's own count, which a skipped step does not raise.
    """

    def __init__(self, model: nn.Module, dtype: torch.dtype, train: Train, mesh: Mesh = ALONE) -> None:
        """model: its parameters that ask for a gradient, in float32, become the masters, and it gets working copies of
        `dtype` instead."""
        self._working = {name: tensor for name, tensor in model.named_parameters() if tensor.requires_grad}
        self.masters = {name: local(parameter.detach()) for name, parameter in self._working.items()}
        self.taken = 0
        self._clip = train.clip
        self._mesh = mesh
        if mesh.alone:
            for name, working in self._working.items():
                working.data = self.masters[name].to(dtype)
        groups = [
            {"params": [m for m in self.masters.values() if m.dim() == 2], "weight_decay": train.weight_decay},
            {"params": [m for m in self.masters.values() if m.dim() != 2], "weight_decay": 0.0},
        ]
        self._adamw = torch.optim.AdamW(groups, betas=(train.beta1, train.beta2), eps=train.epsilon, fused=True)
        for master in self.masters.values():
            self._adamw.state[master] = {
                "step": torch.zeros((), device=master.device),
                "exp_avg": torch.zeros_like(master),
                "exp_avg_sq": torch.zeros_like(master),
            }

    def collect(self) -> None:
        """Add the gradients that a backward pass left on the working copies to the masters', in float32."""
        for name, working in self._working.items():
            if working.grad is None:
                continue
            master = self.masters[name]
            gradient = local(working.grad)
            if master.grad is None:
                master.grad = gradient.to(torch.float32)
            else:
                master.grad += gradient
            working.grad = None

    def gradient_norm(self) -> float:
        """Norm of all collected gradients together, of all ranks."""
        return self._mesh.norm({name: m.grad for name, m in self.masters.items() if m.grad is not None})

    def step(self, learning_rate: float, norm: float) -> None:
        """Take one step along the collected gradients, scaled down to the clip where `norm`, theirs, is above it."""
        if norm > self._clip:
            torch._foreach_mul_(self._gradients(), self._clip / norm)
        for group in self._adamw.param_groups:
            group["lr"] = learning_rate
        self._adamw.step()
        self.taken += 1
        self._refresh()

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

    def restore(self, masters: Mapping[str, Tensor], state: Mapping[str, Tensor], taken: int) -> None:
        """Go on from masters and moments (`state`) as they were after `taken` steps."""
        for name, master in self.masters.items():
            master.copy_(masters[name])
            self._adamw.state[master]["step"].fill_(taken)
        for name, moment in self.state().items():
            moment.copy_(state[name])
        self.taken = taken
        self._refresh()

    @torch.no_grad()
    def _refresh(self) -> None:
        """Make the working copies anew."""
        for name, working in self._working.items():
            if working.dtype != torch.float32:
                working.copy_(self.masters[name])

    def _gradients(self) -> list[Tensor]:
        return [master.grad for master in self.masters.values() if master.grad is not None]
