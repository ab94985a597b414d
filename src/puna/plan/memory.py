"""The bytes that a rank holds at the peak of a training step, tensor by tensor.

A step has its peak at one of these moments, and each is counted:

- `loss`: every layer has kept what its mode keeps (model/kept.py), and the output's gradient is summed over chunks;
- `backward`: the last layer goes back, with all of that still kept and its own working set;
- `first layer`, `embedding`: these go back, with the gradients of all others there;
- `update`: gradients were taken to f32, nothing else is left.

Alone, a rank trains as Puna does today (train/optimizer.py): f32 masters and moments, a working copy in 16 bits, its
gradients, and their f32 sums from the second micro-batch on. With `shard` it is FSDP's way: masters, moments and f32
gradients are cut; a layer's weights are gathered in 16 bits, one layer ahead, and its gradient is whole until it was
summed over the group. With `tensor` all that a layer keeps is cut, by heads, columns or, around its two halves, by
positions; what a half gathers to compute with is whole. With `pipeline`, a rank holds its layers' activations for as
many micro-batches as are under way, at most as many as there are stages.

Of a pipeline the first rank has most activations and the last one the loss; they are taken together, from above.
Nothing for the context of the driver, libraries and fragments of free memory: RESERVE stands for them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from puna.model import kept
from puna.model.config import ModelConfig
from puna.parallel.layout import Layout
from puna.plan import shapes

RESERVE = 2_000_000_000
"""Bytes of a GPU that are not planned with: driver, libraries, buffers of collectives, fragments."""
WIDE = 4
LOGITS = 1 << 27  # bytes of a chunk's logits, as model/loss.py has it
CACHED = 1 << 21

# Elements of a token that the backward pass of a layer works with beside what was kept: (D, F). Those of `reference`,
# `selective` and `full` were counted in their plain forms; compiled, they need less.
WORKING = {"reference": (1, 2), "selective": (4, 4), "full": (10, 6), "hand": (1, 4), "lean": (1, 5)}
# The small functions of these modes, where they are not compiled, hold f32 of every step of theirs.
PLAIN = {
    "hand": {2: (1, 16), 4: (1, 6)},
    "lean": {2: (1, 17), 4: (1, 7)},
    "selective": {2: (7, 4)},
    "full": {2: (12, 6)},
}


GATHERED = 2  # of the columns of dim: rows of the whole sequence, and the gradient of such


class Memory(NamedTuple):
    """Bytes of a rank. `tensors`: what is there at the peak, by name; `peak`: the moment's name."""

    tensors: Mapping[str, int]
    peak: str

    @property
    def total(self) -> int:
        return sum(self.tensors.values())


def rank_memory(config: ModelConfig, layout: Layout, windows: int, *, width: int = 2, compiled: bool = True) -> Memory:
    """What the rank that holds most holds. windows: of a step, over all ranks; width: bytes of an element that is
    computed with, 2 or 4; compiled: whether small functions are one loop each."""
    moments = _moments(config, layout, windows, width, compiled)
    held = _held(config, layout, windows, width)
    peak = max(moments, key=lambda name: sum((held | moments[name]).values()))
    return Memory({name: size for name, size in (held | moments[peak]).items() if size}, peak)


