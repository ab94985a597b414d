"""What work takes of the machine is measured where it can be, and unknown where it cannot: never a made-up zero."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from puna import meter
from puna.meter import Meter, metered

BURN = "import time\nend = time.process_time() + 0.3\nwhile time.process_time() < end: pass"


def _package(folder: Path, joules: float, *, name: str = "package-0", most: int = 262_143_328_850) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "name").write_text(f"{name}\n")
    (folder / "max_energy_range_uj").write_text(f"{most}\n")
    (folder / "energy_uj").write_text(f"{int(joules * 1e6)}\n")


def _stat(path: Path, seconds: float) -> None:
    """Busy and idle ticks of 100 a second."""
    path.write_text(f"cpu  {int(100 * seconds)} 0 0 999 999 0 0 0 0 0\ncpu0 1 1 1 1\n")


def test_energy_of_packages_is_shared_by_processor_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = iter([10.0, 14.0])
    monkeypatch.setattr(meter, "_own", lambda root: next(own))
    rapl, stat = tmp_path / "rapl", tmp_path / "stat"
    _package(rapl / "intel-rapl:0", 100)
    _package(rapl / "intel-rapl:1", 50, name="package-1")
    _package(rapl / "intel-rapl:0:0", 70, name="core")  # a part of the package, counted in it
    _stat(stat, 1000)
    with metered(rapl, stat) as taking:
        _package(rapl / "intel-rapl:0", 160)
        _package(rapl / "intel-rapl:1", 70, name="package-1")
        _package(rapl / "intel-rapl:0:0", 99, name="core")
        _stat(stat, 1016)
        taken = taking.taken()
    assert taken.package_joules == pytest.approx(80)
    assert taken.cpu_seconds == pytest.approx(4)
    assert taken.share == pytest.approx(0.25)


def test_memory_counts_beside_its_package_and_a_package_that_is_told_twice_counts_once(tmp_path: Path) -> None:
    """As Linux has them: memory is a zone below its package and not in its count, and a part of the processors tells
    of package-0 once more over another way."""
    rapl, stat = tmp_path / "rapl", tmp_path / "stat"
    zones = {"intel-rapl-mmio:0": "package-0", "intel-rapl:0": "package-0", "intel-rapl:0:0": "core"}
    zones |= {"intel-rapl:0:1": "dram", "intel-rapl:1": "package-1", "intel-rapl:1:1": "dram", "intel-rapl:2": "psys"}
    for place, name in zones.items():
        _package(rapl / place, 100, name=name)
    (rapl / "intel-rapl").mkdir()  # the kind of counter, which is none itself
    _stat(stat, 1)
    with metered(rapl, stat) as taking:
        for add, (place, name) in zip((1, 2, 4, 8, 16, 32, 64), zones.items(), strict=True):
            _package(rapl / place, 100 + add, name=name)
        _stat(stat, 10)
        assert taking.taken().package_joules == pytest.approx(2 + 8 + 16 + 32)


def test_a_long_step_is_read_before_its_counter_begins_anew_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meter, "EVERY", 0.002)
    rapl, stat = tmp_path / "rapl", tmp_path / "stat"
    _package(rapl / "intel-rapl:0", 0, most=100_000_000)
    _stat(stat, 1)
    with metered(rapl, stat) as taking:
        (counter,) = taking._counters
        for joules in (60, 20, 80):  # 60, then 60 more, then 60 more
            (rapl / "new").write_text(f"{joules * 1_000_000}\n")
            (rapl / "new").replace(rapl / "intel-rapl:0" / "energy_uj")
            end = time.monotonic() + 10
            while counter._last != joules * 1_000_000:
                assert time.monotonic() < end
                time.sleep(0.002)
        _stat(stat, 10)
        assert taking.taken().package_joules == pytest.approx(180, abs=1e-3)


class _Nvml:
    """The calls of pynvml, with counters of two GPUs in millijoules."""

    def __init__(self) -> None:
        self.counters = {0: 1000, "GPU-b": 5000}

    def nvmlInit(self) -> None: ...

    def nvmlDeviceGetCount(self) -> int:
        return 1

    def nvmlDeviceGetHandleByIndex(self, number: int) -> int:
        return number

    def nvmlDeviceGetHandleByUUID(self, name: str) -> str:
        return name

    def nvmlDeviceGetTotalEnergyConsumption(self, gpu: int | str) -> int:
        return self.counters[gpu]


@pytest.mark.parametrize(("visible", "joules"), [(None, 3.0), ("0", 3.0), ("GPU-b", 7.0), ("0, GPU-b", 10.0)])
def test_gpus_are_those_that_the_process_may_use_by_number_or_by_name(
    visible: str | None, joules: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nvml = _Nvml()
    monkeypatch.setitem(sys.modules, "pynvml", nvml)  # type: ignore[arg-type]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with metered(tmp_path / "none", tmp_path / "none") as taking:
        nvml.counters = {0: 4000, "GPU-b": 12_000}
        taken = taking.taken()
    assert taken.gpu_joules == pytest.approx(joules)
    assert taken.unseen == ()


def test_a_gpu_that_computed_and_whose_energy_nobody_reads_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meter, "_gpus", list)
    torch = SimpleNamespace(cuda=SimpleNamespace(is_initialized=lambda: True))
    monkeypatch.setitem(sys.modules, "torch", torch)  # type: ignore[arg-type]
    with metered(tmp_path / "none", tmp_path / "none") as taking:
        assert taking.taken().as_json()["unseen"] == ["GPUs whose energy cannot be read"]


RANK = f"""
import os
from puna.meter import metered
with metered() as taking:
    print(taking.taken().unseen, flush=True)
    input()
    if os.environ["RANK"] == "1":
        {BURN.replace(chr(10), chr(10) + "        ")}
    else:
        print(taking.taken().cpu_seconds)
