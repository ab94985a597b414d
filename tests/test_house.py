"""The house: each station imports only stations below it, and what must stay light stays light."""

from __future__ import annotations

import ast
import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest

from puna import recipe

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "puna"
# Durable bytes go through these; doctor tries what a file system can do, in a folder that it removes. A download must
# outlive its process half-done, which storage.create rules out by design: it grows under a name that no reader takes.
# The cage of a model's programs writes to Linux alone (/proc), and imports nothing.
WRITERS = {"storage.py", "lines.py", "remote.py", "lock.py", "doctor/disk.py", "fetch/partial.py"}
WRITERS |= {"evaluate/sandbox/cage.py"}

# From top to bottom; a module may import what stands below it, and what stands in its own station.
ORDER = [
    "__main__",
    "cli",
    "family",
    "workflow",
    "last_screen",
    "publish",
    "inspect",
    "trace",
    "care",
    "doctor",
    "report",
    "cost",
    "paper",
    "evaluate",
    "serve",
    "finetune",
    "train",
    "generate",
    "convert",
    "plan",
    "parallel",
    "model",
    "tokens",
    "fetch",
    "data",
    "testsets",
    "tokenizer",
    "steps",
    "space",
    "records",
    "engine",
    "cluster",
    "run",
    "lock",
    "recipe",
    "recipe_data",
    "recipe_fetch",
    "recipe_sources",
    "recipe_text",
    "recipe_layers",
    "recipe_values",
    "lines",
    "formats",
    "storage",
    "remote",
    "unfinished",
    "compiler",
    "meter",
    "processes",
    "progress",
    "bars",
    "errors",
]
MODULES = sorted(SOURCE.rglob("*.py"))
DATA_SIDE = set(ORDER[ORDER.index("tokens") :])


def _imports(path: Path) -> set[str]:
    """Stations that a file imports, at its top or inside a function."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module] if node.module != "puna" else [f"puna.{alias.name}" for alias in node.names]
        else:
            assert not (isinstance(node, ast.ImportFrom) and node.level), f"{path} has a relative import"
            continue
        found |= {name.split(".")[1] for name in names if name.startswith("puna.")}
    return found - {"__version__"}


def _station(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_a_module_imports_only_what_stands_below_its_station(path: Path) -> None:
    station = _station(path)
    if station == "__init__":
        return
    for other in _imports(path) - {station}:
        assert ORDER.index(other) > ORDER.index(station), f"{path} imports {other}, which stands above {station}"


def test_every_station_has_its_place() -> None:
    assert {_station(path) for path in MODULES} - {"__init__"} <= set(ORDER)


def test_no_file_is_longer_than_400_lines() -> None:
    files = [*MODULES, *(path for folder in ("tests", "benchmarks", "docs") for path in (ROOT / folder).glob("*.py"))]
    long = {str(path): n for path in files if (n := len(path.read_text("utf-8").splitlines())) > 400}
    assert not long


def _writes(node: ast.AST) -> bool:
    """Whether this piece of code makes a file or writes to one."""
    if isinstance(node, ast.Attribute):
        return node.attr in ("write_text", "write_bytes", "NamedTemporaryFile", "mkstemp")
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name | ast.Attribute):
        return False
    name = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
    modes = [each.value for each in ast.walk(node) if isinstance(each, ast.Constant) and isinstance(each.value, str)]
    return name == "open" and any(re.fullmatch("[rwaxbt+]*[wax+][rwaxbt+]*", mode) for mode in modes)


def test_only_storage_and_what_it_is_made_of_write_files() -> None:
    found = {
        path.relative_to(SOURCE).as_posix()
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if _writes(node)
    }
    assert found - WRITERS == set()
    assert {"storage.py", "lines.py"} <= found


@pytest.mark.parametrize("module", ["puna", "puna.cli", "puna.recipe", "puna.errors"])
def test_importing_loads_nothing_heavy(module: str) -> None:
    heavy = {
        "torch",
        "ray",
        "pyarrow",
        "matplotlib",
        "sentencepiece",
        "numpy",
        "fsspec",
        "upath",
        "lxml",
        "safetensors",
        "fastapi",
        "uvicorn",
        "jinja2",
    }
    code = f"import sys, {module}; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_data_workers_never_import_torch() -> None:
    modules = [
        ".".join(["puna", *path.relative_to(SOURCE).with_suffix("").parts]).removesuffix(".__init__")
        for path in MODULES
        if _station(path) in DATA_SIDE
    ]
    code = f"import sys, importlib\nfor name in {modules}: importlib.import_module(name)\nprint('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_data_worker_starts_light(tmp_path: Path) -> None:
    # A worker is given a recipe that was validated: it builds nothing that validates, and reads no string under a key.
    (tmp_path / "recipe").write_bytes(pickle.dumps(recipe.load("laptop")))
    code = """
import pickle, sys
import puna.data.pipeline
from puna.recipe import Recipe
got = pickle.loads(open(sys.argv[1], "rb").read())
assert isinstance(got, Recipe) and got.lm.order == 5
heavy = {"sentencepiece", "fasttext", "kenlm", "lxml", "matplotlib", "torch", "ray", "fsspec", "upath"}
print(sorted(heavy & set(sys.modules)), Recipe.__pydantic_complete__, Recipe.model_fields["seed"].description)
"""
    command = [sys.executable, "-c", code, str(tmp_path / "recipe")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[] False None"


# Of a path on an object store these take a failed request for absence; storage.py asks so that it does not.
ASKED_THROUGH_STORAGE = {"is_file", "is_dir", "exists", "iterdir", "glob", "rglob"}
LOCAL = {
    *("cli", "doctor", "data/sources", "engine.py", "storage.py", "unfinished.py", "remote.py", "lines.py", "space.py"),
    *("recipe_layers.py", "last_screen.py", "compiler.py", "meter.py", "generate/native.py"),
}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_what_may_lie_on_an_object_store_is_asked_of_storage(path: Path) -> None:
    name = path.relative_to(SOURCE).as_posix()
    if any(name == local or name.startswith(f"{local}/") for local in LOCAL):
        return
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            asked = ast.unparse(node.func.value)
            if node.func.attr in ASKED_THROUGH_STORAGE and not asked.startswith(("Path(", "storage")):
                raise AssertionError(f"{path}:{node.lineno}: {asked}.{node.func.attr}(): ask storage")
