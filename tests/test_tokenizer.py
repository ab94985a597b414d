"""Promises of the tokenizer: every text comes back, digits stand alone, equal text gives equal bytes anywhere."""

from __future__ import annotations

import argparse
import inspect
import os
import pickle
import random
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
from hypothesis import example, given, settings
from hypothesis import strategies as st

from puna import tokenizer
from puna.errors import InputError
from puna.tokenizer import Tokenizer, prefix, sentencepiece_bpe

SPACE = "\u2581"
NASTY = [
    "<s>", "</s>", "<unk>", "<0x0A>", SPACE, "\u2585", "\u2047", "\0", "\t", "\n", "\r\n", " ", "        ", "\u00a0",
    "\ufeff", "e\u0301", "\u0301", "\u200d", "\U0001f469\u200d\U0001f680", "１２", "٣٤", "²", "42", "\ufffd", "\uffff",
    "\U0010ffff", "def f(x):\n    return x\n", "ﬁ", "Ⅻ", "đ", "日本",
]  # fmt: skip
TEXTS = st.one_of(st.text(), st.lists(st.one_of(st.sampled_from(NASTY), st.text(max_size=5))).map("".join))


@pytest.fixture(scope="module")
def corpus() -> list[str]:
    """Code with its indentation, digits of several scripts, and prose in two languages."""
    prose = ["The 1905 papers, pp. 132-148.  Ten in 10.\n\n", "Grüße aus Köln, im Jahr 1998: 25 °C, x² + y² = z²²\n"]
    return [
        inspect.getsource(argparse),
        inspect.getsource(textwrap),
        *prose * 20,
        "١٩٩٨ ١٩٩٨ २०२४ २०२४ ２０２４\n" * 20,
    ]


@pytest.fixture(scope="module")
def model(corpus: list[str]) -> bytes:
    return tokenizer.train(corpus, pieces=1000)


@pytest.fixture(scope="module")
def trained(model: bytes) -> Tokenizer:
    return Tokenizer(model)


@pytest.fixture(scope="module")
def plain(model: bytes) -> sentencepiece.SentencePieceProcessor:
    return sentencepiece.SentencePieceProcessor(model_proto=model)


@settings(deadline=None, max_examples=300)
@given(text=TEXTS)
@example(text="".join(NASTY))
def test_every_text_comes_back_and_never_as_control_pieces(
    trained: Tokenizer, plain: sentencepiece.SentencePieceProcessor, text: str
) -> None:
    ids = trained.encode(text)
    assert trained.decode(ids) == text
    assert trained.decode_bytes(ids) == text.encode()
    assert all(2 < i < trained.vocabulary for i in ids)
    assert plain.decode(ids) == text
    if SPACE not in text:
        assert plain.encode(text) == ids


@pytest.mark.promise("twins")
@settings(deadline=None, max_examples=200)
@given(text=st.text(alphabet=" \n=ae>#tr1(é", max_size=200), stretch=st.integers(2, 40))
def test_a_long_text_is_cut_where_it_changes_no_id(trained: Tokenizer, text: str, stretch: int) -> None:
    whole = trained.encode(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sentencepiece_bpe, "STRETCH", stretch)
        assert trained.encode(text) == whole


def test_a_text_of_real_length_is_cut_and_comes_back(
    trained: Tokenizer, plain: sentencepiece.SentencePieceProcessor, corpus: list[str]
) -> None:
    text = "".join(corpus) + "=" * 100_000 + SPACE + "".join(corpus)
    assert len(list(trained._stretches(text))) > 5
    ids = trained.encode(text)
    assert trained.decode(ids) == text
    before, after = text.split(SPACE)
    assert ids == plain.encode(before) + [3 + byte for byte in SPACE.encode()] + plain.encode(after)


def test_the_first_pieces_are_control_pieces_and_bytes(trained: Tokenizer) -> None:
    assert trained.pieces[:3] == ["<unk>", "<s>", "</s>"]
    assert trained.pieces[3:259] == [f"<0x{byte:02X}>" for byte in range(256)]
    assert len(trained.pieces) == trained.vocabulary == 1000
    assert (trained.bos, trained.eos) == (1, 2)


