"""The verdicts on one source's documents that need no look at held-out text: which document goes, by which rule, and
what stays of its text.

Scores lie in files of their own, one a shard (`language.S`, `perplexity.S`, ...), and only here do thresholds meet
them, so that a changed threshold costs no scoring. Rules are asked in the order of FATES; a document that goes counts
with the first that takes it. Both the held-out text and the documents of a run are what this judge keeps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from puna.data.dedup import exact
from puna.data.document import read_table
from puna.data.exclude import FIELDS, Exclusions
from puna.data.outputs import files, held
from puna.recipe import Recipe
from puna.steps import Context
from puna.storage import Place

FATES = ("excluded", "duplicate")  # in the order in which they are asked
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Judged:
    """What became of the documents of one shard; all arrays are (documents,)."""

    table: pa.Table
    """All of them, with the text that stays of each."""
    gone: dict[str, Mask]
    """By rule, the documents that it takes; no document stands under two."""
    held: Mask
    """Kept and held out."""
    kept: Mask
    """Kept and not held out."""
    size: npt.NDArray[np.int64]
    """Bytes of text: of what stays of it, and of one that goes, of what it was judged by."""
    named: tuple[str, ...]
    """Entries of data.exclude that named one."""


@dataclass(frozen=True)
class Judge:
    """Everything that the verdicts on one source stand on; picklable, for workers."""

    held: Callable[[str], bool]
    """Whether a group is held out."""
    excluded: Exclusions
    repeats: tuple[Place, ...]
    """Rows that repeat others, cut by shard."""

    def judged(self, index: int, shard: Place) -> Judged:
        table = read_table(shard)
        asked = _asked(self.excluded, table)
        takes = {
            "excluded": np.fromiter((entry is not None for entry in asked), bool, len(table)),
            "duplicate": _rows(exact.dropped_rows(self.repeats, index), len(table)),
        }
        left = np.ones(len(table), bool)
        gone = {}
        for fate in FATES:
            gone[fate] = takes[fate] & left
            left &= ~gone[fate]
        held = np.fromiter(map(self.held, table["group"].to_pylist()), bool, len(table))
        size = pc.binary_length(table["text"]).to_numpy().astype(np.int64)
        named = tuple(sorted({entry for entry in asked if entry is not None}))
        return Judged(table, gone, left & held, left & ~held, size, named)


def judge(recipe: Recipe, name: str, context: Context, excluded: tuple[str, ...] = ()) -> Judge:
    """The judge of a source, by the steps before. excluded: entries of data.exclude; the held-out text is collected
    without them, so that a changed list redoes no comparison."""
    return Judge(
        held=partial(held, recipe, name),
        excluded=Exclusions(excluded),
        repeats=tuple(files(context, f"duplicates.{name}", ".verdicts")),
    )


def _rows(rows: npt.NDArray[np.uint32], documents: int) -> Mask:
    mask = np.zeros(documents, bool)
    mask[rows] = True
    return mask


def _asked(excluded: Exclusions, table: pa.Table) -> list[str | None]:
    """For each document the entry that leaves it out."""
    if not excluded.entries:
        return [None] * len(table)
    flat = table.flatten()
    return list(map(excluded.of, *(flat[name].to_pylist() for name in FIELDS)))
