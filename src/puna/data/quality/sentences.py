"""From text to the pieces that an n-gram model of quality counts, as CCNet does it before SentencePiece.

`normalised` gives the sentences: the lines of a text, lower-cased, without accents, every digit as 0, typographic
punctuation as ASCII, control characters deleted. Models are trained on these; a page is scored as one `sentence`.

SentencePiece cuts at spaces before anything else, so the pieces of a line are those of its words, and words come again:
`Pieces` remembers them. Where two cuts of a word have the same probability, the cut of a whole line takes either by how
its sums were rounded; word by word it is always the same one. Models whose pieces go across words are asked by line.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from functools import cached_property
from itertools import chain
from typing import Any, TypeVar

from puna import storage
from puna.data.quality.arpa import word
from puna.errors import InputError
from puna.storage import Location

# CCNet's table of punctuation, by code point.
PUNCTUATION = {
    0xFF0C: ",", 0x3002: ".", 0x3001: ",", 0x201E: '"', 0x201D: '"', 0x201C: '"', 0xAB: '"', 0xBB: '"', 0x300D: '"',
    0x300C: '"', 0x300A: '"', 0x300B: '"', 0xB4: "'", 0x2236: ":", 0xFF1A: ":", 0xFF1F: "?", 0xFF01: "!", 0xFF08: "(",
    0xFF09: ")", 0xFF1B: ";", 0x2013: "-", 0x2014: " - ", 0xFF0E: ". ", 0xFF5E: "~", 0x2019: "'", 0x2026: "...",
    0x2501: "-", 0x3008: "<", 0x3009: ">", 0x3010: "[", 0x3011: "]", 0xFF05: "%", 0x25BA: "-",
}  # fmt: skip
SPACE = "\u2581"  # SentencePiece's mark of a word's beginning
T = TypeVar("T")
REMEMBERED, LONGEST = 200_000, 40  # words whose pieces are kept (some 40 MB), and the characters of the longest


class _Table(dict[int, str]):
    """What each character becomes, told when it is first met."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        if unicodedata.category(character) == "Mn":
            became = ""
        elif character.isdecimal():
            became = "0"
        elif code < 32 or 127 <= code < 160:
            became = "\n" if character == "\n" else ""
        else:
            became = PUNCTUATION.get(code, character)
        self[code] = became
        return became


class _Spaced(_Table):
    """The same, and every white space a space."""

    def __missing__(self, code: int) -> str:
        became = super().__missing__(code)
        self[code] = became = " " if became.isspace() else became
        return became


_TABLE, _SPACED = _Table(), _Spaced()


def normalised(text: str) -> list[str]:
    """The sentences of a text: its lines that are not empty, normalised."""
    text = text.lower()
    if not text.isascii():
        text = unicodedata.normalize("NFD", text)
    return [line for line in map(str.strip, text.translate(_TABLE).split("\n")) if line]


def spaced(text: str) -> str:
    """A text normalised, its white space as spaces: it has the words of `sentence`, and spaces as they come."""
    text = text.lower()
    if not text.isascii():
        text = unicodedata.normalize("NFD", text)
    return text.translate(_SPACED)


def sentence(text: str) -> str:
    """The whole text as one sentence, its line breaks as spaces."""
    return " ".join(normalised(text))


class Pieces:
    """A SentencePiece model's cut of normalised sentences. `pieces` are all its pieces, in the order of their ids."""

    def __init__(self, model: bytes, where: Location = "SentencePiece model") -> None:
        import sentencepiece

        try:
            self._model: Any = sentencepiece.SentencePieceProcessor(model_proto=model)
        except RuntimeError as error:
            raise InputError(f"cannot be read as a SentencePiece model ({error})", where=str(where)) from None
        names = [self._model.id_to_piece(number) for number in range(self._model.get_piece_size())]
        self.pieces = ["<unk>" if self._model.is_unknown(number) else name for number, name in enumerate(names)]
        self.bos, self.eos, self.unknown = self._model.bos_id(), self._model.eos_id(), self._model.unk_id()
        if min(self.bos, self.eos, self.unknown) < 0 or (names[self.bos], names[self.eos]) != ("<s>", "</s>"):
            raise InputError(
                "has no <s>, </s> or <unk>", where=str(where), mend="train it with SentencePiece's defaults"
            )
        across = any(SPACE in piece[1:] and piece.strip(SPACE) for piece in names)
        twice = self._model.encode("a a") == self._model.encode("a") * 2
        self.by_word = twice and not across
        self._ids = _Remembered(self._model.encode)
        self._words = _Remembered(self._as_words)

    def cut(self, line: str) -> list[int]:
        """The ids of a line's pieces: (pieces,). Memory: those of REMEMBERED words."""
        if not self.by_word:
            ids: list[int] = self._model.encode(line)
            return ids
        return list(chain.from_iterable(map(self._ids.__getitem__, line.split())))

    def cut_words(self, words: list[str]) -> list[list[int]]:
        """The ids of each word's pieces, all words in one call. Nothing is remembered."""
        ids: list[list[int]] = self._model.encode(words, num_threads=1)
        return ids

    def words(self, line: str) -> str:
        """The same pieces as the words of an ARPA file, a space before each."""
        if not self.by_word:
            return self._as_words(line)
        return "".join(map(self._words.__getitem__, line.split()))

    def _as_words(self, text: str) -> str:
        spelled = self.spelled
        return "".join([f" {spelled[number]}" for number in self._model.encode(text)])

    @cached_property
    def spelled(self) -> list[str]:
        """Every piece as a word of an ARPA file."""
        return [word(piece) for piece in self.pieces]


def read_pieces(location: Location) -> Pieces:
    """The SentencePiece model in a file. InputError where it is none, or lacks <s>, </s> or <unk>."""
    return Pieces(storage.read(location), location)


class _Remembered(dict[str, T]):
    """What a function gave for a word, for as long as not more than REMEMBERED came."""

    def __init__(self, function: Callable[[str], T]) -> None:
        self.function = function

    def __missing__(self, name: str) -> T:
        found = self.function(name)
        if len(name) <= LONGEST:
            if len(self) >= REMEMBERED:
                self.clear()
            self[name] = found
        return found