@pytest.mark.promise("paper")
def test_a_digit_shares_its_piece_with_nothing(trained: Tokenizer) -> None:
    learnt = trained.pieces[259:]
    assert [piece for piece in learnt if any(c.isdigit() for c in piece) and len(piece) > 1] == []
    assert {"1", "9", "²", "١", "２"} <= set(learnt)


def test_runs_of_spaces_and_line_ends_are_pieces(trained: Tokenizer) -> None:
    assert {SPACE * 4, SPACE * 8, "\n\n", ":\n"} <= set(trained.pieces)
    assert max(map(len, trained.pieces[259:])) <= 16


def test_a_batch_is_arrays_of_the_smallest_type(trained: Tokenizer) -> None:
    texts = ["one two", "", "<s>"]
    batch = trained.encode_batch(iter(texts))
    assert [array.dtype for array in batch] == [np.uint16] * 3
    assert [array.tolist() for array in batch] == [trained.encode(text) for text in texts]
    assert trained.dtype == "<u2"
    assert (tokenizer.dtype_for(65_536), tokenizer.dtype_for(65_537)) == ("<u2", "<u4")


def test_decoding_takes_any_ids(trained: Tokenizer) -> None:
    assert trained.decode([1, *trained.encode("a b"), 2]) == "a b"
    euro = trained.encode("€")
    assert trained.decode(euro[:-1]) == "\ufffd"
    assert trained.decode_bytes(euro[:-1]) + trained.decode_bytes(euro[-1:]) == "€".encode()
    assert trained.decode(np.array([0], dtype=np.uint16)) == "\ufffd"
    for wrong in (-1, 1000):
        with pytest.raises(InputError, match="0 to 999"):
            trained.decode([wrong])


def test_a_lone_surrogate_is_refused(trained: Tokenizer) -> None:
    with pytest.raises(InputError, match="lone surrogate at character 2"):
        trained.encode("ab\ud800")
    with pytest.raises(InputError, match="lone surrogate"):
        tokenizer.train(["ab\ud800"], pieces=300)


def test_it_can_be_handed_to_another_process(trained: Tokenizer) -> None:
    copy = pickle.loads(pickle.dumps(trained))
    assert copy.encode("def f(x):\n") == trained.encode("def f(x):\n")
    assert copy.digest == trained.digest


def test_it_is_read_from_its_file(trained: Tokenizer, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.model"
    path.write_bytes(trained.model)
    assert tokenizer.load(path).digest == trained.digest
    for data in (b"", b"not a model", trained.model[:100], trained.model[:2000], random.Random(1).randbytes(1000)):
        path.write_bytes(data)
        with pytest.raises(InputError, match=re.escape(str(path))):
            tokenizer.load(path)
    with pytest.raises(InputError, match=r"none\.model"):
        tokenizer.load(tmp_path / "none.model")


def test_a_model_that_changes_text_is_refused(corpus: list[str], tmp_path: Path) -> None:
    for name, options in {
        "prefix": {"add_dummy_prefix": True},
        "nfkc": {"normalization_rule_name": "nmt_nfkc"},
    }.items():
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(corpus),
            model_prefix=str(tmp_path / name),
            model_type="bpe",
            vocab_size=400,
            byte_fallback=True,
            minloglevel=2,
            **{"add_dummy_prefix": False, **options},
        )
        with pytest.raises(InputError, match="normalises text or adds a space"):
            tokenizer.load(tmp_path / f"{name}.model")


_TRAIN = """
import sys
from pathlib import Path
from puna import tokenizer
texts = Path(sys.argv[1]).read_bytes().decode("utf-8").split("\\x1e")
sys.stdout.buffer.write(tokenizer.train(texts, pieces=1000))
"""


