"""Perplexity: the same from KenLM and by hand, its percentiles exact, other tokenizers and languages told."""

from __future__ import annotations

import math
import random
import shutil
import struct
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marked_pairs import pairs_of
from puna import storage
from puna.data.document import Document, Origin, write_documents
from puna.data.quality import language, models, ngram_table, perplexity
from puna.data.quality import steps as quality
from puna.data.quality.arpa import read_arpa
from puna.data.quality.many_words import ManyWords
from puna.data.quality.sentences import PUNCTUATION, normalised, read_pieces, sentence
from puna.data.sources import read, split
from puna.data.sources.inputs import locate
from puna.errors import InputError
from puna.recipe_data import LanguageModels
from puna.recipe_sources import CommonCrawl, Wikipedia

WORDS = [first + middle + last for first in "bdfgk" for middle in "aeiou" for last in ("n", "rta", "s", "lo")]
SMALL = LanguageModels(pieces=300, minimum=1000)


def _documents(seed: int, words: list[str] = WORDS) -> list[tuple[int, str]]:
    chance = random.Random(seed)
    lines = [" ".join(chance.choices(words, range(len(words), 0, -1), k=12)).capitalize() for _ in range(600)]
    return [(seed * 1000 + n, "\n".join(lines[6 * n : 6 * n + 6])) for n in range(100)]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lm")
    models.train(folder, "xx", _documents(1), SMALL)
    return folder


def _by_hand(line: str) -> str:
    line = unicodedata.normalize("NFD", line.strip().lower())
    line = "".join(c for c in line if unicodedata.category(c) != "Mn")
    line = "".join("0" if c.isdecimal() else PUNCTUATION.get(ord(c), c) for c in line)
    return "".join(c for c in line if not (ord(c) < 32 or 127 <= ord(c) < 160)).strip()


@pytest.mark.promise("twins")
@given(st.text(st.sampled_from("aÀß İ—“…９٣\n\r\t\x00\x85é́1.")))
@settings(deadline=None, max_examples=200)
def test_lines_are_normalised_as_by_hand(text: str) -> None:
    assert normalised(text) == [line for line in map(_by_hand, text.split("\n")) if line]
    assert sentence("a\nb") == "a b"


def test_marks_become_those_of_ccnet() -> None:
    """Written out from its text_normalizer.py, for the table that the test above takes as given."""
    marks, became = "，。、∶：？！（）；～’´━〈〉【】％►–「」《》«»„“”", ",.,::?!();~''-<>[]%--" + '"' * 9
    assert normalised("a" + marks + "b") == ["a" + became + "b"]
    assert normalised("a—b…c．d") == ["a - b...c. d"]


@pytest.mark.parametrize("end", ["ngrams", "arpa", "kenlm"])
def test_perplexity_is_that_of_the_pieces_and_of_the_end(made: Path, end: str) -> None:
    if end == "kenlm":
        pytest.importorskip("kenlm")
    pieces = read_pieces(made / "xx.model")
    ngrams = read_arpa(made / "xx.arpa", pieces.pieces)
    model = perplexity.open_model(made / "xx.model", made / f"xx.{end.replace('kenlm', 'arpa')}", kenlm=end == "kenlm")
    for text in ("ban", "ban bas\nbarta", "z"):
        tokens = [pieces.bos, *pieces.cut(sentence(text)), pieces.eos]
        log10 = float(ngrams.log10_probabilities(tokens).sum())
        (found,) = model.perplexities([text])
        assert found == pytest.approx(10 ** (-log10 / (len(tokens) - 1)), rel=1e-5)


@pytest.mark.promise("twins")
def test_kenlm_and_the_numpy_twin_agree(made: Path) -> None:
    pytest.importorskip("kenlm")
    texts = [text for _, text in _documents(2)[:20]] + ["", "\u200b", "日本 \\ a", "ban\n\nbas", "z" * 500]
    fast = perplexity.open_model(made / "xx.model", made / "xx.arpa", kenlm=True)
    slow = perplexity.open_model(made / "xx.model", made / "xx.arpa", kenlm=False)
    one, other = list(fast.perplexities(texts)), list(slow.perplexities(texts))
    np.testing.assert_allclose(one, other, rtol=1e-5)
    assert math.isnan(one[20])


