"""The examples of README and docs are run, and the commands they show exist, with the options they show."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import typer

import made_testsets
import puna
import tiny
from puna import cli, recipe
from puna.data.document import Document
from puna.errors import PunaError

ROOT = Path(__file__).parents[1]
PAGES = ["README.md", "CONTRIBUTING.md", "SECURITY.md"]
PAGES += [
    path.relative_to(ROOT).as_posix() for part in ("*.md", "coming-from/*.md") for path in (ROOT / "docs").glob(part)
]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
SPAN = re.compile(r"`(puna \w[^`]*)`")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small finished run as its runs/laptop."""
    folder = tmp_path_factory.mktemp("home")
    written = tiny.write(folder)
    done = tiny.puna("run", written, "--out", folder / "runs" / "laptop", "--workers", "1", "--threads", "1")
    assert done.returncode == 0, done.stderr
    for benchmark in ("boolq", "race_middle"):
        made_testsets.write(folder / "benchmarks", benchmark)
    return folder


def _of_readme(names: dict[str, Any], printed: str) -> None:
    assert isinstance(names["document"], Document)
    assert names["document"].origin.url in printed
    assert names["tokens"].shape == (33,)


def _of_api(names: dict[str, Any], printed: str) -> None:
    assert isinstance(names["text"], str)
    assert names["text"]
    assert isinstance(names["document"], Document)
    assert names["heldout"] > 1000
    assert names["tokens"].dtype == np.int64
    assert names["tokens"].shape == (33,)
    assert names["batch"].shape == (8, 33)
    assert names["titles"]
    assert len(names["titles"]) == len(names["wanted_ids"])
    assert names["wanted"].train.steps == 20
    assert "train.steps 20" in printed
    assert len(names["losses"]) == 24
    assert "runs/nothing" in names["message"]
    assert names["status"] == 2
    assert issubclass(names["InputError"], PunaError)


def _of_generate(names: dict[str, Any], printed: str) -> None:
    lines = printed.splitlines()
    assert lines[0].startswith("Token(handle=0, sample=0")
    assert lines[-1].startswith("End(handle=0, sample=0")


def _of_evaluate(names: dict[str, Any], printed: str) -> None:
    assert [line.split()[0] for line in printed.splitlines()] == ["boolq", "race_middle"]
    assert [line.split()[-1] for line in printed.splitlines()] == ["1", "2"]
    assert names["result"].values.keys() >= {"accuracy/char", "accuracy/answer"}


SHOWN: dict[str, Callable[[dict[str, Any], str], None]] = {
    "README.md": _of_readme,
    "docs/api.md": _of_api,
    "docs/evaluate.md": _of_evaluate,
    "docs/generate.md": _of_generate,
}


@pytest.mark.parametrize("page", SHOWN)
def test_the_examples_of_a_page_run_one_after_the_other_and_give_what_it_says(
    page: str, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(home)
    names: dict[str, Any] = {}
    for line, code in _blocks(page, "python"):
        exec(compile("\n" * line + code, str(ROOT / page), "exec"), names)
    SHOWN[page](names, capsys.readouterr().out)


def test_the_same_calls_read_a_run_on_an_object_store(home: Path) -> None:
    fsspec.filesystem("memory").put(str(home / "runs" / "laptop"), "/examples", recursive=True)
    here, there = str(home / "runs" / "laptop"), "memory://examples"
    assert puna.load(there).generate("The ", tokens=8) == puna.load(here).generate("The ", tokens=8)
    assert list(puna.documents(there, heldout=True)) == list(puna.documents(here, heldout=True))
    assert puna.window(there, 3).tolist() == puna.window(here, 3).tolist()


def test_no_page_has_examples_that_are_not_run() -> None:
    assert {page for page in PAGES if list(_blocks(page, "python"))} == set(SHOWN)


def test_every_recipe_that_a_page_writes_out_loads(tmp_path: Path) -> None:
    found = [(page, code) for page in PAGES for _, code in _blocks(page, "toml")]
    assert found
    for number, (_, code) in enumerate(found):
        file = tmp_path / f"{number}.toml"
        file.write_text(code)
        recipe.load(file)


@pytest.mark.parametrize("page", PAGES)
def test_every_command_that_a_page_shows_exists_with_its_options(page: str) -> None:
    for command in _commands(page):
        name, *arguments = command
        _parse(typer.main.get_command(cli.app), command, page)
        if name in ("run", "data", "tokenizer", "tokens", "train") and not arguments[0].endswith((".toml", "RECIPE")):
            assert arguments[0] in recipe.names(), f"{page}: {arguments[0]} is no recipe"


def test_what_is_said_to_be_missing_is_missing() -> None:
    there = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]
    said = {words.split()[1] for page in PAGES for words in SPAN.findall(_text(page))}
    assert said <= there.keys()


def test_every_target_of_make_that_a_page_shows_exists() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    shown = {
        (page, target)
        for page in PAGES
        for _, block in _blocks(page, "")
        for target in re.findall(r"^make (\w+)", block, re.MULTILINE)
    }
    assert shown
    assert {target for _, target in shown} <= targets


def _parse(group: Any, command: list[str], page: str) -> None:
    """Read a command line as the command would, without doing anything."""
    name, *arguments = command
    assert name in group.commands, f"{page} shows puna {' '.join(command)}; there is no {name}"
    inner = group.commands[name]
    if hasattr(inner, "commands"):
        _parse(inner, arguments, page)
        return
    try:
        inner.make_context(name, arguments)
    except Exception as error:
        message = getattr(error, "format_message", error.__repr__)()
        pytest.fail(f"{page}: puna {' '.join(command)}: {message}")


def _commands(page: str) -> Iterator[list[str]]:
    """The commands in a page's blocks; of `puna data | tokens RECIPE` each. Two spaces begin what a line says of it."""
    for _, block in _blocks(page, ""):
        for line in block.splitlines():
            shown = re.match(r"(?:\.venv/bin/)?puna (.+?)(?:  .*|$)", line)
            if shown is None:
                continue
            *others, last = shown[1].split(" | ")
            name, *arguments = shlex.split(last, comments=True)
            yield from ([each, *arguments] for each in (*others, name))


def _blocks(page: str, language: str) -> Iterator[tuple[int, str]]:
    """(lines before it, text) of each fenced block in that language."""
    text = _text(page)
    for found in BLOCK.finditer(text):
        if found[1] == language:
            yield text.count("\n", 0, found.start(2)), found[2]


def _text(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")
