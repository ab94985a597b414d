"""What `puna doctor` sees of the machine, its disks and what lies around it; a strange one does no harm."""

from __future__ import annotations

import fcntl
import io
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from doctor_findings import files, one
from puna import recipe, space
from puna.data.sources.inputs import locate
from puna.doctor import disk, machine, mounts, surroundings

SEEN_BY_TORCH = ["avx2", "avx512_f"]


def _disk(free: int, inodes: int = 1000) -> Callable[[Any], Any]:
    return lambda path: SimpleNamespace(f_bavail=free, f_frsize=1, f_files=2000, f_favail=inodes)


@pytest.mark.parametrize(
    ("cpuinfo", "state", "told"),
    [
        ("model name\t: X\nflags\t\t: avx2 avx512f avx512_bf16\n", "ok", "X; AVX2, AVX-512, AVX-512 bf16: training"),
        ("model name\t: X\nflags\t\t: avx2 amx_tile amx_bf16\n", "ok", "AMX, AMX bf16"),
        ("model name\t: X\nflags\t\t: avx2\n", "note", "float32"),
        ("model name\t: X\nflags\t\t: sse2\n", "warning", "AVX2"),
        ("", "note", "AVX2, AVX-512"),
        ("\0\xff", "note", "AVX2, AVX-512"),
    ],
)
def test_what_a_processor_means_for_training(
    cpuinfo: str, state: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine.platform, "machine", lambda: "x86_64")
    files(tmp_path, {"proc/cpuinfo": cpuinfo})
    found = one(machine.processor(SEEN_BY_TORCH, tmp_path))
    assert found.state == state
    assert told in found.what


def test_the_features_for_bfloat16_are_those_that_training_goes_by() -> None:
    from puna.train.machine import BFLOAT16_FEATURES

    assert machine.BFLOAT16_FEATURES == BFLOAT16_FEATURES


MOUNT = "30 20 0:1 {inner} {point} rw - {kind} src rw{options}\n"
V2 = MOUNT.format(inner="/", point="/sys/fs/cgroup", kind="cgroup2", options="")
V1 = "".join(
    MOUNT.format(inner="/docker/x", point=f"/sys/fs/cgroup/{name}", kind="cgroup", options=f",{name}")
    for name in ("cpu,cpuacct", "memory")
)


def _grouped(root: Path, version: int, memory: str, used: str, quota: str) -> Path:
    """A machine of 8 GB on whose inner control group there are limits."""
    meminfo = {"proc/meminfo": "MemTotal: 8000000 kB\nMemAvailable: 6000000 kB\n"}
    if version == 2:
        job = "sys/fs/cgroup/slurm/job"
        made = {
            "proc/self/mountinfo": V2, "proc/self/cgroup": "0::/slurm/job/task\n", f"{job}/memory.max": memory,
            f"{job}/task/memory.max": "max\n", f"{job}/memory.current": used, f"{job}/cpu.max": f"{quota} 100000\n",
            f"{job}/memory.stat": "anon 5\ninactive_file 100000000\n",
        }  # fmt: skip
    else:
        made = {
            "proc/self/mountinfo": V1, "proc/self/cgroup": "4:memory:/docker/x\n3:cpu,cpuacct:/docker/x\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": memory.replace("max", "9223372036854771712"),
            "sys/fs/cgroup/memory/memory.usage_in_bytes": used,
            "sys/fs/cgroup/memory/memory.stat": "inactive_file 1\ntotal_inactive_file 100000000\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": quota.replace("max", "-1"),
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
        }  # fmt: skip
    return files(root, meminfo | made)


@pytest.mark.parametrize("version", [1, 2])
def test_the_limits_of_control_groups_are_seen(version: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "usable_cpus", lambda: 4)
    none = _grouped(tmp_path / "none", version, "max\n", "0\n", "max")
    assert mounts.limits(none) == mounts.Limits(None, None, None)
    assert one(machine.memory(none)).state == "ok"
    tight = _grouped(tmp_path / "tight", version, "2000000000\n", "1500000000\n", "150000")
    assert mounts.limits(tight) == mounts.Limits(1.5, 2_000_000_000, 600_000_000)
    left = one(machine.memory(tight))
    assert left.state == "warning"
    assert "the control group grants 2.0 GB; 600 MB are left now" in left.what
    granted = one(machine.cores(tight))
    assert granted.state == "warning"
    assert "--workers 1 --threads 1" in granted.mend
    small = _grouped(tmp_path / "small", version, "500000000\n", "0\n", "max")
    assert one(machine.memory(small)).state == "error"


def test_a_machine_that_tells_nothing_of_itself_is_no_error(tmp_path: Path) -> None:
    strange = {f"proc/{name}/folder": "" for name in ("meminfo", "self/cgroup", "cpuinfo")}
    for root in (tmp_path / "empty", files(tmp_path / "strange", strange)):
        assert mounts.mounts(root) == []
        assert mounts.limits(root) == mounts.Limits(None, None, None)
        assert one(machine.memory(root)).state == "ok"
        assert one(machine.processor([], root)).state == "note"
        assert one(disk.file_system(tmp_path, root)).state == "ok"


