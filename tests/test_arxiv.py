"""arXiv's papers become the text from their first section on: no comments, no bibliography, no macros of their own."""

from __future__ import annotations

import re
import tarfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from made_papers import PAPER, PROSE, dump, everything, packed, paper, records, single, text_of, written
from puna.data.document import Document, document_id
from puna.data.latex import archive
from puna.data.latex.comments import behind, behind_command
from puna.data.latex.words import BIBLIOGRAPHIES, VERBATIM, VERBATIM_COMMANDS
from puna.data.sources import Aside, Dropped, SetAside
from puna.data.sources.arxiv import paper_id


def test_papers_are_kept_and_each_rule_is_counted(tmp_path: Path) -> None:
    members = [
        ("2101/2101.00001.gz", single(PAPER)),
        ("2101/2101.00002v3.gz", packed({"main.tex": PAPER})),
        ("2101/2101.00003.pdf", b"%PDF-1.4"),
        ("2101/2101.00004.gz", single(b"%PDF-1.4 " + b"x" * 99)),
        ("2101/2101.00005.gz", single("%auto-ignore\nThis paper has been withdrawn by the author.\n")),
        ("2101/2101.00006.gz", packed({"fig.eps": b"%!PS", "thumbs.db": b"\0\1"})),
        ("2101/2101.00007.gz", single(PAPER.replace("\\section{One}", ""))),
        ("2101/2101.00008.gz", single(paper("Too short."))),
        ("2101/2101.00001v2.gz", single(PAPER)),
        ("2101/README", b"read me"),
        ("2101/2101.00009.gz", single(PAPER + " " * 20_000)),
        ("2101/2101.00010.gz", single("%!PS-Adobe\n" + PROSE)),
    ]
    found = records(written(tmp_path, dump(members)), min_characters=100, max_bytes=10_000)
    dropped = Counter(record.rule for record in found if isinstance(record, Dropped))
    assert dropped == {
        **{"pdf": 2, "withdrawn": 1, "no tex": 2, "no section": 1, "short": 1, "repeated": 1, "not a paper": 1},
        "size": 1,
    }
    kept = [record for record in found if isinstance(record, Document)]
    assert len(kept) + dropped.total() == len(members)
    first, second = kept
    assert first.id == document_id("arxiv", "arXiv_src_2101_001.tar", "2101.00001")
    assert (first.group, first.language, first.source) == ("2101.00001", "und", "arxiv")
    assert first.origin.url == "https://arxiv.org/abs/2101.00001"
    assert (first.origin.title, first.origin.date, first.origin.licence) == ("On Rivers", "2021-01", "arXiv")
    assert (second.group, second.origin.key) == ("2101.00002", "2101.00002v3")
    assert second.origin.url.endswith("/2101.00002v3")
    assert first.text == "\\section{One}\n" + PROSE.rstrip()


def test_names_of_members_tell_id_version_and_date() -> None:
    assert paper_id("0704/0704.0001.gz") == ("0704.0001", "", "2007-04")
    assert paper_id("2101/2101.90001v2.gz") == ("2101.90001", "v2", "2021-01")
    assert paper_id("9912/hep-th9912001.gz") == ("hep-th/9912001", "", "1999-12")
    assert paper_id("0001/astro-ph0001001v1.pdf") == ("astro-ph/0001001", "v1", "2000-01")
    assert paper_id("x/o\x01dd.gz") == ("o?dd", "", "")


@pytest.mark.promise("order")
@given(st.lists(st.integers(0, 6), min_size=1, max_size=7), st.integers(1, 6000))
@settings(deadline=None, max_examples=40)
def test_any_task_size_gives_the_same_records(
    tmp_path_factory: pytest.TempPathFactory, ids: list[int], task_size: int
) -> None:
    members = [(f"2101/2101.0000{number}.gz", single(PAPER + f"% {place}")) for place, number in enumerate(ids)]
    file = written(tmp_path_factory.mktemp("dumps"), dump(members))
    whole, many = records(file), records(file, task_size=task_size)
    assert whole == many
    assert sum(isinstance(record, Document) for record in whole) == len(set(ids))
    assert len(whole) == len(ids)


