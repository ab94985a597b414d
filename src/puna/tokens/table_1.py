"""Table 1 of the paper: what its own mixture gave of each source, to stand beside what a run's gives."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Given:
    """A row: the share of the training tokens, and how often the source was read in the training on 1.4T tokens; the
    7B and 13B models were trained on 1.0T, and read all of it less often."""

    share: str
    epochs: float


TABLE_1 = {
    "commoncrawl": Given("0.67", 1.10),
    "c4": Given("0.15", 1.06),
    "github": Given("0.045", 0.64),
    "wikipedia": Given("0.045", 2.45),
    "books": Given("0.045", 2.23),
    "arxiv": Given("0.025", 1.06),
    "stackexchange": Given("0.02", 1.03),
}
"""By source, in the paper's order."""


def paper_epochs(source: str) -> float | None:
    """How often the paper read a source; None of one that it does not have."""
    given = TABLE_1.get(source)
    return given.epochs if given else None
