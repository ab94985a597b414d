"""The commands that lead from text to where it came from and to what read it: `inspect` and `trace`."""

from __future__ import annotations

from typing import Annotated

import typer

from puna.cli.words import Json, RunFolder, epilog, show, show_json
from puna.errors import InputError


def add_to(app: typer.Typer) -> None:
    end = epilog("puna inspect runs/laptop github", "puna inspect runs/laptop --json", status="0 done, 2 wrong input.")
    app.command("inspect", short_help="What each rule kept and dropped, with examples.", epilog=end)(inspect)
    end = epilog(
        "puna trace runs/laptop Anarchism",
        "puna trace runs/laptop --step 12",
        "puna trace runs/web example.org @removal.txt --json",
        status="0 done, 2 wrong input.",
    )
    app.command("trace", short_help="Which training steps read a document, and back.", epilog=end)(trace)


def inspect(
    run: RunFolder,
    source: Annotated[str | None, typer.Argument(metavar="SOURCE", help="One source; else all of them.")] = None,
    json: Json = False,
) -> None:
    """Show what became of every record of a source: which rule dropped how many, with examples kept and dropped.

    Examples are a fair sample: the same five of each rule, however the work was split. Reads the records of the run.
    Writes nothing.
    """
    from puna import inspect as inspection

    found = inspection.funnels(run, source)
    if json:
        show_json({"format": inspection.FORMAT, "run": run, "sources": [one.as_json() for one in found]})
    else:
        show("\n\n\n".join(one.as_text() for one in found))


def trace(
    run: RunFolder,
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME", help="Addresses, hosts, ids, repositories, titles, or @FILE with one of them a line."
        ),
    ] = None,
    step: Annotated[int | None, typer.Option("--step", metavar="N", help="The documents of this step.")] = None,
    json: Json = False,
) -> None:
    """Show where documents were published and which training steps read them: by name, or those of one step.

    NAME is what `data.exclude` of a recipe takes, so a list of what is to be removed shows what has read it. Reads the
    names of all documents, and nothing of their text. Writes nothing.
    """
    from puna import trace as traces

    if (step is None) == (not names):
        what = "give names or --step, not both" if names else "nothing is asked for"
        raise InputError(what, mend="give a name of a document, such as its title, or --step N")
    found = traces.documents(run, names) if names else traces.step(run, step or 0)
    show_json(found.as_json()) if json else show(found.as_text())
