"""When a checkpoint is due, and writing it beside the steps that follow.

At the border of a step masters and moments are copied, 12 bytes a parameter, and a thread writes the copy while
training goes on; at most one is under way, and it counts when its marker stands. What the loop waits for it is the
stall: the copy, and the rest of a writing that takes longer than the steps to the next. It waits too where something
counts on the checkpoint: before it leaves, before held-out loss is measured, and before it goes back. Where memory has
no room for the copy, and with `save = "between"`, it waits until the checkpoint is written, as it does at the last
step.

What goes wrong in the thread ends the training at its next step, in the line that it would have been without one.
"""

from __future__ import annotations

import threading
import time

from torch import Tensor

from puna.progress import say, size
from puna.storage import Place
from puna.train import checkpoint, memory
from puna.train.callbacks import Callback, Step, Training
from puna.train.checkpoint import Checkpoint
from puna.train.metrics import Metrics, WindowLosses

ROOM = 1.25  # of the copy's size: what else steps may come to take meanwhile


class Checkpoints(Callback):
    """A checkpoint every `checkpoint_every` steps, every `keep_every`, before held-out loss is measured, at the end,
    and when the process is asked to leave."""

    def __init__(self, folder: Place, metrics: Metrics, losses: WindowLosses) -> None:
        self._folder = folder
        self._metrics = metrics
        self._losses = losses
        self._writing: _Writing | None = None
        self._short = False

    def step(self, training: Training, step: Step) -> None:
        if self._writing is not None and not self._writing.is_alive():
            self.wait(training)
        # Not right behind a rewind: its checkpoint stands, and the same spike leads back to it.
        leaving = training.finished or (training.stop and not step.rewound)
        if not (leaving or (due(training) and not step.rewound)):
            return
        began = time.perf_counter()
        self.wait(training)
        self._metrics.sync()
        self._losses.save()
        masters, moments = training.optimizer.masters, training.optimizer.state()
        beside = not leaving and training.settings.save == "beside" and self._has_room(masters, moments)
        if beside:
            masters, moments = _copy(masters), _copy(moments)
        self._writing = _Writing(self._folder, training, self._metrics.lines, masters, moments)
        if beside:
            self._writing.start()
        else:
            self._writing.run()
        if not beside or measures(training):
            self.wait(training)
        training.stalled += time.perf_counter() - began
        training.saves += 1

    def wait(self, training: Training) -> None:
        """Until no checkpoint is being written. Raises what its writing ended with."""
        writing, self._writing = self._writing, None
        if writing is None:
            return
        if writing.ident is not None:
            writing.join()
        if writing.error is not None:
            raise writing.error
        training.saved = writing.saved

    def end(self, training: Training) -> None:
        try:
            self.wait(training)
        except Exception as error:  # what ended the training is told already
            say(str(error))

    def _has_room(self, masters: dict[str, Tensor], moments: dict[str, Tensor]) -> bool:
        need = sum(tensor.nbytes for tensors in (masters, moments) for tensor in tensors.values())
        free = memory.available()
        if free is None or free >= ROOM * need:
            return True
        if not self._short:
            say(f"checkpoints are written between steps: a copy takes {size(need)}, and {size(free)} of memory is free")
        self._short = True
        return False


class _Writing(threading.Thread):
    """A checkpoint under way."""

    def __init__(
        self, folder: Place, training: Training, lines: int, masters: dict[str, Tensor], moments: dict[str, Tensor]
    ) -> None:
        super().__init__(name="checkpoint", daemon=True)
        self.saved: Checkpoint | None = None
        self.error: BaseException | None = None
        self._folder, self._training, self._lines = folder, training, lines
        self._position = training.position
        self._masters, self._moments = masters, moments

    def run(self) -> None:
        training, settings = self._training, self._training.settings
        try:
            self.saved = checkpoint.save(
                self._folder,
                position=self._position,
                masters=self._masters,
                moments=self._moments,
                config=training.model.config,
                tokenizer=training.tokenizer,
                machine=training.machine,
                fingerprint=training.fingerprint,
                lines=self._lines,
                advance=training.alive,
            )
            kept = checkpoint.Kept(settings.keep, settings.keep_every, settings.checkpoint_every)
            checkpoint.prune(self._folder, kept, training.fingerprint)
        except BaseException as error:  # raised again in the training's thread
            self.error = error
        finally:
            self._masters, self._moments = {}, {}


def due(training: Training) -> bool:
    """Whether a checkpoint is made of the step that the training stands behind."""
    step, settings = training.position.step, training.settings
    return step % settings.checkpoint_every == 0 or measures(training) or _every(step, settings.keep_every)


def measures(training: Training) -> bool:
    """Whether held-out loss is measured behind it."""
    return _every(training.position.step, training.settings.evaluate_every)


def _every(step: int, distance: int | None) -> bool:
    return distance is not None and step % distance == 0


def _copy(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}
