"""row(i): the i-th row that finetuning reads, for any i, from (seed, examples, i) alone.

An epoch reads each example of a source as often as its weight says: whole times all of them, and the broken part of a
weight as a sample drawn anew for each epoch. All that an epoch reads is shuffled by seed and epoch and packed into rows
in that order (packing.py); the rows of all epochs stand end to end. Behind the last epoch of the plan the next one goes
on, so that the last step is whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from puna.finetune.packing import laid, packed
from puna.finetune.templated import Encoded
from puna.tokens.permutation import permute_all, round_keys
from puna.train.course import Batch


@dataclass(frozen=True, slots=True)
class Weighted:
    examples: Sequence[Encoded]
    weight: float
    name: str


def times(weight: float, count: int) -> int:
    """How many of `count` examples an epoch reads at this weight, repeats counted."""
    return int(weight) * count + round(weight % 1 * count)


class Rows:
    """What a finetuning reads: see `Reading` of train/course.py.

    length: tokens of a row that are read. rows: of a step. epochs: of the plan. filler: an id of nobody's concern.
    tokenizer: digest of its file.
    """

    def __init__(
        self, sources: Sequence[Weighted], *, length: int, rows: int, epochs: float, seed: int, filler: int,
        tokenizer: str,
    ) -> None:  # fmt: skip
        self.sources, self.length, self.rows, self.seed, self.filler = sources, length, rows, seed, filler
        self.tokenizer = tokenizer
        self._epochs = epochs
        self._starts = [0]
        self._epoch = lru_cache(maxsize=2)(self._packed)

    @cached_property
    def steps(self) -> int:
        """Of the plan's rows; the last one is whole."""
        whole, part = divmod(self._epochs, 1)
        planned = self._start(int(whole))
        if part:
            planned += round(part * len(self._epoch(int(whole))))
        return max(1, -(-planned // self.rows))

    def batch(self, first: int, count: int) -> Batch:
        rows = [[self._example(*key) for key in self._row(first + number)] for number in range(count)]
        made = laid(rows, self.length, self.filler)
        return Batch(*(torch.from_numpy(each) for each in (made.tokens_BL1, made.segments_BL, made.scored_BL)))

    def costly(self, first: int, nats_BL: npt.NDArray[np.float32]) -> list[dict[str, Any]]:
        """The examples of these rows: `id` is the source's name and the example's number in it."""
        found = []
        for number, nats_L in enumerate(nats_BL):
            place = 0
            for source, index in self._row(first + number):
                example = self._example(source, index)
                end = place + len(example.ids)
                scored = int(example.scored[1:].sum())
                if scored:
                    # The nats of a token stand where it is predicted, one before its own place.
                    loss = float(nats_L[place : end - 1].sum(dtype=np.float64)) / scored
                    name = f"{self.sources[source].name}:{index + 1}"
                    found.append({"id": name, "window": first + number, "tokens": scored, "loss": round(loss, 6)})
                place = end
        return sorted(found, key=lambda each: (-each["loss"], each["window"], each["id"]))

    def _example(self, source: int, index: int) -> Encoded:
        return self.sources[source].examples[index]

    def _row(self, number: int) -> list[tuple[int, int]]:
        """(source, example) of each example in row `number` of all epochs."""
        epoch = 0
        while number >= self._start(epoch + 1):
            epoch += 1
        return self._epoch(epoch)[number - self._start(epoch)]

    def _start(self, epoch: int) -> int:
        """The first row of an epoch."""
        while len(self._starts) <= epoch:
            self._starts.append(self._starts[-1] + len(self._epoch(len(self._starts) - 1)))
        return self._starts[epoch]

    def _packed(self, epoch: int) -> list[list[tuple[int, int]]]:
        keys: list[tuple[int, int]] = []
        for number, source in enumerate(self.sources):
            count = len(source.examples)
            whole, part = divmod(times(source.weight, count), count) if count else (0, 0)
            sample = sorted(self._order(str(number), epoch, count)[:part])
            keys += [(number, index) for index in [*range(count)] * whole + sample]
        shuffled = [keys[place] for place in self._order("epoch", epoch, len(keys))]
        rows = packed([len(self._example(*key).ids) for key in shuffled], self.length + 1)
        return [[shuffled[place] for place in row] for row in rows]

    def _order(self, name: str, epoch: int, count: int) -> list[int]:
        """0 to count - 1 in an order that follows from seed, name and epoch."""
        if not count:
            return []
        keys = round_keys(self.seed, "finetune", name, epoch)
        return [int(each) for each in permute_all(np.arange(count, dtype=np.int64), count, keys)]
