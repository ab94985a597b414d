"""What tells one process from another, whose numbers come again and mean something within one PID namespace only; and
by which signals this one is asked to end."""

from __future__ import annotations

import os
import signal
from pathlib import Path


def birth(pid: int) -> str:
    """What tells a process from a later one with the same number: its start time, or "" when there is none such."""
    try:
        if Path("/proc/self/stat").exists():
            boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            return "" if fields[0] == "Z" else f"{boot}/{fields[19]}"
        os.kill(pid, 0)
    except PermissionError:
        return "alive"
    except (OSError, IndexError):
        return ""
    return "alive"


def lives(pid: int) -> bool:
    """Whether a process of that number is there; in doubt it is."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def namespace() -> str:
    """Within which the numbers of processes mean something: the PID namespace, or "" where there are none."""
    try:
        return str(Path("/proc/self/ns/pid").stat().st_ino)
    except OSError:
        return ""


def stopping() -> list[signal.Signals]:
    """The signals that ask this process to end. SIGHUP (a closed terminal) is none where it is ignored, as by nohup."""
    numbers = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
    return [number for number in numbers if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN]
