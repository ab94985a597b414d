"""Examples laid into rows of equal length, each whole, so that little of a batch is padding and none sees another.

A row is examples one behind the other, its rest filled. Attention keeps to an example by the row's segments
(model/documents.py); rotary positions only matter by their distance; and the last token of an example does not predict
the first of the next. So a packed example has the loss and gradient that it has alone, which a test holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from puna.finetune.templated import Encoded

OPEN = 64  # rows that may still get an example; more pack closer, and take longer


@dataclass(frozen=True, slots=True)
class Rows:
    tokens_BL1: npt.NDArray[np.int64]
    """(rows, length + 1)"""
    segments_BL: npt.NDArray[np.int64]
    """(rows, length): the number of the example in its row; the rest of the row has one of its own."""
    scored_BL: npt.NDArray[np.bool_]
    """(rows, length): whether the token behind this one is learnt."""


def packed(lengths: Sequence[int], room: int) -> list[list[int]]:
    """Rows of examples, by number, of at most `room` tokens each: every example into the open row that it fills best,
    of the last OPEN ones, else into a new one. The order of examples decides alone."""
    rows: list[list[int]] = []
    free: list[int] = []
    first = 0
    for number, length in enumerate(lengths):
        if length > room:
            raise ValueError(f"example {number} has {length} tokens, a row room for {room}")
        fitting = [row for row in range(max(first, len(rows) - OPEN), len(rows)) if free[row] >= length]
        if fitting:
            row = min(fitting, key=lambda row: free[row])
        else:
            row = len(rows)
            rows.append([])
            free.append(room)
        rows[row].append(number)
        free[row] -= length
        while first < len(rows) and free[first] == 0:
            first += 1
    return rows


def laid(rows: Sequence[Sequence[Encoded]], length: int, filler: int) -> Rows:
    """The tensors of these rows: `length` tokens are read, and length + 1 are there. filler: the id behind the last
    example."""
    tokens = np.full((len(rows), length + 1), filler, np.int64)
    numbers = np.zeros((len(rows), length + 1), np.int64)
    learnt = np.zeros((len(rows), length + 1), bool)
    for row, examples in enumerate(rows):
        place = 0
        for number, each in enumerate(examples):
            end = place + len(each.ids)
            tokens[row, place:end], learnt[row, place:end], numbers[row, place:end] = each.ids, each.scored, number
            place = end
        numbers[row, place:] = len(examples)
    follows = numbers[:, 1:] == numbers[:, :-1]
    return Rows(tokens, numbers[:, :-1], learnt[:, 1:] & follows)
