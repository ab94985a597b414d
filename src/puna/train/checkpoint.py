"""Checkpoints: all that a training needs to go on bit for bit, in files that nothing has to unpickle.

    checkpoints/step-000500/
        model.safetensors       the float32 master weights under Meta's names
        config.json             the model's shape and the tokenizer's digest
        optimizer.safetensors   both moments of every tensor
        state.json              where the training stands, and the machine whose bits these are
        checkpoint.json         the marker: format, step, fingerprint, size and digest of the other files

A folder is filled aside and renamed, so a checkpoint stands whole or not at all; what a disk does to it later is found
by the digests, and the one before it is used.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from puna import __version__, space, storage
from puna.errors import InputError
from puna.formats import CHECKPOINT, STATE
from puna.model import weights
from puna.model.config import ModelConfig
from puna.progress import say
from puna.storage import Place
from puna.train.machine import Machine
from puna.train.optimizer import Optimizer

MARKER = "checkpoint.json"
FILES = {"model.safetensors", "config.json", "optimizer.safetensors", "state.json"}


@dataclass(frozen=True)
class Position:
    """How far a training is."""

    step: int = 0
    """Steps done, the skipped ones too."""
    taken: int = 0
    """Steps that changed the weights."""
    tokens: int = 0
    """Tokens read."""
    cursor: int = 0
    """The window that comes next."""
    loss: float | None = None
    """Of the last step that was taken, in nats per token."""
    skipped: tuple[tuple[int, int], ...] = ()
    """Ranges of windows, first and one behind the last, that were read but changed no weight."""
    nonfinite_in_a_row: int = 0
    """Skipped steps since the last one that was taken."""

    def after(self, *, windows: int, tokens: int, loss: float | None) -> Position:
        """The position one step on, which read that many windows and tokens. loss: None for a step not taken."""
        here = replace(self, step=self.step + 1, tokens=self.tokens + tokens, cursor=self.cursor + windows)
        if loss is not None:
            return replace(here, taken=self.taken + 1, loss=loss, nonfinite_in_a_row=0)
        earlier, first = self.skipped, self.cursor
        if earlier and earlier[-1][1] == first:
            earlier, first = earlier[:-1], earlier[-1][0]
        skipped = (*earlier, (first, here.cursor))
        return replace(here, skipped=skipped, nonfinite_in_a_row=self.nonfinite_in_a_row + 1)


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint on the disk: its folder, where the training stood, and on which machine (see `Machine`)."""

    path: Place
    position: Position
    machine: Mapping[str, Any]
    lines: int = 0
    """Training lines of metrics.jsonl up to here."""


def save(
    folder: Place,
    *,
    position: Position,
    optimizer: Optimizer,
    config: ModelConfig,
    tokenizer: str,
    machine: Machine,
    fingerprint: str,
    lines: int = 0,
) -> Checkpoint:
    """Write the checkpoint of `position` into `folder`, the run's `checkpoints`; what stood under its name is replaced.

    tokenizer: digest of its file. lines: training lines of metrics.jsonl up to here. PunaError, before anything is
    removed or written, when the disk cannot hold it.
    """
    path = folder / f"step-{position.step:06d}"
    need = space.checkpoint(sum(tensor.numel() for tensor in optimizer.masters.values()), len(optimizer.masters))
    space.check(folder.parent, f"the checkpoint of step {position.step}", need)
    _remove(path)
    versions = {"puna": __version__, "numpy": np.__version__, "python": platform.python_version()}
    with storage.create_folder(path, last=MARKER) as inside:
        weights.write_model(inside, config, optimizer.masters, tokenizer=tokenizer)
        weights.write_tensors(inside / "optimizer.safetensors", optimizer.state())
        state = {"format": STATE.version, **asdict(position), "fingerprint": fingerprint, "machine": asdict(machine)}
        storage.write_json(inside / "state.json", {**state, "lines": lines, "versions": versions})
        files = {
            file.name: {"size": storage.size(file), "digest": storage.digest(file)} for file in storage.listing(inside)
        }
        marker = {"format": CHECKPOINT.version, "step": position.step, "fingerprint": fingerprint, "files": files}
        storage.write_json(inside / MARKER, marker)
    return Checkpoint(path, position, asdict(machine), lines)


