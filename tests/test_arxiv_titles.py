"""A paper's title in its document's origin is what people read, not LaTeX."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from made_papers import PAPER, dump, records, single, written
from puna.data.document import Document
from puna.data.latex.title import readable


@pytest.mark.parametrize(
    ("title", "read"),
    [
        ("On Rivers", "On Rivers"),
        (
            "\\textbf{Poincar\\'e} maps~of $\\alpha^2$ \\\\[2pt] and more\\thanks{To {all}.}",
            "Poincaré maps of α^2 and more",
        ),
        ("G\\\"{o}del, Erd\\H{o}s \\& \\'{\\i}, \\c{c}, \\v Sm\\o rgas, \\'\\i", "Gödel, Erdős & í, ç, Šmørgas, í"),
        ("``On'' $\\mathbb{R}^n$ --- $\\frac{1}{2}$--$\\log n$", "“On” R^n — 1/2–log n"),
        ("{\\fontseries{b}\\selectfont DNest4}: in\n\\textsf{C++}", "DNest4: in C++"),
        ("\\vspace{-2\\baselineskip}\\textcolor{red}{Red} \\large\\bf deep\\unknown{er}", "Red deeper"),
        ("\\texorpdfstring{$\\mathcal N=4$}{N=4} SYM at 5\\,\\%", "N=4 SYM at 5 %"),
        ("open { and \\thanks{never closed", "open and never closed"),
        ("\\", ""),
        ("an accent on nothing \\'", "an accent on nothing"),
    ],
)
def test_a_title_is_read_as_it_prints(title: str, read: str) -> None:
    assert readable(title) == read


@settings(deadline=None, max_examples=200)
@given(
    st.lists(
        st.sampled_from([*"\\{}$~'`\"-c aé\n", "\\frac", "\\thanks{", "\\i", "\\'", "\\texorpdfstring", "\\mathrm{"])
    ).map("".join)
)
def test_of_any_text_no_latex_and_no_second_space_is_left(text: str) -> None:
    found = readable(text)
    assert not set(found) & set("\n~")
    assert found == " ".join(found.split())
    if "\\" not in text:
        assert not set(found) & set("{}$")


def test_a_title_that_only_opens_takes_time_in_proportion() -> None:
    """Each of these would take hours were it squared; a hang is what this test fails by."""
    for piece in ("{", "\\thanks{", "\\'", "\\\\[", "\\frac{", "$"):
        readable(piece * 100_000)


def test_the_origin_of_a_document_has_the_title_in_the_words_of_its_macros(tmp_path: Path) -> None:
    text = PAPER.replace(
        "\\title{On Rivers}", "\\newcommand{\\by}[1]{by \\emph{#1}}\n\\title{On~Rivers\\\\ \\by{Poincar\\'e}}"
    )
    (found,) = records(written(tmp_path, dump([("2101/2101.00001.gz", single(text))])))
    assert isinstance(found, Document)
    assert found.origin.title == "On Rivers by Poincaré"
