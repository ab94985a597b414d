"""What the kernel tells of mounted file systems and control groups, read from below `root` ("/" but in tests)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

UNLIMITED = 1 << 60  # version 1 of control groups writes "no limit" as a number close to 2**63


@dataclass(frozen=True)
class Mount:
    point: str
    """Where it is mounted."""
    kind: str
    """ext4, nfs4, tmpfs, ..."""
    inner: str
    """Which folder of the file system is seen at `point`."""
    source: str
    options: frozenset[str]


@dataclass(frozen=True)
class Limits:
    """What the control groups of this process grant; None: no limit, or not told."""

    cpus: float | None
    memory: int | None
    """Bytes, the tightest limit of all levels."""
    room: int | None
    """Bytes that may still be taken before a limit is met."""


def mounts(root: Path = Path("/")) -> list[Mount]:
    """All mounts that this process sees; none where the system does not tell."""
    found = []
    for line in _lines(root / "proc/self/mountinfo"):
        left, _, right = line.partition(" - ")
        before, after = left.split(), right.split()
        if len(before) >= 6 and len(after) >= 3:
            options = frozenset([*before[5].split(","), *after[2].split(",")])
            found.append(Mount(_plain(before[4]), after[0], _plain(before[3]), _plain(after[1]), options))
    return found


def mount_of(folder: Path, among: list[Mount]) -> Mount | None:
    """The mount that a folder lies in: the deepest one, and of those at one place the last."""
    path = folder.resolve()
    holding = [mount for mount in among if path.is_relative_to(mount.point)]
    return max(reversed(holding), key=lambda mount: len(mount.point), default=None)


def limits(root: Path = Path("/")) -> Limits:
    """The limits of this process's control groups (versions 1 and 2), of which every level counts."""
    cpus: list[float] = []
    bounds: list[int] = []
    rooms: list[int] = []
    for level in _levels(root, "cpu"):
        quota, period = _quota(level)
        if quota and period:
            cpus.append(quota / period)
    for level in _levels(root, "memory"):
        bound = _first_number(level, "memory.max", "memory.limit_in_bytes")
        if bound is None or bound >= UNLIMITED:
            continue
        bounds.append(bound)
        used = _first_number(level, "memory.current", "memory.usage_in_bytes")
        if used is not None:
            rooms.append(max(0, bound - used + min(used, _reclaimable(level))))
    return Limits(min(cpus, default=None), min(bounds, default=None), min(rooms, default=None))


def _levels(root: Path, controller: str) -> list[Path]:
    """The folders that hold what a controller is told of this process: its own group first, then those above it."""
    groups = {}
    for line in _lines(root / "proc/self/cgroup"):
        _, names, path = [*line.split(":", 2), "", ""][:3]
        groups.update(dict.fromkeys(names.split(","), path))
    found = []
    for mount in mounts(root):
        if mount.kind == "cgroup2":
            path = groups.get("", "/")
        elif mount.kind == "cgroup" and controller in mount.options:
            path = groups.get(controller, "/")
        else:
            continue
        top = root / mount.point.lstrip("/")
        inside = PurePosixPath(path)
        # In a container the path may be that of the host, of which the mount shows a part or nothing.
        within = inside.relative_to(mount.inner) if inside.is_relative_to(mount.inner) else PurePosixPath()
        own = top if ".." in within.parts else top / within
        found += [level for level in (own, *own.parents) if level.is_relative_to(top)]
    return found


def _quota(level: Path) -> tuple[float, float]:
    """(microseconds of CPU, in a period of so many); zeros when there is no limit."""
    pair = " ".join(_lines(level / "cpu.max")).split()
    if not pair:
        pair = [
            *_lines(level / "cpu.cfs_quota_us")[:1],
            *_lines(level / "cpu.cfs_period_us")[:1],
        ]
    numbers = [float(word) for word in pair if re.fullmatch(r"\d+", word)]
    return (numbers[0], numbers[1]) if len(numbers) == 2 else (0, 0)


def _reclaimable(level: Path) -> int:
    """Bytes of files in memory that the kernel gives up when memory is wanted."""
    stat = dict(line.split(" ", 1) for line in _lines(level / "memory.stat") if " " in line)
    value = stat.get("total_inactive_file", stat.get("inactive_file", "0"))
    return int(value) if value.isdigit() else 0


def _first_number(folder: Path, *names: str) -> int | None:
    for name in names:
        for line in _lines(folder / name):
            if line.isdigit():
                return int(line)
    return None


def _lines(path: Path) -> list[str]:
    """The lines of a file of the kernel; none when it is not there or closed to us."""
    try:
        return path.read_text("utf-8", "replace").splitlines()
    except OSError:
        return []


def _plain(text: str) -> str:
    r"""A path of mountinfo, in which a space is \040."""
    return re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), text)
