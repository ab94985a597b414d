"""What is fuzzed takes its own seeds, so that a fuzzer begins with files that are read."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "fuzz"))

from targets import TARGETS


@pytest.mark.parametrize("name", TARGETS)
def test_every_parser_takes_its_seeds(name: str) -> None:
    seeds = TARGETS[name].seeds()
    assert seeds
    for seed in seeds:
        TARGETS[name].one(seed)
        TARGETS[name].one(seed[: len(seed) // 2])
