"""Names under which something is being written, beside the name that it gets when it is whole."""

from __future__ import annotations

import glob
import itertools
import os
import secrets
import shutil
from pathlib import Path

from puna.processes import birth

TEMPORARY = ".part-"  # marks such a name; nobody reads it
# It starts anywhere, since processes of two machines may have one number and write into one folder.
_counter = itertools.count(secrets.randbelow(1 << 48))


def aside(path: Path) -> Path:
    """A name beside `path` that no other process or call takes."""
    return path.with_name(f"{TEMPORARY}{path.name}-{os.getpid()}-{next(_counter)}")


def sweep_beside(location: Path) -> None:
    """Remove what killed processes of this machine left half-written for the file or folder `location`."""
    for left in location.parent.glob(f"{TEMPORARY}{glob.escape(location.name)}-*"):
        process = left.name.removeprefix(f"{TEMPORARY}{location.name}-").partition("-")[0]
        if not (process.isascii() and process.isdecimal() and len(process) < 10 and birth(int(process))):
            if left.is_dir() and not left.is_symlink():
                shutil.rmtree(left)
            else:
                left.unlink(missing_ok=True)
