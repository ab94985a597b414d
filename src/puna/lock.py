"""Who may write a run folder: one process at a time.

`run.lock` names host and process, and the writer holds a flock on `run.lock.held` as long as it lives. The kernel gives
that back however the process ends, and shows it across containers, between which numbers of processes mean nothing. A
dead holder on the same host is taken over with a line. Another host's lock needs `--take-over`, since nobody here can
tell whether that process still lives; so does, where there is no flock (an object store, some network file systems),
that of another PID namespace. Commands that only read never take the lock.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import secrets
import socket
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from puna import processes, storage
from puna.errors import InputError, PunaError
from puna.formats import LOCK
from puna.progress import say
from puna.storage import Place

TOLD = {"host": str, "pid": int, "born": str}  # what a lock says of its holder at least
HELD = "run.lock.held"  # an empty file: its flock is held as long as the run is
GUARD = "run.lock.guard"  # an empty file: its flock is held while the lock is judged


TAKE_OVER = "stop it there, or give puna run --take-over when you know that it is dead"


class Held(InputError):
    """Another process holds the folder, or may do so."""


@dataclass(frozen=True)
class Holder:
    """Who holds a run. alive: None where that cannot be told from here (another host, another PID namespace)."""

    host: str
    pid: int
    alive: bool | None

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


@contextmanager
def locked(
    folder: Place, take_over: bool = False, *, to_free: bool = False, mend: str = TAKE_OVER
) -> Iterator[Callable[[], None]]:
    """Hold the run in `folder`, which exists, for writing; what a dead holder left half-written is removed first.

    to_free: hold it by its flock alone where the disk has no room for a lock, since what is to be done makes room.
    mend: what to do where nobody can tell here whether the holder lives. Gives a function that raises PunaError once
    another process has taken the run over. Held when another process holds it, or may do so.
    """
    # The guard is held only while the lock is judged, so that two processes cannot take over the same dead holder.
    with _guard(folder):
        held, mine = _take(folder, take_over, to_free, mend)
    lock = folder / "run.lock"

    def still() -> None:
        if _holder(lock) != mine:
            kept = "see with puna status who holds it; what this process had finished is kept"
            raise PunaError("was taken over by another process", where=str(folder), mend=kept)

    try:
        storage.sweep(folder)  # a holder may have died before its lock stood
        yield still
    except BaseException:
        with contextlib.suppress(OSError, PunaError):
            storage.sweep(folder)  # an interrupt ends workers in the middle of what they write
        raise
    finally:
        with contextlib.suppress(OSError, PunaError):
            if _holder(lock) == mine:
                storage.remove(lock)
        held.close()


def holder(folder: Place) -> Holder | None:
    """Who holds the run, without a look at more than its lock; None when nobody does."""
    told = _holder(folder / "run.lock")
    if not told:
        return None
    return Holder(told["host"], told["pid"], _alive(told))


def _take(folder: Place, take_over: bool, to_free: bool, mend: str) -> tuple[BinaryIO, dict[str, Any]]:
    """Make the lock this process's: the open file whose flock it holds, and what the lock says."""
    lock = folder / "run.lock"
    held, free = _hold(folder)
    try:
        if free is False or storage.is_file(lock):
            LOCK.refuse_newer_file(lock)
            _judge(folder, _holder(lock), free, take_over, mend)
            storage.remove(lock)
        if free is False:  # another host's flock, taken over as asked: it stays with the removed file
            held.close()
            storage.remove(_side(folder) / HELD)
            held, free = _hold(folder)
        mine = {
            "format": LOCK.version,
            "host": socket.gethostname(),
            "machine": _machine(),
            "pid": os.getpid(),
            "born": processes.birth(os.getpid()),
            "namespace": processes.namespace(),
            "flock": free is True and not storage.is_remote(folder),
        }
        mine["nonce"] = secrets.token_hex(8)
        try:
            claimed = storage.claim(lock, json.dumps(mine).encode())
        except PunaError as error:
            full = isinstance(error.__cause__, OSError) and error.__cause__.errno in (errno.ENOSPC, errno.EDQUOT)
            if not (to_free and full and free is True and isinstance(folder, Path)):
                raise
            return held, {}
        if not claimed or _holder(lock) != mine:
            raise Held("another process is taking the lock", where=str(folder), mend="try again")
        if storage.is_remote(folder) and storage.claim(lock, json.dumps(mine).encode()):
            what = "this store makes an object again that is there, so it cannot keep two writers apart"
            raise InputError(what, where=str(lock), mend="use a store with conditional puts, or a local folder")
    except BaseException:
        held.close()
        raise
    return held, mine


