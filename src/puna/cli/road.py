"""The commands of the road: raw text to a model, each with all that it needs, and what came of it."""

from __future__ import annotations

import inspect
import sys
from typing import Annotated

import typer

from puna.cli.words import (
    OtherMachine,
    Out,
    Overrides,
    Quiet,
    RecipeName,
    RunFolder,
    TakeOver,
    Threads,
    Verify,
    Workers,
    epilog,
    not_empty,
    show,
)

RESUMES = (
    "Stopped at any moment (Ctrl-C, kill, power), the same command goes on where it was and ends with the same bytes. "
    "Finished steps are skipped. A changed value redoes only what depends on it, and says which and why; what the old "
    "value made is kept in RUN/superseded until `puna clean`."
)
EXAMPLES = {
    "run": (
        "puna run laptop",
        "puna run laptop train.tokens=1M --out runs/short",
        "puna run mine.toml --workers 8 --quiet",
    ),
    "data": ("puna data laptop", "puna data mine.toml data.shard_size='64 MB'"),
    "tokenizer": ("puna tokenizer laptop", "puna tokenizer laptop tokenizer.pieces=8000"),
    "tokens": ("puna tokens laptop", "puna tokens laptop sources.wikipedia.share=0.5 sources.github.share=0.5"),
    "train": ("puna train laptop", "puna train laptop train.steps=50 --threads 2"),
    "generate": (
        "puna generate runs/laptop 'The history of'",
        "puna generate runs/laptop/checkpoints/step-000672 'The ' --temperature 0",
        "puna generate runs/laptop - < prompt.txt",
    ),
}


def add_to(app: typer.Typer) -> None:
    """Add these commands in the order in which one meets them."""
    for name, command, short in (
        ("run", run, "Do a whole recipe, from raw dumps to the report."),
        ("data", data, "Raw dumps to clean documents without repeats."),
        ("tokenizer", tokenizer, "Documents to a SentencePiece tokenizer."),
        ("tokens", tokens, "Documents to token shards and a mixture."),
        ("train", train, "Tokens to a trained model, resumed from its last checkpoint."),
    ):
        tells = f"{inspect.getdoc(command)}\n\n{RESUMES}"
        app.command(name, help=tells, short_help=short, epilog=epilog(*EXAMPLES[name]))(command)
    status = "0 done, 1 failed, 2 no model there that can be read, or a wrong option, 130 interrupted."
    end = epilog(*EXAMPLES["generate"], status=status)
    app.command("generate", short_help="Go on from a prompt with a model.", epilog=end)(generate)
    end = epilog("puna report runs/laptop", status="0 done, 1 failed, 2 no run, or one that is under way.")
    app.command("report", short_help="Write a run's report.html anew.", epilog=end)(report)


def run(
    recipe: RecipeName,
    overrides: Overrides = None,
    out: Out = None,
    workers: Workers = None,
    threads: Threads = None,
    take_over: TakeOver = False,
    verify: Verify = False,
    allow_other_machine: OtherMachine = False,
    quiet: Quiet = False,
) -> None:
    """Do the whole of a recipe in order: documents, tokenizer, tokens, training, evaluation, report.

    Reads the raw dumps that the recipe names; writes to the run folder (RUN) alone. Ends with how good the model is on
    held-out text, beside compressors and an n-gram model, and with the path of the report.
    """
    _work(recipe, overrides, out, None, workers, threads, take_over, verify, allow_other_machine, quiet)


def data(
    recipe: RecipeName,
    overrides: Overrides = None,
    out: Out = None,
    workers: Workers = None,
    take_over: TakeOver = False,
    verify: Verify = False,
    quiet: Quiet = False,
) -> None:
    """Turn raw dumps into clean documents without repeats, some of them held out.

    Reads the raw dumps that the recipe names; writes RUN/documents and RUN/heldout, and on the way RUN/work. The dumps
    may be taken away afterwards.
    """
    _work(recipe, overrides, out, "documents", workers, None, take_over, verify, False, quiet)


