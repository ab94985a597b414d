"""The outer side of a cage: starts it, reads what comes out of it within bounds, and ends it in time."""

from __future__ import annotations

import json
import os
import platform
import secrets
import selectors
import struct
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from puna.evaluate.sandbox import seccomp

# It has of Puna what stands in this folder, and none of what Puna imports.
CAGE = """
import sys
for name in ("puna", "puna.evaluate", "puna.evaluate.sandbox"):
    sys.modules[name] = package = type(sys)(name)
    package.__path__ = sys.argv[1:]
from puna.evaluate.sandbox.cage import main
main()
"""
LIBRARIES = ("/lib", "/lib64", "/lib32", "/usr/lib", "/usr/lib64", "/usr/local/lib")
BUILDING = 10.0  # seconds that a busy machine may take until a program starts
PATIENCE = 2  # seconds of the clock for each that a program may compute: what it passes hangs less on what runs beside


class Bounds(Protocol):
    """As puna.evaluate.sandbox.Limits."""

    @property
    def seconds(self) -> float: ...
    @property
    def memory(self) -> int: ...
    @property
    def files(self) -> int: ...
    @property
    def output(self) -> int: ...
    @property
    def threads(self) -> int: ...


class NoCage(Exception):
    """A program could not be isolated, and was not run."""


@dataclass(frozen=True)
class Program:
    """solution: what a model wrote. tests: what passes when it ends without an error; lead: what stands before them in
    their process, as they may need it; names: those of the solution that they use."""

    solution: str
    tests: str = ""
    lead: str = ""
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Ended:
    """said: the verdict of the cage, None when there was none. late, flooded: it was ended by force."""

    said: str | None
    late: bool = False
    flooded: bool = False


def run(program: Program, limits: Bounds) -> Ended:
    """Run `program` in a cage. Raises NoCage when none can be made."""
    if sys.platform != "linux":
        raise NoCage(f"namespaces are Linux's, and this is {platform.system()}")
    withheld = seccomp.filtered()
    if withheld is None:
        raise NoCage(f"the numbers of system calls are not known for {platform.machine()}")
    folders, links = _seen()
    with ExitStack() as stack:
        ours, theirs = os.pipe()
        stack.callback(os.close, ours)
        plan = {
            "solution": program.solution,
            "verdict": theirs,
            "parent": os.getpid(),
            "root": stack.enter_context(tempfile.TemporaryDirectory(prefix="puna-cage-")),
            "folders": folders,
            "links": links,
            "scratch": _apart("/scratch", folders),
            "filter": withheld.hex(),
            **{name: getattr(limits, name) for name in ("seconds", "memory", "files", "threads")},
        }
        number = secrets.token_hex(16)
        tests = {"number": number, "lead": program.lead, "tests": program.tests, "names": program.names}
        try:
            child = stack.enter_context(_started(theirs))
        finally:
            os.close(theirs)
        stack.callback(child.kill)  # its namespaces die with it
        assert child.stdin
        with suppress(BrokenPipeError):
            first = json.dumps(plan).encode()
            child.stdin.write(struct.pack("<I", len(first)) + first + json.dumps(tests).encode())
            child.stdin.close()
        return _watched(child, ours, number, limits)


def _started(verdict: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-s", "-P", "-S", "-c", CAGE, str(Path(__file__).parent)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        pass_fds=(verdict,),
        env={"LANG": "C.UTF-8", "PYTHONHASHSEED": "0"},
        start_new_session=True,
    )


def _watched(child: subprocess.Popen[bytes], verdict: int, number: str, limits: Bounds) -> Ended:
    """Read until there is a verdict, or the cage has ended, or time is over."""
    assert child.stdout
    said, printed, head = b"", 0, b""
    words: list[str] = []
    until = time.monotonic() + BUILDING
    with selectors.DefaultSelector() as ready:
        ready.register(verdict, selectors.EVENT_READ)
        ready.register(child.stdout, selectors.EVENT_READ)
        while len(words) < 2 and printed <= limits.output and verdict in ready.get_map():
            left = until - time.monotonic()
            if left <= 0:
                break
            for key, _ in ready.select(left):
                read = os.read(key.fd, 65536)
                if not read:
                    ready.unregister(key.fileobj)
                elif key.fd == verdict:
                    said = (said + read)[:65536]
                else:
                    printed, head = printed + len(read), (head + read)[:2000]
            before, words = len(words), _words(said, number)
            if not before and words:
                until = time.monotonic() + PATIENCE * limits.seconds
    if not words or words[0] != "started":
        told = words[0].removeprefix("refused ") if words else head.decode("utf-8", "replace").strip().split("\n")[-1]
        raise NoCage(told or f"it did not start within {BUILDING:g} s")
    ended = words[1] if len(words) > 1 else None
    return Ended(ended, late=ended is None and time.monotonic() >= until, flooded=printed > limits.output)


def _words(said: bytes, number: str) -> list[str]:
    """What the cage said in whole lines: the first, and those behind it that begin with its number."""
    lines = said.decode("utf-8", "replace").split("\n")[:-1]
    return lines[:1] + [line.removeprefix(f"{number} ") for line in lines[1:] if line.startswith(f"{number} ")]


def _seen() -> tuple[list[str], dict[str, str]]:
    """What of this machine a program sees: folders of Python and of the libraries it stands on, and links to them."""
    base = sys.base_prefix
    links = {path: str(Path(path).readlink()) for path in LIBRARIES if Path(path).is_symlink()}
    found = [path for path in LIBRARIES if Path(path).is_dir() and path not in links]
    wanted = {base, *found}
    return sorted(path for path in wanted if not _within_another(path, wanted)), links


def _apart(path: str, folders: list[str]) -> str:
    """A path that no folder lies under: a Python in what a solution may write would be the tests' Python, too."""
    while any(Path(folder).is_relative_to(path) for folder in folders):
        path += "_"
    return path


def _within_another(path: str, others: set[str]) -> bool:
    return any(path != other and Path(path).is_relative_to(other) for other in others)