@pytest.mark.promise("twins")
def test_pieces_of_a_line_are_those_of_its_words(made: Path) -> None:
    pieces = read_pieces(made / "xx.model")
    assert pieces.by_word
    for _, text in _documents(3)[:10]:
        for line in normalised(text):
            by_word = [number for word in line.split() for number in pieces._model.encode(word)]
            assert pieces.cut(line) == by_word
            assert pieces.words(line).split() == [pieces.spelled[number] for number in by_word]


@pytest.mark.promise("twins")
@given(
    texts=st.lists(
        st.text(
            st.sampled_from("abdfgknorstlou  \n\u2003\u3000éß日本…٣\x00\x1c.")
            | st.characters(exclude_categories=["Cs"])
        )
        | st.lists(st.sampled_from(WORDS), max_size=40).map(" ".join)
        | st.sampled_from(
            ["ban" * 5 + "b", "ban" * 5 + "ba", "ban" * 5, "日" * 5 + "b", "日" * 6, "<s> </s> <unk>", "z" * 3000]
        ),
        max_size=8,
    )
)
@settings(deadline=None, max_examples=150)
def test_words_of_many_texts_have_the_pieces_of_each(made: Path, texts: list[str]) -> None:
    pieces = read_pieces(made / "xx.model")
    words = ManyWords(pieces)
    for several in (texts, texts[::-1]):
        tokens, lengths = words.tokens(several)
        expected = [[pieces.bos, *pieces.cut(sentence(text)), pieces.eos] for text in several]
        assert tokens.tolist() == [number for ids in expected for number in ids]
        assert lengths.tolist() == [len(ids) for ids in expected]


@pytest.mark.promise("twins")
def test_tables_of_ngrams_agree_with_the_twin(made: Path, proved: Callable[[str], None]) -> None:
    texts = [text for _, text in _documents(2)] + ["", "\u200b", "日本 \\ a", "ban\n\nbas", "z" * 500]
    fast = list(perplexity.open_model(made / "xx.model", made / "xx.ngrams").perplexities(texts))
    slow = list(perplexity.open_model(made / "xx.model", made / "xx.arpa", kenlm=False).perplexities(texts))
    np.testing.assert_allclose(fast, slow, rtol=1e-6)
    proved(f"perplexity: {len(texts)} texts by mapped tables as by binary searches, within 1 in 1,000,000")


@pytest.mark.parametrize("end", ["ngrams", "arpa"])
def test_scores_depend_on_no_border_of_batches_or_shards(made: Path, monkeypatch: pytest.MonkeyPatch, end: str) -> None:
    texts = [text for _, text in _documents(2)] + ["", "z" * 500]
    model = perplexity.open_model(made / "xx.model", made / f"xx.{end}", kenlm=False)
    whole = list(model.perplexities(texts))
    shuffled = random.Random(3).sample(range(len(texts)), len(texts))
    monkeypatch.setattr("puna.data.quality.many_words.REMEMBERED", 50)
    for size in (1, 3, 50):
        monkeypatch.setattr(perplexity, "BATCH", size)
        again = perplexity.open_model(made / "xx.model", made / f"xx.{end}", kenlm=False)
        np.testing.assert_array_equal([*again.perplexities([texts[n] for n in shuffled])], [whole[n] for n in shuffled])
        codes = np.array([b"xx" if n % 3 else b"yy" for n in range(len(texts))], "S12")
        found = perplexity.measured(texts, codes, {"xx": again})
        expected = [score if n % 3 else math.nan for n, score in enumerate(whole)]
        np.testing.assert_array_equal(found, np.array(expected, np.float32))


