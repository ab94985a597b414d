"""From text or a document to where it was published and to the training steps that read it, and back.

steps    a document's steps
reading  a step's documents, and the loss that each got
text     the documents that hold a piece of text: by reading all of them, or those that an index names
index    that index, built on demand
"""

from __future__ import annotations

from puna.trace.index import build
from puna.trace.reading import StepTrace, step
from puna.trace.steps import FORMAT, Trace, Traced, documents
from puna.trace.text import search

__all__ = ["FORMAT", "StepTrace", "Trace", "Traced", "build", "documents", "search", "step"]
