"""What shells put in at the Tab key, asked of the shells themselves where they are installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from puna.cli.completion import SCRIPTS, Shell

BASH = """
eval "$SCRIPT"
COMP_LINE=$1 COMP_POINT=${#1} COMP_WORDBREAKS=$' \\t\\n"\\'><=;|&(:'
compopt() { told="$*"; }
_puna "$PUNA" "" ""
printf '%s\\n' "$told" "${COMPREPLY[@]}"
"""
ZSH = """
compdef() { : }
compadd() { while [[ $1 != -- ]]; do shift; done; shift; (( $# )) && print -rl -- "$@" }
eval "$SCRIPT"
words=("$PUNA" ${(z)1}) words[2]=() PREFIX=""
[[ $1 == *[^\\\\]' ' ]] && words+=("") || PREFIX=$words[-1]
CURRENT=$#words
_puna
"""
FISH = """
echo $SCRIPT | source
complete -C $argv[1]
"""

# What is typed, and what it may become.
WORDS = {
    "puna st": ["status"],
    "puna recipe ": ["list", "show", "keys"],
    "puna run laptop tr": ["train."],
    "puna run laptop train.le": ["train.learning_rate="],
    "puna run laptop train.steps=5 tokenizer.sam": ["tokenizer.sample="],
    "puna run laptop train.dtype=b": ["train.dtype=bfloat16"],
    "puna run laptop --th": ["--threads"],
    "puna run laptop --workers ": [],
    "puna fetch web wi": ["wikipedia"],
    "puna fetch web c4 books fetch.books.fi": ["fetch.books.files="],
    "puna completion z": ["zsh"],
    "puna nonsense ": [],
}
NAMES_OF_FILES = {
    "puna recipe show llama-13": ["llama-13b"],
    "puna fetch we": ["web"],
    "puna run lap": ["laptop", "laptop-15m", "laptop-plain"],
    "puna run --workers 2 laptop-": ["laptop-15m", "laptop-plain"],
    "puna run mi": ["mine.toml"],
    "puna train laptop --out ru": ["runs/"],
    "puna train laptop --out=ru": ["--out=runs/"],
    "puna status ": ["runs/"],
    "puna status runs/": ["runs/laptop", "runs/my run"],
    "puna status runs/my\\ ": ["runs/my run"],
    "puna generate runs/laptop/checkpoints/": ["runs/laptop/checkpoints/step-000007"],
}
TYPED = WORDS | NAMES_OF_FILES


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with runs in it, a recipe, and folders that are nothing to Puna."""
    home = tmp_path_factory.mktemp("home")
    for folder in ("runs/laptop/checkpoints/step-000007", "runs/my run", "runs/.hidden", "empty"):
        (home / folder).mkdir(parents=True)
    for file in ("runs/laptop/recipe.toml", "runs/my run/recipe.toml", "mine.toml", "minutes.txt"):
        (home / file).touch()
    (home / "runs/laptop/checkpoints/step-000007/checkpoint.json").touch()
    command = home / "empty" / "puna"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m puna.cli "$@"\n')
    command.chmod(0o755)
    return home


def _asked(home: Path, shell: str, *command: str) -> list[str]:
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"no {shell} here")
    environment = {
        **os.environ,
        "PATH": f"{home / 'empty'}:{os.environ['PATH']}",
        "HOME": str(home),
        "PUNA": str(home / "empty" / "puna"),
        "SCRIPT": SCRIPTS[Shell(shell)],
    }
    done = subprocess.run([program, *command], cwd=home, env=environment, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.stdout.splitlines()


@pytest.mark.parametrize("typed", TYPED)
def test_bash_completes(typed: str, home: Path) -> None:
    told, *found = _asked(home, "bash", "--norc", "-c", BASH, "bash", typed)
    after = typed.rpartition(" ")[2].rpartition("=")  # bash takes what stands behind "=" for a word of its own
    expected = [each[len("".join(after[:2])) :] for each in TYPED[typed]]
    if typed in WORDS and len(expected) == 1 and expected[0][-1] not in "=./":
        expected = [f"{expected[0]} "]
    assert [each for each in found if each] == expected
    assert told == ("-o filenames +o nospace" if typed in NAMES_OF_FILES else "+o filenames -o nospace")


@pytest.mark.parametrize("typed", TYPED)
def test_zsh_completes(typed: str, home: Path) -> None:
    found = _asked(home, "zsh", "-f", "-c", ZSH, "zsh", typed)
    assert sorted(found) == sorted(TYPED[typed])


@pytest.mark.parametrize("typed", TYPED)
def test_fish_completes(typed: str, home: Path) -> None:
    found = _asked(home, "fish", "--no-config", "-c", FISH, typed)
    assert sorted(found) == sorted(TYPED[typed])


@pytest.mark.parametrize("line", ["puna ", "puna run lap", "puna run laptop train.le", "puna status "])
def test_a_shell_is_answered_without_anything_heavy(line: str) -> None:
    code = """
import sys
from typer.main import get_command
from puna.cli import app, completion
completion.answer(get_command(app))
print(sorted({"torch", "numpy", "pyarrow", "rich", "fsspec", "puna.workflow"} & set(sys.modules)))
"""
    environment = {**os.environ, "_PUNA_COMPLETE": "zsh", "_PUNA_LINE": line}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_script_of_a_shell_is_printed(home: Path) -> None:
    for shell in Shell:
        done = subprocess.run(
            [home / "empty" / "puna", "completion", shell], capture_output=True, text=True, check=True
        )
        assert done.stdout == SCRIPTS[shell]
