"""Pipeline parallelism: the layers of a model in groups, each held by other ranks, and a step by PyTorch's 1F1B.

For models past the paper's. The first stage has the embedding, the last one norm, output and loss. A batch goes through
in micro-batches; a stage sends hidden states on, and their gradients back. 1F1B (Narayanan et al. 2019, "PipeDream"):
stage s of p does p - s forward passes, then a backward and a forward pass by turns, then the backward passes left, so
that it never keeps more than p - s micro-batches; beside its computing it is idle (p - 1) / micro-batches as long.

What a layer must know beside its input, segments and positions, every stage reads from the data itself. Each pass has
the same shape: where a rank's windows do not divide, the last pass is filled up with windows that are not scored.

The slow twin is one process that makes the same passes one after another (train/passes.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.pipelining import PipelineStage, Schedule1F1B

from puna.model.config import ModelConfig
from puna.model.llama import Llama, filled
from puna.parallel.mesh import Mesh


class Stage(Llama):
    """The part of a model that one stage of a pipeline holds, under the names that it has in the whole one."""

    def __init__(self, config: ModelConfig, mesh: Mesh, dtype: torch.dtype) -> None:
        """Not yet filled, on the device "meta", in float32. dtype: in which it will compute."""
        super().__init__(config, device="meta", dtype=torch.float32)
        assert mesh.devices is not None
        self.index, self.count = mesh.stage, mesh.layout.pipeline
        self.group = mesh.devices["pipeline"].get_group()
        self._computes = dtype
        self._schedule: Schedule1F1B | None = None
        self._shape: tuple[int, int, int] | None = None
        whole, self.layers = self.layers, nn.ModuleList()
        for number in mesh.layout.layers_of(self.index, config.layers):
            self.layers.add_module(str(number), whole[number])
        if not self.first:
            del self.tok_embeddings
        if not self.last:
            del self.norm, self.output

    @property
    def first(self) -> bool:
        return self.index == 0

    @property
    def last(self) -> bool:
        return self.index == self.count - 1

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def forward(self, given: Tensor, segments: Tensor | None = None) -> Tensor:  # type: ignore[override]
        """given: on the first stage tokens, (batch, length), else what the stage before gave, (batch, own positions,
        dim). Returns the like for the next one; on the last, hidden states behind the norm."""
        self._alive()
        if self.comm is not None and self.first:
            given = filled(given, self.comm, 0)
        if self.comm is not None and segments is not None:
            segments = filled(segments, self.comm, -1)
        length = given.shape[1] * (1 if self.comm is None or self.first else self.comm.size)
        x_BLD = self.through_layers(self.embed(given) if self.first else given, length, segments)
        return self.normed(x_BLD) if self.last else x_BLD

    def train_batch(
        self,
        tokens_BL: Tensor,
        targets_BL: Tensor,
        segments_BL: Tensor | None,
        *,
        passes: int,
        scored: float,
        alive: Callable[[], object] = lambda: None,
    ) -> tuple[float, Tensor]:
        """Leave the gradient of the batch's nats / scored on the parameters; returns its nats, and those of each token,
        (batch, length), the same on every stage.

        The ranks of one pipeline give the same batch. A negative target is not scored. passes: micro-batches, at least
        as many as stages. alive: called with each pass.
        """
        windows, length = tokens_BL.shape
        rows = -(-windows // passes)
        missing = passes * rows - windows
        given = tokens_BL, targets_BL, segments_BL
        tokens_BL, targets_BL, segments_BL = (None if each is None else _longer(each, missing) for each in given)  # type: ignore[assignment]
        targets_BL[windows:] = -1
        self._alive, self._scored = alive, scored
        self._nats, self._each = 0.0, list[Tensor]()
        schedule = self._scheduled(passes, rows, length)
        try:
            schedule.step(
                *((tokens_BL,) if self.first else ()),
                target=targets_BL if self.last else None,
                return_outputs=False,
                segments=segments_BL,
            )
        except RuntimeError as error:
            raise error.__cause__ or error from None  # a stage's error, in words of its own
        found = torch.zeros(1 + passes * rows * length, dtype=torch.float64)
        if self.last:
            found[0], found[1:] = self._nats, torch.cat(self._each)
        dist.broadcast(found, group=self.group, group_src=self.count - 1)
        return found[0].item(), found[1:].view(-1, length)[:windows].to(torch.float32)

    def _scheduled(self, passes: int, rows: int, length: int) -> Schedule1F1B:
        """The schedule of passes of that shape; it holds what a stage receives in them, and so is kept."""
        if self._schedule is None or self._shape != (passes, rows, length):
            positions = length if self.comm is None else -(-length // self.comm.size)
            hidden: Any = {"dtype": self._computes, "device": "meta", "requires_grad": True}
            hidden_BOD = torch.empty(rows, positions, self.config.dim, **hidden)
            tokens_BL = torch.empty(rows, length, dtype=torch.int64, device="meta")
            # With the shapes told, nothing is run to find them, and nothing pickled to tell them.
            stage = PipelineStage(
                self,
                self.index,
                self.count,
                self.device,
                input_args=tokens_BL if self.first else hidden_BOD,
                output_args=hidden_BOD,
                group=self.group,
            )
            # The loss is divided by the tokens of all passes already.
            self._schedule = Schedule1F1B(stage, passes, loss_fn=self._loss, scale_grads=False)
            self._shape = passes, rows, length
        return self._schedule

    def _loss(self, hidden_BOD: Tensor, targets_BL: Tensor) -> Tensor:
        loss = self.cost(hidden_BOD, targets_BL)
        self._nats += loss.nats.item()
        self._each.append(loss.each.detach().cpu())
        return loss.nats / self._scored


def _longer(rows_BL: Tensor, missing: int) -> Tensor:
    """With so many rows more, which are the first one's values; a copy."""
    return torch.cat([rows_BL, rows_BL[:1].expand(missing, -1)])
