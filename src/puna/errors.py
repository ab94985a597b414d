"""What a user is told when something is wrong: what, where, and the mend, in one line."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager


class PunaError(Exception):
    """The work failed: exit status 1. `str()` is one line: where: what; mend."""

    exit_status = 1

    def __init__(self, what: str, *, where: str = "", mend: str = "") -> None:
        self.what, self.where, self.mend = what, where, mend
        line = f"{where}: {what}" if where else what
        super().__init__(" ".join((f"{line}; {mend}" if mend else line).split()))


class InputError(PunaError):
    """The command line or what was fed is wrong: exit status 2."""

    exit_status = 2


class Interrupted(PunaError):
    """Stopped by SIGINT, SIGTERM or SIGHUP with everything finished kept; the same command goes on: exit status 130."""

    exit_status = 130


class ToldElsewhere(PunaError):
    """Another rank of a training said first what went wrong: exit status 1, and nothing more is said here."""


@contextmanager
def telling_full_disk(where: object) -> Iterator[None]:
    """Say a full disk in one line with the mend; any other OSError passes as it is."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            mend = "free some space and run the same command"
            raise PunaError("the disk is full", where=str(where), mend=mend) from error
        raise


@contextmanager
def telling_denial(where: object) -> Iterator[None]:
    """Say a full disk, a forbidden folder or a file in a folder's place in one line with the mend."""
    try:
        with telling_full_disk(where):
            yield
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            mend = "mend its permissions, or give another folder"
            raise InputError("cannot be written", where=str(where), mend=mend) from error
        if error.errno in (errno.ENOTDIR, errno.EEXIST):
            raise InputError("a file stands where a folder is needed", where=str(where), mend="use --out") from error
        if error.errno == errno.EIO:
            mend = "see what the system's log says of that disk, and give the same command again"
            raise PunaError("the disk does not read or write", where=str(where), mend=mend) from error
        raise


class Terminated(KeyboardInterrupt):
    """The process was asked to end by a signal other than Ctrl-C, which ends all and not only what is under way."""
