"""How fast Puna trains beside the machine's own matmuls and beside other projects, and how much memory a step takes.

    python benchmarks/train.py [NAME ...] [--json FILE] [--quick] [--rounds N] [--threads 1 2]

    train_15m                 dim 288, 6 layers, 6 heads, context 256, batch 8, vocabulary 32,000, in bfloat16
    train_15m_vocabulary_4k   the same with a vocabulary of 4,096
    train_15m_f32             the first in float32
    train_110m                dim 768, 12 layers, 12 heads, context 1,024, batch 8, vocabulary 32,000, in bfloat16
    step_memory_110m          bytes at the peak of a step of it: autograd with all logits, and each mode of the layer
                              with the chunked loss

Tokens a second of processor time, over all threads; the bare matmuls of the same model, forward and backward, run in
the same loop, and so do the peers: transformers and litgpt where they are installed, torch's selective checkpointing
(`torch-selective`: Puna with that in place of its layer) and the other modes of Puna's layer. Ratios are taken round by
round: medians and ranges of 7 in the long form. Every table is of one type: on a processor without bfloat16, whose
emulation says nothing of this, the figures of bfloat16 are taken in float32 and say so. `--quick` takes 2 rounds, and
one window of 110M instead of eight.

    pip install transformers litgpt

The limits: 64 % of the matmuls at 15M, 70 % at 110M and in float32, 0.33 of plain autograd's memory.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tests")]

from form import metric  # noqa: E402

SHAPE_15M = {"dim": 288, "heads": 6, "kv_heads": 6, "layers": 6, "hidden": 768, "context": 256}
SHAPE_110M = {"dim": 768, "heads": 12, "kv_heads": 12, "layers": 12, "hidden": 2048, "context": 1024}
BATCH = 8
ROUNDS, QUICK_ROUNDS = 7, 2
MODES = ("hand", "selective", "lean", "reference", "full")


def main() -> None:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="*", help=f"of {', '.join(METRICS)}; all without one")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--quick", action="store_true", help="fewer rounds and windows")
    parser.add_argument("--rounds", type=int, help=f"rounds instead of {ROUNDS}, or {QUICK_ROUNDS} of --quick")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="numbers of threads, each in its turn")
    asked = parser.parse_args()
    unknown = set(asked.name) - set(METRICS)
    if unknown:
        parser.error(f"no figure is named {', '.join(sorted(unknown))}; there are {', '.join(METRICS)}")
    result = {}
    for name in asked.name or METRICS:
        print(f"\n{name}", flush=True)
        result[name] = METRICS[name](asked)
    if asked.json:
        asked.json.write_text(json.dumps(result, indent=1) + "\n")


def speed(
    shape: dict[str, int], vocabulary: int, limit: float, asked: argparse.Namespace, dtype: str = "bfloat16"
) -> dict[str, Any]:
    from puna.model.config import ModelConfig
    from puna.train import machine as machines
    from puna.train.speed.peers import PEERS
    from puna.train.speed.table import table

    config = ModelConfig(vocabulary=vocabulary, **shape)
    if dtype == "bfloat16" and not machines.has_bfloat16():
        print("this processor has no bfloat16: measured in float32")
        dtype = "float32"
    windows = 1 if asked.quick and config.layers > 6 else BATCH
    machine = machines.choose(_train(dtype), max(asked.threads), config, windows=windows)
    with machines.settled(machine):
        found = table(
            config,
            _train(dtype),
            dtype,
            MODES[:3] if asked.quick else MODES,
            windows=windows,
            peers=tuple(PEERS),
            threads=asked.threads,
            rounds=asked.rounds or (QUICK_ROUNDS if asked.quick else ROUNDS),
            compiles=machine.compiles,
        )
    print(f"{machines.cpu_name()}; {machine.kernels}; {windows} windows of {config.context} tokens\n")
    print(found.as_text(), flush=True)
    first, *others = [row for row in found.rows if row.threads == asked.threads[0]]
    named = {row.name.replace("puna ", "torch-") if "selective" in row.name else row.name: row for row in others}
    ratio = {name: {"median": row.faster[0], "min": row.faster[1], "max": row.faster[2]} for name, row in named.items()}
    peers = {name: row.rate.median for name, row in named.items()}
    told = metric(first.rate.median, f"tokens per CPU second, {dtype}", limit, peers, ratio)
    return told | {"share_of_matmuls": first.share._asdict(), "table": found.as_json()}


def step_memory(asked: argparse.Namespace) -> dict[str, Any]:
    """Autograd with all logits, plain and compiled, and each mode with the chunked loss, from torch's allocations."""
    import torch

    from puna.model.config import ModelConfig
    from puna.model.hand import kept_bytes
    from puna.train import machine as machines
    from puna.train.speed.memory import peak
    from puna.train.speed.ours import Ours
    from puna.train.speed.turns import clocked

    config = ModelConfig(vocabulary=32_000, **SHAPE_110M)
    dtype = torch.bfloat16 if machines.has_bfloat16() else torch.float32
    windows = 1 if asked.quick else BATCH
    tokens_BL1 = torch.randint(config.vocabulary, (windows, config.context + 1))
    train = _train(str(dtype).removeprefix("torch."))
    machine = machines.choose(train, max(asked.threads), config, windows=windows)
    rows = {"plain autograd": ("reference", True, False), "compiled autograd": ("reference", True, machine.compiles)}
    rows |= {f"puna {mode}": (mode, False, machine.compiles) for mode in MODES}
    bytes_of: dict[str, int] = {}
    print(f"{windows} windows of {config.context} tokens, {dtype}; one step each, so seconds are rough")
    print(f"{'':20}  peak of a step  of plain autograd's  CPU seconds")
    with machines.settled(machine):
        for name, (mode, plain, compiles) in rows.items():
            ours = Ours(config, train, dtype, mode, compiles=compiles, plain_loss=plain)  # type: ignore[arg-type]
            step = partial(ours, tokens_BL1, 1e-4)
            held = bytes_of[name] = peak(step)
            share, seconds = held / bytes_of["plain autograd"], clocked(step).processor
            print(f"{name:20}  {held / 1e6:11,.0f} MB  {share:19.2f}  {seconds:11.1f}", flush=True)
            del ours, step
    base = bytes_of["plain autograd"]
    keys = config.kv_heads * config.head_dim
    kept = kept_bytes(config.dim, config.heads, keys, config.hidden, dtype)
    print(f"the layer by hand keeps {kept:,} bytes of a token and layer by its formula, x among them")
    own = bytes_of["puna hand"]
    peers = {name: held / 1e6 for name, held in bytes_of.items() if name != "puna hand"}
    ratio = {
        name: dict.fromkeys(("median", "min", "max"), own / held)
        for name, held in bytes_of.items()
        if name != "puna hand"
    }
    return metric(own / 1e6, f"MB, {dtype}", 0.33 * base / 1e6, peers, ratio)


def _train(dtype: str) -> Any:
    """The paper's AdamW, the whole batch in one pass."""
    from puna import recipe

    return recipe.load("llama-7b", [f"train.dtype={dtype}", "train.micro_batch=0"]).train


METRICS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "train_15m": partial(speed, SHAPE_15M, 32_000, 0.64),
    "train_15m_vocabulary_4k": partial(speed, SHAPE_15M, 4_096, 0.64),
    "train_110m": partial(speed, SHAPE_110M, 32_000, 0.70),
    "train_15m_f32": partial(speed, SHAPE_15M, 32_000, 0.70, dtype="float32"),
    "step_memory_110m": step_memory,
}

if __name__ == "__main__":
    main()
