"""Train and use a SentencePiece byte-pair encoding (the paper's section 2.1, "Tokenizer").

Numbers are split into single digits, characters without a piece of their own are spelt in bytes, and nothing is
normalised, so decode(encode(x)) == x for every text. Choices of this module, with what was measured at 4,096 pieces on
an English Wikipedia slice and Python sources (bytes per token of text that was not trained on):

- A training sentence is a whole text with its newlines. Pieces such as ":\\n" and ")\\n\\n" then exist: 3.01 on Wikipedia
  and 3.12 on code, where training on lines alone (a newline is then always a byte) gave 2.99 and 2.93.
- Runs of spaces are pieces (`allow_whitespace_only_pieces`): without them indented code falls to 2.04.
- A piece stays within one script, SentencePiece's default, as in the paper's tokenizer; mixing scripts gave 3.03 and
  3.34, mostly by pieces that join a word with its punctuation.
- No space is put before a text: it would be one more character to take away again, and a context that is cut in two
  would not be the sum of its parts.

The id 0 is <unk>, which encoding never gives; 1 <s>; 2 </s>; 3 to 258 the bytes; then the pieces. The model file is
plain SentencePiece. It holds no path and no number of threads, so equal texts give equal bytes anywhere (with the same
version of sentencepiece).
"""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Iterable, Iterator
from functools import cached_property
from itertools import chain
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
LONGEST_SENTENCE = 2**30  # bytes; SentencePiece drops a longer training sentence
STRETCH = 1 << 15  # characters; a longer text is encoded in stretches of about this length


class Tokenizer:
    """A trained encoding. `model` is the bytes of the SentencePiece file.

    vocabulary: pieces in all, the control and byte pieces among them. dtype: of id arrays, uint16 up to 65,536 pieces,
    else uint32. digest: of the model's bytes. Pickles as its model, so worker processes can be handed one.
    """

    bos, eos = BOS, EOS

    def __init__(self, model: bytes, where: str = "") -> None:
        self.model = model
        self.digest = storage.digest_bytes(model)
        self._processor = _open(model, where)
        self.vocabulary: int = self._processor.vocab_size()
        self.dtype = dtype_for(self.vocabulary)
        self._mark = [FIRST_BYTE + byte for byte in SPACE.encode()]

    def __reduce__(self) -> tuple[type[Tokenizer], tuple[bytes]]:
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
            if problem := _not_text(text):
                raise problem from None
            raise
        return ids

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
    def pieces(self) -> list[str]:
        """The pieces as SentencePiece writes them, U+2581 for a space; some hold newlines and other white space."""
        return [self._processor.id_to_piece(i) for i in range(self.vocabulary)]

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


def train(
    texts: Iterable[str], *, pieces: int, max_piece_length: int = 16, character_coverage: float = 0.9995
) -> bytes:
    """Learn `pieces` pieces from `texts`, which are read once, in order, and held in memory; the bytes of the model file.

    max_piece_length: characters. character_coverage: share of the characters that get pieces of their own, the rest
    being spelt in bytes. InputError, with the numbers that would do, when the texts give fewer pieces or their
    characters need more.
    """
    if not 0.98 <= character_coverage <= 1:
        raise InputError(f"tokenizer.character_coverage={character_coverage} is not between 0.98 and 1")
    if not 1 <= max_piece_length <= 512:
        raise InputError(f"tokenizer.max_piece_length={max_piece_length} is not between 1 and 512")
    if pieces < FIRST_PIECE:
        raise InputError(f"tokenizer.pieces={pieces} is too few", mend=f"{FIRST_PIECE} are bytes and control pieces")
    sentences = _Sentences(texts)
    out = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(sentences),
            model_writer=out,
            model_type="bpe",
            vocab_size=pieces,
            hard_vocab_limit=False,  # too few pieces are counted below, so that the error can say how many there are
            max_sentencepiece_length=max_piece_length,
            character_coverage=character_coverage,
            normalization_rule_name="identity",
            add_dummy_prefix=False,
            remove_extra_whitespaces=False,
            allow_whitespace_only_pieces=True,
            split_digits=True,
            byte_fallback=True,
            max_sentence_length=LONGEST_SENTENCE,
            num_threads=1,  # written into the model file, whose bytes must not depend on the machine
            minloglevel=2,
        )
    except RuntimeError as error:
        if sentences.failure:
            raise sentences.failure  # noqa: B904 - its own cause is the one that counts
        raise _untrainable(str(error), pieces) from None
    model = out.getvalue()
    found = Tokenizer(model).vocabulary
    if found < pieces:
        raise InputError(
            f"the text to learn from gives {found} pieces, and {pieces} are asked for",
            mend=f"set tokenizer.pieces={found} or fewer, or give more text",
        )
    return model


class _Sentences:
    """What SentencePiece learns from, cut so that it takes all of it.

    It drops a sentence that spells one of its own pieces, reads U+2581 as a space, and its rule for digits knows few
    scripts: at each of these the text is cut (with NUL, which never has a piece). An exception of the texts' iterator
    is kept, since it comes back as a RuntimeError that only quotes it.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        self.texts = texts
        self.failure: BaseException | None = None

    def __iter__(self) -> Iterator[str]:
        digits = {c for c in map(chr, range(128, sys.maxunicode + 1)) if c.isdigit()}
        try:
            for text in self.texts:
                if problem := _not_text(text):
                    raise problem
                cut = _NAMES.sub("\0", text).translate(_RESERVED)
                for digit in digits.intersection(set(cut)):
                    cut = cut.replace(digit, f"\0{digit}\0")
                yield from filter(None, cut.split("\0"))
        except BaseException as error:
            self.failure = error
            raise


_NAMES = re.compile("<(?=/?s>|unk>|0x[0-9A-F][0-9A-F]>)")
_RESERVED = {ord(SPACE): "\0", ord("\u2585"): "\0"}


def _open(model: bytes, where: str) -> Any:
    """The processor of `model`, if it is an encoding that gives every text back."""
    mend = "give the tokenizer.model of a Puna run"
    try:
        processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        count = processor.vocab_size()
        named = [processor.id_to_piece(i) for i in range(min(count, FIRST_PIECE))]
    except Exception:
        raise InputError("not a SentencePiece model", where=where, mend=mend) from None
    if named != ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]:
        raise InputError("its first pieces are not <unk>, <s>, </s> and the 256 bytes", where=where, mend=mend)
    probe = " a  b\u00a0\ufb01\t\r\n "
    if processor.decode(processor.encode(probe)) != probe:
        raise InputError("it normalises text or adds a space before it", where=where, mend=mend)
    return processor


def _not_text(text: str) -> InputError | None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return InputError(f"the text holds a lone surrogate at character {error.start}, which is not valid Unicode")
    return None


def _untrainable(error: str, pieces: int) -> InputError:
    if "sentences_.empty()" in error:
        return InputError("there is no text to learn the tokenizer from", mend="give the sources some input")
    needed = re.search(r"smaller than required_chars\. \d+ vs (\d+)", error)
    if needed is None:
        return InputError(f"SentencePiece cannot learn from this text ({error})")
    return InputError(
        f"the characters of the text alone need {needed[1]} pieces, and {pieces} are asked for",
        mend=f"set tokenizer.pieces={needed[1]} or more, or a lower tokenizer.character_coverage",
    )
