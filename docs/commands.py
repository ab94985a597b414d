"""The pages of docs/commands: one a command, made from the command's own help, so that they say what `--help` says.

Names, kinds, defaults and limits are taken from what the commands declare, not from the text that a terminal shows:
that text is wrapped, and differs with the version of typer. `docs/generate.py` writes the pages.
"""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Iterator
from dataclasses import dataclass
from enum import EnumType
from typing import Any, Union, get_args, get_origin

from typer import Typer
from typer.models import ArgumentInfo, CommandInfo
from typer.utils import get_params_from_function

from puna import cli

MADE = "<!-- docs/generate.py writes this page from the command's own help; change it there -->"
# What a command's page leads on to. Every command is named, so that a new one is thought of.
GUIDES = {
    "fetch": ("fetch.md", "rights.md"),
    "run": ("quickstart.md", "recipe.md", "run-folder.md"),
    "data": ("data.md", "quality.md", "cluster.md"),
    "tokenizer": ("recipe.md",),
    "tokens": ("recipe.md", "run-folder.md"),
    "train": ("train.md", "parallel.md", "cluster.md", "train-speed.md"),
    "lm": ("quality.md",),
    "finetune": ("finetune.md",),
    "generate": ("generate.md",),
    "chat": ("generate.md",),
    "serve": ("serve.md",),
    "evaluate": ("evaluate.md", "safety.md"),
    "report": ("run-folder.md",),
    "inspect": ("data.md", "quality.md"),
    "trace": ("data.md", "train.md"),
    "carbon": ("plan.md",),
    "paper": ("paper.md", "not-shown.md"),
    "import": ("convert.md",),
    "export": ("convert.md", "rights.md"),
    "ls": ("run-folder.md",),
    "status": ("run-folder.md",),
    "clean": ("run-folder.md",),
    "recipe": ("recipe.md",),
    "plan": ("plan.md", "scale.md"),
    "doctor": ("troubleshooting.md",),
    "bench": ("train-speed.md",),
    "completion": (),
}
KINDS = {int: "N", float: "X"}


@dataclass(frozen=True)
class Word:
    """An argument or option as a page shows it."""

    names: str
    """Such as `RECIPE`, or `--out FOLDER`."""
    argument: bool
    usage: str
    """Of an argument: as it stands in the line that shows how to call the command."""
    help: str


def pages() -> dict[str, str]:
    """The text of every page by its name in docs/commands, the list of all commands among them."""
    single, groups = _commands(cli.app)
    made = {f"{name}.md": _page(name, _told(f"puna {name}", command, "##")) for name, command in single.items()}
    for name, app in groups.items():
        parts = [_plain(str(app.info.help)), _end(str(app.info.epilog), "##")]
        for each, command in _commands(app)[0].items():
            parts += [f"## puna {name} {each}", *_told(f"puna {name} {each}", command, "###")]
        made[f"{name}.md"] = _page(name, parts)
    short = {name: str(command.short_help) for name, command in single.items()}
    short |= {name: str(app.info.short_help) for name, app in groups.items()}
    return {"index.md": _index(short), **made}


def _commands(app: Typer) -> tuple[dict[str, CommandInfo], dict[str, Typer]]:
    """An app's commands by name, and its groups of commands."""
    single = {str(each.name): each for each in app.registered_commands if not each.hidden}
    groups = {str(each.name): each.typer_instance for each in app.registered_groups if each.typer_instance}
    return single, groups


def _page(name: str, parts: Iterator[str] | list[str]) -> str:
    links = ", ".join(f"[{guide.removesuffix('.md')}](../{guide})" for guide in GUIDES[name])
    last = f"More: {links}. [All commands](index.md)." if links else "[All commands](index.md)."
    return "\n\n".join([f"# puna {name}", MADE, *parts, last]) + "\n"


def _index(short: dict[str, str]) -> str:
    """All commands in the groups of `puna --help`."""
    parts = ["# Commands", MADE, "As `puna --help` has them. Each page says what the command's own `--help` says."]
    for heading, names in cli.GROUPS.items():
        rows = [f"| [`puna {name}`]({name}.md) | {_cell(short[name])} |" for name in names]
        parts.append("\n".join([f"## {heading}", "| command | what it does |", "|---|---|", *rows]))
    return "\n\n".join(parts) + "\n"


