"""Bytes that a rank sends for a layer that it shares, by formula (docs/parallel.md)."""

from __future__ import annotations

COLLECTIVES = {  # of a whole layer's rows each: forward, backward
    "reference": (4, 4),
    "selective": (4, 7),
    "full": (4, 7),
    "hand": (4, 6),
    "lean": (4, 6),
}
"""Backward, those of autograd are the transposed ones of the forward pass. By hand, the rows that a weight's gradient
needs are gathered again, since they were not kept: two more. `selective` and `full` do the forward pass once more up to
the last thing that is needed: all but its last reduction."""


def sent_bytes(dim: int, tokens: int, size: int, itemsize: int, mode: str) -> tuple[int, int]:
    """Forward and backward, for `tokens` tokens over `size` ranks, of elements of `itemsize` bytes.

    A gather sends a rank's tokens / size rows to each of the others; a reduction sends each of them its rows of this
    rank's summand: both tokens x dim x itemsize x (size - 1) / size bytes.
    """
    one = tokens // size * dim * itemsize * (size - 1)
    forward, backward = COLLECTIVES[mode]
    return forward * one, backward * one
