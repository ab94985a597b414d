"""Whether Puna's training ends where a plain loop over transformers' LLaMA ends: held-out loss at equal tokens.

    python benchmarks/train_beside.py [RUN] [--tokens 2M] [--seeds 1 2 3] [--windows N] [--json FILE] [--quick]

RUN is a run folder with tokens and held-out text; without one `puna tokens laptop` makes one, which takes minutes. Both
sides train the recipe's model in float32 with its AdamW and its schedule over so many tokens, from the same first
weights and on the same windows in the same order; each seed has weights and windows of its own. Held-out loss is nats a
token over the first windows of the held-out documents laid end to end. The losses agree when the means over the seeds
differ by at most two standard errors; the difference seed by seed is printed too, and is far smaller.

`--quick`: 100,000 tokens.

    pip install transformers
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tests")]

from form import metric  # noqa: E402

PEER = "transformers-f32"


def main() -> None:
    from puna.recipe_values import count

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", nargs="?", type=Path, help="a run folder with tokens; made from `laptop` without one")
    parser.add_argument("--tokens", help="tokens of each training (2M; 100K with --quick)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--windows", type=int, default=256, help="held-out windows that are measured")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--quick", action="store_true", help="fewer tokens")
    asked = parser.parse_args()
    tokens = count(asked.tokens or ("100K" if asked.quick else "2M"), "tokens")
    with tempfile.TemporaryDirectory() as scratch:
        folder = asked.run or _tokens_of_laptop(Path(scratch) / "run")
        result = beside(folder, tokens, asked.seeds, asked.windows)
    if asked.json:
        asked.json.write_text(json.dumps(result, indent=1) + "\n")


def beside(folder: Path, tokens: int, seeds: Sequence[int], held_windows: int) -> dict[str, Any]:
    import torch

    from puna import recipe as recipes
    from puna.model.config import ModelConfig
    from puna.run import read_recipe
    from puna.tokens.windows import Windows
    from puna.train import machine as machines
    from puna.train.schedule import learning_rate
    from puna.train.speed.ours import Ours
    from puna.train.speed.peers import PEERS, transformers_names

    recipe, windows = read_recipe(folder), Windows(folder)
    config, train = ModelConfig.from_recipe(recipe, windows.manifest.vocabulary), recipe.train
    count = recipes.batch_windows(recipe)
    steps = max(1, tokens // recipes.batch_tokens(recipe))
    train = train.model_copy(update={"warmup": min(train.warmup, steps // 4), "dtype": "float32"})
    held_NL1 = _held_out(folder, config.context)[:held_windows]
    machine = machines.choose(train, None, config, windows=train.micro_batch or count)
    losses: dict[str, list[float]] = {"puna": [], PEER: []}
    print(f"{recipe.name}: {steps} steps of {count * config.context:,} tokens, {len(held_NL1)} held-out windows")
    with machines.settled(machine):
        for seed in seeds:
            ours = Ours(config, train, torch.float32, machine.layer, compiles=machine.compiles, seed=seed)
            theirs = PEERS[PEER].step(config, train, transformers_names(config, ours.masters()))
            apart = 0.0
            for step in range(1, steps + 1):
                batch = torch.from_numpy(windows.batch(((seed - 1) * steps + step - 1) * count, count))
                rate = learning_rate(step, steps, train)
                apart = max(apart, abs(ours(batch, rate) - theirs(batch, rate)))
            measured = {"puna": ours.loss, PEER: theirs.loss}
            for name, loss in measured.items():
                losses[name].append(_mean(loss, held_NL1, train.micro_batch or 8))
            told = ", ".join(f"{name} {found[-1]:.5f}" for name, found in losses.items())
            print(f"seed {seed}: held-out nats per token {told}; training losses at most {apart:.2e} apart", flush=True)
    return _verdict(losses, steps * count * config.context)


def _verdict(losses: dict[str, list[float]], tokens: int) -> dict[str, Any]:
    means = {name: statistics.mean(found) for name, found in losses.items()}
    errors = {name: _standard_error(found) for name, found in losses.items()}
    difference, error = means["puna"] - means[PEER], math.hypot(*errors.values())
    pairs = [ours - theirs for ours, theirs in zip(losses["puna"], losses[PEER], strict=True)]
    for name, mean in means.items():
        print(f"{name:20} {mean:.5f} nats per token, standard error {errors[name]:.5f}")
    within = abs(difference) <= 2 * error
    said = "within" if within else "NOT within"
    print(f"difference {difference:+.6f}: {said} two standard errors ({2 * error:.5f}) over {len(pairs)} seeds")
    print(f"seed by seed {statistics.mean(pairs):+.2e}, standard error {_standard_error(pairs):.1e}")
    ratio = dict.fromkeys(("median", "min", "max"), means["puna"] / means[PEER])
    told = metric(means["puna"], f"nats per token after {tokens:,}", means[PEER] + 2 * error, {PEER: means[PEER]})
    return {"train_beside": told | {"ratio": {PEER: ratio}, "within_two_standard_errors": within, "losses": losses}}


def _standard_error(values: Sequence[float]) -> float:
    return statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else math.inf


def _mean(loss: Callable[[Any], float], held_NL1: np.ndarray[Any, Any], rows: int) -> float:
    import torch

    parts = [held_NL1[first : first + rows] for first in range(0, len(held_NL1), rows)]
    return sum(loss(torch.from_numpy(part)) * len(part) for part in parts) / len(held_NL1)


def _held_out(folder: Path, context: int) -> np.ndarray[Any, Any]:
    """Windows of the held-out documents, each between <s> and </s>, end to end in order: (windows, context + 1)."""
    from puna import tokenizer
    from puna.data.document import read_column

    encoding = tokenizer.load(folder / "tokenizer" / "tokenizer.model")
    texts = [text for shard in sorted(folder.glob("heldout/*/*.parquet")) for text in read_column(shard, "text")]
    framed = [[encoding.bos, *ids.tolist(), encoding.eos] for ids in encoding.encode_batch(texts)]
    stream = np.array([token for document in framed for token in document], dtype=np.int64)
    starts = range(0, len(stream) - context, context)
    if not starts:
        sys.exit(f"{folder}: its held-out text is shorter than one window of {context} tokens")
    return np.stack([stream[start : start + context + 1] for start in starts])


def _tokens_of_laptop(folder: Path) -> Path:
    command = [sys.executable, "-m", "puna.cli", "tokens", "laptop", "--out", str(folder)]
    if subprocess.run(command, check=False).returncode:
        sys.exit("puna tokens laptop did not end well")
    return folder


if __name__ == "__main__":
    main()
