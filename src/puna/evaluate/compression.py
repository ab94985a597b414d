"""How small xz and zstd make a text, alone and after the training text.

A language model is a compressor (its loss is the length of the text under an ideal coder), so general compressors are
the floor that it has to leave behind. Both get a strong level and a window that holds everything: xz -9 with a
dictionary, zstd -19 --long with a window, of the next power of two. `primed` is what the held-out text adds to the
compressed training text: the compressor, too, has then seen what the model was trained on.

Memory: xz takes 11.5 times its dictionary, so at most 23 times the text; zstd its window and 100 MB of tables. Both
read 1 to 3 MB a second.
"""

from __future__ import annotations

import lzma
from typing import Literal

import zstandard

Compressor = Literal["xz", "zstd"]

SEPARATOR = b"\n"  # between any two texts
XZ_DICTIONARY = (4096, 3 << 29)  # bytes, least and most that the format has
ZSTD_WINDOW_LOG = (10, 31)


def compressed_sizes(name: Compressor, training: bytes, held: bytes) -> tuple[int, int]:
    """Bytes of `held` compressed alone and primed: size(training, held) - size(training) in one and the same window."""
    both = SEPARATOR.join((training, held))
    primed = compressed_size(name, both) - compressed_size(name, training, window=len(both))
    return compressed_size(name, held), primed


def compressed_size(name: Compressor, data: bytes, *, window: int = 0) -> int:
    """Bytes of `data` compressed with a window that holds all of it, and at least `window` bytes."""
    power = (max(window, len(data), 1) - 1).bit_length()
    if name == "xz":
        least, most = XZ_DICTIONARY
        dictionary = min(max(1 << power, least), most)
        filters = [{"id": lzma.FILTER_LZMA2, "preset": 9, "dict_size": dictionary}]
        return len(lzma.compress(data, format=lzma.FORMAT_XZ, filters=filters))
    least, most = ZSTD_WINDOW_LOG
    parameters = zstandard.ZstdCompressionParameters.from_level(
        19, source_size=len(data), window_log=min(max(power, least), most), enable_ldm=True
    )
    return len(zstandard.ZstdCompressor(compression_params=parameters).compress(data))