def _judge(folder: Place, holder: dict[str, Any], free: bool | None, take_over: bool, mend: str) -> None:
    """Return when the holder is gone or may be taken over, with a line; Held otherwise.

    `free` is what its flock says: False while a process holds it, None when this file system has none.
    """
    name = f"process {holder['pid']} on {holder['host']}" if holder else "another process"
    here = not holder or _here(holder)
    gone = here and free is True and holder.get("flock") is True
    alive = _alive(holder) if holder else False
    if free is False and here:
        raise Held(f"held by {name}, which is running", where=str(folder), mend="wait for it or stop it")
    if not holder:
        say(f"{folder}: an unreadable lock was removed")
    elif alive is None and not gone:
        if not take_over:
            name += " in another PID namespace or before a reboot" if here else ""
            raise Held(f"held by {name}", where=str(folder), mend=mend)
        say(f"{folder}: taken over from {name}, as asked")
    elif alive:
        raise Held(f"held by {name}, which is running", where=str(folder), mend="wait for it or stop it")
    else:
        say(f"{folder}: {name} is dead; going on where it was")


def _side(folder: Place) -> Path:
    """Where the files with a flock lie: in the run folder, or for an object store in a folder of this machine, where
    they keep only this machine's processes apart; run.lock keeps all."""
    if isinstance(folder, Path):
        return folder
    named = storage.digest_bytes(str(folder).encode()).removeprefix("xxh3:")
    side = Path(tempfile.gettempdir()) / f"puna-{os.getuid()}-{named}"
    with contextlib.suppress(FileExistsError):
        side.mkdir(mode=0o700)
    status = side.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        mend = "remove it, or set TMPDIR to another folder"
        raise InputError("is not a folder of this user, and the lock needs it", where=str(side), mend=mend)
    return side


def _here(holder: dict[str, Any]) -> bool:
    """Whether that holder ran on this machine."""
    return bool(holder["host"] == socket.gethostname() and holder.get("machine", _machine()) == _machine())


def _alive(holder: dict[str, Any]) -> bool | None:
    """Whether that holder is a process of now; None where it cannot be told from here."""
    foreign = holder.get("namespace", processes.namespace()) != processes.namespace()
    # Machines that were copied name themselves alike: without a flock, only this boot's processes are known here.
    if not _here(holder) or foreign or not (holder.get("flock") or _same_boot(holder)):
        return None
    return bool(processes.birth(holder["pid"]) == holder["born"] != "")


def _same_boot(holder: dict[str, Any]) -> bool:
    return str(holder["born"]).partition("/")[0] == processes.birth(os.getpid()).partition("/")[0]


def _machine() -> str:
    """What tells this machine from others of its name, where the system keeps such a thing."""
    try:
        return Path("/etc/machine-id").read_text().strip()
    except (OSError, ValueError):
        return ""


def _holder(lock: Place) -> dict[str, Any]:
    data = storage.find(lock)
    try:
        value = json.loads(data or b"null")
    except ValueError:
        return {}
    sound = isinstance(value, dict) and all(isinstance(value.get(key), kind) for key, kind in TOLD.items())
    return value if sound else {}


def _hold(folder: Place) -> tuple[BinaryIO, bool | None]:
    """The open file that is locked while a run is held, and whether this process has the lock now (see `_flock`)."""
    file = _open(_side(folder) / HELD)
    # Whoever ends a run removes its run.lock first and gives the flock back then: that moment is waited for.
    _wait_until(lambda: _flock(file) is not False or storage.is_file(folder / "run.lock"))
    return file, _flock(file)


@contextmanager
def _guard(folder: Place) -> Iterator[None]:
    with _open(_side(folder) / GUARD) as file:
        if not _wait_until(lambda: _flock(file) is not False):
            raise Held("another process is taking the lock", where=str(folder), mend="try again")
        yield


def _open(path: Path) -> BinaryIO:
    # Python opens files so that programs started from here (workers are such) do not inherit them, nor so their flock.
    try:
        return path.open("ab")
    except OSError as error:
        mend = "mend its permissions, or give another folder"
        raise InputError(f"cannot be written ({error.strerror})", where=str(path.parent), mend=mend) from None


def _flock(file: BinaryIO) -> bool | None:
    """True when this open file has the flock, False when another has it, None when its file system has none."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _wait_until(condition: Callable[[], bool]) -> bool:
    """Whether `condition` came true within 5 seconds."""
    for _ in range(100):
        if condition():
            return True
        time.sleep(0.05)
    return False
