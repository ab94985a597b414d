"""What a user is told when something is wrong: what, where, and the mend, in one line."""

from __future__ import annotations


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
    """Stopped by SIGINT or SIGTERM with everything finished kept; the same command goes on: exit status 130."""

    exit_status = 130
