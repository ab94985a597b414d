"""float32 matmuls by oneDNN in place of MKL, where that is as exact and faster.

torch sends float32 matmuls to MKL, which takes its slow path on processors that Intel did not make. Told that it may
round to bfloat16, torch hands them to oneDNN, which rounds only where there is AMX; elsewhere it multiplies in float32.
So this is tried on processors with AVX-512 and without AMX alone (without AVX-512 torch asks MKL all the same, and the
bits are the same), and a check decides. The processors where it helped are in docs/train.md.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

NAME = "float32 by oneDNN"
ERROR = 1e-6  # ||a - b|| / ||b|| against float64; MKL is at 2e-7, and rounding to bfloat16 at 2e-3
GAIN = 0.9  # of MKL's time at most: less is not worth other bits
ROUNDS = 5
TRIAL = (512, 1024, 1024)  # tokens, dim, hidden: 1 GFLOP, some milliseconds


def allowed() -> bool:
    """Whether this processor is one where oneDNN multiplies in float32 when told that it need not."""
    features = torch.cpu.get_capabilities()
    return bool(features.get("avx512_f")) and not any(value for name, value in features.items() if "amx" in name)


def exact() -> bool:
    """Whether its products of random matrices are as near to those in float64 as float32 comes."""
    left, right = _matrices()
    with used():
        product = left @ right
    expected = left.double() @ right.double()
    return float((product - expected).norm() / expected.norm()) < ERROR


def faster() -> bool:
    """Whether it needs at most GAIN of MKL's time here; the best of some rounds in turn, in this thread."""
    left, right = _matrices()
    ours, theirs = [], []
    for _ in range(ROUNDS):
        theirs.append(_seconds(left, right))
        with used():
            ours.append(_seconds(left, right))
    return min(ours) < GAIN * min(theirs)


@contextmanager
def used() -> Iterator[None]:
    """Send float32 matmuls to oneDNN; put the setting back at the end."""
    matmul = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = matmul.fp32_precision
    matmul.fp32_precision = "bf16"
    try:
        yield
    finally:
        matmul.fp32_precision = before


def _matrices() -> tuple[Tensor, Tensor]:
    chance = torch.Generator().manual_seed(1)
    tokens, dim, hidden = TRIAL
    return torch.randn(tokens, dim, generator=chance), torch.randn(dim, hidden, generator=chance)


def _seconds(left: Tensor, right: Tensor) -> float:
    began = time.perf_counter()
    _ = left @ right
    return time.perf_counter() - began