def _told(called: str, command: CommandInfo, level: str) -> Iterator[str]:
    """The parts of what a command's help says: purpose, usage, arguments, options, examples, exit status."""
    said = command.help or command.callback.__doc__ or ""  # type: ignore[union-attr]
    first, *others = [" ".join(part.split()) for part in re.split(r"\n\s*\n", inspect.cleandoc(said))]
    words = list(_words(command.callback))
    arguments, options = ([word for word in words if word.argument is kind] for kind in (True, False))
    yield _plain(first)
    usage = [called, *(["[OPTIONS]"] if options else []), *(word.usage for word in arguments)]
    yield f"```text\n{' '.join(usage)}\n```"
    yield from map(_plain, others)
    for heading, column, chosen in (("Arguments", "what it is", arguments), ("Options", "what it does", options)):
        if chosen:
            names = [word.names.replace("|", "\\|") for word in chosen]
            rows = [f"| `{name}` | {_cell(word.help)} |" for name, word in zip(names, chosen, strict=True)]
            yield "\n".join([f"{level} {heading}", f"| {heading[:-1].lower()} | {column} |", "|---|---|", *rows])
    yield _end(str(command.epilog), level)


def _end(epilog: str, level: str) -> str:
    """The examples and the exit status with which a command's help ends."""
    examples, _, status = epilog.partition("Exit status: ")
    shown = "\n".join(line.strip() for line in examples.splitlines() if line.startswith("  "))
    return f"{level} Examples\n```\n{shown}\n```\n\nExit status: {_plain(' '.join(status.split()))}"


def _words(callback: Any) -> Iterator[Word]:
    """What a command takes, in the order in which its help has it."""
    infos = get_params_from_function(callback)
    for name, parameter in inspect.signature(callback).parameters.items():
        kind, info = infos[name].annotation, infos[name].default
        required = parameter.default is parameter.empty
        one = _of_one(kind)
        several = list in (get_origin(each) for each in (kind, *get_args(kind)))
        told = _limits(info, one, None if required else parameter.default)
        if isinstance(info, ArgumentInfo):
            names = info.metavar or name.upper()
            usage = (names if required else f"[{names}]") + ("..." if several else "")
        else:
            dashes = "--" if len(name) > 1 else "-"
            declared = info.param_decls or [dashes + name.replace("_", "-")]
            names = ", ".join(declared).replace("/", ", ")
            usage = "" if one is bool else info.metavar or KINDS.get(one, "TEXT")
            names = f"{names} {usage}".strip()
            told += ["required"] if required else []
        said = f"{info.help} ({'; '.join(told)})" if told else str(info.help)
        yield Word(names, isinstance(info, ArgumentInfo), usage, said)


def _of_one(kind: Any) -> Any:
    """What one value is: of `list[int] | None`, `int`."""
    if get_origin(kind) in (Union, types.UnionType):
        return _of_one(next(each for each in get_args(kind) if each is not type(None)))
    return get_args(kind)[0] if get_origin(kind) is list else kind


def _limits(info: Any, one: Any, default: Any) -> list[str]:
    """What a terminal shows in brackets: the words to choose from, the default, the range."""
    words = [each.value for each in one] if isinstance(one, EnumType) else get_args(one)
    told = [f"one of {', '.join(map(str, words))}"] if words else []
    if default not in (None, "") and default is not False:
        told.append(f"default: {'on' if default is True else _number(default)}")
    if info.min is not None:
        told.append(
            f"{_number(info.min)} to {_number(info.max)}" if info.max is not None else f"at least {_number(info.min)}"
        )
    return told


def _number(value: Any) -> str:
    return f"{value:,.10g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def _cell(text: str) -> str:
    return _plain(" ".join(text.split())).replace("|", "\\|")


def _plain(text: str) -> str:
    """Help as Markdown that shows the same characters, options as code: outside backticks nothing else is a sign."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(part if part.startswith("`") else _shown(part) for part in parts)


def _shown(words: str) -> str:
    return re.sub(r"(?<![\w-])--[a-z][\w-]*", r"`\g<0>`", re.sub(r"[*<\[\]]", r"\\\g<0>", words))
