"""Puna raises a LLaMA from raw text. What a program uses of it:

puna.load(model).generate(prompt)     text from a run folder or a checkpoint
puna.documents(run)                   the training documents of a run, with their origins
puna.window(run, i)                   the token ids of training window i
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from puna.data.document import Document
    from puna.generate import Generator
    from puna.storage import Location

__version__ = "0.1.0"
__all__ = ["__version__", "documents", "load", "window"]


def load(model: Location) -> Generator:
    """The model of a run folder (its newest checkpoint) or a checkpoint folder, ready to generate."""
    from puna.generate import load

    return load(model)


def documents(run: Location, source: str | None = None, *, heldout: bool = False) -> Iterator[Document]:
    """The documents of a run sorted by id within a source: those trained on, or those held out."""
    from puna import storage
    from puna.data.document import read_documents
    from puna.errors import InputError

    folder = storage.place(run) / ("heldout" if heldout else "documents")
    if not storage.is_folder(folder):
        raise InputError("holds no documents yet", where=str(run), mend="puna data RECIPE makes them")
    if source is not None and not storage.is_folder(folder / source):
        known = ", ".join(storage.names(folder))
        raise InputError(f"no source {source!r}", where=str(folder), mend=f"there are {known}")
    for path in storage.listing(folder, f"{source or '*'}/*.parquet"):
        yield from read_documents(path)


def window(run: Location, i: int) -> npt.NDArray[np.int64]:
    """(context + 1,): token ids of training window `i`; a pure function of the seed, the tokens and `i`."""
    from puna.tokens import window

    return window(run, i)
