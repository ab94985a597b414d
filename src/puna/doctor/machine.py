"""The machine: system, processor and what its features mean for training, cores, memory, limits of processes."""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Sequence
from multiprocessing import get_context
from pathlib import Path

from puna.doctor.finding import Finding
from puna.doctor.mounts import limits
from puna.engine import usable_cpus
from puna.progress import size

LAPTOP_MEMORY = 1_000_000_000  # bytes that the processes of `puna run laptop` hold at most; benchmarks/laptop.py
OPEN_FILES = 64  # a small run was seen to do with 24; pools, compilers and larger runs open some more
# As train/machine.py, which imports torch; a test holds that they are the same.
BFLOAT16_FEATURES = ("avx512_bf16", "amx_bf16")
TOLD = {  # features that matter, and what people call them
    "avx2": "AVX2",
    "avx512f": "AVX-512",
    "avx512_bf16": "AVX-512 bf16",
    "amx_tile": "AMX",
    "amx_bf16": "AMX bf16",
    "asimd": "NEON",
    "sve": "SVE",
    "bf16": "ARM bf16",
}


def system() -> list[Finding]:
    """The operating system, and whether Puna was ever tried on such a one."""
    what = f"{platform.system()} {platform.release()}, {platform.machine()}"
    if os.name == "nt":
        return [Finding("system", "error", f"{what}: Puna needs a POSIX system", "use it within WSL")]
    if "microsoft" in platform.release().lower():
        what, mend = f"{what}: WSL, on which it was not tried", "report what does not work"
        return [Finding("system", "note", what, mend)]
    if platform.system() != "Linux" or platform.machine() not in ("x86_64", "AMD64"):
        what = f"{what}: it was developed on Linux on x86-64 and not tried here"
        return [Finding("system", "note", what, "report what does not work")]
    return [Finding("system", "ok", what)]


def processor(seen_by_torch: Sequence[str], root: Path = Path("/")) -> list[Finding]:
    """Its model and features. seen_by_torch: what torch names, for systems without /proc/cpuinfo."""
    model, flags = _cpuinfo(root)
    flags = flags or {"avx512f" if name == "avx512_f" else name for name in seen_by_torch}
    named = [word for flag, word in TOLD.items() if flag in flags]
    what = f"{model or platform.processor() or platform.machine()}; {', '.join(named) or 'features not told'}"
    if any(feature in flags for feature in BFLOAT16_FEATURES):
        return [Finding("processor", "ok", f"{what}: training computes in bfloat16")]
    mend = "no mend but another machine; train.tokens sets how long a training is"
    if not flags:
        return [Finding("processor", "note", f"{what}; training chooses by what torch sees", mend)]
    if platform.machine() in ("x86_64", "AMD64") and "avx2" not in flags:
        what = f"{what}: torch's fast kernels need AVX2, and training is slower without"
        return [Finding("processor", "warning", what, mend)]
    what = f"{what}: training computes in float32, slower than bfloat16 where a processor has that"
    return [Finding("processor", "note", what, mend)]


def cores(root: Path = Path("/")) -> list[Finding]:
    """Usable cores against all: affinity, and the quota of control groups."""
    usable, there = usable_cpus(), os.cpu_count() or 1
    quota = limits(root).cpus
    what = f"{usable} usable of {there}"
    if quota is not None and quota < usable:
        whole = max(1, int(quota))
        what = f"{what}, but the control group grants the time of {quota:g}: more processes only wait for each other"
        return [Finding("cores", "warning", what, f"add --workers {whole} --threads {whole} to puna run")]
    if usable < there:
        mend = "if that is not meant: start puna without taskset, or ask the scheduler for more"
        return [Finding("cores", "note", f"{what} (affinity)", mend)]
    if usable == 1:
        mend = "no mend but another machine; everything works, one thing at a time"
        return [Finding("cores", "note", f"{what}: laptop is made for two", mend)]
    load = os.getloadavg()[0]
    if load > there + 1:  # one may be this command itself
        what = f"{what}; {load:.1f} processes want them now, so a run takes longer"
        return [Finding("cores", "note", what, "wait for the others, or end them")]
    return [Finding("cores", "ok", what)]


