"""metrics.jsonl and losses.jsonl: how every step went, in lines that a checkpoint counts on.

Lines behind a checkpoint from which a training goes on are cut off, since their steps come again; the wall time that
they took is not lost with them but goes into the next line, so that goodput (the share of wall time in steps that
counted) tells of kills and rewinds too. What passed between the last line and a kill is not known.
"""

from __future__ import annotations

import base64
import json
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from puna import storage
from puna.formats import LOSSES, METRICS
from puna.lines import Appender
from puna.storage import Place
from puna.train.callbacks import Callback, Step, Training

LOSSES_NAME = "losses.jsonl"


class Metrics(Callback):
    """metrics.jsonl: one line for each `log_every` steps, and for each step that was skipped or whose loss is a spike.
    Lines are synced before a checkpoint that counts on them."""

    def __init__(self, path: Place) -> None:
        self._path = path
        self._seconds = self._useful = self._lost = 0.0
        self._tokens = 0
        self.lines = 0
        """Training lines in the file."""

    def start(self, training: Training) -> None:
        self._began = time.monotonic()
        self._training = training
        self._lost = cut_back(self._path, training.position.step)
        self.lines = len(read_metrics(self._path))
        self._file = Appender(self._path)
        training.write = self.write

    def step(self, training: Training, step: Step) -> None:
        if step.spike is not None and step.rewound:
            self._go_back(training, step)
            return
        self._seconds += step.seconds
        self._useful += step.seconds if step.taken else 0.0
        self._tokens += step.tokens
        plain = step.taken and step.spike is None
        if plain and step.number % training.settings.log_every and not training.finished:
            return
        line = {
            "step": step.number,
            "tokens": training.position.tokens,
            "loss": _plain(step.loss),
            "learning_rate": step.learning_rate,
            "grad_norm": _plain(step.gradient_norm),
            "seconds": round(self._seconds, 4),  # since the line before
            "tokens_per_second": round(self._tokens / max(self._seconds, 1e-9), 1),
            "skipped": not step.taken,
            **self._times(training),
        }
        self.lines += 1
        self._seconds, self._tokens = 0.0, 0
        self.write(line if step.spike is None else {**line, "spike": step.spike.as_json()})

    def write(self, line: Mapping[str, Any]) -> None:
        """Add a line; every callback is told of it."""
        self._file.line(json.dumps({"format": METRICS.version, **line}))
        for callback in self._training.callbacks:
            callback.line(self._training, line)

    def sync(self) -> None:
        self._file.sync()

    def end(self, training: Training) -> None:
        if training.saves:  # the last checkpoint, which no line tells of yet
            self.write({"step": training.position.step, **self._times(training)})
        self._file.sync()
        self._file.close()

    def _times(self, training: Training) -> dict[str, Any]:
        """Where the wall time since the line before went."""
        now = time.monotonic()
        told = {
            "useful_seconds": round(self._useful, 4),
            "stall_seconds": round(training.stalled, 4),
            "saves": training.saves,
            "wall_seconds": round(now - self._began + self._lost, 4),
        }
        self._began, self._useful, self._lost, training.stalled, training.saves = now, 0.0, 0.0, 0.0, 0
        return told

    def _go_back(self, training: Training, step: Step) -> None:
        """Cut off the steps that are none any more, and tell of this rewind behind those that were before it."""
        assert step.spike is not None
        earlier = [line["spike"] for line in _values(self._path) if is_rewind(line)]
        self._file.close()
        self._lost += cut_back(self._path, training.position.step)
        self.lines = len(read_metrics(self._path))
        self._file = Appender(self._path)
        self._seconds, self._useful, self._tokens = 0.0, 0.0, 0
        # They hold for the steps that come now: a process that goes on from before these finds out again.
        for spike in (*earlier, step.spike.as_json()):
            self.write({"step": training.position.step + 1, "spike": spike})


class WindowLosses(Callback):
    """losses.jsonl: what every window cost when it was read, one line for the steps between two checkpoints. Holds 4
    bytes a window in memory until then."""

    def __init__(self, path: Place) -> None:
        self._path = path
        self._steps: list[Step] = []

    def start(self, training: Training) -> None:
        _cut_losses(self._path, training.position.step)
        self._steps = []

    def step(self, training: Training, step: Step) -> None:
        if step.rewound:
            self.start(training)
        else:
            self._steps.append(step)

    def save(self) -> None:
        """Write the line of the steps since the last one, synced."""
        if not self._steps:
            return
        nats = np.concatenate([step.windows for step in self._steps]).astype("<f4")
        line = {
            "format": LOSSES.version,
            "step": self._steps[0].number,
            "first": [step.first for step in self._steps],
            "windows": len(self._steps[0].windows),
            "nats": base64.b64encode(nats.tobytes()).decode(),
        }
        file = Appender(self._path)
        file.line(json.dumps(line))
        file.sync()
        file.close()
        self._steps = []


