"""The learning rate of every step: a linear warm-up, then a cosine down to a share of the highest rate (section 2.3).

The rate is a pure function of the step's number, so a resumed run needs no state for it.
"""

from __future__ import annotations

import math


def learning_rate(step: int, *, steps: int, highest: float, minimum: float, warmup: int) -> float:
    """The rate with which step number `step` (the first is 1) changes the weights.

    It rises in equal parts to `highest` at step `warmup` and falls along half a cosine to `minimum * highest` at step
    `steps`. minimum: a share, 0.1 in the paper. A run that ends within its warm-up never falls.
    """
    if step <= warmup:
        return highest * step / warmup
    if step >= steps:
        return highest * minimum
    turn = math.cos(math.pi * (step - warmup) / (steps - warmup))
    return highest * (minimum + (1 - minimum) * (1 + turn) / 2)
