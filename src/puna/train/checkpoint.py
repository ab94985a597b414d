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
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from puna import __version__, space, storage
from puna.errors import InputError, PunaError
from puna.formats import CHECKPOINT, STATE
from puna.model import weights
from puna.model.config import ModelConfig
from puna.parallel.pieces import Regions
from puna.progress import say
from puna.storage import Place
from puna.train.machine import Machine
from puna.train.position import Position

MARKER = "checkpoint.json"
FILES = {"model.safetensors", "config.json", "optimizer.safetensors", "state.json"}


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint on the disk: its folder, where the training stood, and on which machine (see `Machine`)."""

    path: Place
    position: Position
    machine: Mapping[str, Any]
    lines: int = 0
    """Training lines of metrics.jsonl up to here."""

    def as_json(self) -> dict[str, Any]:
        """Without its folder, which every rank knows."""
        return {"position": self.position.as_json(), "machine": dict(self.machine), "lines": self.lines}

    @staticmethod
    def from_json(folder: Place, told: Mapping[str, Any]) -> Checkpoint:
        """folder: that of all checkpoints."""
        position = Position.from_json(told["position"])
        return Checkpoint(path_of(folder, position.step), position, told["machine"], told["lines"])


@dataclass(frozen=True)
class Kept:
    """Which checkpoints stay."""

    newest: int
    """The last so many."""
    every: int | None = None
    """Those of every so many steps."""
    border: int = 1
    """The newest of every so many steps, to which a rewind goes back."""


def save(
    folder: Place,
    *,
    position: Position,
    masters: Mapping[str, Tensor],
    moments: Mapping[str, Tensor],
    config: ModelConfig,
    tokenizer: str,
    machine: Machine,
    fingerprint: str,
    lines: int = 0,
    advance: Callable[[], object] = lambda: None,
    whole: Callable[[str], Tensor] | None = None,
    adapters: bool = False,
) -> Checkpoint:
    """Write the checkpoint of `position` into `folder`, the run's `checkpoints`; what stood under its name is replaced.

    masters and moments: the float32 weights, and what `Optimizer.state` gives. tokenizer: digest of its file. lines:
    training lines of metrics.jsonl up to here. advance: called with every tensor and file. whole: gives each tensor
    when it is written, where masters and moments are shapes alone (gathering.py). adapters: masters are what learns
    beside a model (finetune/lora.py), and not a model of this config. PunaError, before anything
    is removed or written, when the disk cannot hold it, and before it counts, when a tensor file does not read back as
    it was written.
    """
    path = path_of(folder, position.step)
    how: Any = {"advance": advance, "whole": whole}
    need = space.checkpoint(sum(tensor.numel() for tensor in masters.values()), len(masters))
    space.check(folder.parent, f"the checkpoint of step {position.step}", need)
    _remove(path)
    versions = {"puna": __version__, "numpy": np.__version__, "python": platform.python_version()}
    with storage.create_folder(path, last=MARKER) as inside:
        written = {
            "model.safetensors": weights.write_model(
                inside, config, masters, tokenizer=tokenizer, adapters=adapters, **how
            ),
            "optimizer.safetensors": weights.write_tensors(inside / "optimizer.safetensors", moments, **how),
        }
        state = {"format": STATE.version, **position.as_json(), "fingerprint": fingerprint, "machine": asdict(machine)}
        storage.write_json(inside / "state.json", {**state, "lines": lines, "versions": versions})
        files = {}
        for file in storage.listing(inside):
            files[file.name] = {"size": storage.size(file), "digest": storage.digest(file)}
            advance()
        for name, digest in written.items():
            if files[name]["digest"] != digest:
                what = "does not read back as it was written, so the checkpoint does not count"
                raise PunaError(what, where=str(path / name), mend="see what the system's log says of that disk")
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
        yield Checkpoint(path, Position.from_json(state), state["machine"], state["lines"])
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


def path_of(folder: Place, step: int) -> Place:
    """Where the checkpoint of a step lies in `folder`."""
    return folder / f"step-{step:06d}"


def read_masters(path: Place, region: Regions | None = None) -> dict[str, Tensor]:
    """The float32 master weights of a checkpoint's folder by name. region: the part of each that a rank holds."""
    return weights.read_tensors(path / "model.safetensors", region)


def read_moments(path: Place, region: Regions | None = None) -> dict[str, Tensor]:
    """What `Optimizer.state` gave."""
    return weights.read_tensors(path / "optimizer.safetensors", region)


def prune(folder: Place, kept: Kept, fingerprint: str) -> None:
    """Remove the checkpoints of that training that are not to be kept, and on an object store what was left of an
    upload or a removal that was cut short."""
    own = [path for path in _folders(folder) if _fingerprint(path) == fingerprint]
    at_border = [path for path in own if _step(path) % kept.border == 0]
    for path in set(own[: -kept.newest]) - set(at_border[-1:]):
        if kept.every is None or _step(path) % kept.every:
            _remove(path)
    if storage.is_remote(folder):
        whole = set(_folders(folder))
        for path in {file.parent for file in storage.listing(folder, "step-*/*")} - whole:
            storage.remove(path)


def remove_behind(folder: Place, step: int, fingerprint: str) -> None:
    """Remove the checkpoints of that training that lie behind `step`: it goes on differently from there."""
    for path in _folders(folder):
        if _step(path) > step and _fingerprint(path) == fingerprint:
            _remove(path)


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
    return sorted(found, key=_step)


def _step(path: Place) -> int:
    return int(path.name[5:])


def _fingerprint(path: Place) -> str:
    try:
        return str(storage.read_json(path / MARKER)["fingerprint"])
    except (InputError, LookupError, TypeError):
        return ""
