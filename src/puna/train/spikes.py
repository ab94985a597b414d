"""Loss spikes: which step's loss is one, and what is done about it.

A step's loss is known before its gradient is used. It is a spike when it lies more than `spike_score` spreads above
the median of the last `spike_window` finite losses; the spread is 1.4826 times their median absolute deviation (which
is the standard deviation of normal ones), and never less than FLOOR. Both are of ranks, so a spike does not hide the
next; and since it joins the window like any loss, a loss that stays high is soon none any more. Nothing is judged
before the window is full.

The paper does not speak of spikes. PaLM (Chowdhery et al. 2022, section 5.1) went back about 100 steps before one and
passed over the batches around it, which is what `rewind` does by itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from puna.recipe import Train
from puna.tokens.windows import Windows

FLOOR = 0.01  # nats a token: a difference below a few of these is nothing that a reader of curves calls a spike
NORMAL = 1.4826  # standard deviation of a normal distribution over its median absolute deviation
NAMED = 8  # documents of a spike that are recorded, those that cost most a token


@dataclass(frozen=True)
class Spike:
    """A loss far above those before it."""

    step: int
    loss: float
    """Nats a token of its batch."""
    median: float
    """Of the losses before it."""
    spread: float
    score: float
    """(loss - median) / spread."""
    action: Literal["observe", "skip", "rewind"]
    read: tuple[int, int]
    """The windows of its batch, first and one behind the last."""
    documents: tuple[dict[str, Any], ...] = ()
    """Of those, the parts of documents that cost most a token: `id`, `source`, `window`, `tokens`, `loss`."""
    back_to: int | None = None
    """The step that a rewind went back to."""
    rewound: tuple[int, int] | None = None
    """The windows that it passed over."""

    def as_json(self) -> dict[str, Any]:
        value = {name: item for name, item in asdict(self).items() if item is not None}
        return {name: round(item, 6) if isinstance(item, float) else item for name, item in value.items()}

    def line(self) -> str:
        """What a person is told."""
        what = f"step {self.step}: loss {self.loss:.3f} is a spike, {self.score:.0f} spreads above {self.median:.3f}"
        named = f", highest in document {self.documents[0]['id']}" if self.documents else ""
        done = {"observe": "", "skip": "; its gradient is not used"}.get(self.action, "")
        if self.action == "rewind" and self.rewound is not None:
            done = f"; going back to step {self.back_to} and past windows {self.rewound[0]} to {self.rewound[1] - 1}"
        return f"{what}{named}{done}"


def judged(loss: float, before: Sequence[float], train: Train) -> tuple[float, float, float] | None:
    """(median, spread, score) of a loss that is a spike after the losses `before`; None when it is none."""
    if not math.isfinite(loss) or len(before) < train.spike_window:
        return None
    middle = median(before)
    spread = max(FLOOR, NORMAL * median(abs(one - middle) for one in before))
    score = (loss - middle) / spread
    return (middle, spread, score) if score > train.spike_score else None


def remembered(loss: float, before: Sequence[float], train: Train) -> tuple[float, ...]:
    """The losses by which the next step is judged."""
    return (*before, loss)[-train.spike_window :] if math.isfinite(loss) else tuple(before)


def parts(windows: Windows, first: int, nats_BL: npt.NDArray[np.float32]) -> list[dict[str, Any]]:
    """What the documents in the windows from `first` on cost, the highest loss first: `id`, `source`, `window`,
    `tokens` (scored in that window) and `loss`, nats a token.

    nats_BL: of each token but the first of a window, (windows, context). A token belongs to the document it is of,
    whatever stands before it.
    """
    found = []
    for row, nats_L in enumerate(nats_BL):
        source = windows.where(first + row).source
        for part in windows.documents(first + row):
            scored = nats_L[max(0, part.first - 1) : part.last - 1]
            if len(scored):
                loss = float(scored.mean(dtype=np.float64))
                named = {"id": part.document, "source": source, "window": first + row}
                found.append({**named, "tokens": len(scored), "loss": round(loss, 6)})
    return sorted(found, key=lambda part: (-part["loss"], part["window"], part["id"]))
