"""What a run has come to: how far its training is, and how well the model knows text that it never read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from puna.care.states import Known, last_lines, number, read_object
from puna.storage import Place


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
    line = next((line for line in reversed(metrics(known.folder)) if "loss" in line), None)
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
    """The model's bits per byte beside the best baseline's, for a line; "" when they do not stand."""
    if "model" not in bits:
        return ""
    best = best_baseline(bits)
    return f"{bits['model']:.3f} bits/byte" + (f", best baseline {bits[best]:.3f}" if best else "")


def told_baseline(known: Known, name: str) -> str:
    """A baseline's name for people."""
    order = known.recipe.evaluate.ngram_order if known.recipe else "n"
    plain = name.removesuffix("_primed")
    names = {"xz": "xz -9", "zstd": "zstd -19", "ngram": f"{order}-gram"}
    return names.get(plain, plain) if plain == name else f"{plain} primed"


def metrics(folder: Place) -> list[dict[str, Any]]:
    """The last lines of metrics.jsonl that are whole, in order."""
    found = []
    for line in last_lines(folder / "metrics.jsonl"):
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            found.append(value)
    return found
