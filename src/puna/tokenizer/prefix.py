"""What two texts have in common from their beginning, as ids."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

Ids = Sequence[int] | np.ndarray[Any, np.dtype[np.int64]]


def common(left: Ids, right: Ids) -> int:
    """How many ids two texts have in common from their beginning."""
    length = min(len(left), len(right))
    # Most have <s> alone in common; arrays are not made for that.
    for place in range(min(length, 2)):
        if left[place] != right[place]:
            return place
    one, other = np.asarray(left[:length], np.int64), np.asarray(right[:length], np.int64)
    unlike = np.flatnonzero(one != other)
    return int(unlike[0]) if len(unlike) else length
