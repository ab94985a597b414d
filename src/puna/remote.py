"""Object stores as storage.py needs them: any URL that fsspec knows, as paths of universal_pathlib.

A store shows an object when its upload is complete, so there is nothing to rename and nothing to sync: an upload is the
write, the sync and the rename in one. What must be made by one process alone is a conditional put. Listings are never
cached: other processes write too. Addresses and credentials come from the environment and the files that the store's
own tools read; none is kept here.
"""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from puna import processes
from puna.errors import InputError, PunaError, telling_full_disk

if TYPE_CHECKING:
    from upath import UPath

WILDCARDS = frozenset("*?[")
PART = 8 << 20  # bytes of a part of an upload that grows; S3 takes no fewer than 5 MiB
MOST_PARTS = 9_000  # of one object; S3 takes 10,000
WITH_BUCKETS = ("s3", "s3a", "gs", "gcs", "abfs", "abfss", "az")
MEND = "check the address, the credentials and the network, and give the same command again"


@dataclass(frozen=True)
class Look:
    """What can be told of a file without reading it: its bytes, and what changes whenever it is written."""

    size: int
    stamp: int | str


def is_remote(location: object) -> bool:
    return "://" in str(location) and not str(location).startswith("file://")


def place(location: object) -> UPath:
    """The path of a URL; InputError with the mend when nothing here can open it."""
    protocol, _, rest = str(location).partition("://")
    if protocol in WITH_BUCKETS and not rest.partition("/")[0].strip():
        raise InputError("names no bucket", where=str(location), mend="is a variable of the shell unset?")
    try:
        from upath import UPath

        path = UPath(str(location), use_listings_cache=False)
        _ = path.fs
    except ImportError as error:
        mend = "install the package that it names"
        if protocol in ("s3", "s3a"):
            mend = "install the extra for object stores: pip install 'puna[s3]'"
        raise InputError(f"cannot be opened here ({error})", where=str(location), mend=mend) from None
    except Exception as error:  # whatever the file system of that protocol raises for what it cannot read
        raise InputError(f"cannot be opened ({said(error)})", where=str(location), mend=MEND) from None
    return path


def of_store(error: BaseException) -> bool:
    """Whether an exception came out of a store's client; each client has kinds of its own."""
    frames = traceback.walk_tb(error.__traceback__)
    return any(str(frame.f_globals.get("__name__", "")).split(".")[0] in ("fsspec", "upath") for frame, _ in frames)


@contextmanager
def answers(location: object, *, writing: bool = False) -> Iterator[None]:
    """Say in one line what a store refuses or when it does not answer; what Puna itself says passes."""
    try:
        yield
    except PunaError:
        raise
    except PermissionError as error:
        raise InputError(f"the object store refuses ({said(error)})", where=str(location), mend=MEND) from error
    except FileNotFoundError:
        what, mend = ("no such bucket", "make it first") if writing else ("no such file", "")
        raise InputError(what, where=str(location), mend=mend) from None
    except Exception as error:  # each store's client has exceptions of its own
        raise PunaError(f"the object store does not serve ({said(error)})", where=str(location), mend=MEND) from error


def open_read(location: object) -> BinaryIO:
    """A seekable file over ranges of the object."""
    with answers(location):
        path = place(location)
        return cast(BinaryIO, path.fs.open(path.path, "rb"))


def read(location: object) -> bytes:
    """All bytes of the object, in one request."""
    with answers(location):
        path = place(location)
        return cast(bytes, path.fs.cat_file(path.path))


def upload(source: Path | str, location: object) -> None:
    """Make the object of one local file, in one completed upload."""
    with answers(location, writing=True):
        path = place(location)
        path.fs.put_file(str(source), path.path)


def grows(location: object) -> bool:
    """Whether a store is known to show nothing of a `Growing` object before it is completed; some clients of fsspec,
    that of `memory:` among them, show it from its first byte on."""
    return place(location).protocol in ("s3", "s3a")


