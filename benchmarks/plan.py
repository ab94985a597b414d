"""What the planner says beside what was published: rates of training, Table 15's energy, rates of writing text.

    python benchmarks/plan.py [--json FILE] [--quick]

Reads benchmarks/published.toml, where each figure has its source, and computes; nothing is measured, so `--quick`
changes nothing. The tables are those of docs/plan.md.
"""

from __future__ import annotations

import argparse
import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from form import metric
from puna.model import flop
from puna.model.config import ModelConfig
from puna.parallel.layout import Layout
from puna.plan.efficiency import efficiency
from puna.plan.energy import energy
from puna.plan.gpus import gpu
from puna.plan.roofline import step
from puna.plan.search import best
from puna.plan.serving import serving

PUBLISHED = Path(__file__).with_name("published.toml")
NEAR = 0.15
# Table 15 of the paper: GPU hours at 400 W, and the MWh and tonnes that it prints.
TABLE_15 = {
    "OPT-175B": (809_472, 356, 137),
    "BLOOM-175B": (1_082_880, 475, 183),
    "LLaMA-7B": (82_432, 36, 14),
    "LLaMA-13B": (135_168, 59, 23),
    "LLaMA-33B": (530_432, 233, 90),
    "LLaMA-65B": (1_022_362, 449, 173),
}
# Tokens a second of one sequence in 4 bits: github.com/mlc-ai/llm-perf-bench/pull/1, MLC and Exllama (2023-08-05).
WRITTEN = {("llama-7b", "RTX4090"): (191.0, 152.56), ("llama-13b", "RTX4090"): (108.8, 93.88)}


@dataclass(frozen=True)
class Compared:
    name: str
    role: str
    gpu: str
    ranks: int
    published: float
    """Tokens a second and GPU."""
    planned: float
    source: str
    note: str
    why: str
    whole: bool
    """Whether the rate is that of a whole run, on a mesh that was not published."""

    @property
    def miss(self) -> float:
        return self.planned / self.published - 1


def compared() -> list[Compared]:
    """Every published run beside the plan of its layout."""
    rows = tomllib.loads(PUBLISHED.read_text("utf-8"))
    shapes = rows.pop("shapes")
    return [_compared(name, row, shapes) for name, row in rows.items()]


def _compared(name: str, row: Mapping[str, Any], shapes: Mapping[str, Any]) -> Compared:
    config = ModelConfig(**shapes[row["shape"]], context=row["context"])
    kind, windows = gpu(row["gpu"]), row["windows"]
    layout = Layout(**row["layout"]) if "layout" in row else best(config, windows, row["gpus"], kind).layout
    factors = efficiency(kind.family)
    factors = replace(factors, overlap_tensor=row.get("overlap_tensor", factors.overlap_tensor))
    seconds = step(config, layout, windows, kind, factors).seconds
    if "halfway" in row:
        seconds += step(config, replace(layout, mode=row["halfway"]), windows, kind, factors).seconds
        seconds /= 2
    published = row.get("tokens_per_second_per_gpu")
    if published is None:  # an MFU by the convention of those papers, which count masked scores too
        whole = flop.matmul_flop(config) + 12 * config.layers * config.dim * config.context
        published = row["mfu_percent"] / 100 * kind.flops / whole
    planned = windows * config.context / seconds / layout.ranks
    told = (row["source"], row.get("note", ""), row.get("why", ""))
    return Compared(name, row["role"], kind.name, layout.ranks, published, planned, *told, "layout" not in row)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--quick", action="store_true", help="accepted as by every script here; it is always quick")
    asked = parser.parse_args()
    rows = compared()
    print(runs_table(rows), energy_table(), writing_table(), summary(rows), sep="\n\n")
    if asked.json:
        told = {row.name: _metric(row) for row in rows}
        asked.json.write_text(json.dumps(told, indent=1) + "\n", "utf-8")


def runs_table(rows: Sequence[Compared]) -> str:
    lines = ["| run | GPUs | published | planned | miss | |", "|---|---|---|---|---|---|"]
    for row in rows:
        name = f"{row.name} *" if row.role == "calibrate" else row.name
        rates = f"{row.published:,.0f} | {row.planned:,.0f} | {row.miss:+.1%}"
        lines.append(f"| {name} | {row.ranks:,} x {row.gpu} | {rates} | {row.why} |")
    return "\n".join(lines)


def energy_table() -> str:
    """The paper's Table 15 by its formula, beside what it prints."""
    lines = ["| | GPU hours | MWh | printed | tCO2eq | printed |", "|---|---|---|---|---|---|"]
    for name, (hours, mwh, tonnes) in TABLE_15.items():
        used = energy(hours, 400)
        lines.append(f"| {name} | {hours:,} | {used.mwh:.2f} | {mwh} | {used.tco2eq:.2f} | {tonnes} |")
    return "\n".join(lines)


def writing_table() -> str:
    shapes = tomllib.loads(PUBLISHED.read_text("utf-8"))["shapes"]
    lines = ["| writing, 4 bits, one sequence | planned | MLC * | Exllama |", "|---|---|---|---|"]
    for (shape, kind), (mlc, exllama) in WRITTEN.items():
        told = serving(ModelConfig(**shapes[shape], context=512), gpu(kind), 1)[2]
        lines.append(f"| {shape} on {kind} | {told.alone:.0f} | {mlc:.0f} | {exllama:.0f} |")
    return "\n".join(lines)


def summary(rows: Sequence[Compared]) -> str:
    held = [row for row in rows if row.role == "held"]
    near = sum(abs(row.miss) <= NEAR for row in held)
    reached = [row.published / row.planned for row in rows if row.whole]
    whole = f"The {len(reached)} whole runs reached {min(reached):.2f} to {max(reached):.2f} of the plan's rate."
    return f"* set the shares. Of the {len(held)} others {near} are within 15 %. {whole}"


def _metric(row: Compared) -> dict[str, Any]:
    ratio = {"published": dict.fromkeys(("median", "min", "max"), row.planned / row.published)}
    return metric(row.planned, "tokens a second and GPU", peers={"published": row.published}, ratio=ratio)


if __name__ == "__main__":
    main()