def chunk(tokens: int, vocabulary: int, width: int) -> int:
    """Tokens whose logits stand in memory at once (`chunk_of` of model/loss.py)."""
    most = max(1, LOGITS // (vocabulary * width))
    chunks = max(1, -(-tokens // most))
    return max(1, -(-tokens // chunks))


def _held(config: ModelConfig, layout: Layout, windows: int, width: int) -> dict[str, int]:
    """What is there all along."""
    elements = shapes.held_elements(config, layout)
    held = {"masters": WIDE * elements, "moments": 2 * WIDE * elements}
    if layout.micro_batches(windows) > 1:
        held["summed gradients"] = WIDE * elements
    if layout.shard > 1:
        return held | {"gathered weights": _gathered(config, layout, width, 2)}
    return held | {"working copies": width * elements if width < WIDE else 0}


def _gathered(config: ModelConfig, layout: Layout, width: int, ahead: int) -> int:
    """Weights that are whole on this rank: of so many layers, or of all, and those around the layers."""
    layers = layout.stage_layers(config)
    whole = min(layers, ahead) if layout.reshard and layout.pipeline == 1 else layers
    return width * (
        whole * shapes.layer_elements(config, layout.tensor) + shapes.around_elements(config, layout.tensor)
    )


def _moments(
    config: ModelConfig, layout: Layout, windows: int, width: int, compiled: bool
) -> dict[str, dict[str, int]]:
    tokens, tensor = layout.micro_batch * config.context, layout.tensor
    layers = layout.stage_layers(config)
    own = -(-kept.layer_bytes(config, width, layout.mode) // tensor) * tokens
    under_way = min(layout.pipeline, layout.micro_batches(windows))
    if layout.pipeline > 1 and layout.interleave > 1:
        under_way = min(layout.micro_batches(windows), under_way + (layout.pipeline - 1) // layout.interleave + 1)
    activations = {"activations": layers * own * under_way}
    row = tokens * config.dim  # a number for each token and column of the residual stream
    around = -(-row // tensor)
    working = _working(config, layout, width, compiled)
    output = -(-config.vocabulary // tensor) * config.dim
    layer = shapes.layer_elements(config, tensor)
    elements = shapes.held_elements(config, layout)
    short = width < WIDE
    cut = layout.shard > 1
    # Of a short type the last norm keeps its input in f32, and itself before its weight.
    norm = (WIDE + 2 * width) * around if short else 3 * width * around
    tail = {"hidden states": norm, "gradients of hidden states": 2 * width * around}
    logits = {
        "logits": _logits(config, tokens, width, tensor),
        "gradient of the output": _summed(config, tokens, width, tensor),
    }
    loss = activations | tail | logits
    # Gradients that are whole here: of the layer that goes back, of the one whose shards are summed in f32, of all that
    # a stage sums up first.
    whole = (width + WIDE if cut else width) * layer
    if layout.pipeline > 1:
        whole = (WIDE if cut else width) * layers * layer
    backward = activations | {
        "working set of a layer": working,
        "gradients of hidden states": 2 * width * around,
        "gradients": whole + width * output,
    }
    if layout.pipeline > 1:
        return {"loss": loss, "backward": backward}
    first = {"activations": own, "working set of a layer": working, "gradients of hidden states": width * around}
    embedding = {"gradients of hidden states": (WIDE + width) * around, "gradients": (WIDE + width) * output}
    if cut:
        summed = WIDE * elements if layout.micro_batches(windows) == 1 else 0
        ends = -(-WIDE * shapes.around_elements(config, tensor) // layout.shard)  # summed last
        first["gradients"] = whole + width * output + max(0, summed - ends)
        embedding["gradients"] += width * output + summed
        first["gathered weights"] = _gathered(config, layout, width, 1)  # there is none before it to gather
        return {"loss": loss, "backward": backward, "first layer": first, "embedding": embedding}
    first["gradients"] = width * (elements - (0 if config.tied else output))
    embedding["gradients"] = width * elements + (WIDE + width if short else 0) * output
    collect = {"gradients": WIDE * elements + (width * output if short else 0)}
    if layout.micro_batches(windows) > 1:
        collect = {"gradients": width * elements}
    return {"loss": loss, "backward": backward, "first layer": first, "embedding": embedding, "update": collect}


def _working(config: ModelConfig, layout: Layout, width: int, compiled: bool) -> int:
    """Bytes that the backward pass of one layer works with. What was gathered for a half is whole on every rank of a
    tensor group; in `full`, which computes the layer again, norms and sums are of the rank's own positions."""
    columns, hidden = WORKING[layout.mode]
    if not compiled:
        columns, hidden = PLAIN.get(layout.mode, {}).get(width, (columns, hidden))
    tokens = layout.micro_batch * config.context
    whole = min(columns, GATHERED) if layout.mode == "full" else columns
    shared = (columns - whole) * config.dim + hidden * config.hidden
    return width * tokens * (whole * config.dim + -(-shared // layout.tensor))


def _logits(config: ModelConfig, tokens: int, width: int, tensor: int) -> int:
    vocabulary = -(-config.vocabulary // tensor)
    rows = chunk(tokens, vocabulary, width)
    wide = max(1, min(rows, CACHED // (WIDE * vocabulary))) * WIDE * vocabulary if width < WIDE else 0
    return rows * vocabulary * width + wide


def _summed(config: ModelConfig, tokens: int, width: int, tensor: int) -> int:
    """The gradient of the output's weight while it is scaled: itself and its product, in f32 where it is of chunks."""
    vocabulary = -(-config.vocabulary // tensor)
    chunks = -(-tokens // chunk(tokens, vocabulary, width))
    each = width if chunks == 1 else WIDE
    return (each + max(each, width)) * vocabulary * config.dim
