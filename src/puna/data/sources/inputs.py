"""Where the inputs of a recipe lie: files, globs, folders, URLs, and `package:NAME/PATH` for what pip installed.

A package is located through its metadata, never imported. What is recorded of an input are names that hold on any
machine: relative to the folder that the recipe named, or inside the package.
"""

from __future__ import annotations

import re
import sys
import sysconfig
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path, PurePath, PurePosixPath

from puna import storage
from puna.data.code import archive, tables
from puna.data.sources.records import Input
from puna.errors import InputError
from puna.recipe import Source

PACKAGE = "package:"
PYTHON = "python"  # the name under which the standard library is asked for
SAMPLE = {"gensim", "networkx", "sympy"}  # packages of the extra `sample`
DUMPS = {  # what is read out of a folder, by source
    "commoncrawl": re.compile(r"\.(warc|wet)(\.gz)?$"),
    "c4": re.compile(r"\.(jsonl?(\.gz|\.zst)?|(warc|wet)(\.gz)?)$"),
    "github": re.compile(f"{archive.NAMED.pattern}|{tables.NAMED.pattern}"),
    "wikipedia": re.compile(r"(?<!-index\.txt)(?<!-index\.xml)\.(xml|bz2)$"),
    "books": re.compile(r"\.txt(\.utf-?8)?$"),
    "arxiv": re.compile(r"\.tar$"),
    "stackexchange": re.compile(r"\.7z$|(^|[/_.-])Posts\.xml$"),
}


def locate(source: str, recipe: Source) -> list[Input]:
    """The inputs of a source, sorted by declared name. Raises InputError for what is missing or named twice."""
    found: dict[str, Input] = {}
    for declared in recipe.inputs:
        if not declared.strip():
            raise InputError(
                "an input is empty", where=f"sources.{source}.inputs", mend="is a variable of the shell unset?"
            )
        for entry in _entries(source, declared):
            same = found.setdefault(entry.declared, entry)
            if same.location != entry.location:
                raise InputError(f"two inputs are named {entry.declared}", where=source, mend="rename one of the files")
    inputs = [found[name] for name in sorted(found)]
    _refuse_repeats(source, inputs)
    return inputs


def passed_over(source: str, recipe: Source) -> list[str]:
    """What the folders and globs of a source hold on this machine and `locate` does not read, sorted: files whose names
    end as none of its dumps do, and links to folders, which are not followed. Hidden files and code, of which no folder
    is read by endings alone, are left out."""
    found: set[Path] = set()
    named = [each for each in recipe.inputs if not each.startswith(PACKAGE) and not storage.is_remote(each)]
    for declared in named if source != "github" else []:
        root, _, others = _local(source, declared)
        found |= {root / name for name in others}
    read = {_expanded(declared) for declared in named}
    return sorted(path.as_posix() for path in found - read)


def package(name: str) -> metadata.Distribution:
    """The installed distribution of that name; InputError with what to type when there is none."""
    try:
        return metadata.distribution(name)
    except metadata.PackageNotFoundError:
        install = "'puna[sample]'" if normal(name) in SAMPLE else name
        raise InputError("is not installed", where=PACKAGE + name, mend=f"pip install {install}") from None


