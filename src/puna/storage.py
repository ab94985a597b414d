"""The one way to durable bytes: every file of a run is written here, whole or not at all.

A local file is written under a temporary name, length-checked, synced, renamed, and its folder synced. On an object
store (any fsspec URL) it is one completed upload, since a store shows an object only when its upload is complete. What
must be written by one process alone (locks) is claimed: created exclusively. So a process that dies at any moment
leaves the old file or the new one, and at worst a temporary name that nobody reads, which `sweep` removes before the
next run.

After a power cut: what `create` finished is on the disk (file and folder synced); lines of an Appender are so up to the
last `sync`.
"""

from __future__ import annotations

import contextlib
import errno
import io
import itertools
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

import xxhash

from puna.errors import InputError, PunaError

Location = str | Path

TEMPORARY = ".part-"  # marks a name under which something is being written
_counter = itertools.count()

# Called as border(event, location) before and after every write, sync and rename that makes bytes durable. Fault tests
# put a function here that ends the process at the n-th call; it does nothing otherwise.
border: Callable[[str, str], None] = lambda event, location: None  # noqa: E731


def is_remote(location: Location) -> bool:
    return "://" in str(location)


@contextmanager
def create(location: Location) -> Iterator[BinaryIO]:
    """Open a new file for writing; it stands at `location` only when the block ends without an exception.

    An older file of that name is replaced in one step. Raises PunaError with the mend when the disk is full or the
    folder cannot be written. Any other OSError of the block is the block's own (it may be about another file) and
    passes as it is.
    """
    if is_remote(location):
        with _remote_create(str(location)) as file:
            yield file
        return
    path = Path(location)
    temporary = path.with_name(f"{TEMPORARY}{path.name}-{os.getpid()}-{next(_counter)}")
    with _plain_full_disk(path):
        with _plain_errors(path):
            make_folder(path.parent)
            border("before write", str(path))
            file = temporary.open("wb")
        try:
            with file:
                yield file
                with _plain_errors(path):
                    length = file.tell()
                    _sync(file, path)
            with _plain_errors(path):
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
    write(location, (json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode())


def read(location: Location) -> bytes:
    with open_read(location) as file:
        return file.read()


def read_json(location: Location) -> Any:
    """The JSON value at `location`; InputError when it is not JSON."""
    try:
        return json.loads(read(location))
    except ValueError as error:
        raise InputError(f"not valid JSON ({error})", where=str(location)) from None


def open_read(location: Location) -> BinaryIO:
    """A seekable file to read bytes from; InputError when there is none."""
    try:
        if is_remote(location):
            return cast(BinaryIO, _remote(str(location))[0].open(str(location), "rb"))
        return Path(location).open("rb")
    except FileNotFoundError:
        raise InputError("no such file", where=str(location)) from None
    except IsADirectoryError:
        raise InputError("is a folder where a file was expected", where=str(location)) from None
    except PermissionError:
        raise InputError("cannot be read", where=str(location), mend="check its permissions") from None


@contextmanager
def create_folder(location: Path) -> Iterator[Path]:
    """A temporary folder to fill, which becomes `location` whole when the block ends without an exception.

    Every file and folder in it is synced before the folder is renamed. `location` must not exist. Errors as `create`.
    """
    temporary = location.with_name(f"{TEMPORARY}{location.name}-{os.getpid()}-{next(_counter)}")
    with _plain_full_disk(location):
        with _plain_errors(location):
            make_folder(location.parent)
            for left in location.parent.glob(f"{TEMPORARY}{location.name}-*"):
                shutil.rmtree(left)
            temporary.mkdir()
        try:
            yield temporary
            with _plain_errors(location):
                for path in sorted(temporary.rglob("*")):
                    if path.is_file():
                        with path.open("rb+") as file:
                            _sync(file, path)
                    else:
                        _sync_folder(path)
                _sync_folder(temporary)
                _rename(temporary, location)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise


def claim(location: Path, data: bytes) -> bool:
    """Create `location` with `data` unless it exists: True for the one process that made it."""
    temporary = location.with_name(f"{TEMPORARY}{location.name}-{os.getpid()}-{next(_counter)}")
    with _plain_errors(location):
        make_folder(location.parent)
        with temporary.open("wb") as file:
            file.write(data)
            _sync(file, location)
        try:
            os.link(temporary, location)  # fails when the name is taken, and never shows a half-written file
        except FileExistsError:
            return False
        finally:
            temporary.unlink(missing_ok=True)
        _sync_folder(location.parent)
        return True


class Appender:
    """A file that grows by lines (metrics, log). A line is in the system's hands when `line` returns; `sync` makes all
    lines so far survive a power cut. A half line left by a killed process is cut off when the file is opened again."""

    def __init__(self, location: Path) -> None:
        self.location = location
        with _plain_errors(location):
            make_folder(location.parent)
            new = not location.exists()
            self._file = location.open("a+b", buffering=0)
            if new:
                _sync_folder(location.parent)
            self._cut_half_line()

    def line(self, text: str) -> None:
        with _plain_errors(self.location):
            border("before write", str(self.location))
            self._file.write(text.encode("utf-8", "backslashreplace").replace(b"\n", b" ") + b"\n")
            border("after write", str(self.location))

    def sync(self) -> None:
        _sync(self._file, self.location)

    def close(self) -> None:
        self._file.close()

    def _cut_half_line(self) -> None:
        end = self._file.seek(0, io.SEEK_END)
        start = end
        while start > 0:
            step = min(65536, start)
            self._file.seek(start - step)
            newline = self._file.read(step).rfind(b"\n")
            if newline >= 0:
                start = start - step + newline + 1
                break
            start -= step
        if start < end:
            self._file.truncate(start)
        self._file.seek(0, io.SEEK_END)


def make_folder(folder: Path) -> None:
    """Make a folder and its parents unless they exist; each one made is synced into the folder it lies in."""
    made = list(itertools.takewhile(lambda path: not path.exists(), (folder, *folder.parents)))
    folder.mkdir(parents=True, exist_ok=True)
    for path in reversed(made):
        with contextlib.suppress(PermissionError):  # a folder may be open to new entries and closed to reading
            _sync_folder(path.parent)


def exists(location: Location) -> bool:
    if is_remote(location):
        return bool(_remote(str(location))[0].exists(str(location)))
    return Path(location).exists()


def size(location: Location) -> int:
    """Bytes at `location`."""
    if is_remote(location):
        return int(_remote(str(location))[0].size(str(location)))
    return Path(location).stat().st_size


def listing(location: Location, pattern: str = "*") -> list[str]:
    """Sorted locations of the files in a folder whose name matches `pattern`; temporary names are left out."""
    if is_remote(location):
        system, root = _remote(str(location))
        found = [str(system.unstrip_protocol(name)) for name in system.glob(f"{root.rstrip('/')}/{pattern}")]
    else:
        found = [str(path) for path in Path(location).glob(pattern) if path.is_file()]
    return sorted(name for name in found if not name.rsplit("/", 1)[-1].startswith(TEMPORARY))


def remove(location: Location) -> None:
    """Remove a file or a folder with all it holds; nothing happens when there is none."""
    if is_remote(location):
        system, root = _remote(str(location))
        if system.exists(root):
            system.rm(root, recursive=True)
        return
    path = Path(location)
    border("before remove", str(path))
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def move(source: Path, target: Path) -> None:
    """Rename a file or folder within one file system, both folders synced."""
    with _plain_errors(target):
        make_folder(target.parent)
        _rename(source, target)
        if source.parent != target.parent:
            _sync_folder(source.parent)


def sweep(folder: Path) -> int:
    """Remove what killed processes left half-written below `folder`; only the holder of its lock may call this."""
    left = list(folder.rglob(f"{TEMPORARY}*"))
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


@contextmanager
def _remote_create(location: str) -> Iterator[BinaryIO]:
    """A local file to fill, uploaded in one go when the block ends without an exception."""
    system, root = _remote(location)
    with tempfile.NamedTemporaryFile() as file:
        yield cast(BinaryIO, file)
        file.flush()
        border("before write", location)
        system.put_file(file.name, root)
        border("after write", location)


def _remote(location: str) -> tuple[Any, str]:
    from fsspec.core import url_to_fs

    try:
        system, root = url_to_fs(location)
    except (ImportError, ValueError) as error:
        raise InputError(f"cannot be opened ({error})", where=location) from None
    return system, str(root)


def _sync(file: Any, location: Path) -> None:
    file.flush()
    border("before sync", str(location))
    os.fsync(file.fileno())
    border("after sync", str(location))


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _rename(source: Path, target: Path) -> None:
    border("before rename", str(target))
    source.replace(target)
    _sync_folder(target.parent)
    border("after rename", str(target))


@contextmanager
def _plain_full_disk(path: Path) -> Iterator[None]:
    """Say a full disk in one line with the mend."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            mend = "free some space and run the same command"
            raise PunaError("the disk is full", where=str(path), mend=mend) from error
        raise


@contextmanager
def _plain_errors(path: Path) -> Iterator[None]:
    """Say a full disk or a forbidden folder in one line with the mend."""
    try:
        with _plain_full_disk(path):
            yield
    except OSError as error:
        where = str(path)
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            mend = "choose another folder with --out, or mend its permissions"
            raise InputError("cannot be written", where=where, mend=mend) from error
        if error.errno in (errno.ENOTDIR, errno.EEXIST):
            raise InputError("a file stands where a folder is needed", where=where, mend="use --out") from error
        raise
