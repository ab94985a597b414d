"""Where tests find real samples, and what several of them share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[1].parent / "shared"


def _samples(variable: str, folder: str) -> Path:
    path = Path(os.environ.get(variable) or SHARED / folder)
    if not path.is_dir():
        pytest.skip(f"no real samples at {path}: set {variable} to a folder that holds them")
    return path


@pytest.fixture(scope="session")
def samples() -> Path:
    """Real raw dumps, one folder a source (PUNA_SAMPLES)."""
    return _samples("PUNA_SAMPLES", "raw")


@pytest.fixture(scope="session")
def bench() -> Path:
    """Real benchmark items (PUNA_BENCH)."""
    return _samples("PUNA_BENCH", "bench")
