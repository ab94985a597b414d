"""The learning rate of every step: a linear warm-up, then a cosine down to a share of the highest rate (section 2.3).

The rate is a pure function of the step's number, so a resumed run needs no state for it.
"""

from __future__ import annotations

import math

from puna.recipe import Train


def learning_rate(step: int, steps: int, train: Train) -> float:
    """The rate with which step number `step` (the first is 1) of `steps` changes the weights.

    It rises in equal parts to `train.learning_rate` at step `train.warmup` and falls along half a cosine to
    `train.minimum_rate` of it at the last step. A run that ends within its warm-up never falls.
    """
    if step <= train.warmup:
        return train.learning_rate * step / train.warmup
    if step >= steps:
        return train.learning_rate * train.minimum_rate
    turn = math.cos(math.pi * (step - train.warmup) / (steps - train.warmup))
    return train.learning_rate * (train.minimum_rate + (1 - train.minimum_rate) * (1 + turn) / 2)