# The traps that are known of this source


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("a 50\\% share% of it\nleft", "a 50\\% shareleft"),
        ("word% note\n   next", "wordnext"),
        ("x % note\ny", "x y"),
        ("one\n  % note\ntwo", "one\ntwo"),
        ("end% note\n\nnew", "end\n\nnew"),
        ("\\alpha% note\nb", "\\alpha b"),
        ("\\\\% note\nb", "\\\\b"),
        ("\\verb|100%| of\\url{http://a.b/c%20d} it", "\\verb|100%| of\\url{http://a.b/c%20d} it"),
        (
            '\\begin{lstlisting}\nprintf("%d");\n\\end{lstlisting}',
            '\\begin{lstlisting}\nprintf("%d");\n\\end{lstlisting}',
        ),
        ("a\n\\begin{comment}\nno \\ref{x}\n\\end{comment}\nb", "a\nb"),
        ("a \\iffalse no \\ifx\\a\\b x\\fi \\fi b", "a b"),
        ("a \\iffalse no \\else yes\\fi b", "a yesb"),
        ("$x \\iff y$ \\iffalse no\\fi z", "$x \\iff y$ z"),
    ],
)
def test_a_comment_goes_without_the_character_before_it(tmp_path: Path, raw: str, clean: str) -> None:
    assert text_of(tmp_path, paper(raw)) == f"\\section{{One}}\n{clean}"


@pytest.mark.parametrize(
    ("definitions", "call", "text"),
    [
        ("\\newcommand{\\R}{\\mathbb{R}}", "in $\\R x$ and \\R{}.", "in $\\mathbb{R}x$ and \\mathbb{R}{}."),
        ("\\newcommand\\pair[2]{(#1, #2)}", "\\pair{a{b}}c", "(a{b}, c)"),
        ("\\newcommand{\\n}[2][1]{|#2|_{#1}}", "\\n{x} \\n[2]{y}", "|x|_{1} |y|_{2}"),
        ("\\def\\add#1+#2;{sum(#1,#2)}", "\\add a+{b;};.", "sum(a,b;)."),
        ("\\long\\def\\big#1{B(#1)}", "\\big{a\n\nb}", "B(a\n\nb)"),
        ("\\gdef\\g{G}\\edef\\e{E}\\let\\h\\g", "\\g\\e\\h", "GEG"),
        ("\\let\\old\\section", "\\old{Two}", "\\section{Two}"),
        ("\\DeclareMathOperator*{\\argmax}{arg\\,max}", "$\\argmax_x$", "$\\operatorname*{arg\\,max}_x$"),
        ("\\newcommand{\\a}{\\b c}\\newcommand{\\b}{B}", "\\a", "Bc"),
        ("\\newcommand{\\define}[1]{\\newcommand{#1}[1]{<##1>}}", "\\define{\\x}\\x{y}", "<y>"),
        ("\\newenvironment{claim}[1]{\\begin{quote}#1: }{!\\end{quote}}", "\\begin{claim}{Z}z\\end{claim}",
         "\\begin{quote}Z: z!\\end{quote}"),
        ("\\newcommand{\\be}{\\begin{equation}}\\newcommand{\\ee}{\\end{equation}}", "\\be x\\ee",
         "\\begin{equation}x\\end{equation}"),
        ("\\providecommand{\\p}{first}\\providecommand{\\p}{second}", "\\p", "first"),
        ("\\renewcommand{\\vec}[1]{\\mathbf{#1}}", "$\\vec v$", "$\\mathbf{v}$"),
        ("\\newcommand{\\eg}{e.g.\\xspace}", "\\eg this", "e.g. this"),
        ("\\newcommand{\\x}{X}", "\\verb|\\x|\\begin{verbatim}\\x\\end{verbatim}",
         "\\verb|\\x|\\begin{verbatim}\\x\\end{verbatim}"),
        ("\\newcommand{\\x}{X}", "\\x\\renewcommand{\\x}{Y}\\x", "XY"),
        ("\\def\\abc{long (abc)\\def\\abc{abc}}", "\\abc, \\abc", "long (abc), abc"),
        ("\\def\\0{{\\bf 0}}", "\\0=\\0", "{\\bf 0}={\\bf 0}"),
        ("\\newcommand{\\up}[1]{#1x}", "\\up\\alpha", "\\alpha x"),
    ],
)  # fmt: skip
def test_macros_are_written_out_with_their_arguments(tmp_path: Path, definitions: str, call: str, text: str) -> None:
    assert text_of(tmp_path, paper(call, definitions)) == f"\\section{{One}}\n{text}"


