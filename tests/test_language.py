"""Languages are told on text whose line breaks are spaces, and the verdict on them is apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import made_classifier
from puna import recipe as recipes
from puna.data import verdicts
from puna.data.quality import language
from puna.errors import InputError
from puna.recipe_sources import CommonCrawl
from puna.steps import Context

ENGLISH = "The river runs through the old town, and people walk along it in the evening."
GERMAN = "Der Fluss fließt durch die alte Stadt, und abends gehen die Leute an ihm entlang."


def test_each_text_has_its_language_and_an_empty_one_none() -> None:
    rows = language.told([ENGLISH, GERMAN, "", "\n \n"])
    assert language.codes(rows)[:3] == ["en", "de", ""]
    assert (rows["score"][:2] > 0.8).all()
    assert (rows["score"] <= 1).all()
    assert rows["score"][2] == 0


def test_a_line_break_is_a_space_and_never_joins_words() -> None:
    broken = language.told([ENGLISH.replace(" ", "\n"), ENGLISH.replace(" ", "\r")])
    assert broken.tolist() == language.told([ENGLISH] * 2).tolist()
    assert broken.tolist() != language.told([ENGLISH.replace(" ", "")] * 2).tolist()


def test_the_verdict_asks_for_language_and_score() -> None:
    rows = np.array([(b"en", 0.5), (b"en", 0.49), (b"de", 0.9), (b"", 0.0)], language.ROW)
    source = CommonCrawl(share=1, languages=["en"])
    assert language.passes(rows, source).tolist() == [True, False, False, False]
    source = CommonCrawl(share=1, languages=["en", "de"], min_language_score=0.6)
    assert language.passes(rows, source).tolist() == [False, False, True, False]


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.ftz").write_bytes(b"no model")
    with pytest.raises(InputError, match=r"bad\.ftz.*fastText"):
        language.told(["a"], tmp_path / "bad.ftz")


def test_a_model_that_was_replaced_is_read_anew(tmp_path: Path) -> None:
    for ngrams in (1, 2):  # read by Puna itself, and by fastText
        if ngrams > 1:
            pytest.importorskip("fasttext")
        for labels in (("aa", "bb"), ("cc", "dd")):
            (tmp_path / "a.ftz").write_bytes(made_classifier.model(ngrams=ngrams, labels=labels))
            (told,) = language.codes(language.told(["the river"], tmp_path / "a.ftz"))
            assert told in labels


@pytest.mark.parametrize("label", [b"a" + "中文简体".encode(), b"a" * 13, b"\xff\xfe", b"a\xc3"])
def test_a_label_that_a_row_cannot_hold_is_refused(label: bytes, tmp_path: Path) -> None:
    data = made_classifier.model(labels=("en", "de", "fr"))
    (tmp_path / "a.ftz").write_bytes(data.replace(b"__label__de", b"__label__" + label))
    with pytest.raises(InputError, match=r"a\.ftz.*label"):
        language.told(["the river"], tmp_path / "a.ftz")


def test_a_score_file_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    (tmp_path / "00000.language").write_bytes(b"x" * 17)
    with pytest.raises(InputError, match="cut short"):
        language.read(tmp_path / "00000.language")


def test_a_language_that_no_page_is_in_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """ "german" for de would else leave out every German page without a word."""
    asked = ["sources.c4.share=1", 'sources.c4.languages=["en", "german"]']
    record = {"counts": {"languages": {"": 1, "de": 7, "en": 2}}}
    context = Context(tmp_path, "documents.c4", "0", 1, {"language.c4": record})
    verdicts._complain(recipes.load("laptop", asked), "c4", context)
    assert "c4: no page is in german of its languages" in capsys.readouterr().err
