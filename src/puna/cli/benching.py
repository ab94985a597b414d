"""The commands that measure this machine: `bench train`, `bench overlap`."""

from __future__ import annotations

from typing import Annotated

import typer

from puna.cli.words import Json, Quiet, Threads, epilog, not_empty, show, show_json

ENDINGS = "0 done, 1 failed, 2 no such recipe, or one too large for this machine."
TRAINED = epilog("puna bench train laptop", "puna bench train runs/laptop --threads 1 --json", status=ENDINGS)

OVERLAPPED = epilog("puna bench overlap", "puna bench overlap tiny-15m --ranks 3 --out runs/overlap", status=ENDINGS)

app = typer.Typer(
    help="Measure how fast this machine does what Puna asks of it.",
    short_help="How fast a model trains here.",
    epilog=epilog("puna bench train laptop", "puna bench overlap", status=ENDINGS),
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command("train", short_help="Tokens a second, MFU and memory of a training step.", epilog=TRAINED)
def train(
    recipe: Annotated[
        str,
        typer.Argument(metavar="RECIPE|RUN", callback=not_empty, help="A recipe's name or file, or a run folder."),
    ] = "laptop",
    threads: Threads = None,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Steps of each; more are less moved by chance.")] = 3,
    peers: Annotated[
        bool, typer.Option("--peers/--no-peers", help="Also the loops of other projects, where they are installed.")
    ] = True,
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


@app.command("overlap", short_help="What a layer computes while its ranks exchange.", epilog=OVERLAPPED)
def overlap(
    recipe: Annotated[
        str,
        typer.Argument(metavar="RECIPE|RUN", callback=not_empty, help="A recipe's name or file, or a run folder."),
    ] = "small-110m",
    ranks: Annotated[int, typer.Option("--ranks", min=2, max=64, help="Processes that share the layer.")] = 2,
    windows: Annotated[int, typer.Option("--windows", min=1, help="Windows of a step.")] = 1,
    layer: Annotated[str, typer.Option("--layer", metavar="MODE", help="How layers train: docs/train.md.")] = "hand",
    delay: Annotated[float, typer.Option("--delay", min=0.0, help="Milliseconds added to each collective.")] = 20.0,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Steps of each; more are less moved by chance.")] = 3,
    out: Annotated[
        str, typer.Option("--out", metavar="FOLDER", callback=not_empty, help="Where files go.")
    ] = "overlap",
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Trace one layer of a recipe's model, forward and backward, whose heads, columns and sequence several processes
    share (docs/parallel.md): when each collective was begun, ran and was waited for, and what was computed meanwhile.

    Then time it with a delay added to each collective, and say what part of the delays stood out. Writes
    overlap.svg, a picture, and overlap.json and overlap-delayed.json, traces for chrome://tracing or ui.perfetto.dev.
    Gloo on one machine shows the order and not the gain.
    """
    from puna.compiler import name_torch_without_spaces
    from puna.progress import configure

    configure(quiet=quiet)
    name_torch_without_spaces()
    from puna.train.speed.overlap import asked_of, overlap
    from puna.train.speed.timeline import folder_of, write

    folder_of(out)  # before minutes of work
    asked = asked_of(recipe, ranks=ranks, windows=windows, mode=layer, delay=delay / 1e3, rounds=rounds)
    found = overlap(asked)
    written = write(found, out)
    show_json(found.as_json() | {"written": written}) if json else show(found.as_text() + "\n" + "\n".join(written))
