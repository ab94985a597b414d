"""What a recipe brings along from outside the run, a model or a benchmark's files: told by what it holds.

It may be taken away when the steps that read it are done: what the run recorded of it then stands for it, as for dumps,
as long as the recipe still names the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from puna import storage
from puna.errors import PunaError
from puna.progress import say
from puna.recipe import Recipe
from puna.records import of_step
from puna.run import read_recipe
from puna.storage import Place


@dataclass(frozen=True)
class Look:
    """How the graph is built. folder: the run whose records may stand for what is gone."""

    folder: Place | None = None
    names_only: bool = False
    """Nothing is looked at, since nothing but the names of the steps is asked for."""

    def values(
        self, recipe: Recipe, step: str, named: Callable[[Recipe], Any], make: Callable[[], Mapping[str, Any]]
    ) -> dict[str, Any]:
        """The values of a step by `make`, or those recorded where that fails and `named`, the recipe's key, is as it
        was; else the error of `make`."""
        if self.names_only:
            return {}
        try:
            return dict(make())
        except PunaError as missing:
            return dict(self.recorded(recipe, step, named, missing))

    def recorded(
        self, recipe: Recipe, step: str, named: Callable[[Recipe], Any], missing: PunaError
    ) -> Mapping[str, Any]:
        """The recorded values of a step; raises `missing` where there are none for the same key."""
        record = of_step(self.folder, step) if self.folder is not None else None
        if record is None or self.folder is None or not storage.exists(self.folder / "recipe.toml"):
            raise missing
        if named(read_recipe(self.folder)) != named(recipe):
            raise missing
        say(f"{step}: {missing}; going on with what was read of it before")
        values: Mapping[str, Any] = record["values"]
        return values
