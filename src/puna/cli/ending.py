"""How every command ends: its exit status, one line for what went wrong, and streams that break nothing."""

from __future__ import annotations

import errno
import io
import os
import platform
import sys
import traceback
from typing import Any

import typer

from puna import remote
from puna.errors import Interrupted, PunaError, ToldElsewhere
from puna.progress import result, tell

INTERRUPTED = 130
GOES_ON = "interrupted; the same command goes on where it was"
USERS_OWN = (errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENAMETOOLONG)  # errors of the system that are wrong input


def told(error: BaseException) -> int:
    """Say in one line what is wrong, and return the exit status; a defect of ours keeps its traceback."""
    # Typer carries a click of its own or uses the package, by version: what a usage error has is the same in both.
    usage = getattr(error, "format_message", None)
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        tell(GOES_ON)
        return INTERRUPTED
    if isinstance(error, Interrupted):
        tell(str(error))
        return error.exit_status
    if isinstance(error, ToldElsewhere):
        return error.exit_status
    if usage is not None:
        return _told_usage(usage(), error)
    if isinstance(error, PunaError):
        line, status = str(error), error.exit_status
    elif isinstance(error, MemoryError):
        line, status = "memory ran out; give fewer --workers, or a smaller train.micro_batch", 1
    elif isinstance(error, ImportError) and not (error.name or "puna").startswith("puna"):
        line, status = f"{error}; the installation is not whole: puna doctor says what is missing", 1
    elif remote.of_store(error):
        line, status = f"the object store does not serve ({remote.said(error)}); {remote.MEND}", 1
    elif isinstance(error, OSError) and error.strerror:
        line = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
        status = 2 if error.errno in USERS_OWN else 1
    else:
        return _told_defect(error)
    notes = getattr(error, "__notes__", [])
    if notes:
        goes_on = ", and the same command goes on from there" if status != 2 else ""
        tell("; ".join([f"what was finished is kept{goes_on}", *notes]))
    tell(f"error: {line}")  # always the last line
    return status


def open_streams() -> None:
    """Open again what was closed: the next file to be opened would else become standard output or standard error."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
    for name, number, mode in (("stdin", 0, "r"), ("stdout", 1, "w"), ("stderr", 2, "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, mode, closefd=False))
    for stream, errors in (
        (sys.stdin, "surrogateescape"),  # what is not UTF-8 is told of by who reads it
        (sys.stdout, "backslashreplace"),  # a terminal without the character shows its number
        (sys.stderr, "backslashreplace"),
    ):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=errors)


def close_streams(status: int) -> int:
    """The exit status once all is written. What cannot be written is dropped, or Python would end with a traceback."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
            if stream is sys.stdout and not status and not isinstance(error, BrokenPipeError):
                tell(f"error: standard output: {error.strerror}")
                status = 1
    return status


def _told_usage(message: str, error: Any) -> int:
    if type(error).__name__ == "NoArgsIsHelpError":
        result(message)
        return 2
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "puna"
    tell(f"error: {' '.join(message.split()).rstrip('.')}; see {command} --help")
    return 2


def _told_defect(error: BaseException) -> int:
    from puna import __version__

    system = f"Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    tell("internal error: this is a defect of Puna. Please report it with the command that you gave and these lines:")
    tell(f"Puna {__version__}, {system}")
    tell("".join(traceback.format_exception(error)).rstrip())
    return 1
