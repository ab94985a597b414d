"""Which C++ compiler torch.compile would call here. Apart from machine.py, since it is asked before torch is loaded."""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import cache


@cache
def compiler() -> str:
    """Name and version of the C++ compiler that would be used, such as "g++ 12.2.0"; "" when there is none."""
    for name in (os.environ.get("CXX"), "g++", "clang++", "c++"):
        if not name or not shutil.which(name):
            continue
        for option in ("-dumpfullversion", "-dumpversion"):  # g++ answers to the first, clang++ only to the second
            found = subprocess.run([name, option], capture_output=True, text=True, check=False)
            if found.returncode == 0 and found.stdout.strip():
                return f"{name} {found.stdout.split()[0]}"
    return ""
