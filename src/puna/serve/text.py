"""What can be told of a choice as it grows: its text, and each token with where its text begins.

The engine says which text is sure: whole characters that begin no stop string. A token is told of when all of its text
is, so that what a reader has of tokens and of text always fits together; those of a stop string are never told.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from puna.generate.request import End, Scored, Token

Finish = Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class Shown:
    """One token as a reader sees it. offset: characters of the choice's text before it. logprob: None of a prompt's
    first token, before which there is nothing."""

    id: int
    offset: int
    logprob: float | None
    top: tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True)
class Piece:
    """What can be told now. With `finish` it is the last."""

    text: str
    tokens: tuple[Shown, ...] = ()
    finish: Finish | None = None


class Text:
    """The text of one choice. end: the id that ends a text; where the engine gives it as a token, it stops one too."""

    def __init__(self, end: int) -> None:
        self.made = 0
        """Tokens that were generated."""
        self._end = end
        self._ended = False
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._read = 0  # characters of all tokens so far
        self._told = 0  # characters that were given out
        self._waiting: list[tuple[Shown, int]] = []  # tokens not told of, with the number of characters up to their end

    def prompt(self, tokens: Iterable[tuple[Scored | None, int, bytes]]) -> Piece:
        """The prompt where it is echoed: its scores (None where there are none), ids and bytes."""
        text = []
        for scored, id, raw in tokens:
            text.append(self._take(id, raw, scored.logprob if scored else None, scored.top if scored else ()))
        text.append(self._decoder.decode(b"", final=True))  # a character that the prompt leaves open is no character
        self._decoder.reset()
        self._read += len(text[-1])
        return self._give("".join(text), end=True)

    def token(self, event: Token) -> Piece:
        self.made += 1
        self._ended |= event.id == self._end
        self._take(event.id, event.bytes, event.logprob, event.top)
        return self._give(event.text)

    def end(self, event: End) -> Piece:
        finish: Finish = "stop" if event.reason == "stop" or self._ended else "length"
        return self._give(event.text, end=True, finish=finish)

    def _take(self, id: int, raw: bytes, logprob: float | None, top: tuple[tuple[int, float], ...]) -> str:
        text = self._decoder.decode(raw)
        shown = Shown(id, self._read, logprob, top)
        self._read += len(text)
        self._waiting.append((shown, self._read))
        return text

    def _give(self, text: str, *, end: bool = False, finish: Finish | None = None) -> Piece:
        self._told += len(text)
        within = bool(self._decoder.getstate()[0]) and not end  # a character
        tokens: list[Shown] = []
        for shown, until in self._waiting:
            begun = end and shown.offset < self._told
            # Where a character is not whole yet, what ends at the end of the text so far may be a part of it.
            if not begun and (until > self._told or (within and until == self._read)):
                break
            tokens.append(shown)
        del self._waiting[: len(tokens)]
        return Piece(text, tuple(tokens), finish)