def newest(folder: Place, fingerprint: str) -> Checkpoint | None:
    """The newest intact checkpoint of that training in `folder`, or None where it has none; see `intact`."""
    return next(intact(folder, fingerprint), None)


def intact(folder: Place, fingerprint: str) -> Iterator[Checkpoint]:
    """The intact checkpoints of that training in `folder`, the newest first.

    A damaged one is named in a line and passed over. InputError when there are damaged ones only.
    """
    damaged, met = None, False
    for path in reversed(_folders(folder)):
        if _fingerprint(path) not in ("", fingerprint):
            continue
        reason = why_damaged(path)
        if reason:
            say(f"{path}: this checkpoint is damaged and not used: {reason}")
            damaged = path
            continue
        state = storage.read_json(path / "state.json")
        met = True
        yield Checkpoint(path, _position(state), state["machine"], state["lines"])
    if damaged is not None and not met:
        mend = f"delete the folder {folder} to train from the start"
        raise InputError("no checkpoint in it is intact", where=str(folder), mend=mend)


def why_damaged(path: Place) -> str:
    """What is wrong with the checkpoint, in words; "" when every byte is as it was written.

    Newer when a newer Puna wrote it.
    """
    weights.refuse_newer(path)
    try:
        listed = set(storage.read_json(path / MARKER)["files"])
    except (InputError, LookupError, TypeError):
        return f"{MARKER} is missing or unreadable"
    if missing := FILES - listed:
        return f"{MARKER} does not list {min(missing)}"
    try:
        weights.verify(path)
    except InputError as error:
        return f"{Path(error.where).name} {error.what}"
    return ""


def read_masters(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """The float32 master weights by name."""
    return weights.read_tensors(checkpoint.path / "model.safetensors")


def read_moments(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """What `Optimizer.state` gave."""
    return weights.read_tensors(checkpoint.path / "optimizer.safetensors")


def prune(folder: Place, keep: int, fingerprint: str) -> None:
    """Remove all but the newest `keep` checkpoints of that training, and on an object store what was left of an upload
    or a removal that was cut short."""
    own = [path for path in _folders(folder) if _fingerprint(path) == fingerprint]
    for path in own[:-keep]:
        _remove(path)
    if storage.is_remote(folder):
        whole = set(_folders(folder))
        for path in {file.parent for file in storage.listing(folder, "step-*/*")} - whole:
            storage.remove(path)


def _remove(path: Place) -> None:
    """Where a folder does not go at once (an object store), what is left of it must not be taken for a checkpoint."""
    if storage.is_remote(path):
        storage.remove(path / MARKER)
    storage.remove(path)


def _folders(folder: Place) -> list[Place]:
    """The checkpoints in `folder`, whole or not, oldest first; folders from which all was moved away are none.

    On an object store, where the marker comes last and goes first, a folder without it is none either: an upload or a
    removal was cut short there.
    """
    inside = MARKER if storage.is_remote(folder) else "*"
    found = {path.parent for path in storage.listing(folder, f"step-*/{inside}") if path.parent.name[5:].isdecimal()}
    return sorted(found, key=lambda path: int(path.name[5:]))


def _fingerprint(path: Place) -> str:
    try:
        return str(storage.read_json(path / MARKER)["fingerprint"])
    except (InputError, LookupError, TypeError):
        return ""


def _position(state: Mapping[str, Any]) -> Position:
    values = {name: state[name] for name in Position.__dataclass_fields__}
    return Position(**{**values, "skipped": tuple((first, end) for first, end in values["skipped"])})
