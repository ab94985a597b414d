"""The step `buckets.SOURCE`: the perplexities that part head, middle and tail, by language (CCNet; section 2.1).

They are percentiles of what was measured, not CCNet's own numbers: another model has other perplexities.
"""

from __future__ import annotations

from typing import Any

from puna import storage
from puna.data.outputs import files
from puna.data.quality import models, perplexity
from puna.data.quality import steps as quality
from puna.progress import say
from puna.recipe import Recipe
from puna.recipe_sources import WebPages
from puna.steps import Context

FILE = "buckets.json"
VALUES = {"languages", "min_language_score", "perplexity_percentiles"}


def values(source: WebPages) -> dict[str, Any]:
    return source.model_dump(mode="json", include=VALUES)


def buckets(recipe: Recipe, name: str, context: Context) -> dict[str, Any]:
    """The step's work. Counts: of each language the perplexities at the percentiles; a language without a page has
    none."""
    source = recipe.sources[name]
    assert isinstance(source, WebPages)
    told, scored = files(context, f"language.{name}", ".language"), files(context, f"perplexity.{name}", ".perplexity")
    asked = source.model_copy(update={"perplexity_percentiles": [*source.perplexity_percentiles, 50.0]})
    measured = perplexity.thresholds(asked, told, scored)
    found = {code: values[:-1] for code, values in measured.items()}
    for code, prefix in quality.prefixes(recipe, context).items():
        if code in source.languages and code not in measured:
            say(f"  WARNING: {name}: no page is told to be in {code!r}, so its model judges none")
        elif code in source.languages:
            line = models.strange(name, code, measured[code][-1], models.found(prefix, code).told)
            if line:
                say(f"  {line}")
    storage.write_json(context.scratch / FILE, found)
    for code, (head, middle) in found.items():
        say(f"  {name}: {code} up to a perplexity of {head:,.0f} is head, up to {middle:,.0f} middle, the rest tail")
    return found


def read(context: Context, name: str) -> dict[str, list[float]]:
    """What the step found; nothing where the recipe has no such step."""
    found: dict[str, list[float]] = context.counts(f"buckets.{name}") if f"buckets.{name}" in context.records else {}
    return found
