"""What happens around a step and is no part of it: what a training shows to callbacks, and the smallest of them.

Each is a small object with its own state, called by the loop in order. The larger ones are in metrics.py, saving.py,
watchdog.py and trackers.py. Evaluation while training is one more, handed in from above, since it stands on stations
that training does not know.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from puna.errors import Interrupted, PunaError
from puna.model.llama import Llama
from puna.parallel.mesh import ALONE, Mesh
from puna.progress import Bar, progress, say
from puna.recipe import Train
from puna.storage import Place
from puna.train.checkpoint import Checkpoint, path_of, read_masters
from puna.train.machine import Machine
from puna.train.optimizer import Optimizer
from puna.train.position import Position
from puna.train.spikes import Spike


def _unheard(line: Mapping[str, Any]) -> None:
    """Before metrics.jsonl is open."""


@dataclass
class Training:
    """A training under way, as callbacks see it."""

    folder: Place
    """The run's."""
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
    callbacks: Sequence[Callback] = ()
    mesh: Mesh = ALONE
    adapters: bool = False
    """Whether what learns are adapters beside the model."""
    asked: bool = False
    """Set by SIGINT, SIGTERM and SIGHUP, in this process alone."""
    broken: bool = False
    """A collective ended with an error: another rank is gone, and what waits for it would wait for ever."""
    stop: bool = False
    """One rank was asked to stop: the step under way is the last one of all of them."""
    saved: Checkpoint | None = None
    """The last checkpoint that this process wrote."""
    stalled: float = 0.0
    """Seconds for which steps waited for checkpoints, since the last line of metrics.jsonl."""
    saves: int = 0
    """Checkpoints since then."""
    write: Callable[[Mapping[str, Any]], None] = _unheard
    """Adds a line to metrics.jsonl; one that tells of a step holds its number as `step`."""
    beat: float = field(default_factory=time.monotonic)
    """When anything last moved on; `alive` sets it."""
    moved: int = 0
    """How often something did, in this process."""

    @property
    def finished(self) -> bool:
        return self.position.step >= self.steps

    def masters(self) -> Mapping[str, Tensor]:
        """The whole master weights by name. Of a model in parts they are read from this step's checkpoint, which must
        stand."""
        if self.mesh.alone:
            return self.optimizer.masters
        return read_masters(path_of(self.folder / "checkpoints", self.position.step))

    def alive(self, *_: object) -> None:
        """Tell the watchdog that work goes on; called for every part of a batch."""
        self.beat = time.monotonic()
        self.moved += 1


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
    """False when loss or norm was not finite, or the loss a spike that is skipped: weights and moments are as they
    were."""
    first: int
    """The first window of its batch."""
    windows: npt.NDArray[np.float32]
    """Mean nats per token of each of its windows."""
    spike: Spike | None = None

    @property
    def rewound(self) -> bool:
        """Whether the training went back before this step, so that it is none any more."""
        return self.spike is not None and self.spike.action == "rewind"


class Callback:
    """Override what is needed. Exceptions end the training; `end` is called all the same."""

    def start(self, training: Training) -> None:
        """Before the first step of this process."""

    def gradients(self, training: Training) -> None:
        """The gradients of the batch stand on the optimizer's masters and were not looked at yet."""

    def step(self, training: Training, step: Step) -> None:
        """After a step, taken, skipped or rewound; `training.position` has moved on, or back."""

    def line(self, training: Training, line: Mapping[str, Any]) -> None:
        """After a line was written to metrics.jsonl."""

    def end(self, training: Training) -> None:
        """After the last step of this process, or an exception."""


class Shown(Callback):
    """The progress bar, with the loss and the time left, and a line for each spike."""

    def start(self, training: Training) -> None:
        self._open = ExitStack()
        shown = progress("training", training.steps, "steps", done=training.position.step)
        self._bar: Bar = self._open.enter_context(shown)
        self._first = True

    def step(self, training: Training, step: Step) -> None:
        if self._first:  # it held the compilation, and says nothing of the steps to come
            self._first = False
            self._bar.started, self._bar.first = time.monotonic(), self._bar.done + 1
        if step.spike is not None:
            say(step.spike.line())
        speed = f"{step.tokens / step.seconds:,.0f} tokens/s"
        moved = training.position.step - self._bar.done  # less than 0 where a rewind went back
        self._bar.advance(moved, f"step {step.number} of {training.steps}, loss {step.loss:.3f}, {speed}")

    def end(self, training: Training) -> None:
        self._open.close()


class Patience(Callback):
    """Ends the training when more than `max_nonfinite` steps in a row had to be skipped."""

    def step(self, training: Training, step: Step) -> None:
        count = training.position.nonfinite_in_a_row
        if count > training.settings.max_nonfinite:
            spikes = ", or the loss a spike," if training.settings.spike == "skip" else ""
            what = f"loss or gradient was not finite{spikes} in {count} steps in a row, up to step {step.number}"
            mend = "try a lower train.learning_rate or a longer train.warmup; a higher train.max_nonfinite goes on"
            raise PunaError(what, where="training", mend=mend)


class Leave(Callback):
    """Ends the process after the step in which it was asked to, once that step is saved."""

    def step(self, training: Training, step: Step) -> None:
        # A signal that came after the step was saved waits for the next one.
        if training.stop and training.saved and training.saved.position == training.position:
            done = training.position.step
            what = f"stopped after step {done} of {training.steps}, saved in {training.saved.path}"
            raise Interrupted(what, mend="the same command goes on from there")
