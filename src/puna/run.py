"""The run folder: where each artefact lies, who may write it, and its log.

One writer at a time: `run.lock` names host and process, and the writer holds a flock on `run.lock.held` as long as it
lives. The kernel gives that back however the process ends, and shows it across containers, between which numbers of
processes mean nothing. A dead holder on the same host is taken over with a line. Another host's lock needs
`--take-over`, since nobody here can tell whether that process still lives; so does, on a file system without flock,
that of another PID namespace. Commands that only read never look at the lock.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from puna import recipe as recipes
from puna import storage
from puna.errors import InputError
from puna.progress import configure, say
from puna.recipe import Recipe

FORMAT = 1  # of the lock
HELD = "run.lock.held"  # an empty file: its flock is held as long as the run is
OWN_FILES = ("run.lock", "run.lock.guard", HELD, "log.txt")  # what may stand before recipe.toml is written


@dataclass(frozen=True)
class Run:
    """An open run folder; whoever holds it holds its lock."""

    folder: Path
    recipe: Recipe

    def path(self, *parts: str) -> Path:
        return self.folder.joinpath(*parts)


@contextmanager
def open_run(folder: Path, recipe: Recipe, *, take_over: bool = False) -> Iterator[Run]:
    """Hold the run folder for writing: make it if need be, take its lock, write the resolved recipe, open its log."""
    if folder.exists() and not folder.is_dir():
        raise InputError("a file stands where the run folder should be", where=str(folder), mend="use --out")
    _refuse_another_recipe(folder, recipe)
    try:
        storage.make_folder(folder)
    except OSError as error:
        what = f"cannot make the run folder ({error.strerror})"
        raise InputError(what, where=str(folder), mend="choose another with --out") from None
    with _lock(folder, take_over):
        _refuse_another_recipe(folder, recipe)
        text = recipes.as_toml(recipe).encode()
        target = folder / "recipe.toml"
        if not target.exists() or target.read_bytes() != text:
            storage.write(target, text)
        log = storage.Appender(folder / "log.txt")
        configure(log=log)
        try:
            yield Run(folder, recipe)
        finally:
            configure(log=None)
            log.close()


def read_recipe(folder: Path) -> Recipe:
    """The resolved recipe of a run folder; InputError when it is none."""
    target = folder / "recipe.toml"
    if not target.is_file():
        raise InputError("is not a run folder (it holds no recipe.toml)", where=str(folder))
    return recipes.load(str(target))


def _refuse_another_recipe(folder: Path, recipe: Recipe) -> None:
    if (folder / "recipe.toml").is_file():
        other = read_recipe(folder).name
        if other != recipe.name:
            what = f"was made by the recipe {other!r}, not {recipe.name!r}"
            raise InputError(what, where=str(folder), mend="choose another folder with --out")
    elif folder.is_dir():
        strange = [entry.name for entry in folder.iterdir() if entry.name not in OWN_FILES]
        if any(not name.startswith(storage.TEMPORARY) for name in strange):
            mend = "choose a new or empty folder with --out"
            raise InputError("holds files but no run", where=str(folder), mend=mend)


@contextmanager
def _lock(folder: Path, take_over: bool) -> Iterator[None]:
    # The guard is held only while the lock is judged, so that two processes cannot take over the same dead holder.
    with _guard(folder):
        held, mine, died = _take(folder, take_over)
    lock = folder / "run.lock"
    try:
        if died:
            storage.sweep(folder)
        yield
    except BaseException:
        storage.sweep(folder)  # an interrupt ends workers in the middle of what they write
        raise
    finally:
        with contextlib.suppress(OSError):
            if _holder(lock) == mine:
                storage.remove(lock)
        held.close()


def _take(folder: Path, take_over: bool) -> tuple[BinaryIO, dict[str, Any], bool]:
    """Make the lock this process's: the open file whose flock it holds, what the lock says, whether a holder died."""
    lock = folder / "run.lock"
    held, free = _hold(folder)
    try:
        died = free is False or lock.exists()
        if died:
            _judge(folder, _holder(lock), free, take_over)
            storage.remove(lock)
        if free is False:  # another host's flock, taken over as asked: it stays with the removed file
            held.close()
            storage.remove(folder / HELD)
            held, free = _hold(folder)
        mine = {
            "format": FORMAT,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "born": _birth(os.getpid()),
            "namespace": _namespace(),
            "flock": free is True,
        }
        if not storage.claim(lock, json.dumps(mine).encode()):
            raise InputError("another process is taking the lock", where=str(folder), mend="try again")
    except BaseException:
        held.close()
        raise
    return held, mine, died


def _judge(folder: Path, holder: dict[str, Any], free: bool | None, take_over: bool) -> None:
    """Return when the holder is gone or may be taken over, with a line; InputError otherwise.

    `free` is what its flock says: False while a process holds it, None when this file system has none.
    """
    name = f"process {holder['pid']} on {holder['host']}" if holder else "another process"
    here = not holder or holder["host"] == socket.gethostname()
    gone = here and free is True and holder.get("flock") is True
    foreign = holder.get("namespace", _namespace()) != _namespace()
    if free is False and here:
        raise InputError(f"held by {name}, which is running", where=str(folder), mend="wait for it or stop it")
    if not holder:
        say(f"{folder}: an unreadable lock was removed")
    elif not here or (foreign and not gone):
        if not take_over:
            mend = "stop it there, or add --take-over when you know that it is dead"
            name += " in another PID namespace" if here else ""
            raise InputError(f"held by {name}", where=str(folder), mend=mend)
        say(f"{folder}: taken over from {name}, as asked")
    elif not foreign and _birth(holder["pid"]) == holder["born"] != "":
        raise InputError(f"held by {name}, which is running", where=str(folder), mend="wait for it or stop it")
    else:
        say(f"{folder}: {name} is dead; going on where it was")


def _holder(lock: Path) -> dict[str, Any]:
    try:
        value = json.loads(lock.read_bytes())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) and {"host", "pid", "born"} <= value.keys() else {}


def _birth(pid: int) -> str:
    """What tells a process from a later one with the same number: its start time, or "" when there is none such."""
    try:
        if Path("/proc/self/stat").exists():
            boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            return "" if fields[0] == "Z" else f"{boot}/{fields[19]}"
        os.kill(pid, 0)
    except PermissionError:
        return "alive"
    except (OSError, IndexError):
        return ""
    return "alive"


def _namespace() -> str:
    """Within which the numbers of processes mean something: the PID namespace, or "" where there are none."""
    try:
        return str(Path("/proc/self/ns/pid").stat().st_ino)
    except OSError:
        return ""


def _hold(folder: Path) -> tuple[BinaryIO, bool | None]:
    """The open file that is locked while a run is held, and whether this process has the lock now (see `_flock`)."""
    file = _open(folder / HELD)
    # Whoever ends a run removes its run.lock first and gives the flock back then: that moment is waited for.
    _wait_until(lambda: _flock(file) is not False or (folder / "run.lock").exists())
    return file, _flock(file)


@contextmanager
def _guard(folder: Path) -> Iterator[None]:
    with _open(folder / "run.lock.guard") as file:
        if not _wait_until(lambda: _flock(file) is not False):
            raise InputError("another process is taking the lock", where=str(folder), mend="try again")
        yield


def _open(path: Path) -> BinaryIO:
    # Python opens files so that programs started from here (workers are such) do not inherit them, nor so their flock.
    try:
        return path.open("ab")
    except OSError as error:
        mend = "choose another folder with --out, or mend its permissions"
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
