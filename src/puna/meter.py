"""What a piece of work took of the machine: processor time, and energy where the machine counts it.

RAPL counts the energy of whole processor packages (and memory, where it says so), whoever computes. Of that, this work
has the share that its processes had of the busy processor time; an idle machine's energy so falls to who works on it.
Linux lets root alone read it by default. NVML counts the energy of each GPU since its driver was loaded; it is asked
for the GPUs that CUDA_VISIBLE_DEVICES leaves, and not run on a GPU yet. Where neither can be read the energy is unknown
and stays unknown: never a zero.

RAPL's counter begins anew after some minutes of full load, so a thread reads it now and then. Nothing here ends the
work that it measures: what cannot be read is left out.
"""

from __future__ import annotations

import contextlib
import os
import resource
import sys
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

RAPL = Path("/sys/class/powercap")
STAT = Path("/proc/stat")
EVERY = 30.0  # seconds; a counter of 262 kJ begins anew after 5 minutes at 800 W
BUSY = (0, 1, 2, 5, 6)  # user, nice, system, irq, softirq in the first line of /proc/stat


@dataclass(frozen=True)
class Taken:
    """What was taken between two moments."""

    cpu_seconds: float
    """Of this process and of all that it started."""
    package_joules: float | None = None
    """Of all packages, whoever computed; None where nothing counts it."""
    share: float | None = None
    """Of the machine's busy processor time that was this work's, 0 to 1."""
    gpu_joules: float | None = None
    threads: int | None = None
    """Hardware threads of the machine, among which a stated power is shared."""
    unseen: tuple[str, ...] = ()
    """What computed, and is in none of these."""

    def as_json(self) -> dict[str, Any]:
        told = asdict(self)
        unseen = told.pop("unseen")
        found: dict[str, Any] = {
            name: round(value, 6) if name == "share" else round(value, 3)
            for name, value in told.items()
            if value is not None
        }
        return found | ({"unseen": list(unseen)} if unseen else {})


@contextlib.contextmanager
def metered(rapl: Path = RAPL, stat: Path = STAT) -> Iterator[Meter]:
    """Measure the block; ask the meter for what it took, within or behind it."""
    meter = Meter(rapl, stat)
    meter.start()
    try:
        yield meter
    finally:
        meter.stop()


class Meter:
    def __init__(self, rapl: Path, stat: Path) -> None:
        self._counters = [_Counter(path) for path in _packages(rapl)]
        self._stat = stat
        self._gpus = _gpus()
        self._root, self._apart = _work()
        self._lock, self._ended = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._watch, name="meter", daemon=True)

    def start(self) -> None:
        self._cpu, self._busy, self._gpu = _own(self._root), _busy(self._stat), _gpu_joules(self._gpus)
        for counter in self._counters:
            counter.read()
        if self._counters:
            self._thread.start()

    def stop(self) -> None:
        self._ended.set()

    def taken(self) -> Taken:
        own = max(0.0, _own(self._root) - self._cpu)
        joules = share = gpu = None
        if self._counters:
            with self._lock:
                for counter in self._counters:
                    counter.read()
                joules = sum(counter.joules for counter in self._counters)
            busy = _busy(self._stat)
            if busy is not None and self._busy is not None and busy > self._busy:
                share = min(1.0, own / (busy - self._busy))
        now = _gpu_joules(self._gpus)
        if now is not None and self._gpu is not None:
            gpu = max(0.0, now - self._gpu)
        unseen = [*self._apart, *(["GPUs whose energy cannot be read"] if gpu is None and _on_gpu() else [])]
        joules = joules if share is not None else None
        return Taken(own, joules, share, gpu, os.cpu_count(), tuple(unseen))

    def _watch(self) -> None:
        while not self._ended.wait(EVERY):
            with self._lock:
                for counter in self._counters:
                    counter.read()


