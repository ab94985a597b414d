"""Which repositories, archives and tables an input of code names, beside installed packages.

A file is an archive (tar, zip, wheel) or belongs to a table of the BigQuery export. A folder is one repository when
metadata, a licence file or `.git` lies directly in it; else every folder in it is one, or holds some by the same rule
one level further down (OWNER/NAME), and every archive or table in it is an input. Other loose files are left alone.
Names that begin with a dot are passed over, and links to folders are not followed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from puna.data.code.projects import says_something
from puna.data.sources.inputs import DUMPS
from puna.data.sources.records import Input

LEVELS = 3  # of folders that are looked into for repositories: the one that is named, owners, names
MADE = {"__pycache__", "node_modules", ".git", ".hg", ".svn"}


def is_dump(location: str) -> bool:
    """Whether a file's name is that of an archive or of a table."""
    return DUMPS["github"].search(location) is not None


def of_folder(root: Path) -> Iterator[Input]:
    """The inputs in a folder, by the rule above, named from it."""
    if _is_repository(root):
        yield from _repository(root.resolve().name or "root", root)
    else:
        yield from _below(root, root, LEVELS - 1)


def _below(root: Path, folder: Path, levels: int) -> Iterator[Input]:
    for path in sorted(folder.iterdir()):
        name = path.relative_to(root).as_posix()
        if path.name.startswith(".") or (path.is_dir() and (path.is_symlink() or path.name in MADE)):
            continue
        if path.is_file():
            if is_dump(str(path)):
                yield Input(name, str(path.absolute()), name, path.stat().st_size)
        elif path.is_dir() and levels > 1 and not _is_repository(path) and _holds_some(path):
            yield from _below(root, path, levels - 1)
        elif path.is_dir():
            yield from _repository(name, path)


def _holds_some(folder: Path) -> bool:
    return any(_is_repository(path) or (path.is_file() and is_dump(str(path))) for path in folder.iterdir())


def _is_repository(folder: Path) -> bool:
    if not folder.is_dir() or folder.is_symlink():
        return False
    return any(
        path.name == ".git" or (says_something(path.name) and path.is_file() and not is_dump(str(path)))
        for path in folder.iterdir()
    )


def _repository(name: str, folder: Path) -> Iterator[Input]:
    """The files of a repository, links among them; nothing when it has none."""
    found = []
    for above, folders, files in os.walk(folder):
        folders[:] = sorted(each for each in folders if not each.startswith(".") and each not in MADE)
        for file in files:
            path = Path(above, file)
            size = path.stat().st_size if path.is_file() and not path.is_symlink() else 0
            found.append((path.relative_to(folder).as_posix(), size))
    if found:
        yield Input(name, str(folder.absolute()), name, sum(size for _, size in found), "", tuple(sorted(found)))
