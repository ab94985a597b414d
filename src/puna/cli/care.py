"""The commands for the care of runs and of the machine. What they tell is made in `puna.care` and `puna.doctor`."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from puna.cli.words import Json, RunFolder, epilog, not_empty, show, show_json
from puna.errors import InputError
from puna.progress import size

if TYPE_CHECKING:
    from puna.recipe import Recipe

FORMAT = 1  # of the JSON of `puna ls`
WATCHED, WATCHED_PLAINLY = 2.0, 60.0  # seconds between two looks at a run, on a terminal and elsewhere
CLEAR = "\x1b[2J\x1b[H"
ENDINGS = "0 done, 1 failed, 2 wrong input."


def add_to(app: typer.Typer) -> None:
    """Add these commands in the order in which they are shown."""
    end = epilog("puna ls", "puna ls s3://bucket/runs --json", status=ENDINGS)
    app.command("ls", short_help="The runs: how they stand, how large, how good.", epilog=end)(ls)
    end = epilog("puna status runs/laptop", "puna status runs/laptop --watch", status=ENDINGS)
    app.command("status", short_help="What a run does now, how far it is, its last lines.", epilog=end)(status)
    ends = "0 done, 1 failed, 2 no run, or one that is under way, 130 interrupted: again, it goes on."
    end = epilog("puna clean runs/laptop", "puna clean runs/laptop --work --yes", status=ends)
    app.command("clean", short_help="A run's space by step, and what of it may go.", epilog=end)(clean)
    end = epilog("puna doctor", "puna doctor --out /big/runs", status="0 nothing stops a run, 1 something does.")
    app.command("doctor", short_help="What this machine has, what it lacks, and the mend.", epilog=end)(doctor)


def ls(
    root: Annotated[
        str, typer.Argument(metavar="ROOT", callback=not_empty, help="The folder in which runs lie, or its URL.")
    ] = "runs",
    json: Json = False,
) -> None:
    """Show every run below a folder: how it stands, how large it is, when it was written to, how good it is.

    Reads what the runs wrote down of themselves. Writes nothing, and disturbs no work.
    """
    from puna.care import listing

    lines = listing.listed(root)
    if json:
        show_json({"format": FORMAT, "root": root, "runs": [line.as_json() for line in lines]})
    else:
        show(listing.table(root, lines))


def status(
    run: RunFolder,
    watch: Annotated[bool, typer.Option("--watch", help="Show it again and again while somebody works on it.")] = False,
    json: Json = False,
) -> None:
    """Show one run: what is done now and how far it is, its steps, its training, its space, the end of its log.

    Reads the run folder. Writes nothing, and disturbs no work.
    """
    from puna.care.status import status as standing

    if watch and json:
        raise InputError("--watch and --json do not go together", mend="take one of them")
    if not watch:
        now = standing(run, _names)
        show_json(now.as_json()) if json else show(now.as_text())
        return
    drawn = sys.stdout.isatty()
    try:
        while (now := standing(run, _names)).state in ("running", "held"):
            show(f"{CLEAR}{now.as_text()}" if drawn else f"{now.as_text()}\n")
            time.sleep(WATCHED if drawn else WATCHED_PLAINLY)
        show(f"{CLEAR}{now.as_text()}" if drawn else now.as_text())
    except KeyboardInterrupt:
        return  # to leave off watching is no interruption of anything


def clean(
    run: RunFolder,
    yes: Annotated[bool, typer.Option("--yes", help="Remove it. Without this nothing is touched.")] = False,
    work: Annotated[bool, typer.Option("--work", help="Also what finished steps hand to each other.")] = False,
    checkpoints: Annotated[bool, typer.Option("--checkpoints", help="Also the checkpoints before the newest.")] = False,
    index: Annotated[bool, typer.Option("--index", help="Also the index of text of puna trace.")] = False,
    json: Json = False,
) -> None:
    """Show the space that a run takes by step, what of it may go, and at which price; with --yes, remove it.

    Without the other options these may go: what killed processes left half-written, what tasks of finished steps left
    on their way, and results of values that are not the run's any more. Documents, held-out text, tokenizer, tokens,
    the newest checkpoint, metrics, measures, records and the report always stay.
    """
    from puna.care import clean as cleaning

    plan = cleaning.plan(run, work=work, checkpoints=checkpoints, index=index)
    removed = cleaning.clean(run, plan) if yes else 0
    if json:
        show_json(plan.as_json() | {"removed": removed})
    elif yes:
        left = sum(plan.space.values()) - removed
        show(f"{run}: {size(removed)} removed, {size(left)} left")
    else:
        show(plan.as_text())


def doctor(
    out: Annotated[
        str, typer.Option("--out", metavar="FOLDER", callback=not_empty, help="Where runs are to lie, or its URL.")
    ] = "runs",
    json: Json = False,
) -> None:
    """Look at what a run needs of this machine: Python, torch, compiler, processor, memory, disk, optional parts.

    Says the mend of whatever is missing. Takes some seconds. Writes nothing that stays, and reaches no network.

    Under torchrun, started as a training is (docs/cluster.md), all ranks meet, and rank 0 tells whether they are alike,
    see one run folder and keep one time, and how fast they speak.
    """
    from puna import doctor as doctors
    from puna.parallel import meeting

    together = meeting.rank() is not None
    findings = doctors.meet(out) if together else doctors.examine(out)
    if findings or not together or doctors.ranks.first():
        if json:
            show_json(doctors.as_json(findings))
        else:
            show(doctors.as_text(findings))
    if doctors.worst(findings) == "error":
        raise typer.Exit(1)


def _names(recipe: Recipe) -> list[str]:
    """All steps of a recipe in order. The stations alone know what is still to come, and take a moment to import."""
    from puna import workflow
    from puna.data.brought import Look
    from puna.data.pipeline import Located

    inputs = {name: Located((), []) for name, source in recipe.sources.items() if source.inputs}
    return [step.name for step in workflow.build(recipe, inputs, workflow.Options(), Look(names_only=True))]
