"""Text to ids and back, without a loss (the paper's section 2.1, "Tokenizer").

SentencePiece does the work. What stands here makes it exact for every text: characters without a piece are spelt in
bytes, U+2581, which SentencePiece uses as its sign for a space, is spelt in bytes too, and nothing in a text is ever
taken for a control piece. So decode(encode(x)) == x for every valid Unicode text, and encode never gives <unk>.

The id 0 is <unk>, 1 <s>, 2 </s>, 3 to 258 are the bytes; then come the pieces.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from itertools import chain
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import sentencepiece

from puna import storage
from puna.errors import InputError

Ids = npt.NDArray[np.uint16] | npt.NDArray[np.uint32]

SPACE = "\u2581"  # SentencePiece's own sign for a space
UNKNOWN, BOS, EOS = 0, 1, 2
FIRST_BYTE = 3
FIRST_PIECE = FIRST_BYTE + 256
STRETCH = 1 << 15  # characters; a longer text is encoded in stretches of about this length


class Tokenizer:
    """A trained encoding. `model` is the bytes of the SentencePiece file.

    vocabulary: pieces in all, the control and byte pieces among them. dtype: of id arrays, uint16 up to 65,536 pieces,
    else uint32. pieces: as SentencePiece writes them, U+2581 for a space; some hold newlines and other white space.
    digest: of the model's bytes. Pickles as its model, so worker processes can be handed one.
    """

    bos, eos = BOS, EOS
    controls: Mapping[str, int] = MappingProxyType({"<s>": BOS, "</s>": EOS})
    """Control pieces as a chat template writes them, and their ids; no other text names them."""

    def __init__(self, model: bytes, where: str = "") -> None:
        self.model = model
        self.digest = storage.digest_bytes(model)
        self._processor, self.pieces = _open(model, where)
        self.vocabulary = len(self.pieces)
        self.dtype = dtype_for(self.vocabulary)
        self._mark = [FIRST_BYTE + byte for byte in SPACE.encode()]

    def __reduce__(self) -> tuple[Any, ...]:
        return Tokenizer, (self.model,)

    def encode(self, text: str) -> list[int]:
        """The ids of `text`, without <s> and </s>. Nothing in a text becomes a control id, "<s>" least of all.

        U+2581, which SentencePiece takes for a space, is spelt in its three bytes. InputError when `text` holds a
        lone surrogate, which is no character.
        """
        ids: list[int] = []
        try:
            for number, part in enumerate(text.split(SPACE)):
                if number:
                    ids += self._mark
                for stretch in self._stretches(part):
                    ids += self._processor.encode(stretch)
        except RuntimeError:
            if problem := not_text(text):
                raise problem from None
            raise
        return ids

    def begin(self, text: str) -> list[int]:
        """The ids with which a model reads `text` as the beginning of a document: <s>, then those of `encode`."""
        return [self.bos, *self.encode(text)]

    def encode_batch(self, texts: Iterable[str]) -> list[Ids]:
        """The ids of each text as an array of `dtype`; of Python's far larger lists only one text's stands at once."""
        return [np.array(self.encode(text), dtype=self.dtype) for text in texts]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids`; bytes that are no UTF-8 (an id sequence cut within a character) become U+FFFD."""
        return self.decode_bytes(ids).decode("utf-8", errors="replace")

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The UTF-8 bytes of `ids`, to be joined freely; <s> and </s> are empty, <unk> is U+FFFD."""
        spelt = self._spelt
        try:
            return b"".join([spelt[int(i)] for i in ids])
        except KeyError as error:
            raise InputError(f"{error} is not a piece: ids are 0 to {self.vocabulary - 1}") from None

    @cached_property
    def _spelt(self) -> dict[int, bytes]:
        """Id -> the UTF-8 bytes it stands for."""
        spelt = {i: piece.replace(SPACE, " ").encode() for i, piece in enumerate(self.pieces)}
        spelt.update({FIRST_BYTE + byte: bytes([byte]) for byte in range(256)})
        return spelt | {UNKNOWN: "\ufffd".encode(), BOS: b"", EOS: b""}

    @cached_property
    def _joined(self) -> frozenset[str]:
        """Every two characters that stand side by side within a piece."""
        plain = (piece.replace(SPACE, " ") for piece in self.pieces[FIRST_PIECE:])
        return frozenset(piece[i : i + 2] for piece in plain for i in range(len(piece) - 1))

    def _stretches(self, text: str) -> Iterator[str]:
        """Cut a long text where it changes no id: SentencePiece slows down and takes 45 bytes a character.

        A merge makes a piece, and merges elsewhere do not matter to it, so between two characters that no piece joins
        no merge can happen, and the text falls apart into independent parts. Where no such place comes (a long run of
        one character), the stretch is longer.
        """
        start = 0
        while len(text) - start > STRETCH:
            middle = start + STRETCH // 2
            places = chain(range(start + STRETCH, middle, -1), range(start + STRETCH + 1, len(text)))
            cut = next((i for i in places if text[i - 1 : i + 1] not in self._joined), len(text))
            yield text[start:cut]
            start = cut
        yield text[start:]


def load(location: storage.Location) -> Tokenizer:
    """The tokenizer in the file `location`; InputError when it is no such file."""
    return Tokenizer(storage.read(location), where=str(location))


def dtype_for(vocabulary: int) -> np.dtype[Any]:
    """The little-endian type that holds ids of `vocabulary` pieces."""
    return np.dtype("<u2" if vocabulary <= 1 << 16 else "<u4")


def _open(model: bytes, where: str) -> tuple[Any, list[str]]:
    """The processor of `model` and its pieces, if it is an encoding that gives every text back."""
    mend = "give the tokenizer.model of a Puna run"
    if not model:  # the library says so in lines of its own
        raise InputError("is empty", where=where, mend=mend)
    try:
        processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        pieces = [processor.id_to_piece(i) for i in range(processor.vocab_size())]
    except Exception:
        raise InputError("not a SentencePiece model, or damaged", where=where, mend=mend) from None
    if pieces[:FIRST_PIECE] != ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]:
        raise InputError("its first pieces are not <unk>, <s>, </s> and the 256 bytes", where=where, mend=mend)
    probe = " a  b\u00a0\ufb01\t\r\n "
    # A space that was added is taken away by the library's own decoding, so it is looked for in the pieces too.
    added = pieces[processor.encode("a")[0]].startswith(SPACE)
    if added or processor.decode(processor.encode(probe)) != probe:
        raise InputError("it normalises text or adds a space before it", where=where, mend=mend)
    return processor, pieces


def not_text(text: str) -> InputError | None:
    """The error to raise when `text` holds half a surrogate pair, which SentencePiece cannot take; else None."""
    at = lone_surrogate(text)
    what = f"the text holds a lone surrogate at character {at}, which is not valid Unicode"
    return None if at is None else InputError(what)


def lone_surrogate(text: str) -> int | None:
    """Where in `text` the first half of a surrogate pair stands by itself; None when it is valid Unicode."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return error.start
    return None