def test_what_calls_itself_or_is_a_program_stays_and_is_told(tmp_path: Path) -> None:
    preamble = "\\def\\a{x\\b}\\def\\b{y\\a}\\def\\c{\\ifx\\d\\e f\\fi}\\newcommand{\\g}{G}\\def\\h{\\my@name}"
    file = written(tmp_path, dump([("2101/2101.00001.gz", single(paper("\\a \\c \\g \\h", preamble)))]))
    told, kept = everything(file)
    assert isinstance(kept, Document)
    assert kept.text == "\\section{One}\n\\a \\c G\\h"
    left = {"a": "calls itself", "c": "a program", "h": "a program"}
    assert told == Aside("latex", {"paper": "2101.00001", "macros": left, "missing": []})


def test_files_are_put_in_place_and_in_order(tmp_path: Path) -> None:
    main = paper(
        "0 \\input{one}\\include{parts/two} \\input three \\subfile{four}\\import{parts/}{five} \\input{gone}end"
    )
    files: dict[str, str | bytes] = {
        "a/appendix.tex": "\\documentclass{article}", "main.tex": main, "one.tex": "1 \\input{./sub/../one-more}",
        "one-more.tex": "1b \\input{main}\\input{one}", "parts/two.tex": "2\\endinput never", "three.tex": "3",
        "four.tex": "4", "parts/five.tex": "5 ", "main.bbl": "\\begin{thebibliography}{9}x\\end{thebibliography}",
    }  # fmt: skip
    text = text_of(tmp_path, files)
    assert " ".join(text.split()) == "\\section{One} 0 1 1b 2 345 end"
    outside: dict[str, str | bytes] = {
        "main.tex": paper("a\\input{../../etc/passwd}\\input{/etc/passwd}b\\input{main.bbl}")
    }
    assert text_of(tmp_path, outside) == "\\section{One}\nab"


@pytest.mark.parametrize(
    ("preamble", "encoding"),
    [
        ("", "utf-8"), ("", "utf-8-sig"), ("", "latin-1"), ("", "cp1252"), ("", "utf-16"),
        ("\\usepackage[latin1]{inputenc}", "latin-1"), ("\\usepackage[applemac]{inputenc}", "mac-roman"),
        ("\\usepackage[cp1251]{inputenc}", "cp1251"), ("\\usepackage[utf8]{inputenc}", "utf-8"),
        ("\\usepackage[utf8]{inputenc}", "cp1252"),
    ],
)  # fmt: skip
def test_papers_that_are_not_in_utf_8_are_read(tmp_path: Path, preamble: str, encoding: str) -> None:
    words = "Привет" if encoding == "cp1251" else "Größe naïve é"
    assert text_of(tmp_path, paper(words, preamble).encode(encoding)) == f"\\section{{One}}\n{words}"


