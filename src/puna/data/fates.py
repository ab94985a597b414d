"""What takes documents out behind the rules of their source, in the order in which it is asked, and how it is told."""

from __future__ import annotations

FATES = {
    "excluded": "data.exclude",
    "duplicate": "an exact repeat of another",
    "near": "nearly the same as another",
    "short": "too short without repeated lines",
    "language": "not in a language that is kept",
    "perplexity": "high perplexity",
    "reference": "unlike pages that are cited",
    "contamination": "text of a benchmark",
    "overlap": "overlap with held-out text",
}
