"""What is broken, lies or means harm among arXiv's archives and papers is set aside by name, and the rest is read."""

from __future__ import annotations

import gzip
import io
import tarfile
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from made_papers import PAPER, PROSE, dump, packed, paper, records, single, text_of, written
from puna.data.document import Document
from puna.data.latex import archive
from puna.data.latex.expand import DEPTH
from puna.data.sources import Dropped, SetAside

GOOD = [("2101/2101.00001.gz", single(PAPER)), ("2101/2101.00003.gz", single(PAPER))]


def special(kind: bytes, name: str = "2101/2101.00002.gz", link: str = "") -> bytes:
    """A dump of two papers with an entry of that kind between them."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for place, (paper_name, data) in enumerate(GOOD):
            if place:
                entry = tarfile.TarInfo(name)
                entry.type, entry.linkname = kind, link
                tar.addfile(entry)
            entry = tarfile.TarInfo(paper_name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return out.getvalue()


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        (tarfile.SYMTYPE, "link"), (tarfile.LNKTYPE, "link"), (tarfile.CHRTYPE, "device"), (tarfile.BLKTYPE, "device"),
        (tarfile.FIFOTYPE, "fifo"), (tarfile.GNUTYPE_SPARSE, "sparse"), (b"V", "unknown"),
    ],
)  # fmt: skip
def test_members_that_are_no_files_are_set_aside(tmp_path: Path, kind: bytes, what: str) -> None:
    found = records(written(tmp_path, special(kind, link="/etc/passwd")))
    (aside,) = [record for record in found if isinstance(record, SetAside)]
    assert (aside.reason, aside.key) == (f"is no file but a {what}", "2101.00002")
    assert sum(isinstance(record, Document) for record in found) == 2


BOMB = gzip.compress(bytes(40_000_000))
MIDDLE = [
    (single(b""), "the paper is empty"),
    (b"", "the paper is empty"),
    (b"no gzip at all", "damaged gzip"),
    (single(PAPER)[:-20], "the gzip ends before its end"),
    (single(PAPER)[:60] + b"\0\0\0\0" + single(PAPER)[64:], "damaged gzip"),
    (single("\\documentclass{x}\\section{A}\0" + PROSE), "NUL characters"),
    (gzip.compress(gzip.decompress(packed({"a.tex": PAPER}))[:900]), "a damaged tar within"),
    (packed({"a.tex": PAPER, "big.eps": bytes(40_000_000)}), "unpacks to more than"),
    (packed({f"{n}.tex": "" for n in range(archive.ENTRIES + 1)}), "holds more than 20,000 files"),
    (single(paper("\\a{\\a{x}}\\b", "\\def\\a#1{#1#1#1}\\def\\b{" + "\\a{" * 30 + "x" + "}" * 30 + "}")), "read again"),
    (single(paper("\\w\\w", "\\def\\w#1{#1#1 }")), "deep in each other"),
    (single(paper("\\z0", "".join(f"\\def\\z{chr(97 + n)}{{\\z{chr(98 + n)}\\z{chr(98 + n)}}}" for n in range(25))
                  + "\\def\\z0{\\za}")), "read again"),
    (packed({"a.tex": paper("\\input{b}"), **{f"{chr(98 + n)}.tex": f"\\input{{{chr(99 + n)}}}" * 9 for n in range(12)},
             "n.tex": PROSE}), "read again"),
]  # fmt: skip


@pytest.mark.parametrize(("stored", "reason"), MIDDLE, ids=[reason for _, reason in MIDDLE])
def test_a_broken_paper_is_set_aside_and_the_next_is_read(tmp_path: Path, stored: bytes, reason: str) -> None:
    found = records(written(tmp_path, dump([GOOD[0], ("2101/2101.00002.gz", stored), GOOD[1]])))
    (aside,) = [record for record in found if isinstance(record, SetAside)]
    assert reason in aside.reason
    assert (aside.file, aside.key, aside.size) == ("arXiv_src_2101_001.tar", "2101.00002", len(stored))
    assert sum(isinstance(record, Document) for record in found) == 2


@pytest.mark.prove
def test_bombs_and_long_lines_cost_little_memory(tmp_path: Path) -> None:
    nested = packed({"a.gz": gzip.compress(BOMB), "a.tex": PAPER})
    line = single("\\section{A}" + "x" * 200_000_000)
    found = records(written(tmp_path, dump([("a.gz", single(BOMB)), ("b.gz", BOMB), ("c.gz", nested), ("d.gz", line)])))
    assert [type(record).__name__ for record in found] == ["Dropped", "Dropped", "Document", "Dropped"]
    assert [record.rule for record in found if isinstance(record, Dropped)] == ["no tex", "size", "size"]


WHOLE = dump([*GOOD, ("2101/2101.00004.gz", single(PAPER))])
SECOND = 512 + 512 * -(-len(GOOD[0][1]) // 512)


@pytest.mark.parametrize(
    ("data", "reason", "kept"),
    [
        (b"", "the file is empty", 0),
        (b"this is no tar" * 99, "no header of a tar", 0),
        (WHOLE[:SECOND] + b"\xff" * 512 + WHOLE[SECOND + 512 :], "no header of a tar", 2),
        (WHOLE[: SECOND + 520], "the file ends inside a member", 1),
        (WHOLE[: SECOND + 100], "the archive ends inside a header", 1),
        (WHOLE[:SECOND], "without the mark of its end", 1),
        (gzip.compress(WHOLE), "the archive ends inside a header", 0),
        (WHOLE[:SECOND] + b"\0" * 512 + WHOLE[SECOND:], "", 3),
    ],
)  # fmt: skip
def test_a_damaged_dump_is_read_on_behind_the_damage(tmp_path: Path, data: bytes, reason: str, kept: int) -> None:
    found = records(written(tmp_path, data))
    asides = [record.reason for record in found if isinstance(record, SetAside)]
    assert len(asides) == bool(reason)
    assert all(reason in each for each in asides)
    assert sum(isinstance(record, Document) for record in found) == kept
    assert records(written(tmp_path, data), task_size=1) == found


def test_paths_that_lead_out_are_no_files_of_a_paper(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {
        "/main.tex": paper("absolute"), "../main.tex": paper("above"), "x/../../main.tex": paper("above"),
        "./x/../good.tex": paper("good \\input{caf\u00e9}"), "caf\u00e9.tex": "odd",
    }  # fmt: skip
    assert text_of(tmp_path / "a", files) == "\\section{One}\ngood odd"
    found = records(
        written(tmp_path / "b", dump([("../2101.00001.gz", single(PAPER)), ("/x/2101.00002.gz", single(PAPER))]))
    )
    assert [record.reason for record in found if isinstance(record, SetAside)] == [
        "its path leads out of the archive"
    ] * 2


def test_names_of_any_bytes_and_length_are_read(tmp_path: Path) -> None:
    data = dump([("2101/" + "x" * 300 + ".gz", single(PAPER)), ("2101/o\udcffdd\x01.gz", single(PAPER))])
    long, odd = records(written(tmp_path, data))
    assert isinstance(long, Document)
    assert isinstance(odd, Document)
    assert (long.origin.key, odd.origin.key) == ("x" * 300, "o\u00ffdd?")


def test_macros_within_macros_end_at_their_limit(tmp_path: Path) -> None:
    names = [f"\\m{'i' * number}" for number in range(1, DEPTH + 20)]
    chain = "".join(f"\\def{a}{{{b} .}}" for a, b in pairwise(names))
    found = records(written(tmp_path, dump([("2101/2101.00001.gz", single(paper(names[0], chain)))])))
    (aside,) = [record for record in found if isinstance(record, SetAside)]
    assert "more than 200 deep" in aside.reason


PIECES = st.sampled_from(
    [
        *("\\def\\a#1{", "\\newcommand{\\a}[1][x]{", "\\a", "{", "}", "[", "]", "%", "\n", "\\section{S}"),
        *("\\begin{verbatim}", "\\begin{document}", "\\end{document}", "\\input{a}", "\\iffalse", "\\else", "\\fi"),
        *("#1", "\\verb|", "\\url{", "x", "\\let\\b\\a", "\\b", "\\newenvironment{e}{", "\\begin{e}", "\\end{e}"),
        *("\\appendix", "\\bibitem", "\\usepackage{a}", "\\title{", "\\", "\u00e9"),
    ]
)


@given(st.lists(PIECES, max_size=40).map("".join))
@settings(deadline=None, max_examples=150)
def test_any_latex_becomes_one_record(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    folder = tmp_path_factory.mktemp("dumps")
    stored = packed({"main.tex": text, "a.sty": text, "a.tex": text + PROSE})
    assert len(records(written(folder, dump([("2101/2101.00001.gz", stored)])))) == 1


@given(st.integers(0, len(WHOLE) - 1), st.binary(min_size=1, max_size=600))
@settings(deadline=None, max_examples=80)
def test_any_damage_of_a_dump_ends_in_records(
    tmp_path_factory: pytest.TempPathFactory, place: int, damage: bytes
) -> None:
    file = written(tmp_path_factory.mktemp("dumps"), WHOLE[:place] + damage + WHOLE[place + len(damage) :])
    found = records(file)
    assert len(found) >= 1
    assert records(file, task_size=1) == found


@pytest.mark.prove
@pytest.mark.parametrize(
    "text",
    [
        "\\def\\a#1{}" + "\\a{" * 20_000,
        "\\newcommand{\\a}[1][]{}" + "\\a[" * 20_000,
        "\\def\\a#1;{}" + "\\a" * 20_000,
        "\\begin{verbatim}" * 20_000,
        "\\iffalse " * 20_000,
        "\\def\\a" * 20_000,
        "\\verb|" * 20_000 + "\\url{" * 20_000,
        "\\begin{" * 20_000 + "{" * 20_000,
        "%\n" * 30_000 + "a%" * 10 + "\n \n" * 30_000,
        "".join(f"\\let\\a{'b' * (n % 50)}\\a{'b' * (n % 49)} \\a{'b' * (n % 47)}" for n in range(8_000)),
        "\\section" * 20_000 + "\\section{" * 20_000,
        "\\usepackage{a}" * 8_000 + "\\title{" * 8_000,
    ],
)  # fmt: skip
def test_no_text_takes_time_that_grows_with_its_square(tmp_path: Path, text: str) -> None:
    """Each of these would take minutes; a hang is what this test fails by."""
    stored = packed({"main.tex": "\\section{A}" + text, "a.sty": text})
    assert len(records(written(tmp_path, dump([("2101/2101.00001.gz", stored)])))) == 1
