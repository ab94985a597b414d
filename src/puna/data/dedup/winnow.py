"""A few hashes of a text, such that a text has all those of every stretch that it holds: winnowing.

Of the hashes of all runs of GRAM bytes, the least of every WINDOW neighbours is kept (Schleimer, Wilkerson and Aiken
2003, "Winnowing: Local Algorithms for Document Fingerprinting", section 3). What is least in a window is so wherever
the same bytes stand. So what is kept of a stretch of at least SHORTEST bytes is kept of every text that holds it, and
of a long text two hashes of WINDOW + 1 are kept.

White space is made equal first, so that another wrapping of lines hides nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt
import xxhash

GRAM, WINDOW = 32, 97  # bytes of text, and hashes
SHORTEST = GRAM + WINDOW - 1  # bytes of the shortest stretch that something is kept of
BATCH = 1 << 16  # bytes hashed at once: what the processor keeps near, and memory stays small however long a text is
_HASHES = np.array([xxhash.xxh3_64_intdigest(bytes([byte])) for byte in range(256)], np.uint64)  # of single bytes
MULTIPLIER = 0x9E3779B97F4A7C15  # 2^64 / golden ratio, odd, so no byte of a run is lost modulo 2^64

Keys = npt.NDArray[np.uint64]


def normalised(text: str) -> str:
    """`text` with every run of white space as one space, and none at its ends."""
    return " ".join(text.split())


def winnowed(texts: Iterable[str]) -> Iterator[tuple[Keys, npt.NDArray[np.int64]]]:
    """What is kept of each text: keys, and for each the number of its text, about BATCH bytes of text at a time. A pair
    may come twice. Keys are spread evenly over all 64 bits."""
    pieces: list[bytes] = []
    numbers: list[int] = []
    size = 0
    for number, text in enumerate(texts):
        data = normalised(text).encode()
        # Neighbours overlap, so that no window is lost between them.
        for start in range(0, len(data) - SHORTEST + 1, BATCH - SHORTEST + 1):
            pieces.append(data[start : start + BATCH])
            numbers.append(number)
            size += len(pieces[-1])
            if size >= BATCH:
                yield _kept(pieces, numbers)
                pieces, numbers, size = [], [], 0
    if pieces:
        yield _kept(pieces, numbers)


def keys_of(text: str) -> Keys:
    """What is kept of one text, sorted, each once; nothing of one shorter than SHORTEST bytes."""
    return np.unique(np.concatenate([np.empty(0, np.uint64), *(keys for keys, _ in winnowed([text]))]))


def _kept(pieces: list[bytes], numbers: list[int]) -> tuple[Keys, npt.NDArray[np.int64]]:
    """The least hash of each window that lies in one piece, once where neighbours have the same."""
    least = _least(_hashes(np.frombuffer(b"".join(pieces), np.uint8)))
    lengths = np.array([len(piece) for piece in pieces])
    ends = np.cumsum(lengths)
    piece = np.repeat(np.arange(len(pieces)), lengths)[: len(least)]
    kept = np.arange(len(least)) + SHORTEST <= ends[piece]
    kept[1:] &= (least[1:] != least[:-1]) | (piece[1:] != piece[:-1])
    # The least are small numbers, and are spread before ranges are cut of them.
    return _mixed(least[kept] * np.uint64(MULTIPLIER)), np.array(numbers)[piece[kept]]


def _hashes(data: npt.NDArray[np.uint8]) -> Keys:
    """Of each run of GRAM bytes: mix(sum over k of hash(byte k) * M^(GRAM - 1 - k)) modulo 2^64, by doubling."""
    total, length = _HASHES[data], 1
    while length < GRAM:
        factor = np.uint64(pow(MULTIPLIER, length, 1 << 64))
        total = total[:-length] * factor + total[length:]
        length *= 2
    return _mixed(total)


def _least(hashes: Keys) -> Keys:
    """The least of each WINDOW neighbours, by doubling."""
    length = 1
    while 2 * length <= WINDOW:
        hashes = np.minimum(hashes[:-length], hashes[length:])
        length *= 2
    rest = WINDOW - length
    return np.minimum(hashes[:-rest], hashes[rest:]) if rest else hashes


def _mixed(values: Keys) -> Keys:
    values = values ^ (values >> np.uint64(32))
    values *= np.uint64(0xD6E8FEB86659FD93)
    return values ^ (values >> np.uint64(32))
