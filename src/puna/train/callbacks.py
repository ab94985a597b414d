"""What happens around a step and is no part of it: the metrics file, checkpoints, the progress bar, giving up.

Each is a small object with its own state, called by the loop in order. Evaluation while training is one more, handed in
from above, since it stands on stations that training does not know.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from puna import storage
from puna.errors import Interrupted, PunaError
from puna.formats import METRICS
from puna.lines import Appender
from puna.model.llama import Llama
from puna.progress import Bar, progress
from puna.recipe import Train
from puna.storage import Place
from puna.train import checkpoint
from puna.train.checkpoint import Checkpoint, Position
from puna.train.machine import Machine
from puna.train.optimizer import Optimizer


@dataclass
class Training:
    """A training under way, as callbacks see it."""

    settings: Train
    """The recipe's section."""
    machine: Machine
    model: Llama
    optimizer: Optimizer
    steps: int
    """The last step's number."""
    position: Position
    fingerprint: str
    """Of all that the result depends on."""
    tokenizer: str
    """Digest of the tokenizer's file."""
    stop: bool = False
    """Set by SIGINT, SIGTERM and SIGHUP: the step under way is the last one of this process."""
    saved: Checkpoint | None = None
    """The last checkpoint that this process wrote."""

    @property
    def finished(self) -> bool:
        return self.position.step >= self.steps


@dataclass(frozen=True)
class Step:
    """What one step gave."""

    number: int
    loss: float
    """Mean nats per token of the batch, before the step."""
    learning_rate: float
    gradient_norm: float
    """Before clipping."""
    tokens: int
    """Of this batch."""
    seconds: float
    taken: bool
    """False when loss or norm was not finite: weights and moments are as they were."""


class Callback:
    """Override what is needed. Exceptions end the training; `end` is called all the same."""

    def start(self, training: Training) -> None:
        """Before the first step of this process."""

    def gradients(self, training: Training) -> None:
        """The gradients of the batch stand on the optimizer's masters and were not looked at yet."""

    def step(self, training: Training, step: Step) -> None:
        """After a step, taken or skipped; `training.position` has moved on."""

    def end(self, training: Training) -> None:
        """After the last step of this process, or an exception."""


class Metrics(Callback):
    """metrics.jsonl: one line for each `log_every` steps. Lines are synced before a checkpoint that counts on them."""

    def __init__(self, path: Place) -> None:
        self._path = path
        self._seconds = 0.0
        self._tokens = 0
        self.lines = 0
        """Training lines in the file."""

    def start(self, training: Training) -> None:
        cut_back(self._path, training.position.step)
        self.lines = len(read_metrics(self._path))
        self._file = Appender(self._path)

    def step(self, training: Training, step: Step) -> None:
        self._seconds += step.seconds
        self._tokens += step.tokens
        if step.taken and step.number % training.settings.log_every and not training.finished:
            return
        line = {
            "format": METRICS.version,
            "step": step.number,
            "tokens": training.position.tokens,
            "loss": _plain(step.loss),
            "learning_rate": step.learning_rate,
            "grad_norm": _plain(step.gradient_norm),
            "seconds": round(self._seconds, 4),  # since the line before
            "tokens_per_second": round(self._tokens / max(self._seconds, 1e-9), 1),
            "skipped": not step.taken,
        }
        self._file.line(json.dumps(line))
        self.lines += 1
        self._seconds, self._tokens = 0.0, 0

    def sync(self) -> None:
        self._file.sync()

    def end(self, training: Training) -> None:
        self._file.sync()
        self._file.close()


class Checkpoints(Callback):
    """A checkpoint every `checkpoint_every` steps, at the end, and when the process is asked to leave."""

    def __init__(self, folder: Place, metrics: Metrics) -> None:
        self._folder = folder
        self._metrics = metrics

    def step(self, training: Training, step: Step) -> None:
        if not (training.stop or training.finished or step.number % training.settings.checkpoint_every == 0):
            return
        self._metrics.sync()
        training.saved = checkpoint.save(
            self._folder,
            position=training.position,
            optimizer=training.optimizer,
            config=training.model.config,
            tokenizer=training.tokenizer,
            machine=training.machine,
            fingerprint=training.fingerprint,
            lines=self._metrics.lines,
        )
        checkpoint.prune(self._folder, training.settings.keep, training.fingerprint)


class Shown(Callback):
    """The progress bar, with the loss and the time left."""

    def start(self, training: Training) -> None:
        self._open = ExitStack()
        shown = progress("training", training.steps, "steps", done=training.position.step)
        self._bar: Bar = self._open.enter_context(shown)
        self._first = True

    def step(self, training: Training, step: Step) -> None:
        if self._first:  # it held the compilation, and says nothing of the steps to come
            self._first = False
            self._bar.started, self._bar.first = time.monotonic(), self._bar.done + 1
        speed = f"{step.tokens / step.seconds:,.0f} tokens/s"
        self._bar.advance(1, f"step {step.number} of {training.steps}, loss {step.loss:.3f}, {speed}")

    def end(self, training: Training) -> None:
        self._open.close()


class Patience(Callback):
    """Ends the training when more than `max_nonfinite` steps in a row had to be skipped."""

    def step(self, training: Training, step: Step) -> None:
        count = training.position.nonfinite_in_a_row
        if count > training.settings.max_nonfinite:
            what = f"loss or gradient was not finite in {count} steps in a row, up to step {step.number}"
            raise PunaError(what, where="training", mend="try a lower train.learning_rate or a longer train.warmup")


class Leave(Callback):
    """Ends the process after the step in which it was asked to, once that step is saved."""

    def step(self, training: Training, step: Step) -> None:
        # A signal that came after the step was saved waits for the next one.
        if training.stop and training.saved and training.saved.position == training.position:
            what = f"stopped after step {step.number} of {training.steps}, saved in {training.saved.path}"
            raise Interrupted(what, mend="the same command goes on from there")


def cut_back(path: Place, step: int) -> None:
    """Remove the lines of metrics.jsonl behind `step`, which will come again, and the half line of a killed process."""
    if not storage.exists(path):
        return
    data = storage.read(path)
    kept = b"".join(line for line in data.splitlines(keepends=True) if _stands(line, step))
    if kept != data:
        storage.write(path, kept)


def read_metrics(path: Place) -> list[Mapping[str, Any]]:
    """The training lines of metrics.jsonl, oldest first; a line that cannot be read is none. Raises Newer."""
    if not storage.exists(path):
        return []
    METRICS.refuse_newer_file(path)
    values = [_value(line) for line in storage.read(path).splitlines(keepends=True)]
    return [value for value in values if value is not None and "step" in value and "loss" in value]


def _stands(line: bytes, step: int) -> bool:
    value = _value(line)
    return value is not None and value.get("step", 0) <= step


def _value(line: bytes) -> Mapping[str, Any] | None:
    """What a line of metrics.jsonl says; None for a half or damaged one."""
    try:
        value = json.loads(line) if line.endswith(b"\n") else None
    except ValueError:
        return None
    return value if isinstance(value, dict) and isinstance(value.get("step", 0), int) else None


def _plain(value: float) -> float | None:
    """JSON knows no NaN."""
    return value if math.isfinite(value) else None
