"""What each stage of the data cost: input, seconds of work, how much of the whole that is; and energy (carbon.py).

A stage is what a step's name says before its first dot, over all sources. Its work is that of its tasks on all
processes, those of an earlier, interrupted attempt among them, so that bytes by seconds of work is a rate per core. Its
input is what it reads: stored bytes of dumps before extraction, bytes of clean text behind it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

# In the order of the work; a stage that does not stand here is told by its name, in the order of its record.
LABELS = {
    "inputs": "digests of the inputs",
    "split": "cutting into tasks",
    "extract": "reading and cleaning",
    "duplicates": "exact repeats",
    "lines": "repeated paragraphs",
    "near": "near repeats",
    "language": "language",
    "lm": "language models trained",
    "perplexity": "perplexity",
    "buckets": "percentiles of perplexity",
    "reference": "classifier trained",
    "references": "classifier of cited pages",
    "heldout": "held-out text",
    "overlap": "overlap with held-out text",
    "benchmarks": "n-grams of benchmarks",
    "contamination": "overlap with benchmarks",
    "common": "common n-grams",
    "documents": "verdicts, sorting",
    "notice": "notice of licences",
    "tokenizer": "tokenizer trained",
    "tokens": "encoding",
}
BEHIND = frozenset(  # no work on data
    {"manifest", "mixture", "baselines", "cloze_items", "train", "evaluate", "cloze", "samples", "tables", "report"}
)
MOST = 1e18  # bytes or seconds; a record with more is damaged
OF_ALL = frozenset({"heldout"})  # read the text of all sources


@dataclass
class Part:
    """A stage, or what one source has of it."""

    label: str
    bytes: int | None = None
    """That it read; None where nothing tells."""
    seconds: float = 0.0
    """Of work, over all processes."""
    sources: dict[str, Part] = field(default_factory=dict)

    @property
    def rate(self) -> float | None:
        """Bytes a second of work."""
        return self.bytes / self.seconds if self.bytes and self.seconds > 0 else None

    def add(self, read: int | None, seconds: float) -> None:
        self.bytes = self.bytes if read is None else (self.bytes or 0) + read
        self.seconds += seconds

    def as_json(self, whole: float) -> dict[str, Any]:
        told = {"label": self.label, "bytes": self.bytes, "seconds": round(self.seconds, 3)}
        return told | {"share": round(self.seconds / whole, 4) if whole else None}


def stages(records: Mapping[str, Any]) -> dict[str, Part]:
    """Every stage of the data that is done and tells its work, by name and in order. records: done-records by step."""
    found: dict[str, Part] = {}
    for step in _in_order(records):
        stage, _, source = step.partition(".")
        seconds = _number(records[step], "work", "seconds")
        if stage in BEHIND or seconds is None:
            continue
        read = _read(records, stage, source)
        part = found.setdefault(stage, Part(LABELS.get(stage, stage)))
        part.add(read, seconds)
        if source:
            part.sources.setdefault(source, Part(source)).add(read, seconds)
    return found


def _in_order(records: Iterable[str]) -> list[str]:
    place = {name: number for number, name in enumerate(LABELS)}
    return sorted(records, key=lambda step: place.get(step.partition(".")[0], len(place)))


def _read(records: Mapping[str, Any], stage: str, source: str) -> int | None:
    """Bytes that a step read: what it says itself, else what its kind of step reads."""
    step = f"{stage}.{source}" if source else stage
    own = _number(records[step], "counts", "input_bytes")
    if own is not None:
        return int(own)
    if stage in OF_ALL:
        return _sum(
            _number(records[name], "counts", "kept", "bytes") for name in records if name.startswith("extract.")
        )
    if stage == "tokenizer":
        return _sum([_number(records[step], "counts", "sample_bytes")])
    if stage == "buckets":
        return None
    if stage in ("inputs", "split"):
        return _sum([_number(records.get(f"extract.{source}"), "counts", "input_bytes")]) if stage == "inputs" else None
    if stage == "tokens":
        return _sum([_number(records[step], "counts", "bytes")])
    return _sum([_number(records.get(f"extract.{source}"), "counts", "kept", "bytes")]) if source else None


def _sum(values: Iterable[float | None]) -> int | None:
    there = [value for value in values if value is not None]
    return int(sum(there)) if there else None


def _number(value: Any, *keys: str) -> float | None:
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MOST:
        return None
    return float(value)
