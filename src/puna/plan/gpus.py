"""Kinds of GPUs with their memory, speeds, power and price: gpus.toml, where each row has its source."""

from __future__ import annotations

import difflib
import functools
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import resources
from typing import Any

from puna.errors import InputError

PRICED = "RunPod, March 2026 (deploybase.ai/articles/runpod-gpu-pricing)"
"""Where and when the prices of gpus.toml were read."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """One kind of GPU in the node that it is most often found in. Bytes, seconds, watts; speeds are the maker's."""

    name: str
    memory: int
    """Bytes."""
    flops: float
    """Dense matmuls of 16 bits, FLOP a second."""
    bandwidth: float
    """Of its memory, bytes a second."""
    link: float
    """To the GPUs of its node, bytes a second and direction."""
    network: float
    """To other nodes, bytes a second and direction, for one GPU."""
    node: int
    """GPUs of a node."""
    watts: float
    family: str
    """Its row of efficiency.toml."""
    dtype: str
    """What it computes in."""
    dollars_an_hour: float | None
    source: str

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def gpu(name: str) -> Gpu:
    """The kind of that name, capitals or not. InputError when there is none."""
    known = gpus()
    by_small = {each.lower(): each for each in known}
    found = by_small.get(name.lower())
    if found is None:
        close = difflib.get_close_matches(name.lower(), by_small, n=1, cutoff=0.5)
        guess = f"did you mean {by_small[close[0]]}? " if close else ""
        raise InputError(f'no GPU "{name}" is known', mend=f"{guess}the kinds are {', '.join(known)}")
    return known[found]


@functools.cache
def gpus() -> Mapping[str, Gpu]:
    """All kinds by name, in the order of gpus.toml."""
    return {name: _gpu(name, row) for name, row in table("gpus.toml").items()}


@functools.cache
def table(name: str) -> dict[str, dict[str, object]]:
    """A TOML file of this station."""
    return tomllib.loads((resources.files("puna.plan") / name).read_text("utf-8"))


def listed() -> str:
    """All kinds as a table of at most 80 columns."""
    rows: list[tuple[str, ...]] = [("kind", "memory", "TFLOP/s", "GB/s", "link", "network", "watts", "$ an hour")]
    for each in gpus().values():
        speeds = (f"{speed / 1e9:,.4g}" for speed in (each.bandwidth, each.link, each.network))
        price = "" if each.dollars_an_hour is None else f"{each.dollars_an_hour:.2f}"
        memory = f"{each.memory / 1e9:.0f} GB"
        rows.append((each.name, memory, f"{each.flops / 1e12:,.4g}", *speeds, f"{each.watts:.0f}", price))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        f"{row[0]:{widths[0]}}" + "".join(f"  {cell:>{width}}" for cell, width in zip(row[1:], widths[1:], strict=True))
        for row in rows
    ]
    ends = ("link, network: GB/s a direction and GPU, within a node of 8 and between nodes.", f"Prices: {PRICED}.")
    return "\n".join([*(line.rstrip() for line in lines), "", *ends, "Sources: src/puna/plan/gpus.toml."])


def _gpu(name: str, row: Mapping[str, object]) -> Gpu:
    def number(key: str) -> float:
        value = row[key]
        assert isinstance(value, int | float), f"{name}.{key}"
        return float(value)

    return Gpu(
        name=name,
        memory=round(number("memory_gb") * 1e9),
        flops=number("tflops") * 1e12,
        bandwidth=number("memory_gb_s") * 1e9,
        link=number("link_gb_s") * 1e9,
        network=number("network_gb_s") * 1e9,
        node=round(number("node")),
        watts=number("watts"),
        family=str(row["family"]),
        dtype=str(row.get("dtype", "bfloat16")),
        dollars_an_hour=number("dollars_an_hour") if "dollars_an_hour" in row else None,
        source=str(row["source"]),
    )
