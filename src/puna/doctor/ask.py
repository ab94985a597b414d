"""Asking what may crash or never answer: programs in processes of their own, functions with a time limit.

A question is started first and its answer fetched later, so that several work at the same time. What has not answered
in time is killed with everything that it started: a program that waits for another holds its output open.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from puna.doctor.finding import Finding


@dataclass(frozen=True)
class Answer:
    """What a program said."""

    output: str
    """All of its standard output, also when it failed after that."""
    problem: str = ""
    """Why it is no good, in words that follow the program's name; "" when it ended with status 0."""

    def last_json(self) -> Any:
        """The JSON value on the last line of the output; None when there is none."""
        with contextlib.suppress(ValueError, IndexError):
            return json.loads(self.output.splitlines()[-1])
        return None


class Question:
    """A program that was started and is going to be asked; leaving the block ends it."""

    def __init__(self, command: Sequence[str], seconds: float) -> None:
        self._seconds = seconds
        self._end = time.monotonic() + seconds
        self._answer: Answer | None = None
        pipe = subprocess.PIPE
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, start_new_session=True
            )
        except (OSError, ValueError) as error:
            self._answer = Answer("", f"could not be started ({error})")

    def answer(self) -> Answer:
        """Wait for the end of the program, until its time is over at most."""
        if self._answer is None:
            try:
                output, errors = self._process.communicate(timeout=max(0.1, self._end - time.monotonic()))
                said = errors.decode("utf-8", "replace").strip().splitlines()
                problem = _problem(self._process.returncode, said[-1] if said else "")
                self._answer = Answer(output.decode("utf-8", "replace"), problem)
            except subprocess.TimeoutExpired as late:
                self._stop()
                self._answer = Answer((late.output or b"").decode("utf-8", "replace"), _late(self._seconds))
        return self._answer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._answer is None:
            self._stop()

    def _stop(self) -> None:
        with contextlib.suppress(OSError):
            os.killpg(self._process.pid, signal.SIGKILL)  # also of a group whose leader is dead already
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1)
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()


def python(script: str, *arguments: str) -> list[str]:
    """The command that runs a script of this folder with this interpreter and the module path of this process."""
    return [sys.executable, "-P", str(Path(__file__).with_name(script)), json.dumps(sys.path), *arguments]


def looked(name: str, probe: Callable[[], list[Finding]], seconds: float = 10) -> list[Finding]:
    """What a probe finds; a finding that says so when it raises or does not come back.

    It runs in a thread, which is left behind when it hangs: so does every call into a file system whose server is away.
    """
    found: list[Finding] = []

    def look() -> None:
        try:
            found.extend(probe())
        except Exception as error:  # whatever a strange machine makes a probe raise: doctor goes on
            mend = f"look at it by hand, and report this line if all is well with it ({type(error).__name__})"
            found.append(Finding(name, "warning", f"could not be told: {error or type(error).__name__}", mend))

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        mend = "see whether a network file system is away, or a program hangs"
        return [Finding(name, "warning", f"could not be told: {_late(seconds)}", mend)]
    return found


def _late(seconds: float) -> str:
    return f"did not answer within {seconds:g} s"


def _problem(status: int, said: str) -> str:
    if status == 0:
        return ""
    if status < 0:
        with contextlib.suppress(ValueError):
            return f"was ended by {signal.Signals(-status).name}"
    return said or f"ended with status {status}"
