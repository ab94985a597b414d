"""Which rank holds which part of a tensor: arithmetic alone, by which checkpoints are cut for any mesh and joined.

A tensor belongs to one stage of the pipeline. It is cut over the tensor axis by rows or columns, or not at all
(tensor.py), and what each of those ranks has by rows over the shard axis (FSDP). So a rank's part is a rectangle, and
nothing of another stage's tensor. The first replica, and of what all tensor ranks have the first of them, hold the
pieces that a checkpoint is made of: each element once.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from puna.parallel.layout import Layout

ROWS, COLUMNS = 0, 1
CUT: dict[str, int | None] = {
    "tok_embeddings": ROWS,
    "attention_norm": None,
    "wq": ROWS,
    "wk": ROWS,
    "wv": ROWS,
    "wo": COLUMNS,
    "ffn_norm": None,
    "w1": ROWS,
    "w3": ROWS,
    "w2": COLUMNS,
    "norm": None,
    "output": ROWS,
}
"""By what the tensor axis cuts a tensor, by the last part of its module's name; None: each rank has it whole."""

LAYER = re.compile(r"layers\.(\d+)\.")

Region = tuple[slice, ...]
"""Rows, and of a matrix columns."""


class Place(NamedTuple):
    """A rank by its coordinates on the mesh."""

    pipeline: int
    replicate: int
    shard: int
    tensor: int


class Piece(NamedTuple):
    rank: int
    region: Region


def cut(name: str) -> int | None:
    """The dimension in which the tensor axis cuts `layers.0.attention.wq.weight` and the like."""
    return CUT[name.removesuffix(".weight").rpartition(".")[2]]


def place(layout: Layout, rank: int) -> Place:
    """Where a rank stands: pipeline is the outermost axis, tensor the innermost."""
    rest, tensor = divmod(rank, layout.tensor)
    rest, shard = divmod(rest, layout.shard)
    pipeline, replicate = divmod(rest, layout.replicate)
    return Place(pipeline, replicate, shard, tensor)


def stage(layout: Layout, layers: int, name: str) -> int:
    """Which stage of the pipeline holds a tensor of a model of so many layers; norm and output are on the last."""
    if layout.pipeline == 1:
        return 0
    if found := LAYER.search(name):
        return layout.stage_of(int(found[1]), layers)
    return 0 if "tok_embeddings" in name else layout.pipeline - 1


def held(layout: Layout, layers: int, rank: int, name: str, shape: Sequence[int]) -> Region:
    """The part of the tensor `name`, whose whole shape is given, that a rank holds of a model of so many layers."""
    at = place(layout, rank)
    if at.pipeline != stage(layout, layers, name):
        return tuple(slice(0, 0) for _ in shape)
    region = [slice(0, size) for size in shape]
    dimension = cut(name)
    if dimension is not None:
        region[dimension] = _share(region[dimension], at.tensor, layout.tensor)
    region[0] = _share(region[0], at.shard, layout.shard)
    return tuple(region)


def pieces(layout: Layout, layers: int, name: str, shape: Sequence[int]) -> list[Piece]:
    """Ranks and parts that together are the tensor, each element once."""
    found = []
    for rank in range(layout.ranks):
        at = place(layout, rank)
        if at.replicate or (at.tensor and cut(name) is None):
            continue
        region = held(layout, layers, rank, name, shape)
        if count(region):
            found.append(Piece(rank, region))
    return found


def copies(layout: Layout, name: str) -> int:
    """Ranks that hold the same part of it."""
    return layout.replicate * (layout.tensor if cut(name) is None else 1)


def count(region: Region) -> int:
    """Elements of a part."""
    return math.prod(each.stop - each.start for each in region)


def sizes(region: Region) -> tuple[int, ...]:
    return tuple(each.stop - each.start for each in region)


Regions = Callable[[str, Sequence[int]], Region]
"""(name, whole shape) -> the part to read."""


def _share(whole: slice, index: int, ranks: int) -> slice:
    """Equally much for each, but for the last ones, as torch.chunk cuts."""
    most = -(-(whole.stop - whole.start) // ranks)
    start = min(whole.start + index * most, whole.stop)
    return slice(start, min(start + most, whole.stop))
