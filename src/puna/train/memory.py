"""What a training step takes of memory in each mode of the layer, and which mode is the fastest that fits.

Paper, section 2.4: the backward pass by hand is there to reduce what is kept. The modes are those of model/modes.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch

from puna.model import kept
from puna.model.config import ModelConfig
from puna.model.loss import CACHED, chunk_of
from puna.model.modes import Mode
from puna.model.weights import shapes
from puna.progress import size

# From the fastest, as measured (docs/train.md); a mode that is faster and keeps more comes before one that keeps less.
ORDER: tuple[Mode, ...] = ("hand", "lean", "full")


class Choice(NamedTuple):
    mode: Mode
    why: str
    """In words, for the line that training says."""


def choose(
    config: ModelConfig,
    tokens: int,
    dtype: torch.dtype,
    free: int | None,
    *,
    parts: int = 1,
    stages: int = 1,
    ranks: int = 1,
) -> Choice:
    """The first mode of ORDER whose step of `tokens` tokens fits in `free` bytes of memory; the last one where none
    does, or the first where the system does not tell how much is free. parts: into which the model, or each of its
    stages, is cut. ranks: that share the memory."""
    if free is None:
        return Choice(ORDER[0], "the fastest; how much memory is free is not known here")
    free = free // ranks
    for mode in ORDER:
        needed = step_bytes(config, tokens, dtype, mode, parts, stages)
        if needed <= free:
            least = "the fastest" if mode == ORDER[0] else "the fastest that fits"
            return Choice(mode, f"{least}: a step takes about {size(needed)} of {size(free)} free")
    why = f"a step takes about {size(needed)}, which {size(free)} free do not hold: lower train.micro_batch"
    return Choice(ORDER[-1], why)


def step_bytes(
    config: ModelConfig, tokens: int, dtype: torch.dtype, mode: Mode, parts: int = 1, stages: int = 1
) -> int:
    """Bytes of a training step of `tokens` tokens (of one micro-batch), from above, of a rank that holds one of so many
    parts of one of `stages` of the model.

    With P parameters, s bytes an element of `dtype`, D dim, V vocabulary, the sum of
    - P (16 + 4) / parts / stages: masters, two moments and gradients in f32, and working copies with their gradients
      or, in f32, the gradients of a further micro-batch;
    - of a model in parts, (2 V D + 3 layers) (s + 4): the weights that are gathered at once, and their gradients; in
      stages, those of all layers of one;
    - tokens * layers * `layer_bytes` of the mode: what is kept for the backward pass; of a stage's layers, for as many
      micro-batches as there are stages;
    - tokens * `layer_bytes` of `reference`: one layer while its backward pass runs;
    - tokens * D (4 s + 16): around the last norm, and the gradients of its input and output;
    - chunk * V s, at most LOGITS bytes, and in 16 bits CACHED bytes: logits of a chunk, and then their gradient
      (model/loss.py);
    - V D (s + 8): the output weight's gradient while chunks are summed.
    """
    width, vocabulary = dtype.itemsize, config.vocabulary
    parameters = sum(torch.Size(shape).numel() for shape in shapes(config).values())
    layers = -(-config.layers // stages)
    kept = layers * stages * layer_bytes(config, dtype, mode) + layer_bytes(config, dtype, "reference")
    around = config.dim * (4 * width + 16)
    logits = chunk_of(tokens, vocabulary, dtype) * vocabulary * width + (CACHED if width < 4 else 0)
    layer = (parameters - 2 * vocabulary * config.dim) // config.layers
    at_once = layers if stages > 1 else 3
    gathered = (2 * vocabulary * config.dim + at_once * layer) * (width + 4) if parts * stages > 1 else 0
    held = 20 * parameters // (parts * stages) + gathered
    return held + tokens * (kept + around) + logits + vocabulary * config.dim * (width + 8)


def layer_bytes(config: ModelConfig, dtype: torch.dtype, mode: Mode) -> int:
    """Bytes that a layer keeps of one token until its backward pass (model/kept.py)."""
    return kept.layer_bytes(config, dtype.itemsize, mode)


def available(root: Path = Path("/")) -> int | None:
    """Bytes of memory that this process may still take: what the system calls available, and the room under the limit
    of its control group (version 2). None where the system does not tell."""
    found = []
    for line in _lines(root / "proc/meminfo"):
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            found.append(1024 * int(value.split()[0]))
    group = next((line[3:] for line in _lines(root / "proc/self/cgroup") if line.startswith("0::")), "/")
    folder = root / "sys/fs/cgroup" / group.lstrip("/")
    limit, used = (next(iter(_lines(folder / f"memory.{name}")), "") for name in ("max", "current"))
    if limit.isdigit() and used.isdigit():
        stat = dict(line.split(maxsplit=1) for line in _lines(folder / "memory.stat"))
        files = sum(int(stat.get(name, 0)) for name in ("active_file", "inactive_file"))  # given up when asked for
        found.append(max(0, int(limit) - int(used) + min(files, int(used))))
    return min(found, default=None)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8", "replace").splitlines()
    except OSError:
        return []
