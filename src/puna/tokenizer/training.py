"""Learn the pieces: SentencePiece byte-pair encoding (the paper's section 2.1, "Tokenizer").

Numbers are split into single digits, characters without a piece of their own are spelt in bytes, and nothing is
normalised. Choices made here, with what was measured at 4,096 pieces on an English Wikipedia slice and on Python
sources (bytes per token of text that was not trained on):

- A training sentence is a whole text with its newlines. Pieces such as ":\\n" and ")\\n\\n" then exist: 3.01 on
  Wikipedia and 3.12 on code, where training on lines alone (a newline is then always a byte) gave 2.99 and 2.93.
- Runs of spaces are pieces (`allow_whitespace_only_pieces`): without them indented code falls to 2.04.
- A piece stays within one script, SentencePiece's default. Mixing scripts gave 3.03 and 3.34, by pieces that join a
  word with its punctuation.
- No space is put before a text: it would have to be taken away again, and a text in two parts would not be their sum.

The model file is plain SentencePiece. It holds no path and a fixed number of threads, so equal texts give equal bytes
anywhere (with the same version of sentencepiece).
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator

import sentencepiece

from puna.errors import InputError
from puna.tokenizer.sentencepiece_bpe import FIRST_PIECE, SPACE, Tokenizer, not_text

LONGEST_SENTENCE = 2**30  # bytes; SentencePiece drops a longer training sentence


def train(
    texts: Iterable[str], *, pieces: int, max_piece_length: int = 16, character_coverage: float = 0.9995
) -> bytes:
    """Learn `pieces` pieces from `texts`, and return the bytes of the model file.

    The texts are read once, in order, and held in memory, 12 to 16 bytes for each of theirs. Equal texts give equal
    bytes.

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
            required_chars=SPACE,  # without a piece for it a space would be spelt in the bytes of U+2581
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
        self.failure: Exception | KeyboardInterrupt | None = None

    def __iter__(self) -> Iterator[str]:
        try:
            for text in self.texts:
                if problem := not_text(text):
                    raise problem
                cut = _NAMES.sub("\0", text).translate(_RESERVED)
                for digit in {character for character in set(cut) if character > "\x7f" and character.isdigit()}:
                    cut = cut.replace(digit, f"\0{digit}\0")
                yield from filter(None, cut.split("\0"))
        except (Exception, KeyboardInterrupt) as error:
            self.failure = error
            raise


_NAMES = re.compile("<(?=/?s>|unk>|0x[0-9A-F][0-9A-F]>)")
_RESERVED = {ord(SPACE): "\0", ord("\u2585"): "\0"}


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
