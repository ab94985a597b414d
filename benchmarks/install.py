"""What setting Puna up costs: how much pip downloads, how much stands on the disk afterwards, and how long it takes.

    python benchmarks/install.py [--json FILE] [--quick] [--torch REQUIREMENT]

A fresh environment in a temporary folder gets what `make run` installs, with pip's own settings and without its cache.
It is done in two parts, so that the network and this machine are told apart: pip downloads everything into a folder,
whose files are summed; then it installs from that folder alone. The disk figure is what the files of the environment
take up, in whole blocks, bytecode included. `--torch` is what pip is given for torch, as TORCH= of the Makefile: the
CPU build unless told otherwise. The temporary folder needs about 2.5 GB; TMPDIR chooses where it lies.

`--quick` downloads nothing: it sums the files of every package in the environment that runs it, as their metadata list
them. That environment may hold more than Puna needs.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

from form import metric

PROJECT = Path(__file__).resolve().parents[1]
NEEDED = ("pyproject.toml", "README.md", "LICENSE", "src")  # what pip reads of the project
TORCH = "torch==2.13.0+cpu" if sys.platform == "linux" else "torch"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--quick", action="store_true", help="only the size of the environment that runs this")
    parser.add_argument("--torch", default=TORCH, help=f"what pip is given for torch; {TORCH} if unset")
    asked = parser.parse_args()
    if asked.quick:
        result = {"environment_disk": metric(recorded_bytes() / 1e6, "MB")}
    else:
        with tempfile.TemporaryDirectory() as scratch:
            result = install(Path(scratch), asked.torch)
    for name, figure in result.items():
        print(f"{name:24} {figure['value']:9.1f} {figure['unit']}")
    if asked.json:
        asked.json.write_text(json.dumps(result, indent=1) + "\n")


def install(scratch: Path, torch: str) -> dict[str, Any]:
    """Set Puna up below `scratch` with its extra `sample`, and measure each part."""
    clone, wheels, environment = scratch / "clone", scratch / "wheels", scratch / "venv"
    _copy_project(clone)  # an editable install writes into the project's folder
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    empty = _disk_bytes(environment)
    project = tomllib.loads((clone / "pyproject.toml").read_text())
    needs = [*project["project"]["dependencies"], *project["project"]["optional-dependencies"]["sample"]]
    builds = project["build-system"]["requires"]
    seconds_of_download = _pip(environment, "download", "--dest", str(wheels), torch, *needs)
    seconds_of_download += _pip(environment, "download", "--dest", str(wheels), *builds)
    downloads = sorted(wheels.iterdir())
    only_these = ("--no-index", "--find-links", str(wheels))
    seconds_of_install = _pip(environment, "install", *only_these, torch, "--editable", f"{clone}[sample]")
    return {
        "install_download": metric(sum(path.stat().st_size for path in downloads) / 1e6, "MB"),
        "install_files": metric(len(downloads), "files"),
        "install_disk": metric(_disk_bytes(environment) / 1e6, "MB"),
        "install_disk_of_pip": metric(empty / 1e6, "MB"),
        "install_download_wall": metric(seconds_of_download, "s"),
        "install_wall": metric(seconds_of_install, "s"),
    }


def recorded_bytes() -> int:
    """Bytes of all files that the packages of this environment list in their metadata and that are there."""
    sizes = {}
    for distribution in metadata.distributions():
        for file in distribution.files or ():
            try:
                status = Path(str(distribution.locate_file(file))).stat()
            except OSError:
                continue
            sizes[status.st_dev, status.st_ino] = status.st_size
    return sum(sizes.values())


def _copy_project(clone: Path) -> None:
    clone.mkdir()
    for name in NEEDED:
        if (PROJECT / name).is_dir():
            shutil.copytree(PROJECT / name, clone / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            shutil.copy(PROJECT / name, clone / name)


def _pip(environment: Path, command: str, *arguments: str) -> float:
    """Run pip in the environment, without its cache; wall seconds."""
    start = time.monotonic()
    python = str(environment / "bin" / "python")
    done = subprocess.run([python, "-m", "pip", command, "--quiet", "--no-cache-dir", *arguments], check=False)
    if done.returncode != 0:
        sys.exit(f"pip {command} ended with status {done.returncode}")
    return time.monotonic() - start


def _disk_bytes(folder: Path) -> int:
    """What the files below `folder` take up in whole blocks, each once however many names it has."""
    found = {}
    for path in folder.rglob("*"):
        status = path.lstat()
        found[status.st_dev, status.st_ino] = status.st_blocks * 512
    return sum(found.values())


if __name__ == "__main__":
    main()
