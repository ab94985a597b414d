"""metrics.jsonl and losses.jsonl as they are written: how every step went, in lines that a checkpoint counts on.

Lines behind a checkpoint from which a training goes on are cut off, since their steps come again; the wall time that
they took is not lost with them but goes into the next line, so that goodput (the share of wall time in steps that
counted) tells of kills and rewinds too. What passed between the last line and a kill is not known.
"""

from __future__ import annotations

import base64
import json
import math
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from puna.formats import LOSSES, METRICS
from puna.lines import Appender
from puna.storage import Place
from puna.train.callbacks import Callback, Step, Training
from puna.train.history import cut_back, cut_losses, read_metrics


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
        self._cut_back()
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

    def _cut_back(self) -> None:
        training = self._training
        lost = cut_back(self._path, training.position.step, training.position.rewound)
        self._lost += lost["wall_seconds"]
        training.stalled += lost["stall_seconds"]
        training.saves += int(lost["saves"])

    def _go_back(self, training: Training, step: Step) -> None:
        """Cut off the steps that are none any more, and tell of the rewind."""
        assert step.spike is not None
        self._file.close()
        self._cut_back()
        self.lines = len(read_metrics(self._path))
        self._file = Appender(self._path)
        self._seconds, self._useful, self._tokens = 0.0, 0.0, 0
        self.write({"step": step.number, "spike": step.spike.as_json()})


class WindowLosses(Callback):
    """losses.jsonl: what every window cost when it was read, one line for the steps between two checkpoints. Holds 4
    bytes a window in memory until then."""

    def __init__(self, path: Place) -> None:
        self._path = path
        self._steps: list[Step] = []

    def start(self, training: Training) -> None:
        cut_losses(self._path, training.position.step)
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


def _plain(value: float) -> float | None:
    """JSON knows no NaN."""
    return value if math.isfinite(value) else None
