"""The commands that look at recipes, and do nothing."""

from __future__ import annotations

import typer

from puna.cli.words import Json, Overrides, RecipeName, epilog, show

SHOWN = epilog("puna recipe show laptop train.tokens=1M", status="0 done, 2 wrong input.")
LISTED = epilog("puna recipe list", status="0 done.")
KEYS = epilog("puna recipe keys", status="0 done.")

app = typer.Typer(
    help="Look at recipes: which come with Puna, what they say, and what keys there are.",
    short_help="Look at recipes: list, show, keys.",
    epilog=epilog("puna recipe list", "puna recipe show laptop", status="0 done, 2 wrong input."),
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command("list", epilog=LISTED)
def names() -> None:
    """Print the names of the recipes that come with Puna, one a line."""
    from puna import recipe as recipes

    show("\n".join(recipes.names()))


@app.command("show", short_help="Print every value of a recipe and where it came from.", epilog=SHOWN)
def resolved(recipe: RecipeName, overrides: Overrides = None, json: Json = False) -> None:
    """Print every resolved value of a recipe and where it came from.

    It is what `puna run` with the same words would do, as TOML that is a recipe itself; with --json, the origins stand
    in `origins`.
    """
    from puna import recipe as recipes

    found = recipes.load(recipe, overrides or ())
    show(recipes.as_json(found) if json else recipes.as_toml(found, origins=True), end="")


@app.command("keys", short_help="Print every key that a recipe may have, as a table.", epilog=KEYS)
def keys() -> None:
    """Print every key that a recipe may have, as a Markdown table: what it takes, its default, what it does."""
    from puna import recipe as recipes

    show(recipes.key_table(), end="")
