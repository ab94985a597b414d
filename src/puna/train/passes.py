"""The forward and backward passes of a batch: its gradients on the masters, and what its tokens cost.

A rank reads its share of the batch and cuts it into parts of `micro_batch` windows, one after another. The ranks of a
pipeline have the same share, and several parts under way (parallel/pipeline.py). Either way the loss is divided by the
scored tokens of the whole batch, however it is cut.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np
import numpy.typing as npt
import torch

from puna.train.callbacks import Training
from puna.train.course import Batch

if TYPE_CHECKING:
    from puna.parallel.pipeline import Stage


def collect_gradients(training: Training, batch: Batch, count: int) -> tuple[float, npt.NDArray[np.float32]]:
    """Leave the gradient of the mean nats per scored token of a batch of `count` rows on the masters; returns that
    mean, and the nats of each token of this rank's rows, (rows, length)."""
    mesh = training.mesh
    scored = mesh.sum(batch.scored)
    passes = _staged if mesh.layout.pipeline > 1 else _one_by_one
    nats, each = passes(training, batch.to(training.model.device), count, scored)
    return mesh.sum(nats) / scored, each


def _one_by_one(training: Training, batch: Batch, count: int, scored: float) -> tuple[float, npt.NDArray[np.float32]]:
    rows = training.mesh.rows_of_pass(training.settings.micro_batch, count)
    nats, each = 0.0, []
    for part in batch.split(rows):
        loss = training.model.loss(part.tokens_BL1, part.segments_BL, part.scored_BL)
        torch.autograd.backward(loss.nats / scored)
        training.optimizer.collect()
        nats += loss.nats.item()
        each.append(loss.each.to("cpu", torch.float32).view(len(part.tokens_BL1), -1).numpy())
        training.alive()
    for _ in range(training.mesh.passes(count, rows) - len(each)):  # as many as other ranks exchange something in
        part = batch.split(1)[0]
        torch.autograd.backward(0 * training.model.loss(part.tokens_BL1, part.segments_BL, part.scored_BL).nats)
        training.optimizer.collect()
    return nats, np.concatenate(each)


def _staged(training: Training, batch: Batch, count: int, scored: float) -> tuple[float, npt.NDArray[np.float32]]:
    model = cast("Stage", training.model)
    targets_BL = batch.tokens_BL1[:, 1:]
    if batch.scored_BL is not None:
        targets_BL = torch.where(batch.scored_BL, targets_BL, -1)
    nats, each_BL = model.train_batch(
        batch.tokens_BL1[:, :-1],
        targets_BL,
        batch.segments_BL,
        passes=training.mesh.passes(count, training.mesh.rows_of_pass(training.settings.micro_batch, count)),
        scored=scored,
        alive=training.alive,
    )
    training.optimizer.collect()
    return nats, each_BL.numpy()
