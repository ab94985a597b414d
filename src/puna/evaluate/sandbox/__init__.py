"""Programs that a model wrote, run where they can harm nothing (paper section 3.5: HumanEval and MBPP).

Each program gets a process (cage.py) in namespaces of its own: no network, no other process, no file but Python's, read
only, and an empty folder; with no rights, system calls withheld (seccomp.py), and limits on memory, time, output and
files. It says that it passed over a pipe that is its cage's alone, with a number drawn for it. What ends in
any other way has failed, whatever it printed and whichever status it ended with.

A program and the tests of it share an interpreter, as the tests call its functions. So a pass is believed only when the
same program with a line behind its tests that must fail does fail: one that forges verdicts passes both. What cannot be
told so is an answer that claims to equal everything it is compared with, and a program that forges its verdict in the
first run and not in the second, as it finds that line in its own code.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from functools import cache
from typing import Literal

from puna.errors import InputError
from puna.evaluate.sandbox import running

__all__ = ["DEFAULT", "Limits", "Verdict", "demand", "isolation", "judge"]

MEND = "run where Linux lets a user make namespaces (`puna doctor` says why not here), or leave code tasks out"


@dataclass(frozen=True)
class Limits:
    """What one program may use. seconds: of the clock; memory, files, output: bytes; threads: at a time."""

    seconds: float = 10.0
    memory: int = 1 << 30
    files: int = 16 << 20
    output: int = 1 << 20
    threads: int = 32


DEFAULT = Limits()


@dataclass(frozen=True)
class Verdict:
    """passed: it ran to its end. Else why not: an error it raised, a limit, or that it ended without a word."""

    passed: bool
    why: str = ""
    kind: Literal["", "error", "time", "output", "ended", "forged"] = ""


def judge(program: str, limits: Limits = DEFAULT) -> Verdict:
    """Run `program`, a solution with its tests behind it. Raises running.NoCage when no cage can be made: that is never
    the program's failing."""
    first = _once(program, limits)
    if not first.passed:
        return first
    sign = secrets.token_hex(8)
    again = _once(f"{program}\nraise AssertionError({sign!r})\n", limits)
    if again.passed or sign not in again.why:
        return Verdict(False, "it passes tests that cannot be passed, or passes only at times", "forged")
    return first


@cache
def isolation() -> str:
    """Why programs cannot be isolated on this machine; "" when they can. Tries it once."""
    try:
        found = judge("assert True")
    except running.NoCage as error:
        return str(error)
    return "" if found.passed else f"a program that does nothing does not pass: {found.why}"


def demand(option: str) -> None:
    """InputError when programs cannot be isolated."""
    if why := isolation():
        raise InputError(f"programs of a model cannot be isolated: {why}", where=option, mend=MEND)


def _once(program: str, limits: Limits) -> Verdict:
    ended = running.run(program, limits)
    if ended.flooded:
        return Verdict(False, f"it wrote more than {limits.output:,} bytes", "output")
    if ended.late:
        return Verdict(False, f"not done within {limits.seconds:g} s", "time")
    if ended.said is None:
        return Verdict(False, "it ended without a verdict", "ended")
    return Verdict(True) if ended.said == "passed" else Verdict(False, ended.said.removeprefix("failed "), "error")
