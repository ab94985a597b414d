"""A seeded order of the windows of one epoch: position -> window, computed without a table.

A Feistel network over pairs (left, right) of Z_a x Z_a, a = ceil(sqrt(size)), is a bijection of a * a numbers whatever
its round function; a result that is not below `size` is put in again until one is (cycle walking), which makes it a
bijection of the `size` numbers. a * a exceeds `size` by less than 2 a, so a second turn is rare. This is Black and
Rogaway's way to encipher an arbitrary finite domain (CT-RSA 2002), with splitmix64 where they put a block cipher: it
orders windows and keeps no secret.

The numbers are part of the format of a run: another round count, mixing step or key derivation is another order of
training. `permute` is the definition; `permute_all` does the same for many positions at once.
"""

from __future__ import annotations

from math import isqrt

import numpy as np
import numpy.typing as npt
import xxhash

ROUNDS = 8
_MASK = 2**64 - 1

Keys = tuple[int, ...]


def round_keys(seed: int, digest: str, source: str, epoch: int) -> Keys:
    """The keys of one epoch of one source: xxh3 of the four, each with its length, seeded with the round's number."""
    fields = [str(seed), digest, source, str(epoch)]
    message = b"".join(len(field.encode()).to_bytes(8, "little") + field.encode() for field in fields)
    return tuple(xxhash.xxh3_64_intdigest(message, seed=number) for number in range(ROUNDS))


def permute(position: int, size: int, keys: Keys) -> int:
    """The window at `position`; both are in range(size)."""
    side = isqrt(size - 1) + 1
    while True:
        left, right = divmod(position, side)
        for key in keys:
            left, right = right, (left + _mix((right + key) & _MASK)) % side
        position = left * side + right
        if position < size:
            return position


def position_of(window: int, size: int, keys: Keys) -> int:
    """The position at which `window` is read: the inverse of `permute`."""
    side = isqrt(size - 1) + 1
    while True:
        left, right = divmod(window, side)
        for key in reversed(keys):
            left, right = (right - _mix((left + key) & _MASK)) % side, left
        window = left * side + right
        if window < size:
            return window


def permute_all(positions: npt.NDArray[np.int64], size: int, keys: Keys) -> npt.NDArray[np.int64]:
    """`permute` of each of `positions`, which are in range(size)."""
    side = np.uint64(isqrt(size - 1) + 1)
    found = positions.astype(np.uint64)
    walking = np.arange(len(found))
    while len(walking):
        left, right = np.divmod(found[walking], side)
        for key in keys:
            # The sum below could pass 2^64 only with a side above 2^63.
            left, right = right, (left + _mix_all(right + np.uint64(key)) % side) % side
        found[walking] = left * side + right
        walking = walking[found[walking] >= size]
    return found.astype(np.int64)


def _mix(value: int) -> int:
    """The finishing steps of splitmix64: every bit of `value` bears on every bit of the result."""
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


def _mix_all(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: npt.NDArray[np.uint64] = values ^ (values >> np.uint64(31))
    return mixed