def test_a_paper_that_is_one_gzipped_file_is_read_like_a_tar_of_one(tmp_path: Path) -> None:
    assert text_of(tmp_path / "a", PAPER) == text_of(tmp_path / "b", {"any-name.tex": PAPER})
    assert text_of(tmp_path / "c", PAPER.replace("\n", "\r\n")) == text_of(tmp_path / "d", PAPER.replace("\n", "\r"))


def test_papers_without_source_are_dropped_by_name(tmp_path: Path) -> None:
    members = [("2101/2101.00001.pdf", b"%PDF"), ("2101/2101.00002.gz", packed({"paper.pdf": b"%PDF"}))]
    found = records(written(tmp_path, dump(members)))
    assert [record.rule for record in found if isinstance(record, Dropped)] == ["pdf", "no tex"]


@pytest.mark.parametrize(
    ("files", "main"),
    [
        ({"00README.XXX": "b.tex toplevelfile\n", "a.tex": PAPER, "b.tex": paper("B")}, "B"),
        ({"00README.json": '{"sources": [{"filename": "b.tex", "usage": "toplevel"}]}', "a.tex": PAPER,
          "b.tex": paper("B")}, "B"),
        ({"a.tex": PAPER + PROSE, "ms.tex": paper("B")}, "B"),
        ({"a.tex": paper("A\\input{main}"),
          "main.tex": PAPER.replace("\\section{One}\n" + PROSE, "M\\end{document}")}, "A"),
        ({"fig.tex": PAPER.replace("{article}", "{standalone}"), "z.tex": paper("B")}, "B"),
        ({"a.tex": "% \\documentclass{x}\n" + PROSE * 9,
          "old.tex": paper("B").replace("documentclass", "documentstyle[11pt]")}, "B"),
        ({"plain.tex": "\\def\\s{S}\\section{One}\n\\s\\bye"}, "S\\bye"),
    ],
)  # fmt: skip
def test_the_main_file_is_found(tmp_path: Path, files: dict[str, str | bytes], main: str) -> None:
    assert text_of(tmp_path, files).startswith(f"\\section{{One}}\n{main}")


