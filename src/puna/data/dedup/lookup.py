"""Which of many hashes are known: a sorted table behind a filter.

Nearly all hashes that are asked for are not in the table, and a binary search of one is a row of misses of the
processor's cache. The filter has a bit for each range of hashes, set where a known one lies in it; what it lets through
is searched for.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

BITS = 16  # of the filter for each known hash: one hash in 16 passes it for nothing
LEAST, LARGEST = 16, 28  # 2^28 bits: 32 MB a worker
AT_ONCE = 250_000  # hashes from which the filter is made at once


class Lookup:
    """Sorted distinct hashes, mapped mostly. Memory: a filter of 2 bytes a hash, at most 32 MB; none where hashes are
    so many that every bit of it would be set."""

    def __init__(self, hashes: Any) -> None:
        self.hashes = hashes
        bits = min(LARGEST, max(LEAST, int(BITS * len(hashes)).bit_length()))
        self._shift = np.uint64(64 - bits)
        self._filter = _filter(hashes, self._shift, bits) if len(hashes) < 1 << LARGEST else None

    def holds(self, hashes: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
        """The places in `hashes` of those that are known, ascending."""
        if not len(self.hashes):
            return np.empty(0, np.int64)
        passed = self._passed(hashes)
        chosen = hashes[passed]
        place = np.minimum(np.searchsorted(self.hashes, chosen), len(self.hashes) - 1)
        found: npt.NDArray[np.int64] = passed[self.hashes[place] == chosen]
        return found

    def _passed(self, hashes: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
        if self._filter is None:
            return np.arange(len(hashes))
        top = hashes >> self._shift
        bit = top.astype(np.uint8) & np.uint8(7)
        top >>= np.uint64(3)
        return np.flatnonzero((self._filter[top.view(np.int64)] >> bit) & np.uint8(1))


def _filter(hashes: npt.NDArray[np.uint64], shift: np.uint64, bits: int) -> npt.NDArray[np.uint8]:
    """A bit for each range of hashes, set where a known one lies in it."""
    made = np.zeros(1 << (bits - 3), np.uint8)
    for start in range(0, len(hashes), AT_ONCE):
        top = hashes[start : start + AT_ONCE] >> shift
        byte = (top >> np.uint64(3)).astype(np.int64)  # ascending, as the hashes are
        begin = np.flatnonzero(np.append(True, byte[1:] != byte[:-1]))
        bit = np.left_shift(np.uint8(1), (top & np.uint64(7)).astype(np.uint8))
        made[byte[begin]] |= np.bitwise_or.reduceat(bit, begin)
    return made
