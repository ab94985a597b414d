"""The commands of the road: raw text to a model, each with all that it needs, and what came of it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import typer

from puna.cli.words import (
    ENDINGS,
    Engine,
    OtherMachine,
    Out,
    Overrides,
    Quiet,
    RecipeName,
    TakeOver,
    Threads,
    Verify,
    Workers,
    epilog,
    none_empty,
    not_empty,
    show,
)
from puna.errors import InputError

RESUMES = (
    "Stopped at any moment (Ctrl-C, kill, power), the same command goes on where it was and ends with the same bytes. "
    "Finished steps are skipped. A changed value redoes only what depends on it, and says which and why; what the old "
    "value made is kept in RUN/superseded until `puna clean`."
)


@dataclass(frozen=True)
class Part:
    """A command that does a part of the road, or all of it."""

    target: str | None
    """The last steps that it does; None: all."""
    trains: bool
    short: str
    tells: str
    examples: tuple[str, ...]


ROAD = {
    "run": Part(
        None,
        True,
        "Do a whole recipe, from raw dumps to the report.",
        """Do the whole of a recipe in order: documents, tokenizer, tokens, training, evaluation, report.

        Reads the raw dumps that the recipe names; writes to the run folder (RUN) alone. Ends with how good the model is
        on held-out text, beside compressors and an n-gram model, and with the path of the report.""",
        (
            "puna run laptop",
            "puna run laptop train.tokens=1M --out runs/short",
            "puna run mine.toml --workers 8 --quiet",
        ),
    ),
    "data": Part(
        "documents",
        False,
        "Raw dumps to clean documents without repeats.",
        """Turn raw dumps into clean documents without repeats, some of them held out.

        Reads the raw dumps that the recipe names; writes RUN/documents and RUN/heldout, and on the way RUN/work. The
        dumps may be taken away afterwards.""",
        (
            "puna data laptop",
            "puna data mine.toml data.shard_size='64 MB'",
            "puna data mine.toml --engine ray --out /shared/mine",
        ),
    ),
    "tokenizer": Part(
        "tokenizer",
        False,
        "Documents to a SentencePiece tokenizer.",
        """Train the SentencePiece tokenizer on the documents; what is missing of those is made first.

        Reads RUN/documents; writes RUN/tokenizer/tokenizer.model.""",
        ("puna tokenizer laptop", "puna tokenizer laptop tokenizer.pieces=8000"),
    ),
    "tokens": Part(
        "mixture",
        False,
        "Documents to token shards and a mixture.",
        """Write token shards and plan the mixture of the sources; what is missing before that is made first.

        Reads RUN/documents and RUN/tokenizer; writes RUN/tokens.""",
        ("puna tokens laptop", "puna tokens laptop sources.wikipedia.share=0.5 sources.github.share=0.5"),
    ),
    "train": Part(
        "train",
        True,
        "Tokens to a trained model, resumed from its last checkpoint.",
        """Train the model; what is missing before that is made first.

        Reads RUN/tokens; writes RUN/checkpoints, RUN/metrics.jsonl (how each step went) and RUN/machine.json. Goes on
        from the newest intact checkpoint. Under torchrun the ranks share model and batch (`train.mesh`). Ctrl-C,
        SIGTERM and a closed terminal finish and save the step under way; a second one ends it at once.""",
        (
            "puna train laptop",
            "puna train laptop train.steps=50 --threads 2",
            "torchrun --standalone --nproc-per-node 2 -m puna train laptop",
        ),
    ),
}


def add_to(app: typer.Typer) -> None:
    """Add these commands in the order in which one meets them."""
    for name, part in ROAD.items():
        tells = f"{inspect.cleandoc(part.tells)}\n\n{RESUMES}"
        status = f"{ENDINGS[:-1]}, 75 training hung and is resumable." if part.trains else ENDINGS
        added = app.command(name, help=tells, short_help=part.short, epilog=epilog(*part.examples, status=status))
        added(_training(part.target) if part.trains else _preparing(part.target))
    end = epilog(
        "puna report runs/laptop",
        "puna report runs/laptop runs/laptop-15m --out both.html",
        status="0 done, 1 failed, 2 no run, or one that is under way.",
    )
    app.command("report", short_help="A run's report.html anew, or several runs on one page.", epilog=end)(report)


def _training(target: str | None) -> Callable[..., None]:
    """The command that ends with `target` and trains on its way."""

    def command(
        recipe: RecipeName,
        overrides: Overrides = None,
        out: Out = None,
        workers: Workers = None,
        engine: Engine = "processes",
        threads: Threads = None,
        take_over: TakeOver = False,
        verify: Verify = False,
        allow_other_machine: OtherMachine = False,
        quiet: Quiet = False,
    ) -> None:
        from puna import recipe as recipes
        from puna import workflow
        from puna.parallel import meeting
        from puna.progress import configure

        configure(quiet=quiet)
        options = workflow.Options(
            workers=workers,
            engine=engine,
            threads=threads,
            take_over=take_over,
            verify=verify,
            allow_other=allow_other_machine,
        )
        if target is None and meeting.rank() is None and recipes.load(recipe, overrides or []).family:
            from puna import family

            show(family.raise_all(recipe, overrides or [], out, options))
        elif last := workflow.work(recipe, overrides or [], out, target, options):
            show(last)

    return command


def _preparing(target: str | None) -> Callable[..., None]:
    """The command that ends with `target`, before training, and so has none of its options."""
    work = _training(target)

    def command(
        recipe: RecipeName,
        overrides: Overrides = None,
        out: Out = None,
        workers: Workers = None,
        engine: Engine = "processes",
        take_over: TakeOver = False,
        verify: Verify = False,
        quiet: Quiet = False,
    ) -> None:
        work(recipe, overrides, out, workers, engine, take_over=take_over, verify=verify, quiet=quiet)

    return command


def report(
    runs: Annotated[
        list[str], typer.Argument(metavar="RUN", callback=none_empty, help="A run folder, or its URL; or several.")
    ],
    out: Annotated[
        str | None,
        typer.Option("--out", metavar="FILE", callback=not_empty, help="The page that compares several runs."),
    ] = None,
) -> None:
    """Write RUN/report.html anew from what lies in the run folder, or one page that compares several runs.

    Of one run the page shows what went in, what each rule dropped, the curves, the measures and the samples, as far as
    they are there. `puna run` writes it too. Nobody else may be writing to the run meanwhile.

    Several runs are read and none is changed: their curves on one axis, by tokens and by FLOP; how good each is; what
    it cost; in what the recipes differ; and from three sizes that read the same tokens on, a scaling law with its
    uncertainty. Runs that differ in their seeds alone are one line of the legend. The page goes to --out, else to
    comparison.html beside the first run. Prints its path.
    """
    from puna import storage
    from puna.report import compare, write
    from puna.run import open_run, read_recipe

    folders = [storage.place(run) for run in runs]
    if len(folders) > 1:
        show(str(compare.write(folders, storage.place(out) if out else None)))
        return
    if out:
        raise InputError("--out is for several runs", mend="the report of one is report.html in its folder")
    with open_run(folders[0], read_recipe(folders[0])):
        show(str(write(folders[0])))
