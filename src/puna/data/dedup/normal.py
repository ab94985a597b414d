"""The normal form of a line, in which two lines count as the same (CCNet: Wenzek et al. 2020, section 3.1).

A line is stripped; letters become small, decimal digits of any script 0; control characters go, and punctuation outside
ASCII. What is left is hashed to 64 bits (xxh3). Beside CCNet's code: it hashes with SHA-1 and names 34 marks by hand,
five of them symbols and one a digit, where this takes the Unicode categories P* and Cc; and letters become small one by
one, so a final sigma is a sigma, and İ is i. As there, punctuation of ASCII counts, and strip comes before deletion.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import xxhash

HIGHEST = 0x20000  # from here on every character is its own normal form
GONE = 0xFFFFFFFF
SPACE = bytes(byte for byte in range(128) if chr(byte).isspace())
SMALL = bytes(range(256)).replace(bytes(range(65, 91)), bytes(range(97, 123))).replace(b"123456789", b"000000000")
CONTROLS = bytes(byte for byte in [*range(32), 127] if byte != 10)


def hashes(data: bytes) -> npt.NDArray[np.uint64]:
    """The hash of the normal form of each line of UTF-8 text, those parted by newlines.

    ASCII lines are mapped all at once as bytes, the others all at once by a table of code points.
    """
    lines = data.split(b"\n")
    found = b"\n".join([line.strip(SPACE) for line in lines]).translate(SMALL, CONTROLS).split(b"\n")
    if not data.isascii():
        wide = [index for index, line in enumerate(lines) if not line.isascii()]
        text = b"\n".join([lines[index] for index in wide]).decode()
        for index, line in zip(wide, _mapped("\n".join(map(str.strip, text.split("\n")))), strict=True):
            found[index] = line
    return np.fromiter(map(xxhash.xxh3_64_intdigest, found), np.uint64, len(found))


def normal(line: str) -> str:
    """The normal form of one line: the readable twin."""
    return "".join(map(_character, line.strip()))


def normal_hash(line: str) -> int:
    return xxhash.xxh3_64_intdigest(normal(line).encode())


def _character(character: str) -> str:
    category = unicodedata.category(character)
    if category == "Cc" or (category[0] == "P" and not character.isascii()):
        return ""
    return "0" if category == "Nd" else character.lower()[0]


def _mapped(text: str) -> list[bytes]:
    """The normal forms of lines that are stripped."""
    points = np.frombuffer(text.encode("utf-32-le"), "<u4")
    mapped = _table()[np.minimum(points, HIGHEST)]
    if points.max(initial=0) >= HIGHEST:
        mapped = np.where(points < HIGHEST, mapped, points)
    left: bytes = mapped[mapped != GONE].astype("<u4", copy=False).tobytes()
    return left.decode("utf-32-le").encode().split(b"\n")


@lru_cache(maxsize=1)
def _table() -> npt.NDArray[np.uint32]:
    """Code point -> that of its normal form, or GONE. The newline stays, since it parts the lines."""
    forms = ("\n" if point == 10 else _character(chr(point)) for point in range(HIGHEST))
    table = np.fromiter((ord(form) if form else GONE for form in forms), np.uint32, HIGHEST)
    return np.append(table, np.uint32(GONE))
