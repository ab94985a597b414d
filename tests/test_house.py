"""The house: each station imports only stations below it, and what must stay light stays light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "puna"

# From top to bottom; a module may import what stands below it, and what stands in its own station.
ORDER = [
    "cli",
    "workflow",
    "last_screen",
    "report",
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
    "data",
    "testsets",
    "tokenizer",
    "steps",
    "records",
    "engine",
    "run",
    "recipe",
    "recipe_data",
    "recipe_text",
    "recipe_layers",
    "recipe_values",
    "storage",
    "progress",
    "errors",
]
MODULES = sorted(SOURCE.rglob("*.py"))


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
    long = {str(path): n for path in MODULES if (n := len(path.read_text().splitlines())) > 400}
    assert not long


@pytest.mark.parametrize("module", ["puna", "puna.cli", "puna.recipe", "puna.errors"])
def test_importing_loads_nothing_heavy(module: str) -> None:
    heavy = "{'torch', 'ray', 'pyarrow', 'matplotlib', 'sentencepiece', 'numpy'}"
    code = f"import sys, {module}; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_data_workers_never_import_torch() -> None:
    modules = [
        ".".join(["puna", *path.relative_to(SOURCE).with_suffix("").parts]).removesuffix(".__init__")
        for path in MODULES
        if _station(path) in {"data", "tokens", "tokenizer", "engine", "steps", "storage", "run", "recipe"}
    ]
    code = f"import sys, importlib\nfor name in {modules}: importlib.import_module(name)\nprint('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
