"""The training loop (section 2.3): windows in, checkpoints and metrics.jsonl out.

Killed at any moment and started again, it goes on from the newest intact checkpoint and gives the weights and losses of
an undisturbed training, bit for bit, on a machine that computes alike (see machine.py). Everything around a step is in
callbacks.py.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from puna import recipe as recipes
from puna import storage
from puna.errors import InputError, Interrupted
from puna.model import weights
from puna.model.config import ModelConfig
from puna.model.llama import Llama
from puna.progress import say
from puna.recipe import Recipe
from puna.train import checkpoint
from puna.train import machine as machines
from puna.train.callbacks import (
    Callback,
    Checkpoints,
    Leave,
    Metrics,
    Patience,
    Shown,
    Step,
    Training,
    read_metrics,
)
from puna.train.checkpoint import Checkpoint, Position
from puna.train.machine import Machine
from puna.train.optimizer import Optimizer
from puna.train.schedule import learning_rate


class Batches(Protocol):
    """Where the tokens come from: `puna.tokens.windows.Windows`."""

    def batch(self, start: int, count: int) -> np.ndarray:
        """Windows start .. start + count - 1: integers (count, context + 1)."""


def train(
    folder: Path,
    recipe: Recipe,
    *,
    fingerprint: str,
    threads: int | None = None,
    allow_other: bool = False,
    callbacks: Sequence[Callback] = (),
) -> dict[str, Any]:
    """Train the recipe's model on `folder/tokens` until its last step; resumes what `folder/checkpoints` holds.

    fingerprint: of everything that the result depends on; checkpoints with another one are not resumed.
    threads: None takes every usable CPU. allow_other: resume a checkpoint although this machine's type, threads, kernels
    or torch are not those it was made with (the bits then differ from an undisturbed training's).
    Returns steps, tokens (read), loss (of the last step, nats per token), seconds (of all steps) and checkpoint (the last
    one, relative to `folder`).
    Raises Interrupted after SIGINT or SIGTERM, with the step under way finished and saved; InputError for a damaged
    checkpoint that has no intact one before it; PunaError when losses stay non-finite.
    """
    from puna.tokens.windows import Windows

    windows = Windows(folder)
    ...


def run(
    folder: Path,
    recipe: Recipe,
    batches: Batches,
    config: ModelConfig,
    *,
    steps: int,
    batch_windows: int,
    tokenizer: str,
    fingerprint: str,
    threads: int | None = None,
    allow_other: bool = False,
    callbacks: Sequence[Callback] = (),
) -> dict[str, Any]:
    """`train` on any source of windows. tokenizer: digest of the tokenizer's model, for config.json."""
    found = checkpoint.newest(folder / "checkpoints", fingerprint)
    if found is None or found.position.step < steps:
        machine = machines.choose(recipe.train, threads)
        if found is not None:
            _refuse_other_machine(found, machine, allow_other)
        with machines.settled(machine):
            training = _begin(folder, recipe, config, found, machine)
            _loop(training, batches, batch_windows, callbacks)


def _loop(training: Training, batches: Batches, count: int, callbacks: Sequence[Callback]) -> None:
    train, model, optimizer = training.settings, training.model, training.optimizer
    with _stopping(training), _called(callbacks, training):
        while not training.finished:
            began = time.perf_counter()
            number = training.position.step + 1
            batch = torch.from_numpy(batches.batch(training.position.cursor, count).astype(np.int64))
            loss = _gradients(model, optimizer, batch, train.micro_batch or count)
            for callback in callbacks:
                callback.gradients(training)
            norm = optimizer.gradient_norm()
            rate = learning_rate(
                number,
                steps=training.steps,
                highest=train.learning_rate,
                minimum=train.minimum_rate,
                warmup=train.warmup,
            )
            taken = is_finite(loss, norm)
            if taken:
                optimizer.step(rate, norm)
            optimizer.drop_gradients()
            tokens = batch.shape[0] * (batch.shape[1] - 1)
            training.position = training.position.after(count, tokens, taken=taken)
            step = Step(number, loss, rate, norm, tokens, time.perf_counter() - began, taken)
            for callback in callbacks:
                callback.step(training, step)
