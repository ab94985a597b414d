"""Every command. A station is imported only when its command runs, so that `--help` costs nothing."""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer

from puna.errors import Interrupted, PunaError

app = typer.Typer(
    name="puna",
    help="Raise a LLaMA from raw text: public dumps go in, an evaluated, documented language model comes out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"max_content_width": 110},
    rich_markup_mode=None,
)
recipes_app = typer.Typer(help="Look at recipes.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(recipes_app, name="recipe")

INTERRUPTED = "interrupted; the same command goes on where it was"

RecipeName = Annotated[str, typer.Argument(metavar="RECIPE", help="A recipe's name (laptop, llama-7b, ...) or file.")]
Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Values laid over it: section.key=value.")
]
Out = Annotated[str | None, typer.Option("--out", help="The run folder; runs/NAME when not given.")]
Workers = Annotated[int | None, typer.Option("--workers", min=1, help="Data processes; one per usable CPU if unset.")]
Threads = Annotated[int | None, typer.Option("--threads", min=1, help="Training threads; one per usable CPU if unset.")]
TakeOver = Annotated[bool, typer.Option("--take-over", help="Take a run folder over from a dead process elsewhere.")]
Verify = Annotated[bool, typer.Option("--verify", help="Read finished work again and compare its digests.")]
OtherMachine = Annotated[
    bool, typer.Option("--allow-other-machine", help="Go on training where versions, threads or kernels differ.")
]
Quiet = Annotated[bool, typer.Option("--quiet", help="Show results and errors only; the log keeps everything.")]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")]


def _version(asked: bool) -> None:
    if asked:
        from puna import __version__

        print(f"puna {__version__}")
        raise typer.Exit


@app.callback()
def _puna(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    pass


@app.command()
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

    Finished steps are skipped; a changed value redoes only what depends on it, and says which and why.
    """
    _work(recipe, overrides, out, None, workers, threads, take_over, verify, allow_other_machine, quiet)


def _station(name: str, target: str, tells: str) -> None:
    """Add the command that brings one station, and what it needs, to done."""

    def command(
        recipe: RecipeName,
        overrides: Overrides = None,
        out: Out = None,
        workers: Workers = None,
        take_over: TakeOver = False,
        verify: Verify = False,
        quiet: Quiet = False,
    ) -> None:
        _work(recipe, overrides, out, target, workers, None, take_over, verify, False, quiet)

    app.command(name, help=tells)(command)


_station("data", "documents", "Turn raw dumps into clean, deduplicated documents.")
_station("tokenizer", "tokenizer", "Train the SentencePiece tokenizer (and do what it needs).")
_station("tokens", "mixture", "Write token shards and plan the mixture (and do what they need).")


@app.command()
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
    """Train the model (and do what it needs); resumes from its last checkpoint."""
    _work(recipe, overrides, out, "train", workers, threads, take_over, verify, allow_other_machine, quiet)


@app.command()
def generate(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A run folder or a checkpoint folder.")],
    prompt: Annotated[str, typer.Argument(help="Text to go on from; - reads it from standard input.")] = "",
    tokens: Annotated[int, typer.Option(min=1, help="Most tokens to add.")] = 128,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 takes the likeliest token.")] = 0.8,
    top_p: Annotated[float, typer.Option(min=0.0, max=1.0, help="Share of the probability to sample from.")] = 0.95,
    top_k: Annotated[int, typer.Option(min=0, help="Sample from the k likeliest tokens; 0: from all.")] = 0,
    seed: Annotated[int, typer.Option(help="The same seed gives the same text.")] = 1,
    stop: Annotated[list[str] | None, typer.Option(help="Text to stop before; may be given several times.")] = None,
) -> None:
    """Go on from a prompt, streaming the text to standard output."""
    from puna.generate import load

    if prompt == "-":
        prompt = sys.stdin.read()
    pieces = load(model).stream(
        prompt, tokens=tokens, temperature=temperature, top_p=top_p, top_k=top_k, seed=seed, stop=tuple(stop or ())
    )
    first = next(pieces, "")  # what is wrong with the options is told before anything is printed
    print(prompt, first, sep="", end="", flush=True)
    for piece in pieces:
        print(piece, end="", flush=True)
    print()


@app.command()
def report(run: RunFolder) -> None:
    """Write RUN/report.html anew from what lies in the run folder."""
    from puna.report import write
    from puna.run import open_run, read_recipe

    with open_run(run, read_recipe(run)):
        print(write(run))


@recipes_app.command("show")
def recipe_show(
    name: RecipeName,
    overrides: Overrides = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON document with an `origins` object.")] = False,
) -> None:
    """Print every resolved value of a recipe and where it came from."""
    from puna import recipe as recipes

    recipe = recipes.load(name, overrides or ())
    print(recipes.as_json(recipe) if json else recipes.as_toml(recipe, origins=True), end="")


@recipes_app.command("list")
def recipe_list() -> None:
    """Print the names of the recipes that come with Puna."""
    from puna import recipe as recipes

    print("\n".join(recipes.names()))


def main() -> NoReturn:
    """The `puna` command: exit status 0 done, 1 the work failed, 2 wrong input, 130 interrupted and resumable."""
    signal.signal(signal.SIGTERM, _terminated)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal without the character shows its number
    # GNU's OpenMP threads wait for each other by spinning; beside another busy process that costs a third of the speed.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    try:
        # What a command returns is None; typer makes an interrupt inside one into the status 130.
        status = app(standalone_mode=False) or 0
        if status == 130:
            print(INTERRUPTED, file=sys.stderr)
    except Exception as error:
        status = _tell(error)
    except KeyboardInterrupt:
        print(INTERRUPTED, file=sys.stderr)
        status = 130
    # What threads of libraries still hold is of no use to anybody, and waiting for it would look like a hang.
    sys.exit(status)


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
    print(workflow.work(name, overrides or [], out, target, options))


def _tell(error: Exception) -> int:
    """Say in one line what is wrong; anything that is not the user's to mend keeps its traceback."""
    if isinstance(error, PunaError):
        lead = "" if isinstance(error, Interrupted) else "error: "
        print(f"{lead}{error}", file=sys.stderr)
        return error.exit_status
    if isinstance(error, typer.Abort):
        print(INTERRUPTED, file=sys.stderr)
        return 130
    if isinstance(error, OSError) and error.strerror:
        print(f"error: {error.filename or 'standard output'}: {error.strerror}", file=sys.stderr)
        return 2 if error.errno in (errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENAMETOOLONG) else 1
    # Typer carries a click of its own or uses the package, by version: what a usage error has is the same in both.
    message = getattr(error, "format_message", None)
    if message is None:
        raise error
    if type(error).__name__ == "NoArgsIsHelpError":
        print(message())
    else:
        context = getattr(error, "ctx", None)
        command = context.command_path if context is not None else "puna"
        print(f"error: {message()} See {command} --help", file=sys.stderr)
    return 2


def _terminated(number: int, frame: FrameType | None) -> Any:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
