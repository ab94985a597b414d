"""The commands that lead from text to where it came from and to what read it: `inspect` and `trace`."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from puna.cli.words import Json, Quiet, RunFolder, Workers, epilog, not_empty, show, show_json
from puna.errors import InputError, Interrupted


def add_to(app: typer.Typer) -> None:
    end = epilog("puna inspect runs/laptop github", "puna inspect runs/laptop --json", status="0 done, 2 wrong input.")
    app.command("inspect", short_help="What each rule kept and dropped, with examples.", epilog=end)(inspect)
    end = epilog(
        "puna trace runs/laptop Anarchism",
        "puna trace runs/laptop --step 12",
        "puna trace runs/web example.org @removal.txt --json",
        "puna trace runs/laptop --text 'a sentence that the model wrote'",
        "puna trace runs/laptop --index",
        status="0 done, 1 failed, 2 wrong input, 130 interrupted; --index then goes on.",
    )
    app.command("trace", short_help="Which steps read a document or text, and back.", epilog=end)(trace)


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
    text: Annotated[
        str | None, typer.Option("--text", metavar="TEXT", help="The documents that hold this text.")
    ] = None,
    text_file: Annotated[
        str | None,
        typer.Option("--text-file", metavar="FILE", callback=not_empty, help="As --text; - is standard input."),
    ] = None,
    index: Annotated[
        bool, typer.Option("--index", help="Build an index of the text, by which --text is fast.")
    ] = False,
    most: Annotated[int, typer.Option("--most", min=1, help="Documents shown in full; all are counted.")] = 100,
    recorded: Annotated[
        bool, typer.Option("--recorded", help="With --step: only losses that were recorded; none is computed.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Read more than 10 GB for --text without an index.")] = False,
    workers: Workers = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Show where documents were published and which training steps read them: by name, those of one step, or those that
    hold a text.

    --step tells what each document of a step cost, the highest loss first, so that a spike has names: what was recorded
    of a spike when it came, else computed from the newest checkpoint before the step.

    NAME is what `data.exclude` of a recipe takes, so a list of what is to be removed shows what has read it. --text is
    looked for word for word, with any run of white space as one space, in what was trained on and in what was held out.
    Without an index all documents are read for it; what that costs is said first. --index writes RUN/trace, which
    `puna clean --index` removes; nothing else is written.
    """
    from puna import trace as traces
    from puna.engine import usable_cpus
    from puna.progress import configure

    configure(quiet=quiet)
    asked = [bool(names), step is not None, text is not None, text_file is not None]
    if sum(asked) > 1 or (index and (names or step is not None)):
        raise InputError("names, --step, --text and --text-file do not go together", mend="give one of them")
    if not any(asked) and not index:
        raise InputError("nothing is asked for", mend="give a document's title or id, --step N, or --text TEXT")
    processes = workers or usable_cpus()
    built = traces.build(run, processes) if index else None
    if text_file is not None:
        text = _read(text_file)
    if text is None and built is not None:
        show_json(built.as_json(run)) if json else show(built.as_text())
        return
    if text is not None:
        try:
            found: Any = traces.search(run, text, most=most, workers=processes, agreed=yes)
        except KeyboardInterrupt:
            what = "the search was stopped, and begins anew when it is asked for again"
            raise Interrupted(what, mend="--index makes the next ones fast") from None
    else:
        found = traces.documents(run, names) if names else traces.step(run, step or 0, recorded)
    show_json(found.as_json()) if json else show(found.as_text())


def _read(file: str) -> str:
    """The text of a file, or of standard input."""
    from puna import storage

    data = sys.stdin.buffer.read() if file == "-" else storage.read(file)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise InputError(f"is not UTF-8 (byte {error.start:,})", where=file, mend="give the text as UTF-8") from None
