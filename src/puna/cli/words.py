"""What several commands say alike: their arguments and options, and the end of their help."""

from __future__ import annotations

import json as jsons
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from puna.errors import InputError
from puna.progress import result

ENDINGS = "0 done, 1 the work failed, 2 wrong input, 130 interrupted and resumable."


def not_empty(parameter: typer.CallbackParam, value: Any) -> Any:
    """For `callback=`: an empty word is most often a variable of the shell that is not set."""
    if value == "":
        name = parameter.opts[0] if parameter.param_type_name == "option" else str(parameter.metavar)
        raise InputError(f"{name} is empty", mend="is a variable of the shell unset?")
    return value


def none_empty(parameter: typer.CallbackParam, values: list[str] | None) -> list[str] | None:
    """The same for each of several words; None: nothing was given."""
    for value in values or ():
        not_empty(parameter, value)
    return values


def one_of(option: str, value: str, among: Sequence[str]) -> None:
    """InputError for a value that an option does not take."""
    if value not in among:
        raise InputError(f"{option} {value} is unknown", mend=f"give one of {', '.join(among)}")


def epilog(*examples: str, status: str = ENDINGS) -> str:
    """The end of a command's help: examples to copy, and what its exit status says."""
    lines = "\n".join(f"  {example}" for example in examples)
    return f"\b\nExample{'s' if len(examples) > 1 else ''}:\n{lines}\n\nExit status: {status}"


def show(text: str, end: str = "\n") -> None:
    """Print a result; the command ends when nobody reads it any more."""
    if not result(text, end):
        raise typer.Exit


def show_json(value: Any) -> None:
    show(jsons.dumps(value, ensure_ascii=False, indent=1))


RecipeName = Annotated[
    str, typer.Argument(metavar="RECIPE", callback=not_empty, help="A recipe's name (laptop, llama-7b, ...) or file.")
]
Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Values laid over it, such as train.tokens=1M.")
]
RunFolder = Annotated[str, typer.Argument(metavar="RUN", callback=not_empty, help="A run folder, or its URL.")]
Out = Annotated[
    str | None,
    typer.Option("--out", metavar="FOLDER", callback=not_empty, help="The run folder, or its URL; else runs/NAME."),
]
Workers = Annotated[int | None, typer.Option("--workers", min=1, help="Data processes; else one per usable CPU.")]
Engine = Annotated[
    str,
    typer.Option("--engine", callback=not_empty, help="Where data tasks run: processes, ray, or ray://HOST:PORT."),
]
Threads = Annotated[
    int | None, typer.Option("--threads", min=1, max=1024, help="Threads that compute; else one per usable CPU.")
]
TakeOver = Annotated[
    bool, typer.Option("--take-over", help="Take the run over from a process on another host that is dead.")
]
Verify = Annotated[
    bool, typer.Option("--verify", help="Read all finished work, compare its digests, redo what was changed.")
]
OtherMachine = Annotated[
    bool,
    typer.Option("--allow-other-machine", help="Go on training where torch, threads or kernels differ, as bits will."),
]
Quiet = Annotated[bool, typer.Option("--quiet", help="Show results and errors only; RUN/log.txt keeps every line.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
