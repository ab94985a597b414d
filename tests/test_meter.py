"""What work takes of the machine is measured where it can be, and unknown where it cannot: never a made-up zero."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

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
    monkeypatch.setattr(meter, "_own", lambda: next(own))
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