def normal(name: str) -> str:
    """A distribution's name as package indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def split_package(declared: str) -> tuple[str, str]:
    """(name, path inside it) of `package:NAME/PATH`."""
    name, _, path = declared.removeprefix(PACKAGE).partition("/")
    if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?", name):
        raise InputError("names no package", where=declared, mend=f"name it as {PACKAGE}NAME or {PACKAGE}NAME/PATH")
    return normal(name), path.strip("/")


def _entries(source: str, declared: str) -> Iterator[Input]:
    if declared.startswith(PACKAGE):
        if source == "github":
            yield _package_input(declared)
        else:
            yield from _package_files(declared)
    elif source == "github":
        yield from _repositories(declared)
    else:
        yield from _files(source, declared)


def _repositories(declared: str) -> Iterator[Input]:
    from puna.data.sources import repositories  # which imports DUMPS

    path = _expanded(declared)
    if storage.is_remote(declared) or not path.is_dir():
        found = list(_files("github", declared))
    else:
        found = list(repositories.of_folder(path.absolute()))
    if not found:
        raise InputError("no repository, archive or table of code in it", where=declared, mend="check the name")
    for entry in found:
        if not entry.members and not repositories.is_dump(entry.location):
            mend = f"name a folder, a tar or zip, tables contents* and licenses*, or {PACKAGE}NAME"
            raise InputError("is none of the files that code is read from", where=declared, mend=mend)
    yield from found


def _package_input(declared: str) -> Input:
    name, path = split_package(declared)
    if name == PYTHON or (name in sys.stdlib_module_names and not _installed(name)):
        return _standard_library(declared, name, path)
    distribution = package(name)
    members = _members(declared, distribution, path)
    root = Path(str(distribution.locate_file("")))
    sizes = tuple((member, _size(root / member)) for member in members)
    dump = f"{name} {distribution.version.partition('+')[0]}"  # builds for other hardware hold the same sources
    return Input(declared, str(root.resolve()), dump, sum(size for _, size in sizes), distribution.version, sizes)


def _standard_library(declared: str, name: str, path: str) -> Input:
    # Listed like a package, so that its refusal is counted like any other.
    root = Path(sysconfig.get_path("stdlib"))
    wanted = path if name == PYTHON else f"{name}/{path}".strip("/")
    names = (found.relative_to(root).as_posix() for found in root.rglob("*.py"))
    members = sorted(n for n in names if not n.startswith("site-packages/") and _inside(n.removesuffix(".py"), wanted))
    sizes = tuple((member, _size(root / member)) for member in members)
    version = ".".join(map(str, sys.version_info[:3]))
    return Input(declared, str(root), f"{PYTHON} {version}", sum(size for _, size in sizes), version, sizes)


def _package_files(declared: str) -> Iterator[Input]:
    name, path = split_package(declared)
    distribution = package(name)
    for member in _members(declared, distribution, path):
        location = Path(str(distribution.locate_file(member))).resolve()
        if not location.is_file():
            raise InputError("is listed by the package, but gone", where=declared, mend=f"install {name} again")
        version = f"{name} {distribution.version}"
        yield Input(f"{PACKAGE}{name}/{_below(member)}", str(location), location.name, location.stat().st_size, version)


def _members(declared: str, distribution: metadata.Distribution, path: str) -> list[str]:
    """Sorted paths of the package's own files; `path` is one inside its top folders. What the installer added (compiled
    files, metadata, scripts) differs between machines and is left out."""
    if distribution.files is None:
        raise InputError("has no list of its files", where=declared, mend="install it with pip")
    names = {file.as_posix() for file in distribution.files}
    own = [
        name
        for name in names
        if not name.startswith(("../", "/")) and not re.search(r"(^|/)(__pycache__|[^/]+\.(dist|egg)-info)/", name)
    ]
    members = sorted(name for name in own if not path or _inside(_below(name), path))
    if not members:
        mend = f"{distribution.metadata['Name']} {distribution.version} is what is installed"
        raise InputError("no such path in the package", where=declared, mend=mend)
    return members


def _below(member: str) -> str:
    """A member's path below the package's top folder."""
    return member.partition("/")[2]


def _inside(name: str, path: str) -> bool:
    return not path or name == path or name.startswith(f"{path}/")


def _installed(name: str) -> bool:
    return next(iter(metadata.distributions(name=name)), None) is not None


def _files(source: str, declared: str) -> Iterator[Input]:
    if storage.is_remote(declared):
        if "*" not in declared and storage.is_folder(declared):
            yield from _remote_folder(source, declared.rstrip("/"))
            return
        for location in _remote(source, declared):
            path = PurePosixPath(location.partition("://")[2])
            yield Input(path.name, location, _dump(path.name, path), storage.size(location))
        return
    root, names, others = _local(source, declared)
    if not names and (others or _expanded(declared).is_dir()):
        what = f"holds no file that {source} is read from"
        raise InputError(what, where=declared, mend=f"docs/sources/{source}.md says how they are named")
    if not names:
        mend = (
            "check the name; relative ones start from the folder in which puna runs, puna fetch gets those of [fetch]"
        )
        raise InputError("no such input", where=declared, mend=mend)
    for name in names:
        file = (root / name).absolute()
        yield Input(name, str(file), _dump(name, file), file.stat().st_size)


def _dump(name: str, file: PurePath) -> str:
    """A dump's own name. That of unpacked posts is the same for every site: the folder tells whose they are."""
    return f"{file.parent.name}/{name}" if name == "Posts.xml" else name


def _local(source: str, declared: str) -> tuple[Path, list[str], list[str]]:
    """The folder that inputs are named from, their names, and those of what else the folder or glob holds."""
    path = _expanded(declared)
    if path.is_file():
        return path.parent, [path.name], []
    root, pattern = path, "**/*"
    if not path.is_dir():
        root = next((parent for parent in path.parents if parent.is_dir()), Path())
        pattern = path.relative_to(root).as_posix()
    names: list[str] = []
    others: list[str] = []
    for file in root.glob(pattern):
        name = file.relative_to(root).as_posix()
        if any(part.startswith(".") for part in name.split("/")):
            continue
        if file.is_file():
            dump = DUMPS[source].search((root.absolute() / name).as_posix())
            (names if dump else others).append(name)
        elif file.is_symlink():
            others.append(name)
    return root, sorted(names), others


def _expanded(declared: str) -> Path:
    path = Path(declared)
    if declared.startswith("~"):
        return Path.home() / declared[1:].lstrip("/") if declared[1:2] in ("", "/") else path
    return path


def _remote_folder(source: str, declared: str) -> Iterator[Input]:
    """As of a folder of this machine, from one listing of all below it."""
    found = False
    for name, size in sorted(storage.tree(declared).items()):
        location = f"{declared}/{name}"
        if not any(part.startswith(".") for part in name.split("/")) and DUMPS[source].search(location):
            found = True
            yield Input(name, location, _dump(name, PurePosixPath(location.partition("://")[2])), size)
    if not found:
        what = f"holds no file that {source} is read from"
        raise InputError(what, where=declared, mend=f"docs/sources/{source}.md says how they are named")


def _remote(source: str, declared: str) -> list[str]:
    folder, _, pattern = declared.rpartition("/")
    if "*" in pattern:
        listed = (str(location) for location in storage.listing(folder, pattern))
        found = [location for location in listed if DUMPS[source].search(location)]
    else:
        found = [declared] if storage.exists(declared) else []
    if not found:
        raise InputError("no such input", where=declared, mend="check the name")
    return found


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _refuse_repeats(source: str, inputs: list[Input]) -> None:
    """Two inputs of one dump would give one document twice, under one id."""
    seen: dict[tuple[str, str], str] = {}
    for entry in inputs:
        for key in [path for path, _ in entry.members] or [""]:
            first = seen.setdefault((entry.dump, key), entry.declared)
            if first != entry.declared:
                what = f"{first} and {entry.declared} both hold {key or entry.dump}"
                raise InputError(what, where=f"sources.{source}.inputs", mend="take one of them out")
