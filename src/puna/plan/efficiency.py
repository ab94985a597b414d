"""Shares of what makers state that training reaches: efficiency.toml, frozen, each with where it comes from."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass

from puna.plan.gpus import table


@dataclass(frozen=True, slots=True)
class Efficiency:
    """Of one family of GPUs; shares between 0 and 1, latencies in seconds a hop."""

    matmul: float
    attention: float
    elementwise: float
    decode: float
    link: float
    link_latency: float
    network: float
    network_latency: float
    overlap_shard: float
    overlap_tensor: float


@functools.cache
def efficiency(family: str) -> Efficiency:
    rows = table("efficiency.toml")
    return Efficiency(
        matmul=_number(rows["matmul"], family),
        attention=_number(rows["attention"], family),
        elementwise=_number(rows["memory"], "elementwise"),
        decode=_number(rows["memory"], "decode"),
        link=_number(rows["link"], "share"),
        link_latency=_number(rows["link"], "latency"),
        network=_number(rows["network"], "share"),
        network_latency=_number(rows["network"], "latency"),
        overlap_shard=_number(rows["overlap"], "shard"),
        overlap_tensor=_number(rows["overlap"], "tensor"),
    )


def _number(row: Mapping[str, object], key: str) -> float:
    value = row[key]
    assert isinstance(value, float), key
    return value
