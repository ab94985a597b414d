"""A linear model of hashed runs of words: its training, its calibration, its file.

Logistic regression, by AdaGrad (Duchi et al. 2011) over small batches in the order of the pages' ranks, which is a
random one. With c_f occurrences of run f among the T runs of a text:

    logit = bias + sum over f of weight_f * c_f / T
    score = sigmoid(slope * logit + intercept)              Platt (1999): fitted on pages that were not trained on

Weights are kept in whole units of 2^-20, so that their sum is exact: a score does not depend on what else was in its
batch, nor on the processor's way to add. The files are JSON and safetensors; nothing in them is run when they are read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from puna import storage
from puna.data.quality.hashed_words import VERSION, Features, Runs, batches, runs
from puna.errors import InputError
from puna.formats import REFERENCE
from puna.storage import Location, Place

UNIT = 2.0**-20
KIND = "classifier of cited pages"
TINY = 1e-10
MEND = "give the .json that the step `reference` of a run wrote, its .safetensors beside it"
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Examples:
    """Labelled texts as runs of words."""

    cited: npt.NDArray[np.bool_]
    """(texts,)"""
    lengths: npt.NDArray[np.int64]
    """(texts,): runs of each."""
    buckets: npt.NDArray[np.uint32]
    """(runs,): text by text."""


@dataclass(frozen=True)
class Model:
    features: Features
    weights: npt.NDArray[np.int32]
    """(2^bits,), in units of 2^-20."""
    bias: float
    slope: float = 1.0
    intercept: float = 0.0

    def logits(self, found: Runs) -> Floats:
        """(texts,)"""
        total = np.zeros(len(found.borders) - 1, np.int64)
        for n, buckets in enumerate(found.buckets, 1):
            values = np.zeros(found.borders[-1] + 1, np.int64)
            values[1 : len(buckets) + 1] = self.weights[buckets]
            values[1 + found.crossing(n)] = 0
            total += np.diff(np.cumsum(values)[found.borders])
        logits: Floats = total * UNIT / np.maximum(found.lengths(), 1) + self.bias
        return logits

    def logits_of(self, examples: Examples) -> Floats:
        """(texts,); the same numbers as `logits`, of texts as the training holds them."""
        sums = np.concatenate([np.zeros(1, np.int64), np.cumsum(self.weights[examples.buckets], dtype=np.int64)])
        ends = np.cumsum(examples.lengths)
        total = sums[ends] - sums[ends - examples.lengths]
        logits: Floats = total * UNIT / np.maximum(examples.lengths, 1) + self.bias
        return logits

    def calibrated(self, logits: Floats) -> Floats:
        return sigmoid(self.slope * logits + self.intercept)

    def scores(self, texts: Iterable[str]) -> npt.NDArray[np.float32]:
        """(texts,), from 0 to 1: how likely each page is cited, if cited and other pages were as many as in training.
        Memory: about 16 MB, whatever the texts, beside the longest of them and the weights."""
        found = [
            self.calibrated(self.logits(runs(group, self.features)))
            for group in batches(texts, self.features.characters)
        ]
        return np.concatenate([np.empty(0), *found]).astype(np.float32)


def sigmoid(x: Floats) -> Floats:
    """1 / (1 + exp(-x)), without an overflow on either side."""
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0, small) / (1.0 + small)


def train(
    read: Callable[[], Iterator[Examples]], features: Features, *, epochs: int, batch: int, learning_rate: float
) -> Model:
    """Learn from `epochs` readings of the examples, cut into batches of `batch` texts in the order in which they come.
    Memory: 40 bytes a bucket, beside one group of examples."""
    size = 1 << features.bits
    weights, squares = np.zeros(size), np.zeros(size)
    bias = bias_squares = 0.0
    for _ in range(epochs):
        for part in _batches(read(), batch):
            used, place = np.unique(part.buckets, return_inverse=True)
            scale = 1.0 / np.maximum(part.lengths, 1)
            text = np.repeat(np.arange(len(part.cited)), part.lengths)
            logits = np.bincount(text, weights[used][place], len(part.cited)) * scale + bias
            wrong = (sigmoid(logits) - part.cited) / len(part.cited)
            gradient = np.bincount(place, (wrong * scale)[text], len(used))
            squares[used] += gradient**2
            weights[used] -= learning_rate * gradient / (np.sqrt(squares[used]) + TINY)
            bias_squares += float(wrong.sum()) ** 2
            bias -= learning_rate * float(wrong.sum()) / (bias_squares**0.5 + TINY)
    limit = np.iinfo(np.int32).max
    return Model(features, np.clip(np.rint(weights / UNIT), -limit, limit).astype(np.int32), bias)


def platt(logits: Floats, cited: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """Slope and intercept that make sigmoid(slope * logit + intercept) the most likely, by Newton's method on Platt's
    smoothed targets. (1, 0) where a class is missing."""
    positives, negatives = int(cited.sum()), int((~cited).sum())
    if not positives or not negatives:
        return 1.0, 0.0
    target = np.where(cited, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    slope, intercept = 0.0, float(np.log((positives + 1) / (negatives + 1)))

    def loss(slope: float, intercept: float) -> float:
        z = slope * logits + intercept
        return float((np.logaddexp(0, z) - target * z).sum())

    for _ in range(100):
        p = sigmoid(slope * logits + intercept)
        weight = p * (1 - p)
        d_slope, d_intercept = float(((p - target) * logits).sum()), float((p - target).sum())
        a, b, c = (float((weight * power).sum()) for power in (logits**2, logits, np.ones(len(logits))))
        a, c = a + 1e-9, c + 1e-9
        determinant = a * c - b * b
        step = (c * d_slope - b * d_intercept) / determinant, (a * d_intercept - b * d_slope) / determinant
        size, before = 1.0, loss(slope, intercept)
        while loss(slope - size * step[0], intercept - size * step[1]) > before and size > 1e-6:
            size /= 2
        slope, intercept = slope - size * step[0], intercept - size * step[1]
        if max(map(abs, step)) < 1e-9:
            break
    return slope, intercept


def write(folder: Place, model: Model | None, facts: dict[str, Any]) -> list[Place]:
    """Write reference.json, and reference.safetensors unless there is no model; equal models give equal bytes."""
    description: dict[str, Any] = {"format": REFERENCE.version, "kind": KIND, "facts": facts}
    files = [folder / "reference.json"]
    if model:
        from safetensors.numpy import save

        data = save({"weights": model.weights})
        files.append(folder / "reference.safetensors")
        storage.write(files[1], data)
        description |= {
            "features": model.features.as_json(),
            "digest": storage.digest_bytes(data),
            **{name: getattr(model, name) for name in ("bias", "slope", "intercept")},
        }
    storage.write_json(files[0], description)
    return files


def load(location: Location, features: Features | None = None) -> tuple[Model | None, dict[str, Any]]:
    """The model of a .json and its facts; None where it says that there were too few pages to train one.

    Raises InputError for a file that is missing, damaged, not one of ours, or (`features` given) of other features.
    """
    found = storage.read_json(location)
    where = str(location)
    if not isinstance(found, dict) or found.get("kind") != KIND or not isinstance(found.get("facts"), dict):
        raise InputError("is no classifier of cited pages", where=where, mend=MEND)
    REFERENCE.refuse_newer(found.get("format"), location)
    if "features" not in found:
        return None, found["facts"]
    try:
        seen = Features(*(int(found["features"][name]) for name in ("characters", "ngram", "bits")))
        numbers = [float(found[name]) for name in ("bias", "slope", "intercept")]
        version, digest = found["features"]["version"], found["digest"]
    except (LookupError, TypeError, ValueError, OverflowError):
        raise InputError("is damaged: values are missing", where=where, mend=MEND) from None
    if version != VERSION:
        raise InputError(
            f"sees words by rule {version}, this Puna by rule {VERSION}", where=where, mend="train it anew"
        )
    if features and seen != features:
        keys = ", ".join(f"reference.{name}={value}" for name, value in seen.as_json().items() if name != "version")
        raise InputError("was trained on other features than the recipe's", where=where, mend=f"give {keys}")
    place = storage.place(location)
    return Model(seen, _weights(place.with_suffix(".safetensors"), digest, seen.bits), *numbers), found["facts"]


@lru_cache(maxsize=1)
def loaded(location: str) -> Model | None:
    """The model of a step's file, read once a worker: its name holds a fingerprint, so what it holds never changes."""
    return load(location)[0]


