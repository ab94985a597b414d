"""When a checkpoint is due, and writing it beside the steps that follow.

At the border of a step masters and moments are copied, 12 bytes a parameter, and a thread writes the copy while
training goes on; at most one is under way, and it counts when its marker stands. What the loop waits for it is the
stall: the copy, and the rest of a writing that takes longer than the steps to the next. It waits too where something
counts on the checkpoint: before it leaves, before held-out loss is measured, and before it goes back. Where memory has
no room for the copy, and with `save = "between"`, it waits until the checkpoint is written, as it does at the last
step.

Where ranks share the model each copies and sends its parts, rank 0 writes (gathering.py), and the checkpoint counts on
every rank when it stands.

What goes wrong in the thread ends the training at its next step, in the line that it would have been without one. A
slow disk is no error: each file that it has taken counts as moving on, and a wait for it is said.
"""

from __future__ import annotations

import threading
import time
from dataclasses import asdict

from torch import Tensor

from puna.model import weights
from puna.progress import say, size
from puna.storage import Place
from puna.train import checkpoint, memory
from puna.train.callbacks import Callback, Step, Training
from puna.train.checkpoint import Checkpoint
from puna.train.gathering import Gathering
from puna.train.metrics import Metrics, WindowLosses

ROOM = 1.25  # of the copy's size: what else steps may come to take meanwhile
SLOW = 10.0  # seconds of waiting behind which it is said


class Checkpoints(Callback):
    """A checkpoint every `checkpoint_every` steps, every `keep_every`, before held-out loss is measured, at the end,
    and when the process is asked to leave."""

    def __init__(self, folder: Place, metrics: Metrics | None = None, losses: WindowLosses | None = None) -> None:
        """metrics and losses: what a checkpoint counts on; None on a rank that writes neither."""
        self._folder = folder
        self._metrics = metrics
        self._losses = losses
        self._writing: _Writing | None = None
        self._short = False
        self._gathering: Gathering | None = None

    def start(self, training: Training) -> None:
        if not training.mesh.alone:
            self._gathering = Gathering(training.mesh, weights.shapes(training.model.config))

    def step(self, training: Training, step: Step) -> None:
        if self._writing is not None and not self._writing.is_alive():
            self.wait(training)
        # Not right behind a rewind: its checkpoint stands, and the same spike leads back to it.
        leaving = training.finished or (training.stop and not step.rewound)
        if not (leaving or (due(training) and not step.rewound)):
            return
        began = time.perf_counter()
        self.wait(training)
        if self._metrics is not None:
            self._metrics.sync()
        if self._losses is not None:
            self._losses.save()
        masters, moments = training.optimizer.masters, training.optimizer.state()
        if self._gathering is not None:
            masters, moments = self._gathering.needed(masters), self._gathering.needed(moments)
        beside = not leaving and training.settings.save == "beside" and self._has_room(masters, moments)
        if beside:
            masters, moments = _copy(masters), _copy(moments)
        lines = 0 if self._metrics is None else self._metrics.lines
        self._writing = _Writing(self._folder, training, lines, masters, moments, self._gathering)
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
            writing.join(SLOW)
            if writing.is_alive():
                if training.mesh.first:
                    say(f"training waits for the checkpoint of step {writing.step}: the disk is slower than the steps")
                writing.join()
        if writing.error is not None:
            raise writing.error
        training.saved = writing.saved

    def end(self, training: Training) -> None:
        if training.broken:  # the rest of a checkpoint under way may be what never comes, and who is gone is to be told
            return
        try:
            self.wait(training)
        except Exception as error:  # what ended the training is told already, and with it a rank that is gone
            if training.mesh.alone or not isinstance(error, RuntimeError):
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
        self,
        folder: Place,
        training: Training,
        lines: int,
        masters: dict[str, Tensor],
        moments: dict[str, Tensor],
        gathering: Gathering | None,
    ) -> None:
        super().__init__(name="checkpoint", daemon=True)
        self.saved: Checkpoint | None = None
        self.error: BaseException | None = None
        self._folder, self._training, self._lines = folder, training, lines
        self._position = training.position
        self.step = self._position.step
        self._masters, self._moments = masters, moments
        self._gathering = gathering

    def run(self) -> None:
        training = self._training
        try:
            if training.mesh.first:
                self.saved = self._write()
            else:
                self._send()
                path = checkpoint.path_of(self._folder, self._position.step)
                self.saved = Checkpoint(path, self._position, asdict(training.machine))
        except BaseException as error:  # raised again in the training's thread
            self.error = error
        finally:
            self._masters, self._moments = {}, {}

    def _write(self) -> Checkpoint:
        training, settings, gathering = self._training, self._training.settings, self._gathering
        masters, moments, whole = self._masters, self._moments, None
        if gathering is not None:
            parts = {**masters, **moments}
            masters, moments = gathering.empty(""), gathering.empty("exp_avg.", "exp_avg_sq.")

            def whole(name: str) -> Tensor:
                return gathering.whole(name, parts.get(name))

        saved = checkpoint.save(
            self._folder,
            position=self._position,
            masters=masters,
            moments=moments,
            config=training.model.config,
            tokenizer=training.tokenizer,
            machine=training.machine,
            fingerprint=training.fingerprint,
            lines=self._lines,
            advance=training.alive,
            whole=whole,
            adapters=training.adapters,
        )
        kept = checkpoint.Kept(settings.keep, settings.keep_every, settings.checkpoint_every)
        checkpoint.prune(self._folder, kept, training.fingerprint)
        if gathering is not None:
            gathering.stands()
        return saved

    def _send(self) -> None:
        """What rank 0 asks for of this rank, in its order: masters, then moments, each by name."""
        assert self._gathering is not None
        for tensors in (self._masters, self._moments):
            for name in sorted(tensors):
                self._gathering.send(tensors[name])
                self._training.alive()
        self._gathering.stands()


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
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}
