"""Which of many hashes are known: a sorted table behind a filter.

Nearly all hashes that are asked for are not in the table, and a binary search of one is a row of misses of the
processor's cache. The filter (Bloom 1970, "Space/Time Trade-offs in Hash Coding with Allowable Errors") has PROBES bits
set for each known hash, which are parts of the hash itself; what it lets through is searched for.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

BITS = 16  # of the filter for each known hash: one hash in 200 passes it for nothing
LEAST, LARGEST = 16, 28  # 2^28 bits: 32 MB a worker
PROBES, APART = 3, 18  # bits of the hash from where one probe begins to where the next does
AT_ONCE = 250_000  # hashes from which the filter is made at once


class Lookup:
    """Sorted distinct hashes, mapped mostly. Memory: a filter of 2 to 4 bytes a hash, at most 32 MB; none where hashes
    are so many that most would pass it, and to make it would be slow."""

    def __init__(self, hashes: Any) -> None:
        self.hashes = hashes
        bits = min(LARGEST, max(LEAST, int(BITS * len(hashes)).bit_length()))
        self._shift = np.uint64(64 - bits)
        self._filter = self._made(1 << (bits - 3)) if len(hashes) < 1 << (LARGEST - 3) else None

    def holds(self, hashes: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
        """The places in `hashes` of those that are known, ascending."""
        if not len(self.hashes):
            return np.empty(0, np.int64)
        if self._filter is None:
            passed = np.argsort(hashes)  # neighbours are found in what is near
        else:
            passed = self._passes(hashes, 0)
            for probe in range(1, PROBES):
                passed = passed[self._passes(hashes[passed], probe)]
        chosen = hashes[passed]
        place = np.minimum(np.searchsorted(self.hashes, chosen), len(self.hashes) - 1)
        return np.sort(passed[self.hashes[place] == chosen])

    def _passes(self, hashes: npt.NDArray[np.uint64], probe: int) -> npt.NDArray[np.int64]:
        assert self._filter is not None
        bits = (hashes << np.uint64(APART * probe)) >> self._shift
        bit = bits.astype(np.uint8) & np.uint8(7)
        bits >>= np.uint64(3)
        return np.flatnonzero((self._filter[bits.view(np.int64)] >> bit) & np.uint8(1))

    def _made(self, size: int) -> npt.NDArray[np.uint8]:
        made = np.zeros(size, np.uint8)
        for start in range(0, len(self.hashes), AT_ONCE):
            some = np.asarray(self.hashes[start : start + AT_ONCE])
            for probe in range(PROBES):
                bits = np.sort((some << np.uint64(APART * probe)) >> self._shift)
                byte = (bits >> np.uint64(3)).astype(np.int64)
                begin = np.flatnonzero(np.append(True, byte[1:] != byte[:-1]))
                bit = np.left_shift(np.uint8(1), (bits & np.uint64(7)).astype(np.uint8))
                made[byte[begin]] |= np.bitwise_or.reduceat(bit, begin)
        return made
