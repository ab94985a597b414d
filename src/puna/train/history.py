"""metrics.jsonl and losses.jsonl as they are read, and cut back: what a training left of its steps.

Loads no torch, for whoever asks a run about its training.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

import numpy as np
import numpy.typing as npt

from puna import storage
from puna.formats import LOSSES, METRICS
from puna.storage import Place
from puna.train.position import Ranges

METRICS_NAME, LOSSES_NAME = "metrics.jsonl", "losses.jsonl"
LOST = ("wall_seconds", "stall_seconds", "saves")


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
            nats = _nats(line)
            return None if nats is None else StepLosses(line["first"][at], nats[at])
    return None


def cut_back(path: Place, step: int, rewound: Ranges = ()) -> dict[str, float]:
    """Remove the lines of metrics.jsonl behind `step`, which will come again, and the half line of a killed process.

    rewound: as in the position of that step: of lines that tell of rewinds those stay that led to it. Returns the wall
    and stall seconds and the checkpoints (`LOST`) that the removed lines told of.
    """
    if not storage.exists(path):
        return dict.fromkeys(LOST, 0)
    data = storage.read(path)
    told = data.splitlines(keepends=True)
    kept = b"".join(line for line in told if _stands(line, step, rewound))
    if kept != data:
        storage.write(path, kept)
    gone = [_value(line) or {} for line in told if not _stands(line, step, rewound)]
    return {name: _sum(gone, name) for name in LOST}


def read_metrics(path: Place) -> list[Mapping[str, Any]]:
    """The training lines of metrics.jsonl, oldest first; a line that cannot be read is none. Raises Newer."""
    return [value for value in lines(path) if "step" in value and "loss" in value]


def rewinds(told: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What lines of metrics.jsonl tell of rewinds, in order: `Spike.as_json` of each."""
    spikes = [line["spike"] for line in told if "loss" not in line and isinstance(line.get("spike"), dict)]
    return [spike for spike in spikes if spike.get("action") == "rewind" and is_range(spike.get("rewound"))]


def is_range(value: Any) -> bool:
    """Whether it is the first window of a range and the one behind its last."""
    whole = isinstance(value, list | tuple) and len(value) == 2 and all(isinstance(number, int) for number in value)
    return whole and 0 <= value[0] < value[1]


def summary(path: Place) -> dict[str, Any]:
    """Of a whole metrics.jsonl: `seconds` of all steps, `goodput` (the share of wall time in steps that counted),
    `stall_seconds` and `saves` (checkpoints but the last, behind which no line stands), and `spikes`."""
    told = [line for line in lines(path) if "step" in line]
    wall = _sum(told, "wall_seconds")
    return {
        "seconds": round(_sum(told, "seconds"), 3),
        "goodput": round(_sum(told, "useful_seconds") / wall, 4) if wall else None,
        "stall_seconds": round(_sum(told, "stall_seconds"), 3),
        "saves": int(_sum(told, "saves")),
        "spikes": sum("spike" in line for line in told),
    }


def _sum(told: list[Mapping[str, Any]], name: str) -> float:
    """Of what is a number of this world; a damaged line may say anything."""
    values = (line.get(name) for line in told)
    return math.fsum(value for value in values if isinstance(value, float | int) and 0 <= value < 1e15)


def lines(path: Place) -> list[Mapping[str, Any]]:
    """All lines of metrics.jsonl, of whatever kind; one that cannot be read is none. Raises Newer."""
    if not storage.exists(path):
        return []
    METRICS.refuse_newer_file(path)
    values = [_value(line) for line in storage.read(path).splitlines(keepends=True)]
    return [value for value in values if value is not None]


def _stands(line: bytes, step: int, rewound: Ranges) -> bool:
    value = _value(line)
    if value is None:
        return False
    for spike in rewinds([value]):
        passed = spike["rewound"]
        return any(first <= passed[0] and passed[1] <= end for first, end in rewound)
    return bool(value.get("step", 0) <= step)


def _value(line: bytes) -> Mapping[str, Any] | None:
    """What a line of metrics.jsonl says; None for a half or damaged one."""
    try:
        value = json.loads(line) if line.endswith(b"\n") else None
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) and isinstance(value.get("step", 0), int) else None


def _is_losses(value: Mapping[str, Any] | None) -> TypeGuard[Mapping[str, Any]]:
    """Whether a line of losses.jsonl tells which steps read which windows; `_nats` says what they cost."""
    if value is None or not {"step", "first", "windows", "nats"} <= value.keys():
        return False
    first = value["first"]
    return isinstance(first, list) and all(isinstance(each, int) for each in (*first, value["windows"]))


def _nats(line: Mapping[str, Any]) -> npt.NDArray[np.float32] | None:
    """(steps, windows) of a line of losses.jsonl; None where they are damaged."""
    try:
        nats = np.frombuffer(base64.b64decode(line["nats"]), dtype="<f4").astype(np.float32)
        return nats.reshape(len(line["first"]), line["windows"])
    except (TypeError, ValueError):
        return None


def _losses_lines(path: Place) -> Iterator[Mapping[str, Any]]:
    """The whole lines of losses.jsonl."""
    if not storage.exists(path):
        return
    with storage.open_read(path) as file:
        for text in file:
            value = _value(text)
            if value is not None:
                LOSSES.refuse_newer(value.get("format"), path)
            if _is_losses(value):
                yield value


def cut_losses(path: Place, step: int) -> None:
    """Remove the lines of losses.jsonl that tell of steps behind `step`; they are in order."""
    end = 0
    if not storage.exists(path):
        return
    with storage.open_read(path) as file:
        for text in file:
            value = _value(text)
            if not _is_losses(value) or value["step"] + len(value["first"]) - 1 > step:
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
