"""What two texts have in common from their beginning, as ids."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def common(left: npt.ArrayLike, right: npt.ArrayLike) -> int:
    """How many ids two texts have in common from their beginning."""
    one, other = np.asarray(left, np.int64), np.asarray(right, np.int64)
    length = min(len(one), len(other))
    unlike = np.flatnonzero(one[:length] != other[:length])
    return int(unlike[0]) if len(unlike) else length
