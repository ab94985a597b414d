"""Comments and macros of LaTeX by jumps and character by character: the same text."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from puna.data.latex import archive, plain
from puna.data.latex.comments import remove_comments
from puna.data.latex.definitions import macro
from puna.data.latex.expand import expand
from puna.data.latex.packages import Kept, plain_package, read_package
from puna.data.latex.paper import decoded, read_paper

COMMENTED = st.lists(
    st.sampled_from(
        [
            *("a", "bc", " ", "  ", "\n", "\n\n", "\t", "%", "% c\n", "%\n", "\\%", "\\\\", "\\alpha", "\\verb|%x|"),
            *("\\url{a%b}", "\\begin{verbatim}", "\\end{verbatim}", "\\begin{comment}", "\\end{comment}", "{", "}"),
            *("\\iffalse", "\\if0 ", "\\ifx", "\\else", "\\fi", "\\iff", "0", "|", "\\verb", "\\"),
        ]
    ),
    max_size=25,
).map("".join)
MACROS = {
    "one": macro("one", "<#1>", ("",)),
    "two": macro("two", "#2#1\\alpha", ("", "")),
    "word": macro("word", "\\beta"),
    "says": macro("says", "some \\word text"),
    "maybe": macro("maybe", "(#1:#2)", ("", ""), "d\\word"),
    "loop": macro("loop", "x\\loop"),
    "takes": macro("takes", "\\one"),
    "till": macro("till", "[#1|#2]", (".", "")),
    "begin{mine}": macro("begin{mine}", "\\begin{quote}#1", ("",)),
    "end{mine}": macro("end{mine}", "\\end{quote}"),
    "0": macro("0", "{\\bf 0}"),
}
EXPANDED = st.lists(
    st.sampled_from(
        [
            *("a", "bc", " ", "\n", "\n\n", "{", "}", "{x}", "{\\word}", "[", "]", "[o]", "[{]}]", ".", "\\ ", "\\\\"),
            *("\\one", "\\two", "\\word", "\\says", "\\maybe", "\\loop", "\\takes", "\\till", "\\0", "\\gamma", "\\{"),
            *("\\begin{mine}", "\\end{mine}", "\\begin{verbatim}\\one\\end{verbatim}", "\\verb|\\one|", "\\begin{a}"),
            *(
                "\\newcommand{\\new}[1]{n#1}",
                "\\new",
                "\\def\\word{W}",
                "\\let\\also\\one",
                "\\also",
                "\\providecommand\\new{p}",
            ),
        ]
    ),
    max_size=20,
).map("".join)


@pytest.mark.promise("twins")
@given(COMMENTED)
@settings(deadline=None, max_examples=400)
def test_comments_by_jumps_and_by_characters_agree(text: str) -> None:
    assert remove_comments(text) == plain.remove_comments(text)


@pytest.mark.promise("twins")
@given(EXPANDED)
@settings(deadline=None, max_examples=400)
def test_macros_by_jumps_and_by_characters_agree(text: str) -> None:
    assert expand(text, MACROS) == plain.expand(text, MACROS)


@pytest.mark.promise("twins")
def test_twins_agree_on_the_comments_of_real_papers(samples: Path) -> None:
    compared = 0
    for texts in _papers(samples):
        for path in [path for path in texts if path.endswith(".tex") and len(texts[path]) < 20_000]:
            text = decoded(texts[path])
            assert remove_comments(text) == plain.remove_comments(text), path
            compared += 1
    assert compared > 30


@pytest.mark.promise("twins")
def test_a_package_that_was_kept_is_the_same_as_one_read_anew(samples: Path) -> None:
    for texts in _papers(samples):
        for path in [path for path in texts if path.endswith((".cls", ".sty"))]:
            text = decoded(texts[path])
            kept, anew = read_package(text), plain_package(text)
            assert kept is read_package(text)
            assert (kept.text, kept.notes, kept.loads) == (text, anew.notes, anew.loads)


@pytest.mark.promise("twins")
def test_a_paper_is_the_same_whatever_was_read_before_it(samples: Path) -> None:
    papers = [archive.Files(texts, (), b"") for texts in _papers(samples)]
    first = [read_paper(files) for files in papers]
    assert [read_paper(files) for files in reversed(papers)][::-1] == first


def test_what_is_kept_of_packages_weighs_no_more_than_its_room() -> None:
    made: list[str] = []

    def make(text: str) -> str:
        made.append(text)
        return text

    kept = Kept(make, len, room=10)
    for text in ("ab", "ab", "cd", "x" * 20, "x" * 20, "ab"):
        assert kept(text) == text
    assert made == ["ab", "cd", "x" * 20, "x" * 20]
    kept("efg")
    kept("ab")
    assert made[4:] == ["efg", "ab"]  # 4 for "ab" and its key, 4 for "cd" and 6 are more than 10: the oldest went


def _papers(samples: Path) -> list[dict[str, bytes]]:
    found = []
    for dump in sorted((samples / "arxiv").glob("*.tar")):
        with tarfile.open(dump) as file:
            papers = [file.extractfile(member).read() for member in file if member.name.endswith(".gz")]  # type: ignore[union-attr]
        found += [archive.unpack(iter([paper]), len(paper), 1 << 30).texts for paper in papers]
    return found
