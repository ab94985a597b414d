"""Books come out of Project Gutenberg's frames, whatever their era and encoding, and plain text stays what it is."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from puna.data.book import gutenberg
from puna.data.document import Document
from puna.data.sources import Dropped, SetAside, locate, read, split
from puna.recipe import Books

LINES = [f"Line {i} of the story, in which the baker of Zürich goes to market – again." for i in range(30)]
STORY = "THE BAKER\n\nby A. Nobody\n\n\nCHAPTER I\n\n" + "\n".join(LINES) + "\n\nTHE END"
HEAD = "Title: The Baker\n\nAuthor: A. Nobody\n\nRelease Date: May 1, 2009 [EBook #{}]\n\nLanguage: {}\n\n"
LICENCE = "\n\n*** START: FULL LICENSE ***\n\nYou may copy it under the terms of the licence.\n"
SMALL = "Why is this statement here?  You know: lawyers.\nSend money to Project Gutenberg.\n"


def first_era(story: str) -> str:
    return (
        "**The Project Gutenberg Etext of The Baker, by A. Nobody**\n#3 in our series\n\nMarch, 1994  [Etext #77]\n\n"
        f"***START**THE SMALL PRINT!**FOR PUBLIC DOMAIN ETEXTS**START***\n{SMALL}"
        "*END*THE SMALL PRINT! FOR PUBLIC DOMAIN ETEXTS*Ver.04.29.93*END*\n\n\n\n"
        f"This etext was prepared by B. Typist\n\n\n{story}\n\n\n\nEnd of The Project Gutenberg Etext of The Baker\n\n"
    )


def second_era(story: str) -> str:
    return (
        'The Project Gutenberg EBook of The Baker, by A. Nobody\n(#8 in our series)\n\nPlease read the "legal small '
        f'print" at the bottom of this file.\n\n{HEAD.format(77, "English")}Edition: 12\n\n'
        f"*** START OF THE PROJECT GUTENBERG EBOOK, THE BAKER ***\n\n\n{story}\n\n"
        "*** END OF THE PROJECT GUTENBERG EBOOK, THE BAKER ***\n\n"
        f"***START**THE SMALL PRINT!**FOR PUBLIC DOMAIN EBOOKS**START***\n{SMALL}"
        "*END THE SMALL PRINT! FOR PUBLIC DOMAIN EBOOKS*Ver.02/11/02*END*\n"
    )


def third_era(story: str, charset: str = "UTF-8", language: str = "English", number: int = 77) -> str:
    return (
        "The Project Gutenberg EBook of The Baker, by A. Nobody\n\nThis eBook is for the use of anyone anywhere\n\n"
        f"{HEAD.format(number, language)}Character set encoding: {charset}\n\n"
        "*** START OF THIS PROJECT GUTENBERG EBOOK THE\nBAKER ***\n\n\n\nProduced by B. Typist and the Online\n"
        f"Distributed Proofreading Team at http://www.pgdp.net\n\n\n{story}\n\n\n"
        "End of the Project Gutenberg EBook of The Baker, by A. Nobody\n\n"
        f"*** END OF THIS PROJECT GUTENBERG EBOOK THE BAKER ***\n\n***** This file should be named 77-0.txt{LICENCE}"
    )


def records(*files: Path, task_size: int = 1, **values: object) -> list[Document | Dropped | SetAside]:
    recipe = Books.model_validate({"inputs": [str(file) for file in files], "share": 1, **values})
    inputs = locate("books", recipe)
    tasks = split("books", inputs, recipe, task_size)
    return [found for task in tasks for found in read(task, inputs, recipe)]  # type: ignore[misc]


def file(folder: Path, name: str, text: str | bytes, encoding: str = "utf-8") -> Path:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(text.replace("\n", "\r\n").encode(encoding) if isinstance(text, str) else text)
    return folder / name


def texts(found: Sequence[object]) -> list[str]:
    return [record.text for record in found if isinstance(record, Document)]


@pytest.mark.parametrize("era", [first_era, second_era, third_era])
def test_every_era_of_header_licence_and_footer_comes_off(era: object, tmp_path: Path) -> None:
    (found,) = records(file(tmp_path, "77.txt", era(STORY)))  # type: ignore[operator]
    assert isinstance(found, Document)
    assert found.text == STORY
    assert found.origin.url == "https://www.gutenberg.org/ebooks/77"
    assert found.origin.title == "The Baker by A. Nobody"
    assert found.group == "the baker"


def test_the_utf_8_and_latin_1_editions_of_a_book_give_the_same_text(tmp_path: Path) -> None:
    plain = STORY.replace("–", "-")
    one = file(tmp_path, "77-0.txt", "\ufeff" + third_era(plain))
    two = file(tmp_path, "77-8.txt", third_era(plain, "ISO-8859-1"), "latin-1")
    three = file(tmp_path, "77-w.txt", third_era(STORY, "Windows-1252"), "cp1252")
    assert texts(records(one, two, three)) == [plain, plain, STORY]


def test_a_declared_character_set_is_read_and_a_false_one_is_said(tmp_path: Path) -> None:
    russian = "ПЕКАРЬ\n\n" + "Пекарь идёт на рынок. " * 60
    one = file(tmp_path, "1.txt", third_era(russian, "windows-1251", "Russian"), "cp1251")
    two = file(tmp_path, "2.txt", third_era(STORY, "UTF-8").encode()[:-1] + b"\xff\n")
    three = file(tmp_path, "3.txt", third_era(STORY, "No Such Set").encode("latin-1", "replace") + b"\xff")
    four = file(tmp_path, "4.txt", third_era(STORY, "ISO-8859-1").encode("cp1252") + b"\x81")
    found = records(one, two, three, four)
    assert texts(found) == [russian.strip(), STORY]
    assert [record.language for record in found if isinstance(record, Document)] == ["ru", "en"]
    reasons = [record.reason for record in found if isinstance(record, SetAside)]
    assert re.fullmatch(r"it says that it is UTF-8 and is not, at byte \d+", reasons[0])
    assert reasons[1] == "its character set 'no such set' is none that this version reads"


def test_a_text_of_ones_own_is_left_as_it_is(tmp_path: Path) -> None:
    own = "My notes on Project Management\n\n" + STORY + "\n\nThe End of Something by me\n\n" + STORY
    (found,) = records(file(tmp_path, "notes/own.txt", own))
    assert isinstance(found, Document)
    assert (found.text, found.language, found.origin.licence, found.origin.key) == (own, "und", "", "own.txt")


def test_files_of_one_name_in_two_folders_are_two_books(tmp_path: Path) -> None:
    file(tmp_path, "a/book.txt", STORY)
    file(tmp_path, "b/book.txt", STORY + " again")
    found = records(tmp_path)
    assert len({record.id for record in found if isinstance(record, Document)}) == 2


def test_each_rule_is_named_and_nothing_is_lost(tmp_path: Path) -> None:
    lent = third_era(STORY).replace("This eBook is", "** This is a COPYRIGHTED Project Gutenberg eBook **\n\nIt is")
    files = [
        file(tmp_path, "1.txt", "x" * 5000),
        file(tmp_path, "2.txt", lent),
        file(tmp_path, "3.txt", third_era(STORY, language="Tagalog")),
        file(tmp_path, "4.txt", third_era("A line.")),
        file(tmp_path, "5.txt", b""),
        file(tmp_path, "6.txt", b"a\0b" * 900),
        file(tmp_path, "7.txt", third_era(STORY).replace("*** START OF THIS", "*** BEGIN OF THIS")),
        file(tmp_path, "8.txt", third_era(STORY, number=8)),
    ]
    found = records(*files, max_bytes="4 KB", languages=["en"])
    told = [
        record.rule if isinstance(record, Dropped) else record.reason if isinstance(record, SetAside) else "kept"
        for record in found
    ]
    assert told == [
        "size", "copyrighted", "language", "short", "holds no text", "it holds NUL characters",
        "names Project Gutenberg, and the end of its header is not found", "kept",
    ]  # fmt: skip
    assert "kept" in [getattr(record, "rule", "kept") for record in records(files[1], keep_copyrighted=True)]


@pytest.mark.parametrize("task_size", [1, 3_000, 1 << 30])
def test_how_files_are_grouped_leaves_no_mark(task_size: int, tmp_path: Path) -> None:
    for number in range(5):
        file(tmp_path, f"{number}.txt", third_era(STORY + str(number), number=number))
    assert records(tmp_path, task_size=task_size) == records(tmp_path)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=400), st.sampled_from([first_era, second_era, third_era]), st.integers(0, 3000))
def test_no_bytes_in_a_book_stop_the_reading(data: bytes, era: object, at: int) -> None:
    whole = era(STORY).encode()  # type: ignore[operator]
    for damaged in (data, whole[:at] + data + whole[at:], whole[:at]):
        try:
            found = gutenberg.book(gutenberg.decoded(damaged))
        except (ValueError, LookupError):
            continue
        assert "THE SMALL PRINT!" not in found.text or not found.framed


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text("abc XYZ.,-\n'", min_size=1, max_size=80), min_size=3, max_size=30))
def test_any_prose_comes_back_from_every_frame(paragraphs: list[str]) -> None:
    story = gutenberg.book("Chapter\n\n" + "\n\n".join(paragraphs) + "\n\nthe last line").text
    for era in (first_era, second_era, third_era):
        assert gutenberg.book(era(story)).text == story


def test_real_books_of_three_eras_lose_their_frames_and_nothing_else(samples: Path) -> None:
    found = records(samples / "books")
    assert len(texts(found)) == len(found) == 24
    frame = re.compile(
        r"the small print!|gutenberg(-tm| literary)|\*\*\* ?(start|end) of|^end of .{0,20}project gut", re.I | re.M
    )
    for book in found:
        assert isinstance(book, Document)
        assert not frame.search(book.text), book.origin.file
        assert len(book.text) > 0.85 * (samples / "books" / book.origin.file).stat().st_size - 20_000
        assert book.origin.licence.startswith("Public domain")
        assert book.origin.key == re.match(r"\d+", book.origin.file)[0]  # type: ignore[index]
    by_file = {book.origin.file: book.text for book in found if isinstance(book, Document)}
    # The ASCII edition of this book differs by what ASCII cannot write, and by nothing else.
    latin = unicodedata.normalize("NFKD", by_file["1661-8.txt"]).encode("ascii", "ignore").decode()
    assert latin == by_file["1661.txt"]
    assert len({book.group for book in found if isinstance(book, Document)}) <= 16