def memory(root: Path = Path("/")) -> list[Finding]:
    """Memory in all, available, and granted, against what `laptop` needs."""
    import resource  # not on every system, which is then a finding

    total, available = _meminfo(root)
    granted = limits(root)
    bound, _ = resource.getrlimit(resource.RLIMIT_AS)
    parts = [f"{size(total)} in all" if total else "", f"{size(available)} available" if available is not None else ""]
    if granted.memory is not None and (not total or granted.memory < total):
        parts.append(f"the control group grants {size(granted.memory)}")
    what = ", ".join(part for part in parts if part) or "the system does not tell how much there is"
    need = f"laptop needs {size(LAPTOP_MEMORY)}"
    most = min(value for value in (total, granted.memory, float("inf")) if value)
    if most < LAPTOP_MEMORY:
        mend = "raise the limit (docker run --memory, or what the scheduler calls it), or use another machine"
        return [Finding("memory", "error", f"{what}; {need}", mend)]
    if bound not in (resource.RLIM_INFINITY, -1):
        what = f"{what}; addresses are limited to {size(bound)}, of which torch takes more than of memory"
        return [Finding("memory", "warning", what, "ulimit -v unlimited")]
    least = min(value for value in (available, granted.room, float("inf")) if value is not None)
    if least < LAPTOP_MEMORY:
        what = f"{what}; {size(int(least))} are left now, and {need}"
        return [Finding("memory", "warning", what, "end other programs, or add --workers 1 to puna run")]
    return [Finding("memory", "ok", f"{what}; {need}")]


def open_files() -> list[Finding]:
    """How many files one process may hold open."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    what = "no limit" if soft == resource.RLIM_INFINITY else f"{soft} at once"
    if soft != resource.RLIM_INFINITY and soft < OPEN_FILES:
        most = 1024 if hard == resource.RLIM_INFINITY else min(1024, hard)
        mend = f"ulimit -n {most}" if most >= OPEN_FILES else f"ask the administrator for more than {hard}"
        return [
            Finding("open files", "warning", f"{what}: workers and compilers may need more than {OPEN_FILES}", mend)
        ]
    return [Finding("open files", "ok", what)]


def workers() -> list[Finding]:
    """Whether the system gives what processes share (semaphores), without which only one worker can work."""
    try:
        get_context("fork").Lock()
    except (OSError, ImportError) as error:
        what = f"data workers cannot be started: the system gives no semaphores ({error})"
        return [Finding("workers", "error", what, "mount /dev/shm, or add --workers 1 to puna run")]
    shared = Path("/dev/shm")
    if sys.platform != "linux" or not shared.is_dir():
        return [Finding("workers", "ok", "the system gives semaphores")]
    status = os.statvfs(shared)
    free = status.f_bavail * status.f_frsize
    if not free:
        what = "/dev/shm is full, and workers need a little of it"
        return [Finding("workers", "warning", what, "remove what lies there, or add --workers 1 to puna run")]
    return [Finding("workers", "ok", f"the system gives semaphores; {size(free)} free in /dev/shm")]


def _cpuinfo(root: Path) -> tuple[str, set[str]]:
    """(model, flags) of the first processor; ("", nothing) where the system does not tell."""
    try:
        text = (root / "proc/cpuinfo").read_text("utf-8", "replace")
    except OSError:
        return "", set()
    model = re.search(r"^model name\s*: (.+)$", text, re.MULTILINE)
    flags = re.search(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE)
    return model[1].strip() if model else "", set(flags[1].split()) if flags else set()


def _meminfo(root: Path) -> tuple[int | None, int | None]:
    """(total, available) in bytes; None for what the system does not tell."""
    found = {}
    try:
        for line in (root / "proc/meminfo").read_text("utf-8", "replace").splitlines():
            if match := re.match(r"(MemTotal|MemAvailable):\s+(\d+) kB", line):
                found[match[1]] = int(match[2]) * 1024
    except OSError:
        names = os.sysconf_names if root == Path("/") else {}
        if {"SC_PHYS_PAGES", "SC_PAGE_SIZE"} <= names.keys():
            found["MemTotal"] = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return found.get("MemTotal"), found.get("MemAvailable")