def tokenizer(
    recipe: RecipeName,
    overrides: Overrides = None,
    out: Out = None,
    workers: Workers = None,
    take_over: TakeOver = False,
    verify: Verify = False,
    quiet: Quiet = False,
) -> None:
    """Train the SentencePiece tokenizer on the documents; what is missing of those is made first.

    Reads RUN/documents; writes RUN/tokenizer/tokenizer.model.
    """
    _work(recipe, overrides, out, "tokenizer", workers, None, take_over, verify, False, quiet)


def tokens(
    recipe: RecipeName,
    overrides: Overrides = None,
    out: Out = None,
    workers: Workers = None,
    take_over: TakeOver = False,
    verify: Verify = False,
    quiet: Quiet = False,
) -> None:
    """Write token shards and plan the mixture of the sources; what is missing before that is made first.

    Reads RUN/documents and RUN/tokenizer; writes RUN/tokens.
    """
    _work(recipe, overrides, out, "mixture", workers, None, take_over, verify, False, quiet)


def train(
    recipe: RecipeName,
    overrides: Overrides = None,
    out: Out = None,
    workers: Workers = None,
    threads: Threads = None,
    take_over: TakeOver = False,
    verify: Verify = False,
    allow_other_machine: OtherMachine = False,
    quiet: Quiet = False,
) -> None:
    """Train the model; what is missing before that is made first.

    Reads RUN/tokens; writes RUN/checkpoints, RUN/metrics.jsonl (how each step went) and RUN/machine.json. Goes on from
    the newest intact checkpoint. Ctrl-C and SIGTERM finish and save the step under way; a second one ends it at once.
    """
    _work(recipe, overrides, out, "train", workers, threads, take_over, verify, allow_other_machine, quiet)


def generate(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", callback=not_empty, help="A run folder or a checkpoint folder.")
    ],
    prompt: Annotated[
        str, typer.Argument(metavar="PROMPT", help="Text to go on from; - reads it from standard input.")
    ] = "",
    tokens: Annotated[int, typer.Option(min=1, help="Most tokens to add.")] = 128,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 takes the likeliest token.")] = 0.8,
    top_p: Annotated[float, typer.Option(min=0.0, max=1.0, help="Share of the probability to sample from.")] = 0.95,
    top_k: Annotated[int, typer.Option(min=0, help="Sample from the k likeliest tokens; 0: from all.")] = 0,
    seed: Annotated[int, typer.Option(help="The same seed gives the same text.")] = 1,
    stop: Annotated[list[str] | None, typer.Option(help="Text to stop before; may be given several times.")] = None,
) -> None:
    """Go on from a prompt; prompt and text are printed as they come.

    Reads the newest checkpoint of a run, or the checkpoint named, and its tokenizer. Writes nothing.
    """
    from puna.generate import load

    if prompt == "-":
        prompt = sys.stdin.read()
    pieces = load(model).stream(
        prompt, tokens=tokens, temperature=temperature, top_p=top_p, top_k=top_k, seed=seed, stop=tuple(stop or ())
    )
    first = next(pieces, "")  # what is wrong with the options is told before anything is printed
    show(prompt + first, end="")
    for piece in pieces:
        show(piece, end="")
    show("")


def report(run: RunFolder) -> None:
    """Write RUN/report.html anew from what lies in the run folder, and print its path.

    The page shows what went in, what each rule dropped, the curves, the measures and the samples, as far as they are
    there. `puna run` writes it too. Nobody else may be writing to the run meanwhile.
    """
    from puna import storage
    from puna.report import write
    from puna.run import open_run, read_recipe

    folder = storage.place(run)
    with open_run(folder, read_recipe(folder)):
        show(str(write(folder)))


def _work(
    name: str,
    overrides: list[str] | None,
    out: str | None,
    target: str | None,
    workers: int | None,
    threads: int | None,
    take_over: bool,
    verify: bool,
    allow_other: bool,
    quiet: bool,
) -> None:
    from puna import workflow
    from puna.progress import configure

    configure(quiet=quiet)
    options = workflow.Options(
        workers=workers, threads=threads, take_over=take_over, verify=verify, allow_other=allow_other
    )
    show(workflow.work(name, overrides or [], out, target, options))
