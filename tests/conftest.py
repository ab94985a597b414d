"""Where tests find real samples, and what several of them share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from hypothesis import settings

from puna import storage

pytest_plugins = ["promises"]

# Where a change is judged, the same examples are drawn each time; a new one is found by whoever runs the tests.
settings.register_profile("judged", derandomize=True)
if os.environ.get("PUNA_REQUIRE_SAMPLES", "") not in ("", "0"):
    settings.load_profile("judged")

SHARED = Path(__file__).resolve().parents[1].parent / "shared"


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
