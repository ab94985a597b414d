"""Where runs and temporary files go: space, kind of file system, and whether it does what storage.py relies on."""

from __future__ import annotations

import importlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from puna.doctor.finding import Finding
from puna.doctor.mounts import Mount, mount_of, mounts
from puna.progress import size

if TYPE_CHECKING:
    from puna.storage import Location

LAPTOP_DISK = 300_000_000  # bytes; more than space.whole foresees for `laptop`, which a test holds
TEMPORARY_DISK = 300_000_000  # bytes; one header that torch.compile prepares takes 160 MB
NETWORK = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "lustre", "gpfs", "beegfs"}
IN_MEMORY = {"tmpfs", "ramfs", "devtmpfs"}
OTHER = "choose another with --out"


def space(folder: Location) -> list[Finding]:
    """What is free where runs go, against what `laptop` needs."""
    from puna.remote import is_remote

    if is_remote(folder):
        what = f"{folder} is on an object store: not tried, since nothing here reaches the network"
        return [Finding("disk", "note", what, "its own tools tell whether it can be reached")]
    there, wrong = _existing(Path(str(folder)))
    if wrong:
        return [Finding("disk", "error", wrong, OTHER)]
    status = os.statvfs(there)
    free = status.f_bavail * status.f_frsize
    what = f"{size(free)} free in {there}; laptop needs {size(LAPTOP_DISK)}"
    if free < LAPTOP_DISK:
        return [Finding("disk", "error", what, f"free {size(LAPTOP_DISK - free)} there, or {OTHER}")]
    if status.f_files and not status.f_favail:
        return [Finding("disk", "error", f"{what}, but no more files fit (inodes)", f"remove files, or {OTHER}")]
    return [Finding("disk", "ok", what)]


def file_system(folder: Location, root: Path = Path("/")) -> list[Finding]:
    """The kind of file system where runs go, and a trial of locks, links, renames and syncs in it."""
    from puna.remote import is_remote

    if is_remote(folder):
        return _object_store(str(folder))
    there, wrong = _existing(Path(str(folder)))
    if wrong:
        return []  # said by `space`
    mount = mount_of(there, mounts(root))
    kind = mount.kind if mount else "of a kind that the system does not tell"
    name = "file system"
    if problem := _trial(there):
        return [Finding(name, "error", f"{kind}: {problem}", OTHER)]
    lock = _flock_trial(there)
    if lock is False:
        what = f"{kind}: its locks keep nobody out"
        return [Finding(name, "warning", what, f"never start two commands on one run, or {OTHER}")]
    if lock is None:
        what = f"{kind}: it has no flock, so a dead holder in another container is not told from a living one"
        return [Finding(name, "warning", what, f"a killed run may then need --take-over; or {OTHER}")]
    return [_by_kind(name, mount, f"{kind}: locks, links, renames and syncs work")]


def temporary(root: Path = Path("/")) -> list[Finding]:
    """The folder for temporary files, in which torch.compile keeps its kernels."""
    name = "temporary files"
    try:
        folder = Path(tempfile.gettempdir())
    except FileNotFoundError as error:
        return [Finding(name, "error", error.strerror or str(error), "set TMPDIR to a folder that can be written")]
    wanted = os.environ.get("TMPDIR", "")
    if wanted and not Path(wanted).is_dir():
        what = f"in {folder}, since TMPDIR names no folder ({wanted})"
        return [Finding(name, "warning", what, 'mkdir -p "$TMPDIR", or unset TMPDIR')]
    status = os.statvfs(folder)
    free = status.f_bavail * status.f_frsize
    what = f"{size(free)} free in {folder}"
    if free < TEMPORARY_DISK:
        what = f"{what}; compiled kernels and what is on its way to an object store want {size(TEMPORARY_DISK)}"
        return [Finding(name, "warning", what, "free some there, or set TMPDIR to a folder with more")]
    mount = mount_of(folder, mounts(root))
    if mount and mount.kind in IN_MEMORY:
        what = f"{what}, which is held in memory ({mount.kind})"
        return [Finding(name, "note", what, "when memory is short, set TMPDIR to a folder on a disk")]
    return [Finding(name, "ok", what)]


def _existing(folder: Path) -> tuple[Path, str]:
    """The folder or the nearest one above it that exists, and what is wrong with it, in words."""
    for path in (folder.absolute(), *folder.absolute().parents):
        if path.is_dir():
            return path, ""
        if os.path.lexists(path):
            return path, f"{path} is not a folder"
    return folder, f"no part of {folder} exists"


def _trial(folder: Path) -> str:
    """Do what a run does, in a folder of its own that is removed; what went wrong, or ""."""
    from puna import storage

    try:
        with tempfile.TemporaryDirectory(prefix=storage.TEMPORARY, dir=folder, ignore_cleanup_errors=True) as scratch:
            file, lock = Path(scratch, "file"), Path(scratch, "lock")
            storage.write(file, b"old")
            storage.write(file, b"new")
            if storage.read(file) != b"new":
                return "a file that was replaced still shows what it was"
            if not storage.claim(lock, b"") or storage.claim(lock, b""):
                return "a file that one process alone may make is made twice or never"
    except Exception as error:
        return f"nothing can be written there as a run needs it ({error})"
    return ""


def _flock_trial(folder: Path) -> bool | None:
    """True: a lock keeps others out; False: it does not; None: there is none."""
    import fcntl

    from puna import storage

    with tempfile.TemporaryDirectory(prefix=storage.TEMPORARY, dir=folder, ignore_cleanup_errors=True) as scratch:
        path = Path(scratch, "lock")
        with path.open("ab") as first, path.open("ab") as second:
            try:
                fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return None
            try:
                fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            return False


def _by_kind(name: str, mount: Mount | None, what: str) -> Finding:
    if mount is None:
        return Finding(name, "ok", what)
    if mount.kind in NETWORK or mount.kind.startswith("fuse."):
        what = f"{what} here; it is not of this machine ({mount.source}), and what other hosts see is up to its server"
        mend = f"start a run from one host at a time; for speed, {OTHER} on a local disk"
        return Finding(name, "warning", what, mend)
    if mount.kind in IN_MEMORY:
        what = f"{what}; it is held in memory: a run takes memory there and is gone after a restart"
        return Finding(name, "note", what, f"to keep a run, {OTHER} on a disk")
    if mount.kind == "overlay":
        what = f"{what}; it is a container's own layer, which is gone with the container"
        return Finding(name, "note", what, "to keep a run, mount a volume and name it with --out")
    return Finding(name, "ok", what)


def _object_store(folder: str) -> list[Finding]:
    """Whether what opens such an address is installed."""
    from fsspec.registry import get_filesystem_class, known_implementations

    protocol = folder.partition("://")[0]
    name = "object store"
    if protocol not in known_implementations:
        return [Finding(name, "error", f"no package is known for {protocol}://", OTHER)]
    try:
        get_filesystem_class(protocol)
        importlib.import_module("upath")
    except ImportError as error:
        return [Finding(name, "error", f"{protocol}:// cannot be opened ({error})", "see the extra s3 below")]
    return [Finding(name, "ok", f"{protocol}:// can be opened")]
