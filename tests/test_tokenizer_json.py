"""A tokenizer.json gives SentencePiece's ids on any text, and the second kind of tokenizer keeps its promises."""

from __future__ import annotations

import functools
import json
import pickle
from pathlib import Path

import pytest
import sentencepiece
from hypothesis import example, given, settings
from hypothesis import strategies as st

import made_parts
from puna import storage
from puna import tokenizer as tokenizers
from puna.convert.passages import CONTROLS, PASSAGES, SPELLINGS
from puna.errors import InputError
from puna.progress import configure
from puna.tokenizer import pieces
from puna.tokenizer.known_parts import PRE
from puna.tokenizer.tokenizer_json import JsonTokenizer, byte_characters

pytest.importorskip("tokenizers", reason="tokenizers is not installed")

# Runs and repetitions, where the order of merges shows; marks of both encodings; the rest of Unicode.
RUNS = st.builds(
    lambda text, times: text * times, st.sampled_from([" ", "a", "=", "ab", " x", "\n ", "the"]), st.integers(2, 40)
)
MARKS = [" ", "  ", "\n", "\n\n", "\t", "▁", "<s>", "</s>", "<0x0A>", "a", "e ", " the", "ab", "0", "1"]
WILD = st.lists(
    st.one_of(st.sampled_from(MARKS), st.text(max_size=4), RUNS),
    max_size=12,
).map("".join)


@functools.cache
def plain() -> JsonTokenizer:
    return JsonTokenizer(
        pieces.to_json(pieces.parse(made_parts.tokenizer().model)), bos="<s>", eos="</s>", adds_bos=True
    )


@functools.cache
def many() -> tuple[tokenizers.Tokenizer, JsonTokenizer]:
    """Pieces of long runs."""
    texts = [*PASSAGES, *(" " * n + "=" * n + "ab" * n + "\n" * (n % 7) for n in range(1, 60))] * 4
    own = tokenizers.Tokenizer(tokenizers.train(texts, pieces=700))
    return own, JsonTokenizer(pieces.to_json(pieces.parse(own.model)), bos="<s>", eos="</s>")


@given(WILD)
@example("".join(SPELLINGS))
@settings(deadline=None, max_examples=300)
def test_ids_are_sentencepieces_on_any_text(text: str) -> None:
    assert plain().encode(text) == made_parts.tokenizer().encode(text)
    own, other = many()
    assert other.encode(text) == own.encode(text)
    assert other.decode(other.encode(text)) == text
    assert not {own.bos, own.eos, 0} & set(other.encode(text))


@functools.cache
def prefixed() -> tuple[sentencepiece.SentencePieceProcessor, JsonTokenizer]:
    """As LLaMA's own: a space before each text."""
    own = pieces.parse(made_parts.tokenizer().model)
    found = pieces.Pieces(own.pieces, own.scores, own.kinds, prefix=True)
    model = pieces.serialise(found)
    assert pieces.parse(model) == found
    with pytest.raises(InputError, match="adds a space before it"):
        tokenizers.Tokenizer(model)
    return sentencepiece.SentencePieceProcessor(model_proto=model), JsonTokenizer(
        pieces.to_json(found), bos="<s>", eos="</s>"
    )


@given(WILD.filter(lambda text: "<" not in text))
@settings(deadline=None, max_examples=200)
def test_ids_are_sentencepieces_with_a_space_before_the_text(text: str) -> None:
    theirs, ours = prefixed()
    assert ours.encode(text) == theirs.encode(text)
    assert ours.decode(ours.encode(text)) == text.replace("▁", " ")


def test_pieces_come_back_as_the_library_reads_them() -> None:
    own = made_parts.tokenizer()
    found = pieces.parse(own.model)
    assert tokenizers.Tokenizer(pieces.serialise(found)).pieces == own.pieces == list(found.pieces)


def test_pieces_come_back_from_a_tokenizer_json_in_their_order() -> None:
    own = pieces.parse(made_parts.tokenizer().model)
    back = pieces.from_json(pieces.to_json(own))
    assert back is not None
    assert (back.pieces, back.kinds, back.prefix) == (own.pieces, own.kinds, own.prefix)
    again = tokenizers.Tokenizer(pieces.serialise(back))
    for text in (*PASSAGES, *SPELLINGS, *CONTROLS):
        assert again.encode(text) == made_parts.tokenizer().encode(text)
    assert pieces.from_json(byte_level("gpt-2").model) is None


def byte_level(pre: str) -> JsonTokenizer:
    """A few merges over all bytes."""
    alphabet = list(byte_characters().values())
    merges = [["h", "e"], ["t", "he"], ["Ġ", "the"], ["Ġ", "Ġ"], ["1", "2"]]
    names = ["<|end|>", *alphabet, *("".join(pair) for pair in merges)]
    parts, ignore = PRE[pre]
    end = {"id": 0, "content": "<|end|>", "special": True, "normalized": False}
    vocab = {name: number for number, name in enumerate(names)}
    value = {
        "added_tokens": [{**end, "single_word": False, "lstrip": False, "rstrip": False}],
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": parts},
        "decoder": {"type": "ByteLevel"},
        "model": {
            "type": "BPE",
            "vocab": vocab,
            "merges": merges,
            "ignore_merges": ignore,
        },
    }
    return JsonTokenizer(json.dumps(value).encode(), eos="<|end|>")


@pytest.mark.parametrize("pre", PRE)
@given(WILD)
@settings(deadline=None, max_examples=60)
def test_byte_level_pieces_give_every_text_back(pre: str, text: str) -> None:
    tokenizer = byte_level(pre)
    ids = tokenizer.encode(text + "<|end|>")
    assert tokenizer.decode(ids) == text + "<|end|>"
    assert tokenizer.eos not in ids
    assert b"".join(tokenizer.decode_bytes([number]) for number in ids).decode() == text + "<|end|>"


def test_digits_are_split_as_the_name_says() -> None:
    assert len(byte_level("gpt-2").encode("12")) == 1
    assert len(byte_level("smollm").encode("12")) == 2


def test_it_is_loaded_from_its_files_and_pickles(tmp_path: Path) -> None:
    storage.write(tmp_path / "tokenizer.json", plain().model)
    storage.write_json(tmp_path / "tokenizer_config.json", {"bos_token": {"content": "<s>"}, "eos_token": "</s>"})
    loaded = tokenizers.load(tmp_path / "tokenizer.json")
    again = pickle.loads(pickle.dumps(loaded))
    for text in (*SPELLINGS, *CONTROLS):
        # The file's own post-processor says that a text begins with <s>.
        assert loaded.begin(text) == [1, *plain().encode(text)] == again.begin(text)
    assert (loaded.bos, loaded.eos, loaded.vocabulary) == (1, 2, made_parts.tokenizer().vocabulary)
    assert loaded.controls == {"<unk>": 0, "<s>": 1, "</s>": 2}


def test_a_model_that_names_no_end_of_a_text_is_told_to_have_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    configure(quiet=False)
    storage.write(tmp_path / "tokenizer.json", plain().model)
    for end, told in (({"eos_token": "</s>"}, ""), ({}, "names no piece that ends a text: <s>, with which one begins")):
        storage.write_json(tmp_path / "tokenizer_config.json", {"bos_token": "<s>", **end})
        assert tokenizers.load(tmp_path / "tokenizer.json").eos == (1 if told else 2)
        said = capsys.readouterr().err
        assert told in said
        assert said.count("\n") == bool(told)
