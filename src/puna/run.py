"""The run folder: where each artefact lies, who may write it, and its log.

One writer at a time: `run.lock` names host and process. A dead holder on the same host is taken over with a line;
another host's lock needs `--take-over`, since nobody here can tell whether that process still lives. Commands that only
read never look at the lock.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from puna import recipe as recipes
from puna import storage
from puna.errors import InputError
from puna.progress import configure, say
from puna.recipe import Recipe

FORMAT = 1  # of the lock
OWN_FILES = ("run.lock", "run.lock.guard", "log.txt")  # what may stand before recipe.toml is written


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
        folder.mkdir(parents=True, exist_ok=True)
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
    lock = folder / "run.lock"
    mine = {"format": FORMAT, "host": socket.gethostname(), "pid": os.getpid(), "born": _birth(os.getpid())}
    data = json.dumps(mine).encode()
    died = False
    # The guard is held only while the lock is judged, so that two processes cannot take over the same dead holder.
    with _guard(folder):
        while not storage.claim(lock, data):
            holder = _holder(lock)
            died = _judge(folder, holder, take_over) or died
            storage.remove(lock)
    if died:
        storage.sweep(folder)
    try:
        yield
    except BaseException:
        storage.sweep(folder)  # an interrupt ends workers in the middle of what they write
        raise
    finally:
        with contextlib.suppress(OSError):
            if _holder(lock) == mine:
                storage.remove(lock)


def _judge(folder: Path, holder: dict[str, Any], take_over: bool) -> bool:
    """True when the holder is gone and its lock may be taken; InputError otherwise."""
    name = f"process {holder.get('pid')} on {holder.get('host')}"
    if not holder:
        say(f"{folder}: an unreadable lock was removed")
        return True
    if holder["host"] != socket.gethostname():
        if take_over:
            say(f"{folder}: taken over from {name}, as asked")
            return True
        mend = "stop it there, or add --take-over when you know that it is dead"
        raise InputError(f"held by {name}", where=str(folder), mend=mend)
    if holder["pid"] != os.getpid() and _birth(holder["pid"]) == holder["born"] != "":
        raise InputError(f"held by {name}, which is running", where=str(folder), mend="wait for it or stop it")
    say(f"{folder}: {name} is dead; going on where it was")
    return True


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


@contextmanager
def _guard(folder: Path) -> Iterator[None]:
    try:
        handle = os.open(folder / "run.lock.guard", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        mend = "choose another folder with --out, or mend its permissions"
        raise InputError(f"cannot be written ({error.strerror})", where=str(folder), mend=mend) from None
    try:
        for _ in range(100):
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                time.sleep(0.05)
        else:
            raise InputError("another process is taking the lock", where=str(folder), mend="try again")
        yield
    finally:
        os.close(handle)
