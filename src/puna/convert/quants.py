"""GGUF's blocks: numbers in rows of 32 (256 for K-quants), each row of a tensor cut into whole blocks.

Written here are those that Puna writes and reads itself; the K-quants, which it only reads, are decoded by the gguf
package, whose tables of them are its own work. Layouts, little-endian, of 32 numbers each:

| type | bytes | block |
|---|---|---|
| Q8_0 | 34 | f16 scale d, 32 int8 q: x = d q |
| Q4_0 | 18 | f16 scale d, 16 bytes of two nibbles q: x = d (q - 8); low nibbles are numbers 0 to 15 |
| Q4_1 | 20 | f16 scale d, f16 least m, 16 bytes as in Q4_0: x = d q + m |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from puna.errors import InputError

Bytes = np.ndarray[Any, np.dtype[np.uint8]]
Floats = np.ndarray[Any, np.dtype[np.float32]]


@dataclass(frozen=True)
class Type:
    """A type of GGUF's tensors."""

    name: str
    number: int
    block: int
    """Numbers of a block."""
    size: int
    """Bytes of a block."""


TYPES = {
    each.number: each
    for each in (
        Type("F32", 0, 1, 4),
        Type("F16", 1, 1, 2),
        Type("Q4_0", 2, 32, 18),
        Type("Q4_1", 3, 32, 20),
        Type("Q5_0", 6, 32, 22),
        Type("Q5_1", 7, 32, 24),
        Type("Q8_0", 8, 32, 34),
        Type("Q2_K", 10, 256, 84),
        Type("Q3_K", 11, 256, 110),
        Type("Q4_K", 12, 256, 144),
        Type("Q5_K", 13, 256, 176),
        Type("Q6_K", 14, 256, 210),
        Type("BF16", 30, 1, 2),
    )
}
BY_NAME = {each.name: each for each in TYPES.values()}
_PLAIN = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def decode(data: Bytes, type: Type, shape: tuple[int, ...], where: str) -> Tensor:
    """A tensor from its bytes, in f32, or as it is for F32, F16 and BF16. InputError, naming `where`, when the type
    takes the gguf package and that is not there."""
    if type.name in _PLAIN:
        return torch.from_numpy(data).view(_PLAIN[type.name]).reshape(shape).clone()
    blocks = data.reshape(-1, type.size)
    known = {"Q8_0": _from_q8_0, "Q4_0": _from_q4_0, "Q4_1": _from_q4_1}.get(type.name)
    values = known(blocks) if known else _by_package(data, type, where)
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32)).reshape(shape)


def encode(tensor: Tensor, type: Type) -> Bytes:
    """The bytes of a tensor in a type that is written: F32, F16, BF16, Q8_0, Q4_0. Rows must be whole blocks."""
    if type.name in _PLAIN:
        return tensor.detach().to(_PLAIN[type.name]).contiguous().reshape(-1).view(torch.uint8).numpy()
    rows = tensor.detach().float().contiguous().numpy().reshape(-1, type.block)
    return {"Q8_0": _to_q8_0, "Q4_0": _to_q4_0}[type.name](rows).reshape(-1)


def _to_q8_0(rows: Floats) -> Bytes:
    """d is the largest magnitude over 127; q is x / d, rounded half away from zero."""
    scale = np.abs(rows).max(1, keepdims=True) / np.float32(127)
    with np.errstate(divide="ignore"):
        inverse = np.where(scale == 0, np.float32(0), np.float32(1) / scale)
    scaled = rows * inverse
    q = np.copysign(np.floor(np.abs(scaled) + np.float32(0.5)), scaled).astype(np.int8)
    return np.hstack([scale.astype("<f2").view(np.uint8), q.view(np.uint8)])


def _to_q4_0(rows: Floats) -> Bytes:
    """d is the number of the largest magnitude over -8, held exactly; q is x / d + 8.5, cut, at most 15."""
    largest = np.take_along_axis(rows, np.abs(rows).argmax(1, keepdims=True), 1)
    scale = largest / np.float32(-8)
    with np.errstate(divide="ignore"):
        inverse = np.where(scale == 0, np.float32(0), np.float32(1) / scale)
    q = np.trunc(rows * inverse + np.float32(8.5)).clip(0, 15).astype(np.uint8)
    return np.hstack([scale.astype("<f2").view(np.uint8), q[:, :16] | q[:, 16:] << 4])


def _from_q8_0(blocks: Bytes) -> Floats:
    return _floats(blocks[:, :2]) * blocks[:, 2:].view(np.int8).astype(np.float32)


def _from_q4_0(blocks: Bytes) -> Floats:
    return _floats(blocks[:, :2]) * (_nibbles(blocks[:, 2:]) - np.float32(8))


def _from_q4_1(blocks: Bytes) -> Floats:
    return _floats(blocks[:, :2]) * _nibbles(blocks[:, 4:]) + _floats(blocks[:, 2:4])


def _floats(two: Bytes) -> Floats:
    """(blocks, 1) f32 from f16's two bytes."""
    return np.ascontiguousarray(two).view("<f2").astype(np.float32)


def _nibbles(packed: Bytes) -> Floats:
    return np.hstack([packed & 15, packed >> 4]).astype(np.float32)


def _by_package(data: Bytes, type: Type, where: str) -> Floats:
    try:
        import gguf
    except ImportError:
        mend = "install it: pip install 'puna[convert]'"
        raise InputError(f"is {type.name}, which takes the package gguf", where=where, mend=mend) from None
    found: Floats = gguf.quants.dequantize(data.reshape(-1, type.size), gguf.GGMLQuantizationType(type.number))
    return found