def test_few_cores_and_few_open_files_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import resource

    monkeypatch.setattr(machine.os, "cpu_count", lambda: 8)
    monkeypatch.setattr(machine, "usable_cpus", lambda: 2)
    assert one(machine.cores(tmp_path)).what == "2 usable of 8 (affinity)"
    for limits, state, mend in [((20000, 20000), "ok", ""), ((40, 4096), "warning", "ulimit -n 1024")]:
        monkeypatch.setattr(resource, "getrlimit", lambda kind, limits=limits: limits)
        assert (one(machine.open_files()).state, machine.open_files()[0].mend) == (state, mend)
    assert one(machine.memory(tmp_path)).mend == "ulimit -v unlimited"


def test_a_system_without_semaphores_can_start_no_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    def denied() -> None:
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr(machine, "get_context", lambda kind: SimpleNamespace(Lock=denied))
    assert one(machine.workers()).state == "error"


def test_a_full_disk_or_one_without_inodes_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk.os, "statvfs", _disk(free=100_000_000))
    full = one(disk.space(tmp_path / "runs"))
    assert full.state == "error"
    assert "free 200 MB there" in full.mend
    assert one(disk.temporary()).state == "warning"
    monkeypatch.setattr(disk.os, "statvfs", _disk(free=10**12, inodes=0))
    assert "inodes" in one(disk.space(tmp_path / "runs")).what
    (tmp_path / "file").write_text("")
    assert "is not a folder" in one(disk.space(tmp_path / "file" / "runs")).what


def test_what_laptop_needs_is_what_its_steps_foresee() -> None:
    for name in ("laptop", "laptop-plain"):
        made = recipe.load(name, ())
        raw = {key: {one.declared: one.size for one in locate(key, source)} for key, source in made.sources.items()
               if source.inputs}  # fmt: skip
        assert sum(space.whole(made, raw, None).values()) <= disk.LAPTOP_DISK


@pytest.mark.parametrize(
    ("kind", "state", "told"),
    [
        ("ext4", "ok", "ext4: locks, links, renames and syncs work"),
        ("nfs4", "warning", "not of this machine (src)"),
        ("fuse.sshfs", "warning", "not of this machine"),
        ("tmpfs", "note", "held in memory"),
        ("overlay", "note", "gone with the container"),
    ],
)
def test_the_kind_of_file_system_is_told(kind: str, state: str, told: str, tmp_path: Path) -> None:
    runs = tmp_path / "a b"
    runs.mkdir()
    outer = MOUNT.format(inner="/", point="/", kind="xfs", options="")
    inner = MOUNT.format(inner="/", point=str(runs).replace(" ", "\\040"), kind=kind, options="")
    root = files(tmp_path / "root", {"proc/self/mountinfo": f"{outer}broken line\n{inner}"})
    found = one(disk.file_system(runs / "not" / "yet", root))
    assert found.state == state
    assert told in found.what
    assert list(runs.iterdir()) == []


def test_a_folder_in_which_a_run_would_fail_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*names: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    found = one(disk.file_system(tmp_path))
    assert found.state == "error"
    assert "nothing can be written there as a run needs it" in found.what
    assert list(tmp_path.iterdir()) == []


def test_locks_that_are_missing_or_keep_nobody_out_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcntl, "flock", lambda file, how: None)
    assert "keep nobody out" in one(disk.file_system(tmp_path)).what

    def none(file: Any, how: int) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", none)
    assert "has no flock" in one(disk.file_system(tmp_path)).what


def test_an_object_store_is_not_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    assert one(disk.space("s3://bucket/run")).state == "note"
    assert one(disk.file_system("nothing://bucket/run")).state == "error"
    monkeypatch.setitem(sys.modules, "upath", None)
    missing = one(disk.file_system("memory://run"))
    assert missing.state == "error"
    assert "extra s3" in missing.mend


def test_a_folder_for_temporary_files_that_is_missing_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "none"))
    found = one(disk.temporary())
    assert found.state == "warning"
    assert "TMPDIR names no folder" in found.what
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: [str(tmp_path / "none")])
    assert one(disk.temporary()).state == "error"


def test_characters_that_cannot_be_written_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    latin = io.TextIOWrapper(io.BytesIO(), encoding="latin-1")
    monkeypatch.setattr(surroundings.sys, "stdout", latin)
    assert one(surroundings.text()).state == "note"
    monkeypatch.setattr(surroundings.sys, "stdout", None)
    assert one(surroundings.text()).state == "ok"
    monkeypatch.setattr(surroundings.locale, "getpreferredencoding", lambda *no: "ANSI_X3.4-1968")
    assert one(surroundings.text()).state == "warning"
    monkeypatch.setattr(surroundings.sys, "stderr", None)
    assert one(surroundings.terminal()).state == "ok"
