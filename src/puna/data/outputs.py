"""What the data steps find of the steps before: their shards, their counts, the names of their tasks."""

from __future__ import annotations

from puna.data.heldout import is_held_out
from puna.recipe import Recipe
from puna.steps import Context
from puna.storage import Place


def kept(context: Context, name: str) -> dict[str, int]:
    """Documents and bytes of text that extraction left of a source."""
    found: dict[str, int] = context.counts(f"extract.{name}")["kept"]
    return found


def held(recipe: Recipe, name: str, group: str) -> bool:
    """Whether a group of a source is held out."""
    groups = recipe.sources[name].heldout_groups
    return is_held_out(name, group, share=recipe.heldout.share, groups=groups, seed=recipe.seed)


def numbered(task: tuple[int, Place]) -> str:
    return f"{task[0]:05d}"


def numbered_of(name: str, task: tuple[int, Place]) -> str:
    return f"{name}-{numbered(task)}"


def shards_of(context: Context, name: str) -> list[Place]:
    """The shards of clean documents of a source."""
    return files(context, f"extract.{name}", ".parquet")


def files(context: Context, step: str, ending: str) -> list[Place]:
    """The outputs of a step done before, by the end of their name, sorted."""
    return [context.folder / file for file in sorted(context.records[step]["outputs"]) if file.endswith(ending)]