class _Counter:
    """The joules that one package counted since the first reading."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._range = int((path / "max_energy_range_uj").read_text())
        self._last: int | None = None
        self.joules = 0.0

    def read(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            now = int((self._path / "energy_uj").read_text())
            if self._last is not None:
                self.joules += ((now - self._last) % (self._range + 1)) / 1e6
            self._last = now


def _packages(rapl: Path) -> list[Path]:
    """The packages and their memory whose energy can be read, each once.

    Cores and graphics are parts of a package that are counted in it, and memory is a part that is not. Some processors
    tell of the same package a second time, below intel-rapl-mmio.
    """
    found: dict[tuple[str, str], Path] = {}
    with contextlib.suppress(OSError):
        for path in sorted(rapl.iterdir(), key=lambda path: (path.name.startswith("intel-rapl-mmio"), path.name)):
            with contextlib.suppress(OSError, ValueError):
                name, above = (path / "name").read_text().strip(), ""
                if name == "dram":
                    above = (rapl / path.name.rpartition(":")[0] / "name").read_text().strip()
                if name == "dram" or (name.startswith("package") and path.name.count(":") == 1):
                    int((path / "energy_uj").read_text())
                    int((path / "max_energy_range_uj").read_text())
                    found.setdefault((above, name), path)
    return list(found.values())


def _work() -> tuple[int | None, list[str]]:
    """The process below which all ranks are, where torchrun started several on this machine (None: this one), and what
    of them is not below it."""
    ranks = os.environ.get("WORLD_SIZE", "")
    if not os.environ.get("RANK") or not ranks.isdecimal() or int(ranks) < 2:
        return None, []
    parent = os.getppid()
    if os.environ.get("LOCAL_WORLD_SIZE") == ranks and len(_children(parent)) >= int(ranks):
        return parent, []
    return None, ["ranks that were started elsewhere"]


def _own(root: int | None = None) -> float:
    """Processor seconds of this process, of its children that have ended, and of those that live, with theirs. root:
    of that process in place of this one."""
    if root is not None:
        return _living(root)
    whose = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    ended = sum(used.ru_utime + used.ru_stime for used in map(resource.getrusage, whose))
    return ended + sum(map(_living, _children(os.getpid())))


def _living(process: int) -> float:
    """Of another process: what it used, what its ended children used, and what its living ones do."""
    try:
        # The name, in brackets, may hold anything; user, system, and both of ended children stand 12 behind it.
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        used = sum(int(ticks) for ticks in fields[11:15]) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError):
        return 0.0  # it has ended just now, and is counted among the ended ones next time
    return used + sum(map(_living, _children(process)))


def _children(process: int) -> list[int]:
    found: list[int] = []
    with contextlib.suppress(OSError, ValueError):
        for thread in Path(f"/proc/{process}/task").iterdir():
            found += [int(each) for each in (thread / "children").read_text().split()]
    return found


def _busy(stat: Path) -> float | None:
    """Busy seconds of all processors since the machine was started."""
    try:
        ticks = stat.read_text().split("\n", 1)[0].split()[1:]
        return sum(int(ticks[place]) for place in BUSY) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return None


def _gpus() -> list[Any]:
    """NVML's handles of the GPUs that are there for this process."""
    try:
        import pynvml

        pynvml.nvmlInit()
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        if visible is None:
            return [pynvml.nvmlDeviceGetHandleByIndex(number) for number in range(pynvml.nvmlDeviceGetCount())]
        return [
            pynvml.nvmlDeviceGetHandleByIndex(int(each)) if each.isdecimal() else pynvml.nvmlDeviceGetHandleByUUID(each)
            for each in map(str.strip, visible.split(","))
        ]
    except Exception:  # no such package, no driver, no GPU, a part of one: no energy is known
        return []


def _on_gpu() -> bool:
    """Whether this process has computed on a GPU."""
    torch = sys.modules.get("torch")
    return torch is not None and bool(torch.cuda.is_initialized())


def _gpu_joules(gpus: list[Any]) -> float | None:
    if not gpus:
        return None
    try:
        import pynvml

        return sum(float(pynvml.nvmlDeviceGetTotalEnergyConsumption(gpu)) for gpu in gpus) / 1e3
    except Exception:  # GPUs before Volta do not count
        return None
