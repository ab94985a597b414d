"""How well scores tell cited pages from others, on pages that were not trained on: numbers for a report.

All of them are of the mix of pages that was labelled, `reference.negatives_per_positive` of the others to a cited one,
in which the share of cited pages is the `base`; on the web it is far smaller.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

BINS = 10  # of the reliability diagram
STEPS = 100  # thresholds 0, 1/STEPS, ..., 1
Scores = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]


def measured(scores: Scores, cited: Mask) -> dict[str, Any]:
    """Figures of held-out pages, (pages,) each: average precision, Brier score, reliability, and a table of precision,
    recall and kept share by threshold. What cannot be told, of no pages, is None."""
    table = [_at(scores, cited, step / STEPS) for step in range(STEPS + 1)]
    return {
        "pages": len(scores),
        "cited": int(cited.sum()),
        "base": _share(cited),
        "average_precision": average_precision(scores, cited),
        "brier": float(np.mean((scores.astype(np.float64) - cited) ** 2)) if len(scores) else None,
        "reliability": reliability(scores, cited),
        "thresholds": {name: [row[name] for row in table] for name in ("threshold", "precision", "recall", "kept")},
    }


def average_precision(scores: Scores, cited: Mask) -> float | None:
    """Sum over thresholds of (recall gained) * precision; pages of one score fall together. None without both kinds."""
    if not cited.any() or cited.all():
        return None
    order = np.argsort(-scores, kind="stable")
    ordered, hits = scores[order], np.cumsum(cited[order])
    last = np.append(ordered[1:] != ordered[:-1], True)
    hits, seen = hits[last], (np.arange(len(ordered)) + 1)[last]
    return float((np.diff(hits, prepend=0) * (hits / seen)).sum() / hits[-1])


def reliability(scores: Scores, cited: Mask) -> list[dict[str, Any]]:
    """For each tenth of the scores: pages, their mean score, and the share of them that is cited."""
    bins = np.minimum((scores * BINS).astype(np.int64), BINS - 1)
    rows = []
    for index in range(BINS):
        here = bins == index
        mean = float(scores[here].mean(dtype=np.float64)) if here.any() else None
        rows.append({"pages": int(here.sum()), "score": mean, "cited": _share(cited[here])})
    return rows


def separates(figures: dict[str, Any], min_gain: float) -> bool | None:
    """Whether average precision passes that of guessing, the base, by `min_gain` of what is left up to 1; None where it
    could not be measured."""
    if figures["average_precision"] is None:
        return None
    return bool(figures["average_precision"] - figures["base"] >= min_gain * (1 - figures["base"]))


def _at(scores: Scores, cited: Mask, threshold: float) -> dict[str, Any]:
    kept = scores >= np.float32(threshold)
    return {
        "threshold": threshold,
        "precision": _share(cited[kept]),
        "recall": _share(kept[cited]),
        "kept": _share(kept),
    }


def _share(mask: Mask) -> float | None:
    return float(mask.mean()) if len(mask) else None