def _headed(data: bytes, bits: int, steps: int) -> bytes:
    """A bigram table whose head tells so, and which has as many bytes as one row asks for."""
    (vocabulary,) = struct.unpack_from("<q", data, 16)
    return data[:48] + struct.pack("<qqq", 2, bits, steps) + data[72 : 256 + -(-vocabulary // 2) * 16] + bytes(16)


@pytest.mark.promise("formats")
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: b"", "no table"),
        (lambda data: data[:300], "cut off"),
        (lambda data: data[:-1], "cut off"),
        (lambda data: data + b"\0", "longer"),
        (lambda data: b"x" + data[1:], "no table"),
        (lambda data: data[:8] + b"\1" + data[9:], "no longer read.*the .arpa beside it"),
        (lambda data: data[:8] + b"\3" + data[9:], "update puna"),
        (lambda data: data[:16] + b"\1" + data[17:], "another tokenizer"),
        (lambda data: data[:48] + b"\xff" * 8 + data[56:], "cut off"),
        (lambda data: data[:56] + b"\xff" * 8 + data[64:], "cut off"),
        (lambda data: _headed(data, -1, 0), "cut off"),
        (lambda data: _headed(data, 0, 0), "cut off"),
        (lambda data: _headed(data, 1, -1)[:-16], "cut off"),
    ],
)
def test_a_table_that_is_not_whole_is_refused(
    made: Path, tmp_path: Path, damage: Callable[[bytes], bytes], message: str
) -> None:
    storage.write(tmp_path / "a.ngrams", damage((made / "xx.ngrams").read_bytes()))
    with pytest.raises(InputError, match=message) as refusal:
        perplexity.open_model(made / "xx.model", tmp_path / "a.ngrams")
    assert "a.ngrams" in str(refusal.value)


