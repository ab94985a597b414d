"""Bytes of tokens become text: whole characters as soon as they are whole, up to the first stop string.

Bytes are held back until they are whole characters, and text until it cannot be the beginning of a stop string any
more, whatever the borders between tokens.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence


class TextStream:
    """The text of one sample. Bytes that are no UTF-8 come out as U+FFFD. `stopped`: a stop string was met; what it
    began with and all behind it is dropped."""

    def __init__(self, stop: Sequence[str] = ()) -> None:
        self.stopped = False
        self._stop = tuple(stop)
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._held = ""

    def feed(self, data: bytes) -> str:
        """The text that is sure now that `data` came; "" when none is."""
        return "" if self.stopped else self._released(self._decoder.decode(data))

    def close(self) -> str:
        """The rest, when nothing follows any more."""
        if self.stopped:
            return ""
        ready = self._released(self._decoder.decode(b"", final=True))
        held, self._held = self._held, ""
        return ready + held

    def _released(self, text: str) -> str:
        self._held += text
        cut = _first(self._held, self._stop)
        self.stopped = cut is not None
        if cut is None:
            cut = len(self._held) - _beginning(self._held, self._stop)
        ready = self._held[:cut]
        self._held = "" if self.stopped else self._held[cut:]
        return ready


def _first(text: str, stop: Sequence[str]) -> int | None:
    """Where the stop string in `text` begins that is whole first: a longer one that began before it might have been
    whole or not when it came, by how the text was cut into tokens. Of those that end together the longest."""
    found = [(place + len(word), place) for word in stop if (place := text.find(word)) >= 0]
    return min(found)[1] if found else None


def _beginning(text: str, stop: Sequence[str]) -> int:
    """Length of the longest end of `text` with which a stop string may begin."""
    longest = max((len(word) for word in stop), default=1) - 1
    for length in range(min(longest, len(text)), 0, -1):
        if any(word.startswith(text[-length:]) for word in stop):
            return length
    return 0
