"""The run folder: where each artefact lies, who may write it, and its log.

A run folder is one of this machine or on an object store. It has one writer at a time (lock.py); commands that only
read need nothing but the folder.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from puna import recipe as recipes
from puna import storage
from puna.errors import InputError
from puna.formats import PROGRESS, refuse_newer
from puna.lines import Appender, hide
from puna.lines import show as show_progress
from puna.lock import GUARD, HELD, locked
from puna.progress import configure, failed
from puna.recipe import Recipe
from puna.storage import Place

SHOWN_REMOTELY = 30.0  # seconds between two accounts of progress on an object store
OWN_FILES = ("run.lock", GUARD, HELD, "log.txt", "progress.json")  # what may stand before recipe.toml is written


@dataclass(frozen=True)
class Run:
    """An open run folder; whoever holds it holds its lock."""

    folder: Place
    still: Callable[[], None]
    """Raises PunaError once another process has taken the run over."""


@contextmanager
def open_run(folder: Place, recipe: Recipe, *, take_over: bool = False) -> Iterator[Run]:
    """Hold the run folder for writing: make it if need be, take its lock, write the resolved recipe, open its log.

    Raises Newer, with nothing changed, when the folder holds files of a newer Puna.
    """
    if storage.exists(folder) and not storage.is_folder(folder):
        raise InputError("a file stands where the run folder should be", where=str(folder), mend="use --out")
    refuse_newer(folder)
    _refuse_another_recipe(folder, recipe)
    try:
        storage.make_folder(folder)
    except OSError as error:
        what = f"cannot make the run folder ({error.strerror})"
        raise InputError(what, where=str(folder), mend="choose another with --out") from None
    with locked(folder, take_over) as still:
        _refuse_another_recipe(folder, recipe)
        text = recipes.as_toml(recipe).encode()
        target = folder / "recipe.toml"
        if storage.find(target) != text:
            storage.write(target, text)
        with _told(folder):
            yield Run(folder, still)


@contextmanager
def hold(folder: Place) -> Iterator[None]:
    """Hold a run that is there, for work that is none of its recipe's; InputError when the folder is no run."""
    if not storage.is_file(folder / "recipe.toml") and not storage.is_folder(folder / "records"):
        raise InputError("is not a run folder", where=str(folder), mend="name one; puna ls shows them")
    with locked(folder, to_free=True), _told(folder):
        yield


@contextmanager
def open_other(folder: Place, name: str, *, take_over: bool = False) -> Iterator[None]:
    """Hold a folder for long work that is no recipe's, told by its file `name`; it is made, or is there, or empty.

    InputError when it holds anything else.
    """
    if storage.exists(folder) and not storage.is_folder(folder):
        raise InputError("a file stands where the folder should be", where=str(folder), mend="use --out")
    if storage.is_folder(folder) and not storage.is_file(folder / name):
        strange = [each for each in storage.names(folder) if each not in OWN_FILES]
        if any(not each.startswith(storage.TEMPORARY) for each in strange):
            raise InputError("holds other files", where=str(folder), mend="choose a new or empty folder with --out")
    storage.make_folder(folder)
    with locked(folder, take_over), _told(folder):
        yield


def read_recipe(folder: Place) -> Recipe:
    """The resolved recipe of a run folder; InputError when it is none."""
    target = folder / "recipe.toml"
    if not storage.is_file(target):
        raise InputError(
            "is not a run folder (it holds no recipe.toml)", where=str(folder), mend="puna ls shows the runs"
        )
    return recipes.load(str(target))


def _refuse_another_recipe(folder: Place, recipe: Recipe) -> None:
    if storage.is_file(folder / "recipe.toml"):
        other = read_recipe(folder).name
        if other != recipe.name:
            what = f"was made by the recipe {other!r}, not {recipe.name!r}"
            raise InputError(what, where=str(folder), mend="choose another folder with --out")
    elif storage.is_folder(folder):
        strange = [name for name in storage.names(folder) if name not in OWN_FILES]
        if any(not name.startswith(storage.TEMPORARY) for name in strange):
            mend = "choose a new or empty folder with --out"
            raise InputError("holds files but no run", where=str(folder), mend=mend)


@contextmanager
def _told(folder: Place) -> Iterator[None]:
    """While the block lasts what is said goes to log.txt too, and how far it is to progress.json, which goes with it.

    Neither is worth ending the work for: a full disk is told of by what is.
    """
    log = Appender(folder / "log.txt", vital=False)
    shown = folder / "progress.json"

    pace = SHOWN_REMOTELY if storage.is_remote(folder) else 0.0  # a store takes its time, and the work waits for it
    last = -pace

    def show(state: Mapping[str, Any]) -> None:
        nonlocal last
        if time.monotonic() - last < pace:
            return
        last = time.monotonic()
        mine = {"format": PROGRESS.version, "pid": os.getpid(), "host": socket.gethostname(), **state}
        show_progress(shown, json.dumps(mine).encode())

    configure(log=log, state=show)
    try:
        yield
    except BaseException as error:
        failed(error, log.location)
        raise
    finally:
        configure(log=None, state=None)
        hide(shown)
        log.close()
