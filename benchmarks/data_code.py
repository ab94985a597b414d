"""How fast code is read: installed packages as they lie and as a tar, licences told, documents written as Parquet.

One thread, CPU time. The whole path is timed: locate, split, read, judge, write. Megabytes are those of the files that
are read, by the end of their name.
"""

from __future__ import annotations

import io
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from puna.data.code.quality import measured, plainly_measured
from puna.data.sources import locate
from puna.recipe import GitHub
from turns import extraction, speeds

PACKAGES, QUICK = ("torch", "numpy", "sympy"), ("sympy",)
DECLARED = {"torch": "BSD-3-Clause", "numpy": "BSD-3-Clause"}
ENDINGS = [".py", ".pyi", ".h", ".cpp", ".pyx"]
LIMIT = 30.0  # MB/s


def code(samples: Path, quick: bool) -> dict[str, Any]:
    """The metrics `code`, `code.tar` and `code.measures`; of what is installed, not of `samples`."""
    packages = [f"package:{name}" for name in (QUICK if quick else PACKAGES)]
    rounds = 1 if quick else 3
    size = sum(
        each
        for entry in locate("github", _recipe(packages))
        for path, each in entry.members
        if path.endswith(tuple(ENDINGS))
    )
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / "sources.tar"
        _pack(archive, packages)
        return {
            "code": speeds(size, _warm(packages), rounds=rounds, limit=LIMIT),
            "code.tar": speeds(size, _warm([str(archive)]), rounds=rounds, limit=LIMIT),
            "code.measures": _measures(packages[-1], rounds),
        }


def _recipe(inputs: list[str]) -> GitHub:
    return GitHub.model_validate({"inputs": inputs, "share": 1, "declared": DECLARED, "extensions": ENDINGS})


def _warm(inputs: list[str]) -> Callable[[], None]:
    """The extraction, done once: what is loaded at first use is no part of the speed."""
    run = extraction("github", _recipe(inputs), 16_000_000)
    run()
    return run


def _pack(target: Path, packages: list[str]) -> None:
    """The packages as one project's tar, as a source distribution is one."""
    about = b"Metadata-Version: 2.4\nName: sources\nVersion: 1\nLicense-Expression: BSD-3-Clause\n"
    with tarfile.open(target, "w") as tar:
        info = tarfile.TarInfo("sources-1/PKG-INFO")
        info.size = len(about)
        tar.addfile(info, io.BytesIO(about))
        for entry in locate("github", _recipe(packages)):
            for member, _ in entry.members:
                path = Path(entry.location) / member
                if member.endswith(tuple(ENDINGS)) and path.is_file():
                    tar.add(path, f"sources-1/{member}", recursive=False)


def _measures(package: str, rounds: int) -> dict[str, Any]:
    """The rules of quality over one package's sources, beside their slow twin; characters count as bytes."""
    (entry,) = locate("github", _recipe([package]))
    files = [path for path, _ in entry.members if path.endswith(".py")][:200]
    texts = [(Path(entry.location) / path).read_text("utf-8") for path in files]

    def over(measure: Callable[[str], object]) -> Callable[[], object]:
        return lambda: [measure(text) for text in texts]

    peers = {"character by character": over(plainly_measured)}
    return speeds(sum(map(len, texts)), over(measured), peers, rounds)


METRICS = {"code": code}