def _weights(place: Place, digest: object, bits: int) -> npt.NDArray[np.int32]:
    from safetensors import SafetensorError
    from safetensors.numpy import load as read

    data = storage.read(place)
    if storage.digest_bytes(data) != digest:
        raise InputError("is not the file that its .json was written with", where=str(place), mend=MEND)
    try:
        weights: npt.NDArray[np.int32] = read(data)["weights"]
    except (SafetensorError, LookupError, ValueError) as error:
        raise InputError(f"is damaged ({error})", where=str(place), mend=MEND) from None
    if weights.dtype != np.int32 or weights.shape != (1 << bits,):
        raise InputError("does not hold the weights that its .json tells of", where=str(place), mend=MEND)
    return weights


def _batches(groups: Iterable[Examples], size: int) -> Iterator[Examples]:
    """The examples in batches of `size`, the last one smaller; where groups end makes no difference."""
    rest: Examples | None = None
    for group in groups:
        whole = group if rest is None else _joined(rest, group)
        ends = np.concatenate([np.zeros(1, np.int64), np.cumsum(whole.lengths)])
        full = len(whole.cited) // size * size
        for start in range(0, full, size):
            yield _cut(whole, ends, start, start + size)
        rest = _cut(whole, ends, full, len(whole.cited))
    if rest is not None and len(rest.cited):
        yield rest


def _joined(a: Examples, b: Examples) -> Examples:
    return Examples(*(np.concatenate([getattr(a, n), getattr(b, n)]) for n in ("cited", "lengths", "buckets")))


def _cut(whole: Examples, ends: npt.NDArray[np.int64], start: int, end: int) -> Examples:
    return Examples(whole.cited[start:end], whole.lengths[start:end], whole.buckets[ends[start] : ends[end]])
