"""Token shards, the mixture of sources, and window(i) as a pure function (the paper's section 2.1 and Table 1).

shards        documents -> NNNNN.bin and NNNNN.idx
manifest      the shards of a run and one digest over their content
mixture       shares and epochs -> how many windows of each source
table_1       the paper's own shares and epochs, to stand beside a run's
turns         whose turn it is at window i
permutation   the order of a source's windows within an epoch
windows       window(i), batches, and which documents a window holds
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from puna import storage
from puna.storage import Location
from puna.tokens.windows import Where, Windows

__all__ = ["Where", "Windows", "window"]


def window(folder: Location, i: int) -> npt.NDArray[np.int64]:
    """(context + 1,): the token ids of training window `i` of the run in `folder`. For many, keep a `Windows`."""
    return Windows(storage.place(folder)).window(i)
