"""Programs that a model wrote, run where they can harm nothing (paper section 3.5: HumanEval and MBPP).

Each program gets a cage (cage.py), namespaces of its own: no network, no process from outside, no file but Python's,
read only, and an empty folder; with no rights, system calls withheld (seccomp.py), and limits on memory, time, output
and files. What does not pass has failed, whatever it printed and whichever status it ended with.

In a cage a program and its tests run in two processes. That of the tests (proxies.py) asks that of the program
(serving.py) for what they use of it, in plain data (messages.py), and compares by itself what it is answered. It alone
says that a program passed, over a pipe that the other never had, with a number that the other never saw. So whatever a
program does to its interpreter, it passes by the right answers alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal

from puna.errors import InputError
from puna.evaluate.sandbox import running
from puna.evaluate.sandbox.running import Program

__all__ = ["DEFAULT", "Limits", "Program", "Verdict", "demand", "isolation", "judge"]

MEND = "run where Linux lets a user make namespaces (`puna doctor` says why not here), or leave code tasks out"


@dataclass(frozen=True)
class Limits:
    """What one program may use. seconds: of a processor, and running.PATIENCE times as many by the clock; memory, of it
    and of its tests each, files, output: bytes; threads: at a time."""

    seconds: float = 10.0
    memory: int = 1 << 30
    files: int = 16 << 20
    output: int = 1 << 20
    threads: int = 32


DEFAULT = Limits()


@dataclass(frozen=True)
class Verdict:
    """passed: its tests ran to their end. Else why not: an error that it or they raised, a limit, or that it ended or
    answered what is no answer."""

    passed: bool
    why: str = ""
    kind: Literal["", "error", "time", "output", "ended"] = ""


def judge(program: Program, limits: Limits = DEFAULT) -> Verdict:
    """Run a program and its tests. Raises running.NoCage when no cage can be made: that is never the program's
    failing."""
    ended = running.run(program, limits)
    if ended.flooded:
        return Verdict(False, f"it wrote more than {limits.output:,} bytes", "output")
    if ended.late:
        return Verdict(False, f"not done within {running.PATIENCE * limits.seconds:g} s", "time")
    kind, _, why = (ended.said or "ended it ended without a verdict").partition(" ")
    if kind == "passed":
        return Verdict(True)
    return Verdict(False, why, "error" if kind == "failed" else "ended")


@cache
def isolation() -> str:
    """Why programs cannot be isolated on this machine; "" when they can. Tries it once."""
    try:
        found = judge(Program("", "assert True"))
    except running.NoCage as error:
        return str(error)
    return "" if found.passed else f"a program that does nothing does not pass: {found.why}"


def demand(option: str) -> None:
    """InputError when programs cannot be isolated."""
    if why := isolation():
        raise InputError(f"programs of a model cannot be isolated: {why}", where=option, mend=MEND)