def test_definitions_of_the_papers_own_classes_and_packages_are_read(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {
        "main.tex": paper("\\x \\y{a} \\z", "\\usepackage[o]{amsmath,mine}\\newcommand{\\z}{own}").replace(
            "article", "cls"),
        "mine.sty": "\\RequirePackage{more}\n% \\newcommand{\\x}{no}\n\\newcommand{\\x}{%\n  X}"
        "\\def\\a@b{\\def\\x{never}}",
        "more.sty": "\\long\\def\\y#1{<#1>}", "cls.cls": "\\newcommand{\\z}{class's}",
    }  # fmt: skip
    assert text_of(tmp_path, files) == "\\section{One}\nX<a> own"


@pytest.mark.parametrize(
    ("raw", "kept"),
    [
        ("a\n\\begin{thebibliography}{9}\n\\bibitem{x} X.\n\\end{thebibliography}\nb", "a\n\nb"),
        ("a\\bibliographystyle{plain}\\bibliography{refs} b", "a b"),
        ("a\\printbibliography[heading=none] b", "a b"),
        ("a\n\\section*{References}\n[1] X.\n\\section{Later}\nb", "a\n\\section{Later}\nb"),
        ("a\n\\section*{\\bf References}\n[1] X.\n\\appendix\n\\section{More}\nb", "a\n\\appendix\n\\section{More}\nb"),
        ("a\\begin{verbatim}\\bibliography{x}\\end{verbatim}", "a\\begin{verbatim}\\bibliography{x}\\end{verbatim}"),
    ],
)
def test_bibliographies_go_and_what_follows_stays(tmp_path: Path, raw: str, kept: str) -> None:
    assert text_of(tmp_path, paper(raw)) == f"\\section{{One}}\n{kept}"


def test_the_recipe_says_what_becomes_of_appendices_and_papers_without_sections(tmp_path: Path) -> None:
    appendix = paper("a\n\\appendix\n\\section{More}\nb")
    assert text_of(tmp_path / "a", appendix).endswith("b")
    assert text_of(tmp_path / "b", appendix, keep_appendix=False) == "\\section{One}\na"
    letter = PAPER.replace("\\section{One}", "\\maketitle").replace("Front.", "\\begin{abstract}A\\end{abstract}")
    assert text_of(tmp_path / "c", letter, keep_without_section=True) == "\n" + PROSE.rstrip()
    book = PAPER.replace("Front.", "\\chapter{First}\nC")
    assert text_of(tmp_path / "d", book).startswith("\\chapter{First}\nC\n\\section{One}")


# Real papers. Counted by hand: papers with a source, and members, of each dump.
DUMPS = {"1008": (1, 1), "1606": (1, 1), "1610": (1, 1), "1703": (1, 1), "1907": (1, 1), "2004": (1, 1), "2101": (8, 9)}
DEFINITION = re.compile(
    r"\\(?:re|provide)?(?:newcommand|command|def|gdef|edef)\*?\s*\{?\s*\\([A-Za-z]+)\b(?!@)([^\n]*)"
)


def without_verbatim(text: str) -> str:
    out, at = "", 0
    for match in re.finditer(r"\\(?:\\|begin\{([^}]*)\}|(" + "|".join(VERBATIM_COMMANDS) + r")(?![A-Za-z]))", text):
        if match.start() < at:
            continue
        end = behind(text, match[1], match.end(), set()) if match[1] in VERBATIM else 0
        end = behind_command(text, match[2], match.end()) if match[2] else end
        out, at = (out + text[at : match.start()], end) if end else (out, at)
    return out + text[at:]


def test_real_papers_hold_no_comment_no_bibliography_and_no_macro_of_their_own(
    samples: Path, proved: Callable[[str], None]
) -> None:
    papers = 0
    for month, (kept, members) in DUMPS.items():
        file = samples / "arxiv" / f"arXiv_src_{month}_001.tar"
        found = everything(file)
        documents = [record for record in found if isinstance(record, Document)]
        rest = [record for record in found if isinstance(record, Dropped | SetAside)]
        assert (len(documents), len(documents) + len(rest)) == (kept, members)
        assert not any(isinstance(record, SetAside) for record in rest)
        left = {each.value["paper"]: set(each.value["macros"]) for each in found if isinstance(each, Aside)}
        for document in documents:
            papers += 1
            assert re.match(r"\\(section|chapter|part)\*?\s*[\[{]", document.text), document.origin.key
            text = without_verbatim(document.text)
            assert not re.search(r"(?<!\\)(?:\\\\)*%", text), document.origin.key
            assert not re.search(
                r"\\begin\{(comment|" + "|".join(BIBLIOGRAPHIES) + r")\}|\\(bibliography|bibitem)\b", text
            )
            own = own_macros(file, document.group) - left.get(document.group, set())
            assert own & set(re.findall(r"\\([A-Za-z]+)", text)) == set(), document.origin.key
    proved(f"arXiv: {papers} real papers of {sum(members for _, members in DUMPS.values())} members, nothing set aside")


def own_macros(dump: Path, key: str) -> set[str]:
    """Names that a paper's TeX files define, read line by line and without what the reader calls a program."""
    with tarfile.open(dump) as file:
        data = file.extractfile(f"{key[:4]}/{key}.gz").read()  # type: ignore[union-attr]
    texts = archive.unpack(iter([data]), len(data), 1 << 30).texts
    names = set()
    for path, raw in texts.items():
        if path.endswith(".tex"):
            clean = re.sub(r"(?<!\\)%[^\n]*", "", raw.decode("utf-8", "replace"))
            names |= {match[1] for match in DEFINITION.finditer(clean) if "@" not in match[2]}
    return names - {"section", "subsection"}
