"""The commands that measure this machine: `bench train`."""

from __future__ import annotations

from typing import Annotated

import typer

from puna.cli.words import Json, Quiet, Threads, epilog, not_empty, show, show_json

ENDINGS = "0 done, 1 failed, 2 no such recipe, or one too large for this machine."
TRAINED = epilog("puna bench train laptop", "puna bench train runs/laptop --threads 1 --json", status=ENDINGS)

app = typer.Typer(
    help="Measure how fast this machine does what Puna asks of it.",
    short_help="How fast a model trains here.",
    epilog=epilog("puna bench train laptop", status=ENDINGS),
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.callback()
def _bench() -> None:
    """A callback keeps the one command a command of its own."""


@app.command("train", short_help="Tokens a second, MFU and memory of a training step.", epilog=TRAINED)
def train(
    recipe: Annotated[
        str,
        typer.Argument(metavar="RECIPE|RUN", callback=not_empty, help="A recipe's name or file, or a run folder."),
    ] = "laptop",
    threads: Threads = None,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Steps of each; more are less moved by chance.")] = 3,
    peers: Annotated[bool, typer.Option(help="Also the loops of other projects, where they are installed.")] = True,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Measure training steps of a recipe's model on random tokens: tokens a second, MFU and peak memory, beside the
    bare matmuls of the same model, which are the machine's limit, and beside transformers where it is installed.

    All run in turn, and are compared round by round. Takes about a minute for a small model. Writes nothing.
    """
    from puna.compiler import name_torch_without_spaces
    from puna.progress import configure

    configure(quiet=quiet)
    name_torch_without_spaces()
    from puna.train.speed.bench import bench

    found = bench(recipe, threads=threads, rounds=rounds, peers=peers)
    show_json(found.as_json()) if json else show(found.as_text())
