"""The training loop (section 2.3): windows in, checkpoints and metrics.jsonl out.

Killed at any moment and started again, it goes on from the newest intact checkpoint and gives the weights and losses of
an undisturbed training, bit for bit, on a machine that computes alike (machine.py). A checkpoint counts with the lines
of metrics.jsonl and the machine that led to it, so that a result never stands without its history. What happens around
a step is in callbacks.py and the modules it names.
"""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import asdict, replace
from functools import partial
from types import FrameType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from puna import storage
from puna.errors import InputError, Interrupted, PunaError
from puna.model import device, modes
from puna.model.llama import Llama
from puna.parallel.mesh import Mesh, arrange, fill
from puna.parallel.peers import Peers
from puna.processes import stopping
from puna.progress import say
from puna.recipe import Recipe
from puna.storage import Place
from puna.tokens.windows import Windows
from puna.train import checkpoint, trackers
from puna.train import machine as machines
from puna.train.callbacks import Callback, Leave, Patience, Shown, Step, Training
from puna.train.checkpoint import Checkpoint
from puna.train.course import Course, Reading, pretraining
from puna.train.history import LOSSES_NAME, METRICS_NAME, read_metrics, summary
from puna.train.machine import Machine
from puna.train.metrics import Metrics, WindowLosses
from puna.train.optimizer import Optimizer
from puna.train.passes import collect_gradients
from puna.train.planned import planned
from puna.train.position import Position
from puna.train.rewind import rewind
from puna.train.saving import Checkpoints
from puna.train.schedule import learning_rate
from puna.train.spikes import NAMED, Spike, judged, remembered
from puna.train.watchdog import Watchdog


def train(
    folder: Place,
    recipe: Recipe,
    *,
    fingerprint: str,
    threads: int | None = None,
    allow_other: bool = False,
    callbacks: Sequence[Callback] = (),
) -> dict[str, Any]:
    """Train the recipe's model on the tokens of the run in `folder`: see `follow`."""
    course = pretraining(recipe, Windows(folder))
    return follow(
        folder, course, fingerprint=fingerprint, threads=threads, allow_other=allow_other, callbacks=callbacks
    )


def follow(
    folder: Place,
    course: Course,
    *,
    fingerprint: str,
    threads: int | None = None,
    allow_other: bool = False,
    callbacks: Sequence[Callback] = (),
) -> dict[str, Any]:
    """Train to the last step of a course, or on from its last checkpoint in `folder`.

    fingerprint: of all that the result depends on; checkpoints with another one are not used.
    threads: None takes every usable CPU. allow_other: go on from a checkpoint although torch, threads, type or kernels
    differ from those it was made with, so that the bits will not be those of an undisturbed training.
    Returns `steps` and `tokens` (read), `loss` of the last step taken (nats per token), `checkpoint`, the last one,
    relative to `folder`, and what `metrics.summary` tells.
    Raises Interrupted after SIGINT, SIGTERM or SIGHUP, with the step under way saved; InputError when checkpoints
    are damaged and no intact one is left, or were made by another machine, or when a package of `log_to` is missing;
    PunaError when losses stay non-finite or spikes come again and again. A training that hangs ends the process with
    status 75 (watchdog.py).
    """
    reading, settings = course.reading, course.settings
    steps, checkpoints, lines = reading.steps, folder / "checkpoints", folder / METRICS_NAME
    at = device.chosen(settings.device)
    mesh = arrange(course.config, settings.mesh, reading.rows, settings.micro_batch, partial(planned, course, at), at)
    under_way = UnderWay()
    with nullcontext() if mesh.alone else Peers(mesh, under_way.state, under_way.alive).watched():
        begin = mesh.told(lambda: _where_to_begin(folder, course, mesh, at, fingerprint, threads, allow_other))
        found = Checkpoint.from_json(checkpoints, begin["found"]) if begin["found"] else None
        if found is None or found.position.step < steps:
            machine = Machine(**begin["machine"])
            with machines.settled(machine):
                model, optimizer = _begin(course, machine, mesh, at, found)
                training = Training(
                    folder=folder,
                    settings=settings,
                    machine=machine,
                    model=model,
                    optimizer=optimizer,
                    steps=steps,
                    position=found.position if found else Position(),
                    fingerprint=fingerprint,
                    tokenizer=reading.tokenizer,
                    mesh=mesh,
                    adapters=course.adapted is not None,
                )
                under_way.training = training
                saving = _surround(training, course, callbacks)
                _run(training, course, saving)
            found = training.saved
    assert found is not None  # the last step is always saved
    return {
        "steps": found.position.step,
        "tokens": found.position.tokens,
        "loss": found.position.loss,
        "checkpoint": storage.below(found.path, folder),
        **summary(lines),
    }


