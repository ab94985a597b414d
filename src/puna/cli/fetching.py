"""The command that gets raw dumps and benchmarks. What it does is in `puna.fetch`; but for a push, and toxicity asked
of a service, nothing else of Puna reaches public servers."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from puna.cli.words import Json, epilog, not_empty, show, show_json
from puna.errors import InputError
from puna.progress import tell

RecipeOrName = Annotated[
    str | None,
    typer.Argument(
        metavar="RECIPE", callback=not_empty, help="A recipe's name or file; with --benchmarks a benchmark, or nothing."
    ),
]
Words = Annotated[
    list[str] | None,
    typer.Argument(metavar="SOURCE|KEY=VALUE", help="Sources to fetch, else all of the recipe's; values over it."),
]
To = Annotated[
    str | None,
    typer.Option(
        "--to", metavar="FOLDER", callback=not_empty, help="Where dumps are put, or a URL; else what fetch.to says."
    ),
]
ENDINGS = "0 done, 1 a file could not be had, 2 wrong input, 130 interrupted: again, it goes on."


def add_to(app: typer.Typer) -> None:
    """Add this command."""
    end = epilog(
        "puna fetch web c4 books --dry-run",
        "puna fetch web c4 books --to /big/dumps --yes",
        "puna fetch --benchmarks hellaswag race --accept race",
        status=ENDINGS,
    )
    app.command("fetch", short_help="Get the raw dumps that a recipe names, or benchmarks.", epilog=end)(fetch)


def fetch(
    recipe: RecipeOrName = None,
    words: Words = None,
    to: To = None,
    benchmarks: Annotated[
        bool, typer.Option("--benchmarks", help="Get the paper's benchmarks, all or those named, not a recipe's dumps.")
    ] = False,
    accept: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", callback=not_empty, help="Accept the condition of a benchmark: race is for research only."
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Fetch without asking whether to.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the files and their sizes, and fetch none.")] = False,
    pay: Annotated[bool, typer.Option("--pay", help="Ask places that bill the one who asks: arXiv.")] = False,
    anew: Annotated[bool, typer.Option("--anew", help="Ask the places again what there is.")] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read what is there and compare digests; fetch what was changed.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show results and errors only.")] = False,
    json: Json = False,
) -> None:
    """Get the raw dumps that a recipe's [fetch] tables name, from the places that publish them.

    Says files, sizes and cost before it begins. Writes to FOLDER/SOURCE; a file has its name when it is whole and
    agrees with the checksum that its place publishes. What is there is not fetched again. Stopped at any moment, the
    same command goes on where it was; on an object store it begins the files again that were under way.

    With --benchmarks: the release files of the paper's benchmarks, into the folder benchmarks, where evaluate looks.
    Says each licence before, and each checksum; a condition has to be accepted.
    """
    from puna import fetch as fetching
    from puna import recipe as recipes
    from puna.last_screen import called
    from puna.progress import configure, say
    from puna.recipe_text import toml_value

    configure(quiet=quiet)
    if benchmarks:
        if pay or anew or verify:
            raise InputError("--pay, --anew and --verify are for raw dumps", mend="leave them out with --benchmarks")
        _benchmarks([word for word in (recipe, *(words or ())) if word], to, accept or (), yes, dry_run, json)
        return
    if accept:
        raise InputError("--accept is for benchmarks", mend="give it with --benchmarks")
    if recipe is None:
        raise InputError("no recipe is named", mend="name one, such as web, or give --benchmarks")
    names = [word for word in words or () if "=" not in word]
    overrides = [word for word in words or () if "=" in word]
    if to is not None:
        overrides.append(f"fetch.to={toml_value(to)}")  # so that no folder's name is taken for a number or a list
    plan = fetching.plan(recipes.load(recipe, overrides), names, fetching.Options(pay=pay, anew=anew, verify=verify))
    if dry_run:
        show_json(plan.as_json()) if json else show(plan.as_text(every=True))
        plan.complain()
        return
    for line in plan.as_text().splitlines():
        say(line)
    if plan.missing and not yes and not _agreed():
        show("nothing was fetched")
        return
    summary = fetching.fetch(plan)
    if json:
        show_json(plan.as_json())
        return
    show(summary)
    show(f"Next   {called()} run {shlex.join([recipe, *overrides])}")


def _benchmarks(
    names: Sequence[str], to: str | None, accepted: Sequence[str], yes: bool, dry_run: bool, json: bool
) -> None:
    from puna.fetch import benchmarks
    from puna.progress import say

    wanted = benchmarks.plan(names, to or benchmarks.TO)
    if dry_run:
        show_json(wanted.as_json()) if json else show(wanted.as_text())
        return
    for line in wanted.as_text().splitlines():
        say(line)
    benchmarks.accept(wanted, accepted, _accepts)
    if wanted.plan.missing and not yes and not _agreed():
        show("nothing was fetched")
        return
    summary = benchmarks.fetch(wanted)
    show_json(wanted.as_json()) if json else show(summary)


def _accepts(name: str, condition: str) -> bool:
    """Have a condition accepted at the terminal, by its benchmark's name and not by a y out of habit."""
    if not sys.stdin.isatty():
        return False
    tell(f"{name} is {condition}. Type {name} to accept this")
    return sys.stdin.readline().strip() == name


def _agreed() -> bool:
    """Ask on the terminal; where there is none to ask on, that is wrong input."""
    if not sys.stdin.isatty():
        raise InputError("there is no terminal to ask on whether to fetch", mend="give --yes, or --dry-run to look")
    tell("Fetch it? y or n")
    return sys.stdin.readline().strip().lower() in ("y", "yes")
