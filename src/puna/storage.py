"""The one way to durable bytes: every file of a run is written here, whole or not at all.

A local file is written under a temporary name, length-checked, synced, renamed, and its folder synced. On an object
store (any URL, see remote.py) it is one completed upload, since a store shows an object only when its upload is
complete. What must be written by one process alone (locks) is claimed: created exclusively. So a process that dies at
any moment leaves the old file or the new one, and at worst a temporary name that nobody reads, which `sweep` removes
before the next run.

After a power cut: what `create` finished is on the disk (file and folder synced); lines of an Appender are so up to the
last `sync`.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias

import xxhash

from puna import remote
from puna.errors import InputError, PunaError, telling_denial, telling_full_disk
from puna.remote import Look as Look
from puna.remote import is_remote as is_remote
from puna.unfinished import TEMPORARY as TEMPORARY
from puna.unfinished import aside as aside
from puna.unfinished import sweep_beside

if TYPE_CHECKING:
    from upath import UPath

Place: TypeAlias = "Path | UPath"
"""A path of this machine or of an object store; only what both have is used of it."""
Location: TypeAlias = "str | Path | UPath"

SEEN = 60.0  # seconds in which what one machine wrote must be seen by another; network file systems cache names

# Called as border(event, location) around the writes, syncs, renames, removals and uploads that make bytes durable.
# Fault tests put a function here that ends the process at the n-th call; it does nothing otherwise.
border: Callable[[str, str], None] = lambda event, location: None  # noqa: E731


def place(location: Location) -> Place:
    """The path that a text names: a local one, or one on an object store when it is a URL."""
    if is_remote(location):
        return location if not isinstance(location, str) else remote.place(location)
    return _local(location)


@contextmanager
def create(location: Location) -> Iterator[BinaryIO]:
    """Open a new file for writing; it stands at `location` only when the block ends without an exception.

    An older file of that name is replaced in one step. Raises PunaError with the mend when the disk is full or the
    folder cannot be written. Any other OSError of the block is the block's own (it may be about another file) and
    passes as it is.
    """
    if is_remote(location):
        with remote.file_to_send(location, upload) as file:
            yield file
        return
    path = _local(location)
    temporary = aside(path)
    with telling_full_disk(path):
        with telling_denial(path):
            make_folder(path.parent)
            border("before write", str(path))
            file = temporary.open("wb")
        try:
            with file:
                yield file
                with telling_denial(path):
                    length = file.tell()
                    sync(file, path)
            with telling_denial(path):
                if temporary.stat().st_size < length:
                    raise PunaError("fewer bytes stand on the disk than were written", where=str(path))
                _rename(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def write(location: Location, data: bytes) -> None:
    """Write `data` as the whole file at `location`."""
    with create(location) as file:
        file.write(data)


def write_json(location: Location, value: Any) -> None:
    """Write `value` as JSON with sorted keys, so that equal values are equal bytes."""
    plain = json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    write(location, plain.encode(errors="backslashreplace"))  # a lone surrogate (names not in UTF-8) as JSON's \uXXXX


def read(location: Location) -> bytes:
    if is_remote(location):
        return remote.read(location)
    with open_read(location) as file:
        return file.read()


def read_json(location: Location) -> Any:
    """The JSON value at `location`; InputError when it is not JSON."""
    try:
        return json.loads(read(location))
    except (ValueError, RecursionError) as error:
        raise InputError(f"not valid JSON ({error})", where=str(location)) from None


def open_read(location: Location) -> BinaryIO:
    """A seekable file to read bytes from; InputError when there is none."""
    if is_remote(location):
        return remote.open_read(location)
    try:
        return _local(location).open("rb")
    except FileNotFoundError:
        raise InputError("no such file", where=str(location)) from None
    except IsADirectoryError:
        raise InputError("is a folder where a file was expected", where=str(location)) from None
    except PermissionError:
        raise InputError("cannot be read", where=str(location), mend="check its permissions") from None


@contextmanager
def local_copy(location: Location) -> Iterator[Path]:
    """The file as one of this machine, for what can read no other: itself, or a copy for as long as the block lasts."""
    if is_remote(location):
        with remote.local_copy(location) as copy:
            yield copy
    elif _local(location).is_file():
        yield _local(location)
    else:
        raise InputError("no such file", where=str(location))


@contextmanager
def create_folder(location: Place, *, last: str = "") -> Iterator[Path]:
    """A temporary folder to fill, which becomes `location` whole when the block ends without an exception.

    Every file and folder in it is synced before the folder is renamed. `location` must not exist. An object store
    cannot rename a folder: there its file named `last` is uploaded last, and tells readers that it is whole. Errors as
    `create`.
    """
    if is_remote(location):
        with remote.folder_to_send(location, last, upload) as folder:
            yield folder
        return
    location = _local(location)
    temporary = aside(location)
    with telling_full_disk(location):
        with telling_denial(location):
            make_folder(location.parent)
            sweep_beside(location)
            temporary.mkdir()
        try:
            yield temporary
            with telling_denial(location):
                for path in sorted(temporary.rglob("*")):
                    if path.is_file():
                        with path.open("rb+") as file:
                            sync(file, path)
                    else:
                        sync_folder(path)
                sync_folder(temporary)
                try:
                    _rename(temporary, location)
                except OSError as error:
                    if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                        raise
                    what = "was made by somebody else in the meantime"
                    raise InputError(what, where=str(location), mend="give another name, or remove it") from None
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise


def claim(location: Place, data: bytes) -> bool:
    """Create `location` with `data` unless it exists: True for the one process that made it."""
    if is_remote(location):
        with telling_denial(location):
            border("before write", str(location))
            made = remote.claim(location, data)
            border("after write", str(location))
        return made
    location = _local(location)
    temporary = aside(location)
    with telling_denial(location):
        make_folder(location.parent)
        try:
            with temporary.open("wb") as file:
                file.write(data)
                sync(file, location)
            os.link(temporary, location)  # fails when the name is taken, and never shows a half-written file
        except FileExistsError:
            return False
        finally:
            temporary.unlink(missing_ok=True)
        sync_folder(location.parent)
        return True


def make_folder(folder: Place) -> None:
    """Make a folder and its parents unless they exist; each one made is synced into the folder it lies in. An object
    store has no folders to make."""
    if is_remote(folder):
        return
    folder = _local(folder)
    made = list(itertools.takewhile(lambda path: not path.exists(), (folder, *folder.parents)))
    folder.mkdir(parents=True, exist_ok=True)
    for path in reversed(made):
        with contextlib.suppress(PermissionError):  # a folder may be open to new entries and closed to reading
            sync_folder(path.parent)


def find(location: Location) -> bytes | None:
    """The bytes of a file; None when there is none."""
    try:
        return read(location)
    except InputError as error:
        if isinstance(error.__context__, FileNotFoundError | NotADirectoryError):
            return None
        raise


def look(location: Location) -> Look | None:
    """In one request of an object store; None when there is no such file."""
    if is_remote(location):
        return remote.look(location)
    try:
        status = _local(location).stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return Look(status.st_size, status.st_mtime_ns) if stat.S_ISREG(status.st_mode) else None


def exists(location: Location) -> bool:
    return remote.exists(location) if is_remote(location) else _local(location).exists()


def is_file(location: Location) -> bool:
    """As `look`: of a path on an object store its own `is_file` takes a failed request for absence."""
    return look(location) is not None


def is_folder(location: Location) -> bool:
    return remote.is_folder(location) if is_remote(location) else _local(location).is_dir()


def names(folder: Location) -> list[str]:
    """The names of what lies directly in a folder, sorted."""
    return remote.names(folder) if is_remote(folder) else sorted(path.name for path in _local(folder).iterdir())


def size(location: Location) -> int:
    """Bytes at `location`; InputError when there is no such file."""
    seen = look(location)
    if seen is None:
        raise InputError("no such file", where=str(location))
    return seen.size


def listing(folder: Location, pattern: str = "*") -> list[Place]:
    """The files below a folder whose path from there matches `pattern`, sorted; temporary names are left out."""
    found: list[Place]
    if is_remote(folder):
        found = [*remote.listing(folder, pattern)]
    else:
        found = [path for path in _local(folder).glob(pattern) if path.is_file()]
    return sorted((path for path in found if not path.name.startswith(TEMPORARY)), key=str)


def below(location: Place, folder: Place) -> str:
    """The path of `location` from `folder` on, with / between its parts, as records hold it."""
    if is_remote(folder):
        return str(location).removeprefix(str(folder).rstrip("/") + "/")
    return _local(location).relative_to(_local(folder)).as_posix()


def tree(folder: Location) -> dict[str, int]:
    """Bytes of every file below a folder by its path from there, temporary names too; links are not followed."""
    if is_remote(folder):
        return remote.tree(folder)
    found = {}
    root = _local(folder)
    for above, _, names in os.walk(root):
        for name in names:
            path = Path(above, name)
            with contextlib.suppress(FileNotFoundError):  # it may go while the folder is walked
                found[path.relative_to(root).as_posix()] = path.lstat().st_size
    return dict(sorted(found.items()))


def remove(location: Location) -> None:
    """Remove a file or a folder with all it holds; nothing happens when there is none. A local folder goes at once."""
    with telling_denial(location):
        border("before remove", str(location))
        if is_remote(location):
            remote.remove(location)
        else:
            _remove_local(_local(location))
        border("after remove", str(location))


def move(source: Place, target: Place) -> None:
    """Rename a file or folder within one file system, both folders synced. On an object store: copy one file, and
    remove it; killed between, both stand, and the same move ends it."""
    if is_remote(target):
        with telling_denial(target):
            border("before write", str(target))
            remote.copy(source, target)
            border("after write", str(target))
        remove(source)
        return
    source, target = _local(source), _local(target)
    with telling_denial(target):
        make_folder(target.parent)
        _rename(source, target)
        if source.parent != target.parent:
            sync_folder(source.parent)


def sweep(folder: Place) -> int:
    """Remove what killed processes left half-written below `folder`; only the holder of its lock may call this."""
    if is_remote(folder):
        remote.sweep_temporary()
    left = [] if is_remote(folder) else list(_local(folder).rglob(f"{TEMPORARY}*"))
    for path in left:
        remove(path)
    return len(left)


def digest(location: Location) -> str:
    """`xxh3:` and 32 hex digits: the 128-bit xxh3 of the file's bytes, read in blocks of 1 MiB."""
    state = xxhash.xxh3_128()
    with open_read(location) as file:
        while block := file.read(1 << 20):
            state.update(block)
    return f"xxh3:{state.hexdigest()}"


def digest_bytes(data: bytes) -> str:
    return f"xxh3:{xxhash.xxh3_128_hexdigest(data)}"


def _local(location: Location) -> Path:
    return location if isinstance(location, Path) else Path(str(location).removeprefix("file://"))


def upload(file: Path, location: Location) -> None:
    """Make the object of a local file."""
    with telling_denial(location):
        border("before write", str(location))
        remote.upload(file, location)
        border("after write", str(location))


def sync(file: Any, location: Location) -> None:
    """Have what was written to an open file survive a power cut."""
    file.flush()
    border("before sync", str(location))
    os.fsync(file.fileno())
    border("after sync", str(location))


def sync_folder(folder: Path) -> None:
    """Have the names in a folder survive a power cut."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove_local(path: Path) -> None:
    """A folder goes in one step, by a rename to a name that nobody reads; a kill behind it leaves work for `sweep`."""
    if path.is_dir() and not path.is_symlink():
        if not path.name.startswith(TEMPORARY):
            path = path.rename(aside(path))
            border("after rename", str(path))
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _rename(source: Path, target: Path) -> None:
    border("before rename", str(target))
    source.replace(target)
    sync_folder(target.parent)
    border("after rename", str(target))