class Growing:
    """An object on its way: parts are uploaded as bytes come, and `complete` alone makes them the object (a multipart
    upload). Memory: three parts at most.

    Its parts count as stored until it is completed or abandoned; those of a process that was killed stay until
    `forget_uploads`.
    """

    def __init__(self, location: object, size: int | None = None) -> None:
        """size: bytes that it will have, if known; parts are larger where many would be needed."""
        self.location = location
        part = -(-max(PART, -(-(size or 0) // MOST_PARTS)) // (1 << 20)) << 20
        with answers(location, writing=True):
            path = place(location)
            self._file: Any = path.fs.open(path.path, "wb", block_size=part, autocommit=False)

    def write(self, data: bytes) -> None:
        with answers(self.location, writing=True):
            self._file.write(data)

    def send(self) -> None:
        """Have all bytes at the store; none may follow."""
        with answers(self.location, writing=True):
            self._file.close()

    def complete(self) -> None:
        """Make them the object. `send` was called."""
        with answers(self.location, writing=True):
            self._file.commit()

    def abandon(self) -> None:
        """Have the store forget them, if it answers."""
        with suppress(Exception):  # each store's client has exceptions of its own
            self._file.discard()
        self._file.closed = True  # else what is left of it is sent when Python forgets the file


def forget_uploads(folder: object) -> None:
    """Have the store forget what killed processes had begun to upload below a folder of which no other process writes.

    Done where the protocol lists uploads (S3), for a thousand of them; other stores forget by rules of their own.
    """
    with answers(folder):
        path = place(folder)
        if not grows(path):
            return
        bucket, key, _ = path.fs.split_path(path.path)
        below = f"{key.rstrip('/')}/"
        for told in path.fs.call_s3("list_multipart_uploads", Bucket=bucket, Prefix=below).get("Uploads", ()):
            if told["Key"].startswith(below):
                path.fs.call_s3("abort_multipart_upload", Bucket=bucket, Key=told["Key"], UploadId=told["UploadId"])


def put(location: object, data: bytes) -> None:
    """Make a small object, or replace it."""
    with answers(location, writing=True):
        path = place(location)
        path.fs.pipe_file(path.path, data)


def claim(location: object, data: bytes) -> bool:
    """Make the object unless it exists: True for the one process that made it (a conditional put)."""
    with answers(location, writing=True):
        path = place(location)
        try:
            path.fs.pipe_file(path.path, data, mode="create")
        except FileExistsError:
            return False
        return True


def exists(location: object) -> bool:
    return _info(location) is not None


def is_folder(location: object) -> bool:
    told = _info(location)
    return told is not None and told["type"] != "file"


def look(location: object) -> Look | None:
    """Bytes of an object, and what changes whenever it is made anew: its ETag, or when it was made."""
    told = _info(location)
    if told is None or told["type"] != "file":
        return None
    named = ("ETag", "etag", "mtime", "created", "updated")
    return Look(int(told["size"]), str(next((told[name] for name in named if told.get(name)), "")))


def listing(folder: object, pattern: str) -> list[UPath]:
    """The objects below a folder whose path from there matches `pattern`, without a request for each of them: by one
    listing of the folder where its only wildcard stands, or of all below the first."""
    with answers(folder):
        root = place(folder)
        parts = pattern.split("/")
        plain = list(itertools.takewhile(lambda part: not set(part) & WILDCARDS, parts))
        if plain == parts:
            return [root / pattern] if look(root / pattern) else []
        above = root.path.rstrip("/") + "/"
        base = above + "/".join(plain)
        found: set[str] = set()
        if len(parts) == len(plain) + 1:
            with suppress(FileNotFoundError):
                found = {told["name"] for told in root.fs.ls(base, detail=True) if told["type"] == "file"}
        else:
            found = set(root.fs.find(base))
        inside = (name.removeprefix(above) for name in found if not name.endswith("/"))
        return [root / name for name in inside if _matches(name.split("/"), parts)]


def tree(folder: object) -> dict[str, int]:
    """Bytes of every object below a folder, by its path from there."""
    with answers(folder):
        root = place(folder)
        above = root.path.rstrip("/") + "/"
        found = root.fs.find(root.path, detail=True)
        # A folder made by hand is an empty object whose name ends in a slash.
        files = {name: int(told["size"] or 0) for name, told in sorted(found.items()) if not name.endswith("/")}
        return {name.removeprefix(above): size for name, size in files.items() if name.startswith(above)}


def names(folder: object) -> list[str]:
    """The names of what lies directly in a folder."""
    with answers(folder):
        root = place(folder)
        try:
            found = root.fs.ls(root.path, detail=False)
        except FileNotFoundError:
            return []
        above = root.path.rstrip("/") + "/"
        inside = (name.removeprefix(above).rstrip("/") for name in found if name.startswith(above))
        return sorted(name for name in inside if name)


def remove(location: object) -> None:
    """Remove an object, or all below a folder; nothing happens when there is none."""
    with answers(location):
        path = place(location)
        found = path.fs.find(path.path)
        # `rm` takes many in one request, and a name that holds a wildcard for all that it matches.
        plain = [name for name in found if not set(name) & WILDCARDS]
        if plain:
            path.fs.rm(plain)
        for name in set(found) - set(plain):
            path.fs.rm_file(name)


def copy(source: object, target: object) -> None:
    """Make the object `target` of the bytes of another one, within the store."""
    with answers(target, writing=True):
        path, to = place(source), place(target)
        path.fs.cp_file(path.path, to.path)


def download(location: object, target: BinaryIO) -> None:
    """Write the object's bytes into an open file."""
    with open_read(location) as file:
        shutil.copyfileobj(file, target, 1 << 20)


@contextmanager
def local_copy(location: object) -> Iterator[Path]:
    """A local file with the object's bytes, under its own name, removed when the block ends."""
    with tempfile.TemporaryDirectory(prefix=temporary()) as folder:
        copy = Path(folder) / place(location).name
        with copy.open("wb") as file:
            download(location, file)
        yield copy


@contextmanager
def file_to_send(location: object, send: Callable[[Path, Any], None]) -> Iterator[BinaryIO]:
    """A local file to fill, which `send` takes to `location` when the block ends without an exception."""
    with telling_full_disk(tempfile.gettempdir()), tempfile.NamedTemporaryFile(prefix=temporary()) as file:
        yield cast(BinaryIO, file)
        file.flush()
        send(Path(file.name), location)


@contextmanager
def folder_to_send(folder: object, last: str, send: Callable[[Path, Any], None]) -> Iterator[Path]:
    """A local folder to fill, whose files `send` takes below `folder`, the one named `last` behind all others."""
    with telling_full_disk(tempfile.gettempdir()), tempfile.TemporaryDirectory(prefix=temporary()) as name:
        yield Path(name)
        for path in sorted(Path(name).rglob("*"), key=lambda path: (path.name == last, path)):
            if path.is_file():
                send(path, place(folder) / path.relative_to(name).as_posix())


def temporary() -> str:
    """How names begin of what this process puts into the local temporary folder on its way to or from a store."""
    return f"{_ours()}{os.getpid()}-"


def sweep_temporary() -> None:
    """Remove from the local temporary folder what killed processes left there."""
    for left in Path(tempfile.gettempdir()).glob(f"{_ours()}*"):
        pid = left.name.removeprefix(_ours()).partition("-")[0]
        with suppress(OSError):
            if pid.isdecimal() and left.lstat().st_uid == os.getuid() and not processes.lives(int(pid)):
                shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()


def _ours() -> str:
    """Of this user, and of one PID namespace, within which numbers of processes mean something."""
    return f"puna-{os.getuid()}-{processes.namespace()}-"


def _info(location: object) -> Mapping[str, Any] | None:
    """What the store tells; None where there is nothing. One that does not answer is an error, not an absence."""
    with answers(location):
        path = place(location)
        try:
            return cast("Mapping[str, Any]", path.fs.info(path.path))
        except FileNotFoundError:
            return None


def _matches(names: Sequence[str], patterns: Sequence[str]) -> bool:
    return len(names) == len(patterns) and all(map(fnmatchcase, names, patterns))


def said(error: BaseException) -> str:
    return str(error).strip() or type(error).__name__