"""
LAUNCHER = f"""
import os, subprocess, sys
def start(rank):
    words = [sys.executable, "-c", {RANK!r}]
    return subprocess.Popen(words, env={{**os.environ, "RANK": rank}}, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
other, first = start("1"), start("0")
unseen = first.stdout.readline()
other.communicate(b"\\n")
print(unseen.decode() + first.communicate(b"\\n")[0].decode(), end="")
"""


@pytest.mark.parametrize("local", ["2", "1"])
def test_ranks_of_this_machine_count_and_others_are_told(local: str) -> None:
    """The rank that measures does nothing itself; the other one, which the same process started, burns 0.3 s."""
    environment = {**os.environ, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": local}
    done = subprocess.run(
        [sys.executable, "-c", LAUNCHER], env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    unseen, seconds = done.stdout.splitlines()
    if local == "2":
        assert unseen == "()"
        assert float(seconds) >= 0.3
    else:
        assert unseen == "('ranks that were started elsewhere',)"
        assert float(seconds) < 0.3


def test_a_counter_that_begins_anew_loses_nothing(tmp_path: Path) -> None:
    rapl, stat = tmp_path / "rapl", tmp_path / "stat"
    _package(rapl / "intel-rapl:0", 99, most=100_000_000)
    _stat(stat, 1)
    with metered(rapl, stat) as taking:
        _package(rapl / "intel-rapl:0", 5, most=100_000_000)
        _stat(stat, 10)
        assert taking.taken().package_joules == pytest.approx(6, abs=1e-5)


def test_where_nothing_counts_energy_it_is_unknown(tmp_path: Path) -> None:
    with metered(tmp_path / "none", tmp_path / "none") as taking:
        taken = taking.taken()
    assert taken.package_joules is None
    assert taken.gpu_joules is None
    assert set(taken.as_json()) == {"cpu_seconds", "threads"}
    assert taken.threads == os.cpu_count()


@pytest.mark.parametrize("damage", ["", "many", "-"])
def test_a_damaged_counter_is_left_out(damage: str, tmp_path: Path) -> None:
    _package(tmp_path / "intel-rapl:0", 1)
    (tmp_path / "intel-rapl:0" / "energy_uj").write_text(damage)
    with metered(tmp_path, tmp_path / "none") as taking:
        assert taking.taken().package_joules is None


def test_processor_time_of_living_children_and_of_ended_ones_counts() -> None:
    with metered() as taking:
        subprocess.run([sys.executable, "-c", BURN], check=True)
        ended = taking.taken().cpu_seconds
        child = subprocess.Popen([sys.executable, "-c", f"{BURN}\ninput()"], stdin=subprocess.PIPE)
        try:
            end = time.monotonic() + 30
            while taking.taken().cpu_seconds < ended + 0.3:
                assert time.monotonic() < end
                time.sleep(0.05)
        finally:
            child.communicate(b"\n")
        assert taking.taken().cpu_seconds >= ended + 0.3
    assert ended >= 0.3


def test_a_meter_never_runs_backwards() -> None:
    with metered() as taking:
        taking._cpu += 1e9
        assert taking.taken().cpu_seconds == 0.0
    assert isinstance(taking, Meter)