@pytest.mark.promise("order")
def test_equal_text_gives_equal_bytes_in_another_folder_process_and_environment(
    corpus: list[str], model: bytes, tmp_path: Path
) -> None:
    folder = tmp_path / "a folder, é"
    folder.mkdir()
    (folder / "texts").write_bytes("\x1e".join(corpus).encode())
    changed = {"LC_ALL": "tr_TR.UTF-8", "PYTHONHASHSEED": "7", "OMP_NUM_THREADS": "3", "TZ": "Asia/Tokyo"}
    done = subprocess.run(
        [sys.executable, "-c", _TRAIN, "texts"], cwd=folder, env=os.environ | changed, capture_output=True, check=True
    )
    assert done.stdout == model
    assert done.stderr == b""


@pytest.mark.promise("errors")
def test_too_many_pieces_are_refused_with_the_number_that_is_possible() -> None:
    texts = ["banana bandana cabana\n"] * 3
    with pytest.raises(InputError, match=r"gives \d+ pieces, and 5000 are asked for; set tokenizer.pieces=") as caught:
        tokenizer.train(texts, pieces=5000)
    possible = int(re.findall(r"pieces=(\d+)", str(caught.value))[0])
    assert Tokenizer(tokenizer.train(texts, pieces=possible)).vocabulary == possible
    with pytest.raises(InputError, match=f"gives {possible} pieces"):
        tokenizer.train(texts, pieces=possible + 1)


@pytest.mark.promise("errors")
def test_too_few_pieces_are_refused_with_the_number_that_is_needed() -> None:
    texts = ["".join(map(chr, range(0x400, 0x450)))]
    with pytest.raises(InputError, match=r"and 300 are asked for; set tokenizer.pieces=") as caught:
        tokenizer.train(texts, pieces=300)
    needed = int(re.findall(r"pieces=(\d+) or more", str(caught.value))[0])
    spelt = Tokenizer(tokenizer.train(texts, pieces=needed))
    assert spelt.vocabulary == needed
    assert spelt.decode(spelt.encode("no  space was ")) == "no  space was "  # in what it learnt from


@pytest.mark.promise("errors")
@pytest.mark.parametrize(
    ("texts", "options", "message"),
    [
        ([], {}, "no text to learn"),
        (["", "\0", SPACE], {}, "no text to learn"),
        (["a"], {"pieces": 0}, "tokenizer.pieces=0"),
        (["a"], {"pieces": 258}, "tokenizer.pieces=258"),
        (["a"], {"character_coverage": 0.5}, "tokenizer.character_coverage=0.5"),
        (["a"], {"max_piece_length": 1000}, "tokenizer.max_piece_length=1000"),
    ],
)
def test_what_cannot_be_trained_is_one_clear_error(texts: list[str], options: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        tokenizer.train(texts, **{"pieces": 300, **options})


def test_a_failure_of_the_texts_comes_out_as_it_is() -> None:
    def broken() -> Iterator[str]:
        yield "some text"
        raise InputError("shard is damaged", where="00003.parquet")

    with pytest.raises(InputError, match=r"00003\.parquet: shard is damaged"):
        tokenizer.train(broken(), pieces=300)


def test_text_that_spells_pieces_is_learnt_from_all_the_same() -> None:
    texts = [f"<s> zebra {SPACE}zebra <unk> \u2585 zebra <0x41> zebra </s>\n"] * 20
    assert SPACE + "zebra" in set(Tokenizer(tokenizer.train(texts, pieces=285)).pieces)


def test_words_and_runs_of_any_length_are_learnt_from() -> None:
    texts = ["abcdefgh" * 20_000, " " * 100_000, "=" * 100_000, "line\n" * 50_000]
    assert Tokenizer(tokenizer.train(texts, pieces=290)).vocabulary == 290


@given(st.lists(st.integers(0, 2), max_size=6), st.lists(st.integers(0, 2), max_size=6), st.booleans())
def test_what_two_texts_have_in_common_is_counted_from_their_beginning(
    left: list[int], right: list[int], arrays: bool
) -> None:
    given = (np.array(left, np.int64), np.array(right, np.int64)) if arrays else (left, right)
    count = prefix.common(*given)
    assert left[:count] == right[:count]
    assert count == min(len(left), len(right)) or left[count] != right[count]
