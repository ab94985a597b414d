"""The text that stays of each document: what every score is of, and what is kept in the end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from puna.data.dedup import lines, lines_step
from puna.data.dedup.lines import Policy
from puna.data.document import read_column
from puna.data.outputs import files
from puna.recipe import Recipe
from puna.steps import Context
from puna.storage import Place

LINES = Policy()


@dataclass(frozen=True)
class Texts:
    """The texts of one source, shard by shard; picklable, for workers."""

    gathered: tuple[Place, ...] = ()
    """Of each shard its lines that go; none: no line of any does."""
    policy: Policy = LINES

    def of(self, index: int, shard: Place) -> Iterator[str]:
        """The texts of a shard in order, without the lines that go; one row group in memory."""
        return self.edited(index, read_column(shard, "text"))

    def edited(self, index: int, texts: Iterator[str]) -> Iterator[str]:
        """The given texts, which are those of a shard in order, without the lines that go."""
        if not self.gathered:
            return texts
        return lines.edited(texts, lines.removed(self.gathered, index), self.policy)


def texts_of(recipe: Recipe, name: str, context: Context) -> Texts:
    """The texts of a source, by the steps before."""
    policy = lines_step.policy(recipe.sources[name])
    if policy is None:
        return Texts()
    return Texts(tuple(files(context, f"lines.{name}", ".lines")), policy)
