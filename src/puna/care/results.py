"""What a run has come to: how far its training is, and how well the model knows text that it never read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from puna.care.states import Known, last_lines, number, read_object
from puna.storage import Place

NAMES = {"xz": "xz -9", "zstd": "zstd -19", "ngram": "n-gram"}


@dataclass(frozen=True)
class Training:
    """How far the training is."""

    step: int
    steps: int | None
    tokens: int
    loss: float | None
    """Nats a token."""
    tokens_per_second: float | None


def training(known: Known) -> Training | None:
    """How far the training is; None where there is none, or only one of earlier values."""
    if "train" not in known.current and "train" not in known.begun:
        return None
    line = next((line for line in reversed(_metrics(known.folder)) if "loss" in line), None)
    if line is None:
        return None
    counts = known.records.get("mixture", {}).get("counts")
    steps = counts.get("steps") if isinstance(counts, dict) else None
    step, tokens = line.get("step"), line.get("tokens")
    return Training(
        step if isinstance(step, int) else 0,
        steps if isinstance(steps, int) else None,
        tokens if isinstance(tokens, int) else 0,
        number(line.get("loss")),
        number(line.get("tokens_per_second")),
    )


def quality(known: Known) -> dict[str, float]:
    """Bits per byte of all held-out text, by `model` and baseline; empty while they do not stand."""
    if "evaluate" not in known.current:
        return {}
    bits = read_object(known.folder / "evaluations" / "heldout.json").get("bits_per_byte")
    row = bits.get("all") if isinstance(bits, dict) else None
    found = {str(name): number(value) for name, value in row.items()} if isinstance(row, dict) else {}
    return {name: value for name, value in found.items() if value is not None}


def best_baseline(bits: Mapping[str, float]) -> str:
    """The name of the best of what stands beside the model; "" when nothing does."""
    return min(bits.keys() - {"model"}, key=lambda name: (bits[name], name), default="")


def told_quality(bits: Mapping[str, float]) -> str:
    """The model's bits per byte and the best baseline's, for a line; "" when they do not stand."""
    best = best_baseline(bits)
    plain = best.removesuffix("_primed")
    name = NAMES.get(plain, plain) if plain == best else f"{plain} primed"
    parts = [f"{bits['model']:.3f} bits/byte"] if "model" in bits else []
    return ", ".join([*parts, f"{name} {bits[best]:.3f}"] if parts and best else parts)


def _metrics(folder: Place) -> list[dict[str, Any]]:
    found = []
    for line in last_lines(folder / "metrics.jsonl"):
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            found.append(value)
    return found
