"""What is told of a choice fits together at every moment, whatever the tokens are and wherever a stop string falls."""

from __future__ import annotations

from functools import cache

from hypothesis import given, settings
from hypothesis import strategies as st

from puna.generate.request import End, Token
from puna.generate.text import TextStream
from puna.serve.text import Piece, Text
from puna.tokenizer import Tokenizer
from serving import tiny_tokenizer

tokenizer = cache(tiny_tokenizer)
IDS = st.lists(st.integers(0, 289), max_size=25)
BYTES = st.text(max_size=10).map(lambda text: [3 + byte for byte in text.encode()])  # characters over several tokens
STOPS = st.lists(st.sampled_from(["e", "th", "the end", "\ufffd", "東", " "]), max_size=2)


def told(own: Tokenizer, ids: list[int], stop: list[str]) -> tuple[list[Piece], str]:
    """Each piece that comes of the events that an engine gives, and the whole text."""
    stream, text = TextStream(stop), Text(own.eos)
    pieces, whole = [], ""
    for id in ids:
        raw = own.decode_bytes([id])
        sure = stream.feed(raw)
        whole += sure
        pieces.append(text.token(Token(0, 0, id, raw, sure, -1.0, ())))
        if stream.stopped:
            break
    rest = stream.close()
    pieces.append(text.end(End(0, 0, "stop" if stream.stopped else "length", rest)))
    return pieces, whole + rest


@given(ids=IDS | BYTES, stop=STOPS)
@settings(deadline=None, max_examples=200)
def test_tokens_and_text_fit_together(ids: list[int], stop: list[str]) -> None:
    pieces, whole = told(tokenizer(), ids, stop)
    assert "".join(piece.text for piece in pieces) == whole
    tokens = [token for piece in pieces for token in piece.tokens]
    assert [token.id for token in tokens] == ids[: len(tokens)]
    offsets = [token.offset for token in tokens]
    assert offsets == sorted(offsets)
    assert all(offset <= len(whole) for offset in offsets)
    assert [piece.finish for piece in pieces[:-1]] == [None] * (len(pieces) - 1)
    assert pieces[-1].finish in ("stop", "length")
    if not any(word in tokenizer().decode(ids) for word in stop):
        assert len(tokens) == len(ids)
    if "\ufffd" not in whole:
        spelt = "".join(tokenizer().decode_bytes([token.id]).decode(errors="replace") for token in tokens)
        assert spelt.startswith(whole) or "\ufffd" in spelt


@given(ids=IDS | BYTES, stop=STOPS)
@settings(deadline=None, max_examples=100)
def test_a_token_is_told_of_when_its_text_is_and_not_before(ids: list[int], stop: list[str]) -> None:
    pieces, _ = told(tokenizer(), ids, stop)
    read = 0
    for piece in pieces:
        read += len(piece.text)
        assert all(token.offset <= read for token in piece.tokens)
