"""What docs/cluster.md gives people to paste: YAML is read, shells take the scripts, and Puna knows each option."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest
import typer

from puna.cli import app

yaml = pytest.importorskip("yaml")

PAGE = (Path(__file__).parents[1] / "docs" / "cluster.md").read_text("utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
YAML = [text for kind, text in BLOCKS if kind == "yaml"]
SHELL = [text for kind, text in BLOCKS if kind == "sh" or re.match(r"puna |ray |torchrun ", text)]


def _commands() -> list[list[str]]:
    """Every `puna ...` in the blocks, as the words behind `puna`."""
    said = []
    for kind, text in BLOCKS:
        if kind == "yaml":
            read = yaml.safe_load(text)
            found: list[object] = [read]
            while found:
                each = found.pop()
                if isinstance(each, dict):
                    found += each.values()
                elif isinstance(each, list) and "puna" in each:
                    said.append(each[each.index("puna") + 1 :])
                elif isinstance(each, list):
                    found += each
                elif isinstance(each, str):
                    said += _words(each)
        elif text in SHELL:
            said += _words(text)
    return said


def _words(text: str) -> list[list[str]]:
    """Commands of lines of a shell; continued lines are one."""
    lines = (line for line in text.replace("\\\n", " ").splitlines() if "$(" not in line.partition("puna")[2])
    split = [shlex.split(re.sub(r"\$\(.*\)", "ADDRESS", line)) for line in lines if re.search(r"\bpuna (\w+)", line)]
    return [words[words.index("puna") + 1 :] for words in split if "puna" in words]


@pytest.mark.parametrize("text", YAML, ids=range(len(YAML)))
def test_yaml_is_read(text: str) -> None:
    assert {"kind", "name", "cluster_name"} & yaml.safe_load(text).keys()


@pytest.mark.parametrize("text", SHELL)
def test_a_shell_takes_it(text: str) -> None:
    assert subprocess.run(["sh", "-n"], input=text, text=True, capture_output=True, timeout=10).stderr == ""


def test_srun_is_told_the_cpus_of_its_tasks() -> None:
    """Since Slurm 22.05 it does not take them from the job; a task would have one CPU."""
    scripts = [text.replace("\\\n", " ") for text in SHELL if "#SBATCH" in text]
    assert len(scripts) == 2
    for text in scripts:
        (asked,) = re.findall(r"#SBATCH.* --cpus-per-task=(\d+)", text)
        assert re.findall(r"^srun --cpus-per-task (\d+)", text, re.MULTILINE) == [asked]


def test_puna_knows_every_command_and_option() -> None:
    known = typer.main.get_command(app)
    said = _commands()
    assert {"data", "train", "doctor"} <= {words[0] for words in said}
    assert sum(words[0] == "train" for words in said) >= 4
    for words in said:
        command = known.commands[words[0]]  # type: ignore[attr-defined]
        options = {option for parameter in command.params for option in parameter.opts}
        given = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert given <= options, words
