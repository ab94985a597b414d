"""From text or a document to where it was published and to the training steps that read it, and back.

steps    a document's steps, and a step's documents
text     the documents that hold a piece of text: by reading all of them, or those that an index names
index    that index, built on demand
"""

from __future__ import annotations

from puna.trace.index import build
from puna.trace.steps import FORMAT, Trace, Traced, documents, step
from puna.trace.text import search

__all__ = ["FORMAT", "Trace", "Traced", "build", "documents", "search", "step"]
