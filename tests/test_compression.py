"""The compressors: at least as strong as what a person types, and sighted over the whole training text."""

from __future__ import annotations

import lzma
import random

import pytest
import zstandard

from puna.evaluate.compression import Compressor, compressed_size, compressed_sizes

NAMES: list[Compressor] = ["xz", "zstd"]


def _noise(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


@pytest.mark.parametrize("name", NAMES)
def test_held_out_text_that_was_in_training_costs_almost_nothing_primed(name: Compressor) -> None:
    held = _noise(1, 20_000)
    alone, primed = compressed_sizes(name, held + _noise(2, 100_000), held)
    assert alone > 20_000
    assert primed < alone / 10


@pytest.mark.parametrize("name", NAMES)
def test_the_window_reaches_over_everything(name: Compressor) -> None:
    # 9 MB: more than the window that zstd -19 has by itself (8 MB), and its table of recent places.
    held = _noise(1, 20_000)
    _, primed = compressed_sizes(name, held + b"\n" + _noise(2, 40_000) * 225, held)
    assert primed < len(held) / 10


@pytest.mark.parametrize("name", NAMES)
def test_unrelated_training_text_changes_little(name: Compressor) -> None:
    held = b"".join(b"%d squared is %d\n" % (n, n * n) for n in range(2_000))
    alone, primed = compressed_sizes(name, _noise(2, 50_000), held)
    assert primed == pytest.approx(alone, rel=0.15)


def test_sizes_are_those_of_the_usual_commands_on_small_texts() -> None:
    text = b"".join(b"%d squared is %d\n" % (n, n * n) for n in range(5_000))
    assert abs(compressed_size("xz", text) - len(lzma.compress(text, preset=9))) <= 8
    assert abs(compressed_size("zstd", text) - len(zstandard.compress(text, 19))) <= 8


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("text", [b"", b"a"])
def test_an_empty_text_is_a_text(name: Compressor, text: bytes) -> None:
    alone, primed = compressed_sizes(name, b"", text)
    assert 0 < alone < 80
    assert primed < 40
