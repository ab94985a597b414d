"""Which values of `train` a training's weights depend on: with others it is done again, with these it goes on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def of_the_result(train: Mapping[str, Any]) -> dict[str, Any]:
    """The values of `train` that the weights depend on: how often it saves and logs is not among them, but where a
    spike goes back to the last checkpoint, nor when a training is given up: with more patience the same training goes
    on.

    `documents` "packed" does not stand there, which is what earlier versions did without it; `max_nonfinite` does, as
    the 10 that they had by itself.
    """
    left_out = {
        "device",  # which the machine tells
        "keep",
        "keep_every",
        "save",
        "evaluate_every",
        "evaluate_tokens",
        "hang_minutes",
        "log_every",
        "log_to",
        "max_rewinds",
        "mesh",
        "seed",  # it stands beside these
    }
    if train["documents"] == "packed":
        left_out.add("documents")
    if train["spike"] == "observe":
        left_out |= {"spike", "spike_window", "spike_score"}
    if train["spike"] != "rewind":
        left_out |= {"spike_margin", "checkpoint_every"}
    return {key: value for key, value in train.items() if key not in left_out} | {"max_nonfinite": 10}
