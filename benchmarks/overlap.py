"""How much of slow collectives a step of a shared model feels: each is made 20 ms longer, and the step is timed.

    python benchmarks/overlap.py [--json FILE] [--quick] [--delay 20] [--rounds N] [--layer MODE ...]

A model of four layers of dim 768 is shared by two ranks, processes of this machine with one thread each (docs/
parallel.md). The tracing group runs collectives one after another, and sleeps behind each, so that a delay takes no
core. Two figures say what of the delays stood out, over their sum; less than 30 % is asked of `hand`:

- stood: the time in which a rank did nothing but wait for a delay to end, by the events of both; the median of rounds.
- growth: by how much the fastest step grew, which on a machine that does other work too says as much of that.

Beside it, `reference`, in which nothing runs meanwhile. Bytes that a layer sends stand beside the formula.

Needs matmuls that take longer than the delays: a layer of this shape takes some 0.5 s of a core. `--quick`: one round,
two layers, and one window instead of four, which hides less.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from form import metric
from puna.model.config import ModelConfig
from puna.train.speed.overlap import Asked, Overlap, overlap

LIMIT = 0.3  # of the sum of delays
SHAPE = ModelConfig(dim=768, heads=12, kv_heads=12, layers=4, hidden=2048, vocabulary=4096, context=1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--quick", action="store_true", help="one round, two layers, one window")
    parser.add_argument("--delay", type=float, default=20.0, help="milliseconds added to each collective")
    parser.add_argument("--rounds", type=int, help="steps of each (5; 1 with --quick)")
    parser.add_argument("--layer", nargs="+", default=["hand", "reference"], help="modes")
    asked = parser.parse_args()
    rounds, windows, layers = (1, 1, 2) if asked.quick else (5, 4, SHAPE.layers)
    how = {"delay": asked.delay / 1e3, "rounds": asked.rounds or rounds, "layers": layers}
    found = {mode: overlap(Asked(SHAPE, 2, windows, mode, **how)) for mode in asked.layer}
    for each in found.values():
        print(each.as_text() + "\n", flush=True)
    if asked.json:
        asked.json.write_text(json.dumps(figures(found), indent=1) + "\n")


def figures(found: dict[str, Overlap]) -> dict[str, Any]:
    told = {}
    for mode, each in found.items():
        assert each.step is not None
        for name, timed in each.timed():
            limit = LIMIT if mode == "hand" and name == "step" else None
            share, growth = timed.share(each.asked.delay), timed.growth(each.asked.delay)
            told[f"{name}_{mode}_stood"] = metric(share, "of the delays, in which a rank stood", limit)
            told[f"{name}_{mode}_growth"] = metric(growth, "of the sum of delays", limit)
        sent, formula = sum(each.sent()), sum(each.formula())
        told[f"sent_{mode}"] = metric(sent, "bytes of a rank and layer", formula)
    return told


if __name__ == "__main__":
    main()
