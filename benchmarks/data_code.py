"""How fast code is read: installed packages as they lie and as a tar, licences told, documents written as Parquet.

    python benchmarks/data_code.py [--quick] [--json FILE]

One thread, process CPU time, medians of three. The whole path is timed: locate, split, read, judge, write. Megabytes
are those of the files that are read, by the end of their name.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from form import metric
from puna import storage
from puna.data import extract
from puna.data.code.quality import measured, plainly_measured
from puna.data.sources import locate, split
from puna.recipe import GitHub

PACKAGES, QUICK = ("torch", "numpy", "sympy"), ("sympy",)
DECLARED = {"torch": "BSD-3-Clause", "numpy": "BSD-3-Clause"}
ENDINGS = [".py", ".pyi", ".h", ".cpp", ".pyx"]


def code(quick: bool = False) -> dict[str, Any]:
    """The metrics `code`, `code.tar` and `code.measures`, in the form of form.py."""
    names = QUICK if quick else PACKAGES
    times = 1 if quick else 3
    with tempfile.TemporaryDirectory() as folder:
        packages = [f"package:{name}" for name in names]
        archive = Path(folder) / "sources.tar"
        _pack(archive, packages)
        return {
            "code": metric(_speed(packages, packages, Path(folder), times), "MB/s", limit=30),
            "code.tar": metric(_speed([str(archive)], packages, Path(folder), times), "MB/s", limit=30),
            "code.measures": _measures(names[-1]),
        }


def _recipe(inputs: list[str]) -> GitHub:
    return GitHub.model_validate({"inputs": inputs, "share": 1, "declared": DECLARED, "extensions": ENDINGS})


def _speed(inputs: list[str], packages: list[str], folder: Path, times: int) -> float:
    """Megabytes read in a second of CPU time, reader and writer together."""
    rules = _recipe(inputs)
    taken, size = [], 0
    for turn in range(times + 1):  # the first one loads modules, and is not counted
        target = folder / "run" / "work" / str(turn) / "scratch"
        begun = time.process_time()
        found = locate("github", rules)
        for task in split("github", found, rules, 16_000_000):
            extract.extract(found, rules, 256_000_000, task, storage.place(str(target)))
        taken.append(time.process_time() - begun)
    taken = taken[1:]
    for entry in locate("github", _recipe(packages)):
        size += sum(each for path, each in entry.members if path.endswith(tuple(ENDINGS)))
    return size / 1e6 / statistics.median(taken)


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


def _measures(name: str) -> dict[str, Any]:
    """The rules of quality over one package's sources, beside their slow twin."""
    rules = _recipe([f"package:{name}"])
    (entry,) = locate("github", rules)
    files = [path for path, _ in entry.members if path.endswith(".py")][:200]
    texts = [(Path(entry.location) / path).read_text("utf-8") for path in files]
    size = sum(map(len, texts)) / 1e6
    speeds = []
    for measure in (measured, plainly_measured):
        begun = time.process_time()
        for text in texts:
            measure(text)
        speeds.append(size / (time.process_time() - begun))
    ratio = dict.fromkeys(("median", "min", "max"), speeds[0] / speeds[1])
    return metric(
        speeds[0], "MB/s", peers={"character by character": speeds[1]}, ratio={"character by character": ratio}
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one package, once")
    parser.add_argument("--json", metavar="FILE", help="write the metrics there")
    options = parser.parse_args()
    found = code(options.quick)
    for name, value in found.items():
        peers = "".join(f", {peer} {speed:.1f}" for peer, speed in value["peers"].items())
        print(f"{name}: {value['value']:.1f} {value['unit']}{peers}")
    if options.json:
        Path(options.json).write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")


METRICS: dict[str, Callable[[Path, bool], Any]] = {"code": lambda samples, quick: code(quick)}

if __name__ == "__main__":
    main()
