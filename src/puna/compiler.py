"""Which C++ compiler is used here, and by which path torch names itself to it.

Apart from what compiles with it (torch.compile, generate/native.py), since both are settled before torch is loaded.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path

import xxhash

LONGEST = 10.0  # seconds for a compiler to tell its version


@cache
def compiler() -> str:
    """Name and version of the C++ compiler that would be used, such as "g++ 12.2.0"; "" when there is none."""
    for name in (os.environ.get("CXX"), "g++", "clang++", "c++"):
        if not name or not shutil.which(name):
            continue
        for option in ("-dumpfullversion", "-dumpversion"):  # g++ answers to the first, clang++ only to the second
            try:
                found = subprocess.run([name, option], capture_output=True, text=True, check=False, timeout=LONGEST)
            except (OSError, subprocess.TimeoutExpired):  # not a program, or one that waits for something
                break
            if found.returncode == 0 and found.stdout.strip():
                return f"{name} {found.stdout.split()[0]}"
    return ""


def name_torch_without_spaces() -> None:
    """Have torch imported by a path without spaces: it hands its own folder to the compiler unquoted.

    Where it lies in a folder with a space, a link in the user's cache (XDG_CACHE_HOME, ~/.cache) is put before that
    folder in sys.path. Where no link can be made, all stays as it is, and training says why nothing is compiled.
    """
    found = None if "torch" in sys.modules else importlib.util.find_spec("torch")
    if found is None or found.origin is None:
        return
    packages = str(Path(found.origin).parents[1])
    if not _has_space(packages):
        return
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "puna"
    link = cache / f"packages-{xxhash.xxh3_64_hexdigest(packages.encode())}"
    with suppress(OSError):
        cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        with suppress(FileExistsError):
            link.symlink_to(packages)
        # Code is imported through it, so it must be ours.
        if link.lstat().st_uid == os.getuid() and str(link.readlink()) == packages and not _has_space(str(link)):
            place = sys.path.index(packages) if packages in sys.path else 0
            sys.path.insert(place, str(link))
            importlib.invalidate_caches()


def _has_space(path: str) -> bool:
    return any(character.isspace() for character in path)
