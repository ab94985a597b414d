"""Run as a program: find the C++ compiler and let it build what torch.compile would: a small library with OpenMP and
Python's headers, which is then loaded. Prints one line of JSON: {compiler, problem, torch (where it lies)}.

In a process of its own: a compiler may hang, and it must be killed together with what it started.
"""

from __future__ import annotations

import ctypes
import importlib.util
import json
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

PROGRAM = """
#include <Python.h>
#include <cmath>
#include <vector>
{openmp}
extern "C" int puna_answer() {{ std::vector<int> v(1, 42); return v[0]; }}
"""


def main() -> None:
    sys.path[:] = json.loads(sys.argv[1])
    from puna.compiler import compiler, name_torch_without_spaces

    found = compiler()
    name_torch_without_spaces()
    torch = importlib.util.find_spec("torch")
    problem = ""
    if found:
        with tempfile.TemporaryDirectory(prefix="puna-") as folder:
            problem = _build_and_load(found.rsplit(" ", 1)[0], Path(folder) / "answer.so")
    print(json.dumps({"compiler": found, "problem": problem, "torch": torch.origin if torch else None}))


def _build_and_load(name: str, library: Path) -> str:
    """What went wrong; "" when the library was built and gave its answer."""
    openmp = sys.platform != "darwin"  # Apple's clang knows no -fopenmp, and torch brings the library there
    options = ["-shared", "-fPIC", *(["-fopenmp"] if openmp else ["-undefined", "dynamic_lookup"])]
    command = [name, *options, f"-I{sysconfig.get_path('include')}", "-x", "c++", "-", "-o", str(library)]
    program = PROGRAM.format(openmp="#include <omp.h>" if openmp else "")
    done = subprocess.run(command, input=program, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines()
        return next((line for line in lines if "error" in line), lines[-1] if lines else f"status {done.returncode}")
    try:
        answer = ctypes.CDLL(str(library)).puna_answer()
    except OSError as error:
        return f"what it builds cannot be loaded: {error}"
    return "" if answer == 42 else f"what it builds answers {answer} for 42"


if __name__ == "__main__":
    main()
