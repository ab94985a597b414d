"""The `puna` command. A station is imported only when a command needs it, so that `--help` costs nothing.

words.py has what commands share, fetching.py the one that gets raw dumps, road.py those from raw text to a model,
learning.py trains models of quality by themselves, generating.py and conversation.py have text of a model, serving.py
serves it, evaluating.py asks it benchmarks, tracing.py has the way back to its own, converting.py exchanges models with
others, planning.py foresees what a run needs, paper.py goes through the paper, recipes.py has those that look at
recipes, care.py those for runs and machine, benching.py those that measure it; completion.py answers shells, ending.py
says how it all ends.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup
from typer.main import get_command

from puna.cli import (
    benching,
    carbon,
    care,
    completion,
    conversation,
    converting,
    ending,
    evaluating,
    fetching,
    finetuning,
    generating,
    learning,
    paper,
    planning,
    recipes,
    road,
    serving,
    tracing,
)
from puna.cli.words import epilog, show
from puna.errors import Terminated
from puna.processes import stopping
from puna.progress import result

GROUPS = {
    "Raw text": ("fetch",),
    "From raw text to a model": (*road.ROAD, "lm", "finetune"),
    "What came of it": ("generate", "chat", "serve", "evaluate", "report", "inspect", "trace", "carbon", "paper"),
    "Other people's models": ("import", "export"),
    "Care of runs": ("ls", "status", "clean"),
    "Recipes and machine": ("recipe", "plan", "doctor", "bench", "completion"),
}


class ByTheRoad(TyperGroup):
    """Shows the commands in groups, in the order in which one meets them."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        for heading, names in GROUPS.items():
            with formatter.section(heading):
                formatter.write_dl([(f"{name:10}", self.commands[name].get_short_help_str(66)) for name in names])


app = typer.Typer(
    name="puna",
    cls=ByTheRoad,
    help="Raise a LLaMA from raw text: public dumps go in, an evaluated, documented language model comes out.",
    epilog=epilog("puna run laptop", "puna run --help"),
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"max_content_width": 110},
    rich_markup_mode=None,
)
fetching.add_to(app)
road.add_to(app)
learning.add_to(app)
generating.add_to(app)
conversation.add_to(app)
serving.add_to(app)
evaluating.add_to(app)
finetuning.add_to(app)
converting.add_to(app)
tracing.add_to(app)
carbon.add_to(app)
paper.add_to(app)
planning.add_to(app)
care.add_to(app)
app.add_typer(recipes.app, name="recipe")
app.add_typer(benching.app, name="bench")
app.command("completion", short_help="A script with which a shell completes puna's words.", epilog=completion.EPILOG)(
    completion.script
)


def _version(asked: bool) -> None:
    if asked:
        from puna import __version__

        show(f"puna {__version__}")
        raise typer.Exit


@app.callback()
def _puna(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    pass


def main() -> NoReturn:
    """Run one command and end the process: 0 done, 1 the work failed, 2 wrong input, 130 interrupted and resumable."""
    ending.open_streams()
    for number in stopping():
        if number != signal.SIGINT:  # that is an interrupt already
            signal.signal(number, _terminated)
    # GNU's OpenMP threads wait for each other by spinning; beside another busy process that costs a third of the speed.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    try:
        if completion.ASKED in os.environ:
            result(completion.answer(get_command(app)), end="")
            sys.exit(0)
        # What a command returns is None; typer makes an interrupt inside one into the status 130.
        status = app(standalone_mode=False) or 0
        if status == ending.INTERRUPTED:
            status = ending.told(KeyboardInterrupt())
    except (Exception, KeyboardInterrupt) as error:
        status = ending.told(error)
    # What threads of libraries still hold is of no use to anybody, and waiting for it would look like a hang.
    sys.exit(ending.close_streams(status))


def _terminated(number: int, frame: FrameType | None) -> Any:
    raise Terminated
