"""What a shell completes at the Tab key: commands, options, recipes, keys of recipes and their values, run folders.

The shell's script hands over the line up to the cursor, and `puna` itself answers: it knows its commands, and says the
same in every shell. Nothing heavy is imported for that. A candidate that goes on (a folder, a key, a section) ends with
`/`, `=` or `.`, after which the shell sets no space.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import typer

from puna.cli.words import epilog, show

ASKED, LINE, BREAKS = "_PUNA_COMPLETE", "_PUNA_LINE", "_PUNA_BREAKS"  # variables in which a shell asks

# The bash of macOS is of 2007: it has neither mapfile nor compopt, and completes with a space too many.
BASH = r"""_puna() {
    local found=() line
    while IFS= read -r line; do
        found+=("$line")
    done < <(_PUNA_COMPLETE=bash _PUNA_LINE="${COMP_LINE:0:COMP_POINT}" _PUNA_BREAKS="$COMP_WORDBREAKS" \
        "${1/#\~\//$HOME/}" 2>/dev/null)
    COMPREPLY=("${found[@]:1}")
    compopt +o filenames -o nospace 2>/dev/null
    if [[ ${found[0]} == files ]]; then
        compopt -o filenames +o nospace 2>/dev/null
    elif [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} != *[=./] ]]; then
        COMPREPLY[0]+=" "
    fi
}
complete -F _puna puna
"""
ZSH = r"""#compdef puna
_puna() {
    local -a found
    local line="${(j: :)words[1,CURRENT-1]} $PREFIX"
    found=("${(@f)$(_PUNA_COMPLETE=zsh _PUNA_LINE="$line" ${(Q)~words[1]} 2>/dev/null)}")
    [[ -n $found ]] || return 1
    compadd -S '' -- ${(M)found:#*[=./]}
    compadd -- ${found:#*[=./]}
}
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit }
compdef _puna puna
"""
FISH = r"""function __puna
    set -l called (commandline -po)[1]
    _PUNA_COMPLETE=fish _PUNA_LINE=(commandline -cp | string collect) $called 2>/dev/null
end
complete -c puna -e
complete -c puna -f -a '(__puna)'
"""
EPILOG = epilog(
    'eval "$(puna completion bash)"      # in ~/.bashrc',
    'eval "$(puna completion zsh)"       # in ~/.zshrc',
    "puna completion fish > ~/.config/fish/completions/puna.fish",
    status="0 done, 2 another shell.",
)


class Shell(StrEnum):
    bash = "bash"
    zsh = "zsh"
    fish = "fish"


SCRIPTS = {Shell.bash: BASH, Shell.zsh: ZSH, Shell.fish: FISH}


def script(shell: Annotated[Shell, typer.Argument(metavar="SHELL", help="bash, zsh or fish.")]) -> None:
    """Print a script with which a shell completes puna's words at the Tab key.

    It completes commands, options, recipes, their keys and values, and run folders. Nothing is installed: put the line
    of your shell where the example says.
    """
    show(SCRIPTS[shell], end="")


def answer(command: Any) -> str:
    """What the shell that asked may put at the cursor, one candidate a line. command: puna's own, as typer makes it."""
    words = _split(os.environ.get(LINE, ""))
    word = words[-1]
    candidates, found = _candidates(command, words[1:-1], word)
    if os.environ[ASKED] != Shell.bash:
        return "".join(f"{candidate}\n" for candidate in found)
    # What stands before "=" and ":" is a word of its own to bash, and not to be repeated.
    breaks = [mark for mark in "=:" if mark in os.environ.get(BREAKS, "")]
    cut = max((word.rfind(mark) + 1 for mark in breaks), default=0)
    kind = "files" if candidates in (_recipes, _runs, _folders) else "words"
    return "".join(f"{line}\n" for line in [kind, *(candidate[cut:] for candidate in found)])


def _candidates(command: Any, before: Sequence[str], word: str) -> tuple[Source, list[str]]:
    """Where candidates for `word` come from, and what it may become, behind the words `before` it."""
    option, given, head = None, 0, ""
    for each in before:
        if option is not None:
            option = None
        elif each.startswith("-") and each != "-":
            option = _taking_a_value(command, each)
        elif hasattr(command, "commands"):
            command = command.commands.get(each)
        else:
            given += 1
        if command is None:
            return _nothing, []
    name, equals, value = word.partition("=")
    if option is None and equals and name.startswith("--"):
        option, head, word = _taking_a_value(command, name), f"{name}=", value
    if option is not None or head:
        source = BY_NAME.get(str(option and option.metavar), _nothing)
    elif word.startswith("-"):
        source = partial(_options, command)
    elif hasattr(command, "commands"):
        source = partial(_beginning, command.commands)
    else:
        arguments = [parameter for parameter in command.params if parameter.param_type_name == "argument"]
        left = arguments[given:] or [last for last in arguments[-1:] if last.nargs == -1]
        source = BY_NAME.get(str(left[0].metavar), _nothing) if left else _nothing
    return source, [f"{head}{candidate}" for candidate in source(word)]


def _taking_a_value(command: Any, name: str) -> Any:
    """The option of that name that takes the word behind it; None when there is none."""
    return next((each for each in command.params if name in each.opts and not getattr(each, "is_flag", False)), None)


def _options(command: Any, word: str) -> Iterator[str]:
    options = (each.opts for each in command.params if each.param_type_name == "option")
    return _beginning([*(name for names in options for name in names), "--help"], word)


def _beginning(names: Iterable[str], word: str) -> Iterator[str]:
    return (name for name in names if name.startswith(word))


def _nothing(word: str) -> Iterator[str]:
    return iter(())


def _recipes(word: str) -> Iterator[str]:
    from puna.recipe_layers import names

    yield from _beginning(names(), word)
    yield from _paths(word, lambda path: "/" if path.is_dir() else "" if path.suffix == ".toml" else None)


def _keys(word: str) -> Iterator[str]:
    """Keys section by section, and behind `=` the values where only some are taken."""
    from puna.recipe import Recipe
    from puna.recipe_text import dotted, schema

    fields = {dotted(key): field.annotation for key, field in schema(Recipe)}
    name, equals, value = word.partition("=")
    if equals:
        taken = get_args(fields.get(name)) if get_origin(fields.get(name)) is Literal else ()
        return (f"{name}={each}" for each in _beginning(map(str, taken), value))
    depth = name.rfind(".") + 1
    parts = (key[depth:].partition(".") for key in fields if key.startswith(name))
    return iter(dict.fromkeys(f"{name[:depth]}{part}{dot or '='}" for part, dot, _ in parts))


def _sources(word: str) -> Iterator[str]:
    """Sources that can be fetched, and keys."""
    from puna.recipe_sources import Sources

    return iter([*_beginning(Sources.model_fields, word), *(_keys(word) if word else ())])


def _runs(word: str) -> Iterator[str]:
    """Run folders, checkpoints, and folders in which they may lie."""

    def end(path: Path) -> str | None:
        if any((path / name).is_file() for name in ("recipe.toml", "checkpoint.json", "config.json")):
            return ""
        return "/" if path.is_dir() and any(each.is_dir() for each in path.iterdir()) else None

    return _paths(word, end)


def _folders(word: str) -> Iterator[str]:
    return _paths(word, lambda path: "/" if path.is_dir() else None)


def _paths(word: str, end: Callable[[Path], str | None]) -> Iterator[str]:
    """Paths that begin with `word`, each with its end; None leaves it out."""
    above, slash, name = word.rpartition("/")
    with suppress(OSError, RuntimeError):  # no such folder, or nobody's home
        for path in sorted(Path(f"{above}{slash}" or ".").expanduser().iterdir()):
            hidden = path.name.startswith(".") and not name.startswith(".")
            if path.name.startswith(name) and path.name.isprintable() and not hidden:
                with suppress(OSError):
                    if (last := end(path)) is not None:
                        yield f"{above}{slash}{path.name}{last}"


def _split(line: str) -> list[str]:
    """The words of a line as a shell takes them; the last is that at the cursor, maybe empty or half quoted."""
    for quote in ("", "'", '"'):
        with suppress(ValueError):
            words = shlex.split(f"{line}\0{quote}")
            return [*words[:-1], words[-1].removesuffix("\0")]
    return [""]


Source = Callable[[str], Iterator[str]]
BY_NAME: dict[str, Source] = {
    "RECIPE": _recipes,
    "KEY=VALUE": _keys,
    "SOURCE|KEY=VALUE": _sources,
    "RUN": _runs,
    "MODEL": _runs,
    "ROOT": _folders,
    "FOLDER": _folders,
    "SHELL": partial(_beginning, [*Shell]),
}