@dataclass(frozen=True)
class StepLosses:
    """What the windows of a step cost when it ran."""

    first: int
    """Its first window."""
    nats: npt.NDArray[np.float32]
    """Of each window, mean nats a token."""


def window_losses(path: Place, step: int) -> StepLosses | None:
    """What losses.jsonl tells of a step; None when it does not. Raises Newer."""
    for line in _losses_lines(path):
        at = step - line["step"]
        if 0 <= at < len(line["first"]):
            count = line["windows"]
            nats = np.frombuffer(base64.b64decode(line["nats"]), dtype="<f4")
            return StepLosses(line["first"][at], nats[at * count : (at + 1) * count].astype(np.float32))
    return None


def cut_back(path: Place, step: int) -> float:
    """Remove the lines of metrics.jsonl behind `step`, which will come again, and the half line of a killed process.

    Returns the wall seconds that the lines told of.
    """
    if not storage.exists(path):
        return 0.0
    data = storage.read(path)
    lines = data.splitlines(keepends=True)
    kept = b"".join(line for line in lines if _stands(line, step))
    if kept != data:
        storage.write(path, kept)
    gone = (_value(line) or {} for line in lines if not _stands(line, step))
    return math.fsum(wall for line in gone if isinstance(wall := line.get("wall_seconds"), float | int))


def read_metrics(path: Place) -> list[Mapping[str, Any]]:
    """The training lines of metrics.jsonl, oldest first; a line that cannot be read is none. Raises Newer."""
    return [value for value in _values(path) if "step" in value and "loss" in value]


def is_rewind(line: Mapping[str, Any]) -> bool:
    """Whether a line of metrics.jsonl tells of a rewind; `spike` says what was passed over."""
    spike = line.get("spike")
    return "loss" not in line and isinstance(spike, dict) and spike.get("action") == "rewind"


def summary(path: Place) -> dict[str, Any]:
    """Of a whole metrics.jsonl: `seconds` of all steps, `goodput` (the share of wall time in steps that counted),
    `stall_seconds` and `saves` (checkpoints), and `spikes`."""
    lines = [line for line in _values(path) if "step" in line]
    wall = _sum(lines, "wall_seconds")
    return {
        "seconds": round(_sum(lines, "seconds"), 3),
        "goodput": round(_sum(lines, "useful_seconds") / wall, 4) if wall else None,
        "stall_seconds": round(_sum(lines, "stall_seconds"), 3),
        "saves": int(_sum(lines, "saves")),
        "spikes": sum("spike" in line for line in lines),
    }


def _sum(lines: list[Mapping[str, Any]], name: str) -> float:
    return math.fsum(value for line in lines if isinstance(value := line.get(name), float | int))


def _values(path: Place) -> list[Mapping[str, Any]]:
    if not storage.exists(path):
        return []
    METRICS.refuse_newer_file(path)
    values = [_value(line) for line in storage.read(path).splitlines(keepends=True)]
    return [value for value in values if value is not None]


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


def _losses_lines(path: Place) -> Iterator[dict[str, Any]]:
    """The whole lines of losses.jsonl."""
    if not storage.exists(path):
        return
    with storage.open_read(path) as file:
        for text in file:
            value = _value(text)
            if value is not None and {"step", "first", "windows", "nats"} <= value.keys():
                LOSSES.refuse_newer(value.get("format"), path)
                yield dict(value)


def _cut_losses(path: Place, step: int) -> None:
    """Remove the lines of losses.jsonl that tell of steps behind `step`; they are in order."""
    end = 0
    if not storage.exists(path):
        return
    with storage.open_read(path) as file:
        for text in file:
            value = _value(text)
            if value is None or value.get("step", 0) + len(value.get("first", ())) - 1 > step:
                break
            end += len(text)
    if end < storage.size(path):
        _keep(path, end)


def _keep(path: Place, end: int) -> None:
    """Leave the first `end` bytes of a file, which may be large."""
    with storage.open_read(path) as file, storage.create(path) as shorter:
        while end and (block := file.read(min(end, 1 << 20))):
            shorter.write(block)
            end -= len(block)