@given(
    keys=st.sets(st.integers(0, 999) | st.integers(0, 2**40 - 1), max_size=400),
    asked=st.lists(st.integers(0, 1_200) | st.integers(0, 2**40 - 1), max_size=50),
    home=st.integers(0, 2**16 - 100),
    crowd=st.integers(0, 600),
)
@settings(deadline=None, max_examples=60)
def test_every_key_has_its_own_row_and_no_other_key_is_found(
    keys: set[int], asked: list[int], home: int, crowd: int
) -> None:
    inverse = pow(int(ngram_table.MIX), -1, 2**40)
    crowded = {((home << 24) + number * 2**24 // 10) * inverse % 2**40 for number in range(crowd)}  # ten a home
    known = sorted(keys | crowded)
    table, rows = ngram_table._laid(np.array(known, np.int64), 2**40)
    wanted = np.array([*asked, *known], np.int64)
    hit, found = ngram_table._find(table, wanted)
    assert crowd < 300 or table.homes > 2**16
    row_of = dict(zip(known, rows.tolist(), strict=True))
    assert len(set(row_of.values())) == len(known)
    assert {int(wanted[n]): row for n, row in zip(hit, found.tolist(), strict=True)} == row_of
    assert sorted(hit) == [number for number, key in enumerate(wanted.tolist()) if key in row_of]


@pytest.mark.promise("twins")
@pytest.mark.skipif(shutil.which("lmplz") is None, reason="lmplz is not on PATH")
def test_lmplz_trains_the_same_model(made: Path, tmp_path: Path, proved: Callable[[str], None]) -> None:
    documents = [(number, text + " 日本 語") for number, text in _documents(1)]
    one, other = tmp_path / "numpy", tmp_path / "lmplz"
    models.train(one, "xx", documents, SMALL)
    models.train(other, "xx", documents, SMALL.model_copy(update={"trainer": "lmplz"}))
    pieces = read_pieces(one / "xx.model").pieces
    ours, theirs = read_arpa(one / "xx.arpa", pieces), read_arpa(other / "xx.arpa", pieces)
    for level, their in zip(ours.levels, theirs.levels, strict=True):
        assert level.keys.tolist() == their.keys.tolist()
        np.testing.assert_allclose(level.log10, their.log10, rtol=0, atol=2e-6)
        np.testing.assert_allclose(level.backoff, their.backoff, rtol=0, atol=2e-6)
    texts = [text + "語" * (number % 3) for number, text in _documents(2)]
    scores = [[*perplexity.open_model(f / "xx.model", f / "xx.ngrams").perplexities(texts)] for f in (one, other)]
    np.testing.assert_allclose(*scores, rtol=0.005)
    proved(f"n-gram model: {len(texts)} texts as by lmplz, those with characters without a piece among them")


def test_the_model_depends_on_no_order_of_documents(made: Path, tmp_path: Path) -> None:
    documents = _documents(1)
    random.Random(5).shuffle(documents)
    models.train(tmp_path, "xx", documents, SMALL)
    for ending in ("model", "arpa", "ngrams", "json"):
        assert (tmp_path / f"xx.{ending}").read_bytes() == (made / f"xx.{ending}").read_bytes()


def test_too_little_text_is_an_error_with_its_mend(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"languages xx.*lm\.minimum"):
        models.train(tmp_path, "xx", _documents(1)[:1], SMALL)


def test_ngrams_of_another_tokenizer_are_refused(made: Path, tmp_path: Path) -> None:
    others = [word[::-1].replace("a", "wü") for word in WORDS]
    models.train(tmp_path, "yy", _documents(4, others), SMALL)
    for kenlm in (True, False):
        if kenlm:
            pytest.importorskip("kenlm")
        with pytest.raises(InputError, match="tokenizer"):
            perplexity.open_model(tmp_path / "yy.model", made / "xx.arpa", kenlm=kenlm)
    storage.write(made / "zz.model", (tmp_path / "yy.model").read_bytes())
    for ending in ("arpa", "json"):
        storage.write(made / f"zz.{ending}", (made / f"xx.{ending}").read_bytes())
    with pytest.raises(InputError, match="not of 'zz'"):
        models.found(made / "zz", "zz")
    with pytest.raises(InputError, match="not the tokenizer"):
        models.found(made / "zz", "xx")


def test_an_arpa_file_that_was_replaced_beside_its_table_is_refused(made: Path, tmp_path: Path) -> None:
    for ending in ("model", "arpa", "ngrams", "json"):
        storage.write(tmp_path / f"xx.{ending}", (made / f"xx.{ending}").read_bytes())
    prefix = str(tmp_path / "xx")
    one, other = (made / "xx.arpa").read_bytes(), (made / "xx.arpa").read_bytes().replace(b"\t", b"5\t", 1)
    assert quality._digests(prefix, "xx")
    for arpa in (other, other[:-1]):  # of another size, and of the same one
        storage.write(tmp_path / "xx.arpa", arpa)
        told = {"language": "xx", "ngrams_digest": storage.digest_bytes(arpa)}
        storage.write_json(tmp_path / "xx.json", told)
        assert (len(arpa) == len(one)) == (arpa != other)
        with pytest.raises(InputError, match=r"xx\.arpa.*xx\.ngrams.*take the \.ngrams away"):
            quality._digests(prefix, "xx")
    storage.remove(tmp_path / "xx.ngrams")
    assert quality._digests(prefix, "xx")
    storage.write(tmp_path / "xx.arpa", one)
    with pytest.raises(InputError, match=r"xx\.json tells of"):
        quality._digests(prefix, "xx")
    older = (made / "xx.ngrams").read_bytes()
    storage.write(tmp_path / "xx.ngrams", older[:240] + bytes(16) + older[256:])
    storage.remove(tmp_path / "xx.json")
    assert quality._digests(prefix, "xx")


def test_text_of_another_language_is_a_loud_warning(made: Path) -> None:
    found = models.found(made / "xx", "xx")
    model = perplexity.open_model(found.pieces, found.ngrams)
    own, other = ([text for _, text in _documents(6, words)] for words in (WORDS, [w[::-1] for w in WORDS]))
    assert models.strange("web", "xx", float(np.median([*model.perplexities(own)])), found.told) is None
    line = models.strange("web", "xx", float(np.median([*model.perplexities(other)])), found.told)
    assert line is not None
    assert line.startswith("WARNING")


@given(
    rows=st.lists(st.tuples(st.sampled_from(["en", "de", "fr"]), st.floats(1, 2.0**100, width=32) | st.just(math.nan))),
    shards=st.integers(1, 4),
)
@settings(deadline=None, max_examples=100)
def test_percentiles_are_exact_over_any_shards(
    rows: list[tuple[str, float]], shards: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("scores")
    source = CommonCrawl(share=1, languages=["en", "de"], perplexity_percentiles=[30, 60])
    told, scored = [], []
    for shard in range(shards):
        own = rows[shard::shards]
        told.append(folder / f"{shard}.language")
        scored.append(folder / f"{shard}.perplexity")
        storage.write(told[-1], np.array([(code.encode(), 0.9) for code, _ in own], language.ROW).tobytes())
        storage.write(scored[-1], np.array([score for _, score in own], "<f4").tobytes())
    found = perplexity.thresholds(source, told, scored)
    for code in ("en", "de"):
        own_scores = sorted(score for name, score in rows if name == code and not math.isnan(score))
        expected = [own_scores[max(1, -(-len(own_scores) * p // 100)) - 1] for p in (30, 60) if own_scores]
        assert found.get(code, []) == expected
    assert "fr" not in found


def test_a_percentile_that_no_binary_fraction_is_takes_no_score_more(tmp_path: Path) -> None:
    """161 of 1,000 are 16.1 %; in floats 16.1 times 1,000 is a little more."""
    storage.write(tmp_path / "a.language", np.array([(b"en", 0.9)] * 1000, language.ROW).tobytes())
    storage.write(tmp_path / "a.perplexity", np.arange(1, 1001, dtype="<f4").tobytes())
    source = CommonCrawl(share=1, languages=["en"], perplexity_percentiles=[16.1, 64.4])
    found = perplexity.thresholds(source, [tmp_path / "a.language"], [tmp_path / "a.perplexity"])
    assert found == {"en": [161.0, 644.0]}


def test_ties_fall_into_one_bucket_and_what_has_no_score_into_the_tail() -> None:
    rows = np.array([(b"en", 0.9)] * 5 + [(b"fr", 0.9)], language.ROW)
    scores = np.array([10, 20, 20, 30, math.nan, 5], "f4")
    places = perplexity.buckets(rows, scores, {"en": [10.0, 20.0]})
    assert places.tolist() == [0, 1, 1, 2, 2, 2]
    source = CommonCrawl(share=1, languages=["en"])
    assert perplexity.stays(source, places).tolist() == [True, True, True, False, False, False]


@pytest.mark.prove
def test_perplexity_orders_clean_text_before_boilerplate(
    samples: Path, tmp_path: Path, proved: Callable[[str], None]
) -> None:
    pairs = pairs_of(samples)
    assert len(pairs) >= 100
    source = Wikipedia(inputs=[str(samples / "wikipedia" / "enwiki-*.bz2")], share=1, languages=["en"])
    inputs = locate("wikipedia", source)
    tasks = split("wikipedia", inputs, source, 1 << 26)
    documents = [found for task in tasks for found in read(task, inputs, source) if isinstance(found, Document)]
    models.train(tmp_path, "en", [(models.rank(1, d.id), d.text) for d in documents], LanguageModels())
    model = perplexity.open_model(tmp_path / "en.model", tmp_path / "en.arpa")
    clean, other = (list(model.perplexities(side)) for side in zip(*pairs, strict=True))
    right = sum(one < two for one, two in zip(clean, other, strict=True))
    assert right >= 0.95 * len(pairs)
    proved(f"perplexity: {right} of {len(pairs)} pairs labelled beforehand are ordered rightly")


def test_a_model_is_trained_from_any_documents_of_its_language(made: Path, tmp_path: Path) -> None:
    origin = Origin(dump="", key="", file="", offset=0, url="", title="", date="", licence="")
    rows = [
        Document(f"{number:032x}", "wikipedia", "", code, text, origin)
        for number, text in _documents(1)
        for code in ("xx", "yy")
    ]
    write_documents(tmp_path / "a.parquet", rows[:90])
    write_documents(tmp_path / "b.parquet", rows[90:])
    models.train_from([tmp_path / "b.parquet", tmp_path / "a.parquet"], "xx", tmp_path, SMALL, seed=1)
    told = models.found(tmp_path / "xx", "xx").told
    assert told["documents"] + told["heldout_documents"] == 100
