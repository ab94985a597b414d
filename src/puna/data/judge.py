"""The verdicts on one source's documents that need no look at held-out text: which document goes, by which rule, and
what stays of its text.

Scores lie in files of their own, one a shard (`language.S`, `perplexity.S`, ...), and only here do thresholds meet
them, so that a changed threshold costs no scoring. A document that goes counts with the first rule that
takes it. Both the held-out text and the documents of a run are what this judge keeps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import islice

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from puna.data.dedup import exact
from puna.data.document import read_table
from puna.data.exclude import FIELDS, Exclusions
from puna.data.outputs import files, held
from puna.data.quality import buckets, language, perplexity, references
from puna.data.texts import Texts, texts_of
from puna.recipe import Recipe
from puna.recipe_sources import CommonCrawl, WebPages
from puna.steps import Context
from puna.storage import Place

NO_EDIT = Texts()
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
    near: tuple[Place, ...] = ()
    """Rows that are nearly others, cut by shard."""
    texts: Texts = NO_EDIT
    min_characters: int = 0
    source: WebPages | None = None
    """The source's own thresholds, for the scores below; each of these is one file a shard."""
    languages: tuple[Place, ...] = ()
    perplexities: tuple[Place, ...] = ()
    percentiles: dict[str, list[float]] = field(default_factory=dict)
    """Of each language, the perplexities that part the buckets."""
    references: tuple[Place, ...] = ()

    def judged(self, index: int, shard: Place) -> Judged:
        """Memory: the shard."""
        told = language.read(self.languages[index]) if self.languages else None
        table = self._edited(index, read_table(shard), told)
        asked = _asked(self.excluded, table)
        left, gone = np.ones(len(table), bool), {}
        for fate, takes in self._rules(index, table, asked, told):
            gone[fate] = takes & left
            left &= ~gone[fate]
        held = np.fromiter(map(self.held, table["group"].to_pylist()), bool, len(table))
        size = pc.binary_length(table["text"]).to_numpy().astype(np.int64)
        named = tuple(sorted({entry for entry in asked if entry is not None}))
        return Judged(table, gone, left & held, left & ~held, size, named)

    def trainable(self, index: int, shard: Place) -> Mask:
        """(documents,): those that are kept and not held out, which models of quality may learn from."""
        return self.judged(index, shard).kept

    def _rules(
        self, index: int, table: pa.Table, asked: list[str | None], told: language.Rows | None
    ) -> Iterator[tuple[str, Mask]]:
        """Each rule that the recipe has, in the order in which they are asked, and all that it would take."""
        yield "excluded", np.fromiter((entry is not None for entry in asked), bool, len(table))
        yield "duplicate", _rows(self.repeats, index, len(table))
        if self.near:
            yield "near", _rows(self.near, index, len(table))
        if self.min_characters:
            yield "short", pc.utf8_length(table["text"]).to_numpy() < self.min_characters
        if self.source and told is not None:
            yield "language", ~language.passes(told, self.source)
            if self.perplexities:
                scores = language.read_scores(self.perplexities[index], "<f4")
                yield "perplexity", ~perplexity.stays(self.source, perplexity.buckets(told, scores, self.percentiles))
        if self.source and self.references:
            scores = references.scores_of(self.references[index])
            yield "reference", references.below(scores, self.source.min_reference_score or 0.0)

    def _edited(self, index: int, table: pa.Table, told: language.Rows | None) -> pa.Table:
        """The table with the text that stays of each document, and the language that was told of it."""
        if self.texts.gathered:
            table = _with(table, "text", self.texts.edited(index, (text.as_py() for text in table["text"])))
        if told is not None:
            table = _with(table, "language", language.codes(told))
        return table


def judge(recipe: Recipe, name: str, context: Context, excluded: tuple[str, ...] = (), *, scored: bool = True) -> Judge:
    """The judge of a source, by the steps before. excluded: entries of data.exclude; held-out text is collected, and
    models of quality are trained, without them, so that a changed list redoes no scoring. scored: with the verdicts on
    what such models say."""
    texts, source = texts_of(recipe, name, context), recipe.sources[name]
    least = source.min_characters if isinstance(source, CommonCrawl) else 0
    web = source if isinstance(source, WebPages) else None
    return Judge(
        held=partial(held, recipe, name),
        excluded=Exclusions(excluded),
        repeats=_found(context, f"duplicates.{name}", ".verdicts"),
        near=_found(context, f"near.{name}", ".verdicts"),
        texts=texts,
        min_characters=max(least, bool(texts.gathered)),
        source=web,
        languages=_found(context, f"language.{name}", ".language"),
        perplexities=_found(context, f"perplexity.{name}", ".perplexity") if scored else (),
        percentiles=buckets.read(context, name) if scored else {},
        references=_found(context, f"references.{name}", ".reference") if scored else (),
    )


def _found(context: Context, step: str, ending: str) -> tuple[Place, ...]:
    """The files of a step; none where the recipe has no such step."""
    return tuple(files(context, step, ending)) if step in context.records else ()


def _with(table: pa.Table, name: str, values: Iterable[str]) -> pa.Table:
    """The table with other values in a column, row group by row group: as Python's strings they take much more."""
    place, each = table.schema.get_field_index(name), iter(values)
    chunks = [pa.array(list(islice(each, len(chunk))), pa.string()) for chunk in table.column(place).chunks]
    if next(each, None) is not None:  # asked to its end, where it tells of lines that are no document's
        raise ValueError(f"more values than the {len(table)} documents of the shard")
    return table.set_column(place, table.schema.field(place), pa.chunked_array(chunks, pa.string()))


def _rows(verdicts: tuple[Place, ...], index: int, documents: int) -> Mask:
    mask = np.zeros(documents, bool)
    if verdicts:
        mask[exact.dropped_rows(verdicts, index)] = True
    return mask


def _asked(excluded: Exclusions, table: pa.Table) -> list[str | None]:
    """For each document the entry that leaves it out."""
    if not excluded.entries:
        return [None] * len(table)
    flat = table.flatten()
    return list(map(excluded.of, *(flat[name].to_pylist() for name in FIELDS)))
