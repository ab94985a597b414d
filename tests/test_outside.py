"""What comes from outside stays outside: no network unless asked, nothing unpickled, no foreign code run."""

from __future__ import annotations

import ast
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import puna
import tiny
from puna import tokenizer
from puna.data.document import read_documents
from puna.data.sources import locate, read, split
from puna.errors import InputError
from puna.model import weights
from puna.recipe import GitHub
from puna.tokens.shards import Shard

SOURCE = Path(puna.__file__).parent

# Python imports this by its name in every process, workers too. It notes each process, and each try to reach a network.
WATCH = """
import os, socket, sys

def note(text):
    with open(os.environ["WATCHED"], "a") as file:
        file.write(text + "\\n")

def watch(event, arguments):
    if event == "socket.__new__" and arguments[1] != socket.AF_UNIX:
        note(f"{event} {arguments[1]}")
    elif event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr", "urllib.Request"):
        note(f"{event} {arguments[0]}")

note("began")
sys.addaudithook(watch)
"""


@pytest.fixture
def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """Has every Python process of this test watched; gives what they noted."""
    (tmp_path / "watch").mkdir()
    (tmp_path / "watch" / "sitecustomize.py").write_text(WATCH)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "watch"))
    monkeypatch.setenv("WATCHED", str(tmp_path / "noted"))
    return lambda: (tmp_path / "noted").read_text().splitlines()


def test_a_try_to_reach_the_network_would_be_seen(watched: Callable[[], list[str]]) -> None:
    tries = "import socket\nsocket.socket(socket.AF_INET).close()\nsocket.getaddrinfo('localhost', 80)"
    subprocess.run([sys.executable, "-c", tries], check=True)
    assert [line.split()[0] for line in watched()] == ["began", "socket.__new__", "socket.getaddrinfo"]


def test_a_whole_run_and_its_use_open_no_internet_socket_and_look_up_no_name(
    tmp_path: Path, watched: Callable[[], list[str]], proved: Callable[[str], None]
) -> None:
    recipe, run = tiny.write(tmp_path / "home", dumps=1, pages=30), tmp_path / "run"
    for command in (
        ("run", recipe, "--out", run, "--workers", "2", "--threads", "1"),
        ("generate", run, "The river", "--tokens", "3"),
        ("report", run),
    ):
        done = tiny.puna(*command, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    noted = watched()
    assert set(noted) == {"began"}
    assert len(noted) > 5  # three commands, and the workers of the first
    proved(f"run, generate and report in {len(noted)} processes: no internet socket, no name looked up")


class Evil:
    """Unpickling it makes a folder."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.mark),)


READERS: dict[str, Callable[[Path], Any]] = {
    "model.safetensors": lambda path: weights.read_tensors(path),
    "tokenizer.model": lambda path: tokenizer.load(path),
    "00000.parquet": lambda path: list(read_documents(path)),
    "00000.idx": lambda path: Shard.open(path.with_suffix("")),
}


@pytest.mark.parametrize("name", READERS)
def test_a_pickle_in_the_place_of_a_file_is_refused_and_not_unpickled(name: str, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    for protocol in (0, 2, pickle.HIGHEST_PROTOCOL):
        (tmp_path / name).write_bytes(pickle.dumps(Evil(mark), protocol))
        with pytest.raises(InputError, match=name.partition(".")[0]):
            READERS[name](tmp_path / name)
        assert not mark.exists()
    pickle.loads((tmp_path / name).read_bytes())
    assert mark.exists()  # it would have been seen


UNPICKLE = {"pickle", "_pickle", "cPickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "yaml"}
RUN = {"eval", "exec", "compile", "__import__"}


def _unsafe(node: ast.AST) -> str:
    """What this piece of code could unpickle or run a text with, if it could."""
    match node:
        case ast.Import(names=names):
            return next((each.name for each in names if each.name.split(".")[0] in UNPICKLE), "")
        case ast.ImportFrom(module=str(module)) if module.split(".")[0] in UNPICKLE:
            return module
        case ast.Call(func=ast.Name(id=name)) if name in RUN:
            return name
        case ast.Call(func=ast.Attribute(value=ast.Name(id="torch" | "np" | "numpy" as module), attr="load")):
            held = any(each.arg == "weights_only" and _is(each.value, True) for each in node.keywords)
            return "" if module == "torch" and held else f"{module}.load"  # torch's own reader of tensors and dicts
        case (
            ast.Attribute(attr="read_pickle" as name)
            | ast.Attribute(value=ast.Name(id="os"), attr="system" | "popen" as name)
        ):
            return name
        case ast.keyword(arg="shell" | "allow_pickle" | "trust_remote_code" as name, value=value):
            return "" if _is(value, False) else f"{name}="
    return ""


def _is(node: ast.AST, value: bool) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def test_no_module_can_unpickle_or_run_a_text() -> None:
    for code in ("import pickle", "from joblib import load", "eval(x)", "torch.load(x)", "os.system(x)", "f(shell=1)"):
        assert any(_unsafe(node) for node in ast.walk(ast.parse(code))), code
    found = [
        f"{path.relative_to(SOURCE)}:{getattr(node, 'lineno', '')}: {what}"
        for path in SOURCE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if (what := _unsafe(node))
    ]
    # A model's programs and their tests, in processes that have nothing left to harm (test_sandbox.py).
    assert sorted(where.partition(":")[0].rpartition("/")[2] for where in found) == [
        *["cage.py"] * 4, *["serving.py"] * 2
    ], found  # fmt: skip


def test_a_package_that_is_read_is_never_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mark = tmp_path / "mark"
    body = "".join(f"def add_{name}(first, second):\n    return first + second\n" for name in ("a", "b", "c", "d"))
    package = tmp_path / "site" / "evil_package"
    info = tmp_path / "site" / "evil_package-1.0.dist-info"
    package.mkdir(parents=True)
    info.mkdir()
    (package / "__init__.py").write_text(f"import os\nos.mkdir({str(mark)!r})\n\n\n{body}")
    (info / "METADATA").write_text("Metadata-Version: 2.4\nName: evil-package\nVersion: 1.0\nLicense-Expression: MIT\n")
    (info / "RECORD").write_text("evil_package/__init__.py,,\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    recipe = GitHub.model_validate({"inputs": ["package:evil-package"], "share": 1})
    found = locate("github", recipe)
    document, _ = [each for task in split("github", found, recipe, 1000) for each in read(task, found, recipe)]
    assert document.text.startswith("import os")
    assert "evil_package" not in sys.modules
    assert not mark.exists()