class UnderWay:
    """What other ranks see of a training, also before it has begun."""

    training: Training | None = None

    def state(self) -> tuple[int, int]:
        """Its step, and a number that grows while work goes on."""
        return (self.training.position.step, self.training.moved) if self.training else (0, 0)

    def alive(self) -> None:
        """Another rank's work goes on, for which this one may be waiting."""
        if self.training:
            self.training.beat = time.monotonic()


def _where_to_begin(
    folder: Place,
    course: Course,
    mesh: Mesh,
    at: torch.device,
    fingerprint: str,
    threads: int | None,
    allow_other: bool,
) -> dict[str, Any]:
    """The checkpoint that is gone on from, if there is one, and the machine: what rank 0 decides for all."""
    settings, rows = course.settings, course.reading.rows
    found, without = resumable(folder, fingerprint)
    machines.mend_record(folder, found.machine if found else None, fingerprint)
    told: dict[str, Any] = {"found": found.as_json() if found else None}
    if found and found.position.step >= course.reading.steps:
        return told
    trackers.refuse_missing(settings.log_to)
    most = -(-rows // mesh.layout.data)
    windows = min(mesh.rows_of_pass(settings.micro_batch, most), most)
    earlier = found.machine if found else None
    machine = machines.choose(settings, threads, course.config, windows=windows, earlier=earlier, mesh=mesh, device=at)
    _remove(without, machine, allow_other)
    if found:
        _refuse_other_machine(found, machine, allow_other)
        say(f"training goes on after step {found.position.step} of {course.reading.steps}")
        if moved := machines.moved(found.machine, machine):
            say(f"{found.path}: {moved}")
    return {**told, "machine": asdict(machine)}


def _surround(training: Training, course: Course, callbacks: Sequence[Callback]) -> Checkpoints:
    """Give the training what happens around its steps; rank 0 alone writes and shows."""
    folder = training.folder
    if not training.mesh.first:
        saving = Checkpoints(folder / "checkpoints")
        training.callbacks = (Watchdog(), saving, Patience(), Leave())
        return saving
    machines.record(folder, training.machine, training.position.step, training.fingerprint)
    metrics, losses = Metrics(folder / METRICS_NAME), WindowLosses(folder / LOSSES_NAME)
    saving = Checkpoints(folder / "checkpoints", metrics, losses)
    logs = trackers.open_all(course.recipe, folder) if course.recipe else []
    training.callbacks = (Watchdog(), *logs, metrics, losses, Shown(), saving, *callbacks, Patience(), Leave())
    return saving


def _run(training: Training, course: Course, saving: Checkpoints) -> None:
    """Step until the last one."""
    with _asked_to_stop(training), ExitStack() as begun:
        for callback in training.callbacks:
            callback.start(training)
            begun.callback(callback.end, training)
        try:
            while not training.finished:
                step = _step(training, course.reading)
                if step.spike is not None and step.rewound:
                    saving.wait(training)
                    step = replace(step, spike=rewind(training, step.spike, course.initial))
                training.alive()
                training.stop = training.mesh.any(training.asked)
                for callback in training.callbacks:
                    callback.step(training, step)
        except RuntimeError:
            training.broken = not training.mesh.alone
            raise


def _step(training: Training, reading: Reading) -> Step:
    """Read the next rows, each rank its share of them, and take a step, unless there is a reason not to. A spike that
    is to be rewound leaves the training as it was."""
    began = time.perf_counter()
    settings, optimizer, position, mesh = training.settings, training.optimizer, training.position, training.mesh
    count, first = reading.rows, position.next
    own, rows = mesh.share(count)
    batch = reading.batch(first + own, rows)
    loss, nats_BL = collect_gradients(training, batch, count)
    for callback in training.callbacks:
        callback.gradients(training)
    norm = optimizer.gradient_norm()
    rate = learning_rate(position.step + 1, training.steps, settings)
    finite = math.isfinite(loss) and math.isfinite(norm)
    spike = _spike(training, reading, loss, nats_BL) if finite else None
    taken = finite and (spike is None or spike.action == "observe")
    if taken:
        optimizer.step(rate, norm)
    optimizer.drop_gradients()
    tokens = count * (batch.tokens_BL1.shape[1] - 1)
    if spike is None or spike.action != "rewind":
        seen = remembered(loss, position.losses, settings)
        training.position = position.after(windows=count, tokens=tokens, loss=loss if taken else None, seen=seen)
    return Step(
        number=position.step + 1,
        loss=loss,
        learning_rate=rate,
        gradient_norm=norm,
        tokens=tokens,
        seconds=time.perf_counter() - began,
        taken=taken,
        first=first,
        windows=mesh.rows(batch.row_means(nats_BL), count),
        spike=spike,
    )


def _spike(training: Training, reading: Reading, loss: float, nats_BL: npt.NDArray[np.float32]) -> Spike | None:
    """What to say of the loss when it is a spike, with the documents that cost most. nats_BL: of this rank's rows."""
    position, settings = training.position, training.settings
    found = judged(loss, position.losses, settings)
    if found is None:
        return None
    read = (position.next, position.next + reading.rows)
    all_BL = training.mesh.rows(nats_BL, reading.rows)
    named = tuple(reading.costly(read[0], all_BL)[:NAMED]) if training.mesh.first else ()
    return Spike(position.step + 1, loss, *found, settings.spike, read, named)


def _begin(
    course: Course, machine: Machine, mesh: Mesh, at: torch.device, found: Checkpoint | None
) -> tuple[Llama, Optimizer]:
    """Model and optimizer as they were at the checkpoint, or as the course gives them."""
    dtype = getattr(torch, machine.dtype)
    model = _model(course, mesh, dtype, at)
    if not found or course.adapted:
        fill(model, mesh, course.initial)
    if course.adapted:
        course.adapted.attach(model, dtype)
        model.to(at)
    optimizer = Optimizer(model, dtype, course.settings, mesh)
    if found:
        masters, moments = (read(found.path, mesh.part) for read in (checkpoint.read_masters, checkpoint.read_moments))
        optimizer.restore(masters, moments, found.position.taken)
    if not course.adapted:
        modes.use(model, machine.layer, compiles=machine.compiles)
    return model, optimizer


def _model(course: Course, mesh: Mesh, dtype: torch.dtype, at: torch.device) -> Llama:
    if mesh.alone:
        return Llama(course.config, device=at, dtype=torch.float32)
    from puna.parallel.sharded import sharded  # with it comes more of torch than one process needs

    return sharded(course.config, mesh, dtype)


def resumable(folder: Place, fingerprint: str) -> tuple[Checkpoint | None, list[Checkpoint]]:
    """The newest checkpoint whose history is whole, or None; and newer ones that stand without theirs."""
    steps = [line["step"] for line in read_metrics(folder / METRICS_NAME)]
    without: list[Checkpoint] = []
    for found in checkpoint.intact(folder / "checkpoints", fingerprint):
        if sum(step <= found.position.step for step in steps) == found.lines:
            return found, without
        what = "metrics.jsonl lacks lines up to there"
        say(f"{found.path}: this checkpoint is not used and its steps are done again: {what}")
        without.append(found)
    return None, without


def _remove(without: Sequence[Checkpoint], machine: Machine, allow_other: bool) -> None:
    """Take away checkpoints that were passed over, so that none is met again when lines come to reach its step."""
    for one in without:
        _refuse_other_machine(one, machine, allow_other)
    for one in without:
        storage.remove(one.path)


def _refuse_other_machine(found: Checkpoint, machine: Machine, allow_other: bool) -> None:
    """A training that goes on elsewhere would end with other weights, and nobody would know."""
    differing = machines.differences(found.machine, machine)
    if not differing:
        return
    what = f"it was made with {', '.join(differing)}"
    if allow_other:
        say(f"{found.path}: {what}: from here on the bits differ from an undisturbed training's")
        return
    mend = "go on as it was then, or add --allow-other-machine: the bits will differ from an undisturbed training's"
    raise InputError(what, where=str(found.path), mend=mend)


@contextmanager
def _asked_to_stop(training: Training) -> Iterator[None]:
    """SIGINT, SIGTERM and SIGHUP (a closed terminal) end it after the step under way; a second one ends it at once."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only there can handlers be set
        return
    old = {number: signal.getsignal(number) or signal.SIG_DFL for number in stopping()}

    def restore() -> None:
        for number, handler in old.items():
            signal.signal(number, handler)

    def stop(number: int, frame: FrameType | None) -> None:
        training.asked = True
        training.stop = training.stop or training.mesh.alone  # the others have to know of it first
        restore()
        with suppress(RuntimeError):  # the step may be in the middle of a line of its own
            say("asked to stop: this step is finished and saved first; a second signal ends it at once")

    for number in old:
        signal.signal(number, stop)
    try:
        yield
    except Exception as error:
        # A compiler run by this step is in the terminal's group, and was interrupted with it.
        if training.asked and training.mesh.alone and not isinstance(error, PunaError):
            what = f"stopped within a step ({type(error).__name__})"
            raise Interrupted(what, mend="the same command goes on from the last checkpoint") from error
        raise
    finally:
        restore()
    if training.stop and training.saved:  # asked after the last step was saved: what comes behind training is not begun
        what = f"stopped after step {training.position.step} of {training.steps}, saved in {training.saved.path}"
        raise Interrupted(what, mend="the same command goes on from there")
