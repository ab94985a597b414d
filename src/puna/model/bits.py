"""How many nats a model needs for held-out documents: the one number that compares models with different tokenizers.

A document longer than the context is read in overlapping windows, each of which scores only what the one before it did
not reach, so every token is scored once, with at least context - stride tokens before it where the document has them.
Divided by ln 2 and the bytes of the text, the sum is bits per byte, beside which a compressor's size can stand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from puna.model.llama import Llama

Ids = np.ndarray[Any, np.dtype[Any]]


class Bits(NamedTuple):
    """What documents cost, one entry a document."""

    nats: np.ndarray[Any, np.dtype[np.float64]]
    """Sum of -ln p over the scored tokens."""
    tokens: np.ndarray[Any, np.dtype[np.int64]]
    """Number of scored tokens."""


def bits(
    model: Llama,
    documents: Sequence[Ids],
    context: int,
    stride: int,
    *,
    batch: int = 16,
    advance: Callable[[float], object] | None = None,
) -> Bits:
    """Nats of each document, in the model's dtype and on its device.

    documents: the ids of each, <s> in front and </s> at its end; every id behind the first is scored.
    context: tokens read at once. stride: tokens scored anew by each window, at most `context`. batch: windows read
    together; it changes time and memory alone. advance: called with the number of tokens scored, for a progress bar.
    """
    if not 1 <= stride <= context:
        raise ValueError(f"stride = {stride} is not between 1 and context = {context}")
    windows = [
        window for index, ids in enumerate(documents) for window in _windows(index, len(ids) - 1, context, stride)
    ]
    windows.sort(key=lambda window: (window.stop - window.start, window.document, window.start))
    nats = np.zeros(len(documents), dtype=np.float64)
    for first in range(0, len(windows), batch):
        group = windows[first : first + batch]
        costs = _nats(model, documents, group)
        for window, cost in zip(group, costs, strict=True):
            nats[window.document] += cost
        if advance is not None:
            advance(sum(window.stop - window.fresh for window in group))
    return Bits(nats, np.array([max(0, len(ids) - 1) for ids in documents], dtype=np.int64))


class _Window(NamedTuple):
    """Positions start .. stop - 1 of a document are read; those from `fresh` on score the id behind them."""

    document: int
    start: int
    fresh: int
    stop: int


def _windows(document: int, positions: int, context: int, stride: int) -> Iterator[_Window]:
    scored = start = 0
    while scored < positions:
        stop = min(start + context, positions)
        yield _Window(document, start, scored, stop)
        scored, start = stop, start + stride


@torch.no_grad()
def _nats(model: Llama, documents: Sequence[Ids], group: Sequence[_Window]) -> list[float]:
    """Nats of each window of a group. Shorter ones are padded behind their end, where a causal model cannot look."""
    longest = max(window.stop - window.start for window in group)
    tokens = np.zeros((len(group), longest), dtype=np.int64)
    targets = np.full((len(group), longest), -1, dtype=np.int64)
    for row, (document, start, fresh, stop) in enumerate(group):
        ids = documents[document]
        tokens[row, : stop - start] = ids[start:stop]
        targets[row, fresh - start : stop - start] = ids[fresh + 1 : stop + 1]
    tokens_BL, targets_BL = (torch.from_numpy(ids).to(model.device) for ids in (tokens, targets))
    costs_N = model.score(tokens_BL, targets_BL).each
    costs: list[float] = costs_N.view(targets_BL.shape).sum(1, dtype=torch.float64).tolist()
    return costs
