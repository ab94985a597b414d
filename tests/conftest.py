"""Where tests find real samples, and what several of them share."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from hypothesis import settings

from puna import storage
from puna.compiler import name_torch_without_spaces

# A job in the background ignores Ctrl-C, and hands that on; tests of interrupts would wait for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

pytest_plugins = ["promises", "ranks"]

name_torch_without_spaces()  # as every command does, so that a test may compile wherever the clone lies

# Where a change is judged, the same examples are drawn each time; a new one is found by whoever runs the tests.
settings.register_profile("judged", derandomize=True)
if os.environ.get("PUNA_REQUIRE_SAMPLES", "") not in ("", "0"):
    settings.load_profile("judged")

# Of several processes (pytest-xdist) each has a CPU; more threads than that wait for each other.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

MEMORY = 2 << 30  # bytes that a process of tests may need, with the largest child that a test of it starts
SHARED = Path(__file__).resolve().parents[1].parent / "shared"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """As many processes as this one may use CPUs, and half as many again for `make test`, which waits for a quarter
    of its time; proofs start many processes of their own. At most as many as the memory that is free has room for."""
    from psutil import virtual_memory

    from puna.doctor.mounts import limits
    from puna.engine import usable_cpus

    granted = limits().room
    free = virtual_memory().available
    cpus = usable_cpus()
    wanted = cpus if config.option.markexpr == "prove" else cpus + cpus // 2
    return max(1, min(wanted, (free if granted is None else min(free, granted)) // MEMORY))


def _lacking(reason: str) -> None:
    """Skip the test, or fail it where samples are required (PUNA_REQUIRE_SAMPLES=1, as in `.ci/run`)."""
    if os.environ.get("PUNA_REQUIRE_SAMPLES", "") not in ("", "0"):
        pytest.fail(f"{reason} (PUNA_REQUIRE_SAMPLES is set)", pytrace=False)
    pytest.skip(reason)


def _samples(variable: str, folder: str) -> Path:
    path = Path(os.environ.get(variable) or SHARED / folder)
    if not path.is_dir() or not any(path.iterdir()):
        _lacking(f"no real samples at {path}: set {variable} to a folder that holds them")
    return path


@pytest.fixture(scope="session")
def samples() -> Path:
    """Real raw dumps, one folder a source (PUNA_SAMPLES)."""
    return _samples("PUNA_SAMPLES", "raw")


@pytest.fixture(scope="session")
def bench() -> Path:
    """Real benchmark items (PUNA_BENCH)."""
    return _samples("PUNA_BENCH", "bench")


@pytest.fixture(scope="module")
def unsynced() -> Iterator[None]:
    """For tests that write many small files which no crash will meet: nothing waits for the disk."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(storage, "sync", lambda *_: None)
        patch.setattr(storage, "sync_folder", lambda *_: None)
        yield


@pytest.fixture(scope="session")
def sample_packages() -> None:
    """For tests that read a package of the extra `sample`."""
    for name in ("gensim", "sympy", "networkx"):
        if not list(metadata.distributions(name=name)):
            _lacking(f"{name} is not installed: pip install '.[sample]'")


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Two threads on matrices as small as those of tests wait for each other more than they work."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
