"""Functions for `storage.border` that have a fault at one border, and borders as they are written down and compared."""

from __future__ import annotations

import errno
import itertools
import json
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path

from fault_places import Durable
from faults import Border
from puna import storage

Shim = Callable[[str, str], None]


def shim(kind: str, number: int, out: str) -> Shim:
    """A border that meets the fault at its call `number`. A full disk stays full for all that is written later on."""
    calls = 0
    durable = Durable(Path(out)) if kind == "power" else None

    def border(event: str, location: str) -> None:
        nonlocal calls
        calls += 1
        if calls == number + 1:
            note(Path(f"{out}.borders"), event, location)
            if durable:
                durable.write(Path(f"{out}.durable"))
        if calls == number + 1 or (kind == "full" and calls > number and event in ("before write", "before sync")):
            _fault(kind, location)

    return border


def kill_in(step: str, number: int, out: str) -> Shim:
    """A border that kills at its call `number` for one step's own files."""
    calls = itertools.count()

    def border(event: str, location: str) -> None:
        if f"work/{step}/" in location and next(calls) == number:
            note(Path(f"{out}.borders"), event, location)
            os.kill(os.getpid(), signal.SIGKILL)

    return border


def _fault(kind: str, location: str) -> None:
    if kind in ("full", "broken"):
        number = {"full": errno.ENOSPC, "broken": errno.EIO}[kind]
        raise OSError(number, os.strerror(number), location)
    os.kill(os.getpid(), signal.SIGTERM if kind == "stop" else signal.SIGKILL)


def note(lines: Path, event: str, location: str) -> None:
    with lines.open("a") as file:
        file.write(json.dumps([event, location]) + "\n")


def named(event: str, location: str, out: str) -> Border:
    """A border without what differs between runs: the folder, and names that a process or a clock gave."""
    inside = re.sub(r".*/tmp/puna-[^/]+/", "tmp/", location.rpartition(f"{out}/")[2])
    return Border(event, re.sub(rf"({re.escape(storage.TEMPORARY)}[^/]*)-\d+-\d+", r"\1", inside))
