"""The C++ compiler, without which torch.compile gives no kernels and training is slower."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from puna.doctor.ask import Answer
from puna.doctor.finding import Finding

NAME = "C++ compiler"
SLOWER = "kernels are not compiled, and training is slower"
MOVE = "use a path without spaces; for torch, set XDG_CACHE_HOME to one: a link to torch is then made there"
INSTALL = "install g++: apt install g++, dnf install gcc-c++, or on macOS xcode-select --install"


def compiler(answer: Answer) -> list[Finding]:
    """Whether kernels can be compiled, from what compiler_works.py printed."""
    told = answer.last_json()
    if answer.problem or not isinstance(told, dict):
        what = f"cannot be used: asking for it {answer.problem or 'printed nothing'}; {SLOWER}"
        return [Finding(NAME, "warning", what, f"set CXX to one that works, or {INSTALL}")]
    found, problem = told["compiler"], told["problem"]
    if not found:
        what = f"none was found: {SLOWER}; laptop-plain, with fewer tokens, takes the place of laptop"
        return [Finding(NAME, "warning", what, INSTALL)]
    if problem:
        return [Finding(NAME, "warning", f"{found} builds no library ({problem}): {SLOWER}", _mend(problem))]
    if spaced := _with_space(found, told["torch"]):
        what = f"{found} works, but {spaced}, which torch's calls of it cannot take: {SLOWER}"
        return [Finding(NAME, "warning", what, MOVE)]
    wanted = os.environ.get("CXX", "")
    if wanted and not shutil.which(wanted):
        what = f"{found}: CXX names {wanted!r}, which is no program on PATH"
        return [Finding(NAME, "note", what, "unset CXX, or set it to the name or path of a compiler, without options")]
    return [Finding(NAME, "ok", f"{found}: kernels are compiled")]


def _with_space(found: str, torch: str | None) -> str:
    """Which of the paths that are given to the compiler has a space in it, in words; "" when none has."""
    paths = {
        "torch": torch,
        "the compiler": found.rsplit(" ", 1)[0],
        "the folder for temporary files": os.environ.get("TORCHINDUCTOR_CACHE_DIR") or tempfile.gettempdir(),
    }
    for name, path in paths.items():
        if path and any(character.isspace() for character in path):
            return f"{name} lies in a path with a space ({Path(path).parent if name == 'torch' else path})"
    return ""


def _mend(problem: str) -> str:
    if "Python.h" in problem:
        return "install Python's headers: apt install python3-dev, or dnf install python3-devel"
    if "omp.h" in problem or "gomp" in problem or "openmp" in problem.lower():
        return "install OpenMP: apt install libgomp1 for g++, libomp-dev for clang"
    if "cannot be loaded" in problem:
        return "set TMPDIR to a folder from which programs may run (not mounted noexec)"
    if "No space left" in problem:
        return "free some space in the folder for temporary files, or set TMPDIR to another"
    return f"set CXX to a compiler that works, or {INSTALL}"
