"""The form in which every script here writes its figures: {metric: {value, unit, limit, peers, ratio}}."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Ratios = Mapping[str, Mapping[str, float]]
NONE: Mapping[str, Any] = {}


def metric(
    value: float, unit: str, limit: float | None = None, peers: Mapping[str, float] = NONE, ratio: Ratios = NONE
) -> dict[str, Any]:
    return {"value": value, "unit": unit, "limit": limit, "peers": {**peers}, "ratio": {**ratio}}


def bits_beside_peers(row: Mapping[str, float]) -> dict[str, Any]:
    """The metric of one source's row of evaluations/heldout.json: bits per byte, beside each baseline's."""
    peers = {name: value for name, value in row.items() if name != "model"}
    ratio = {name: dict.fromkeys(("median", "min", "max"), row["model"] / value) for name, value in peers.items()}
    return metric(row["model"], "bits per byte", peers=peers, ratio=ratio)
