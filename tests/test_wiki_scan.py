"""The fast reader of wikitext gives the text of the exact one, hands over what it is not sure of, and stays linear."""

from __future__ import annotations

import bz2
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import mwparserfromhell
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from puna.data.sources import Aside
from puna.data.wiki import links, marks, scan, tidy
from puna.data.wiki.references import normal, references
from puna.data.wiki.text import BrokenMarkupError, clean
from puna.data.wiki.words import sections
from test_wikipedia import CASES, HEADER, PROSE, everything, file, page
from wiki_articles import agreement, articles


@pytest.mark.parametrize("wikitext", CASES)
def test_the_fast_reader_gives_the_same_or_hands_the_page_over(wikitext: str) -> None:
    known = sections(["References", "See also"])
    assert scan.clean(wikitext, sections=known) in (None, CASES[wikitext])


@pytest.mark.parametrize("template", ["convert|@|km", "as of|2010|@", "date|@|1|2", "val|@", "frac|1|@"])
def test_numbers_that_python_refuses_to_read_end_no_run(template: str) -> None:
    digits = "9" * 5000
    for text in (clean, scan.clean):
        assert digits in str(text("{{" + template.replace("@", digits) + "}}"))


@pytest.mark.parametrize("around", ["<math>@</math>", "<pre>@</pre>", "<nowiki>@</nowiki>", "[[a|@]]", "[[@|b]]", "@"])
def test_characters_of_numbers_that_python_refuses_to_read_end_no_run(around: str) -> None:
    wikitext = around.replace("@", "&#" + "9" * 5000 + ";")
    assert clean(wikitext) == scan.clean(wikitext)
    assert references(f"<ref>http://a.org/{wikitext}</ref>") is not None


def test_few_of_the_cases_are_handed_over() -> None:
    handed = [wikitext for wikitext in CASES if scan.clean(wikitext) is None]
    assert handed == ["broken {{template never closed\n| a = b\nmore [[link and <ref>rest"]


LEAVES = st.sampled_from(
    ["word", "a b", "1", "é", "'", "x:y", "{{x}}", "{{convert|5|km}}", "[[b]]", "[[c|d]]", "&amp;", " http://x.y/z ",
     "[http://q.r s]", "<br/>", "<ref name=a/>", "[[de:Fluss]]", "-", "(", ")", ","]
)  # fmt: skip
FRAMES = st.sampled_from(
    ["{{lang|fr|@}}", "{{nowrap|@}}", "{{x|a=@}}", "[[File:a.jpg|thumb|@]]", "<ref>@</ref>", "<b>@</b>", "<sup>@</sup>",
     "<small>@</small>", "''@''", "'''@'''", "(@)", "<!-- @ -->", "<nowiki>@</nowiki>", "<math>@</math>",
     "[[b|@]]", "[[@]]", "[http://q.r @]", "{{convert|@|km}}", "{{quote|@}}", "{{ubl|@|b}}", "<poem>@</poem>",
     "<div>\n* @\n</div>"]
)  # fmt: skip
LINES = st.sampled_from(["@", "* @", "# @", ": @", "== @ ==", "{|\n| @ || b\n|-\n! c\n|}", "<div>@</div>", "----", ""])
INLINE = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.tuples(FRAMES, inner).map(lambda pair: pair[0].replace("@", pair[1])),
        st.lists(inner, min_size=2, max_size=4).map(" ".join),
    ),
    max_leaves=8,
)
PAGES = st.lists(st.tuples(LINES, INLINE).map(lambda pair: pair[0].replace("@", pair[1])), max_size=8).map("\n".join)


def disagreement(wikitext: str) -> tuple[str, str] | None:
    """The texts of both readers, where the fast one is sure and they differ."""
    fast = scan.clean(wikitext)
    if fast is None or fast == (exact := clean(wikitext)):
        return None
    return fast, exact


@given(PAGES)
@settings(deadline=None, max_examples=150)
def test_nested_markup_reads_alike(wikitext: str) -> None:
    assert disagreement(wikitext) is None


_BROKEN = """{{a|·{{x}}·{{nowrap|·}}·[[a|·[[b]]·[[·]]·|·=·''·'''·<ref>·</ref>·<b>·</b>·<!--·-->·a·b c·(·)·.·,·*·#·;·:
·&nbsp;·&#0;·<math>·</math>·<nowiki>·</nowiki>·<br>·{|·|-·|}·{{{·}}}·-{·}-·\0·\x05·\x1a·\ud800·\n·\n\n·== h ==\n"""
BROKEN = st.lists(st.sampled_from(_BROKEN.split("·")), max_size=14).map("".join)


@given(BROKEN)
@settings(deadline=None, max_examples=400)
def test_broken_markup_is_read_alike_without_residue_or_handed_over(wikitext: str) -> None:
    fast = scan.clean(wikitext)
    if fast is None:
        return
    assert not [mark for mark in tidy.RESIDUE if mark in fast]
    assert not re.search(r"[\x00-\x08\x0b-\x1f]", fast)
    assert fast == fast.strip()
    assert disagreement(wikitext) is None


@pytest.mark.promise("twins")
@given(st.lists(st.sampled_from([*'()[],;:." a', "see", "e.g.", "i.e.", "cf", "see also"]), max_size=12).map("".join))
@settings(deadline=None, max_examples=500)
def test_what_dropping_leaves_is_mended_as_by_every_rule_on_every_line(line: str) -> None:
    plain = tidy.SPACE.sub(" ", line)
    plain = tidy.FIRST_SIGN.sub("(", plain)
    plain = tidy.LAST_SIGN.sub(")", plain)
    plain = tidy.INNER_SPACE.sub("", plain)
    plain = tidy.EMPTY.sub("", plain)
    plain = tidy.SPACE.sub(" ", plain)
    plain = tidy.STRAY_SPACE.sub(r"\1", plain)
    plain = tidy.COMMAS.sub(",", plain)
    plain = tidy.COMMA_STOP.sub(".", plain).strip()
    assert tidy._without_empty(line) == re.sub(r"^[,.;:](?= |$)", "", plain).strip()


def test_real_pages_read_alike_and_few_are_handed_over(samples: Path, proved: Callable[[str], None]) -> None:
    """Some English pages and the shorter ones of every other language, against the exact mode."""
    found = articles(samples / "wikipedia")
    fast = [(scan.clean(text, language=language), language, text) for language, _, text in found]
    taken = [one for number, one in enumerate(fast) if len(one[2]) < 120_000 and (one[1] != "en" or number % 8 == 0)]
    read = [(one, clean(text, language=language)) for one, language, text in taken if one is not None]
    assert len(read) >= 0.97 * len(taken)
    equal = sum(one == exact for one, exact in read)
    assert equal == len(read)
    assert {language for _, language, _ in taken} >= {"bg", "ar", "zh", "ru", "sr", "ja"}
    handed = sum(one is None for one, _, _ in fast)
    assert handed <= 0.03 * len(found)
    proved(f"{equal} real pages read by both alike; {handed} of {len(found)} pages handed to the exact mode")


def test_pages_without_templates_read_as_the_plain_parser_strips_them(samples: Path) -> None:
    """Where no template, table, list of references or file is in the way, plain strip_code finds the same words. What
    differs are the marks of items and formulas, and superscripts, which the plain parser flattens."""
    checked = 0
    for language, title, text in articles(samples / "wikipedia"):
        for section in re.split(r"(?m)^==.*$", text):
            if len(section) < 400 or re.search(r"\{\{|\{\||<(?!/?ref)|\[\[[^\]|]*:|[^']'''''|https?:", section):
                continue
            if language in ("zh", "ja", "ar"):
                continue
            bare = re.sub(r"<ref\b[^<>]*/>|<ref\b[^<>]*>[^<]*</ref>", "", section)
            plain = mwparserfromhell.parse(bare).strip_code()
            fast = scan.clean(section, language=language)
            assert fast is not None
            assert agreement(re.sub(r"(?m)^- ", "", fast), plain) >= 0.98, title
            checked += 1
    assert checked >= 40


HOSTILE = {
    "templates": "{{" * 100_000,
    "links": "[[" * 100_000,
    "tables": "{|\n" * 100_000,
    "templates closed": "{{a|" * 15_000 + "}}" * 15_000,
    "links closed": "[[a|" * 30_000 + "]]" * 30_000,
    "comments": "<!--" * 100_000,
    "references": "<ref>" * 100_000,
    "verbatim": "<nowiki>" * 50_000,
    "attributes": "<b " * 100_000,
    "tags": "<b>" * 25_000 + "</b>" * 25_000,
    "heading": "=" + "a" * 200_000 + "\n" + "=a" * 100_000,
    "headings": "==" * 100_000,
    "apostrophes": "'''a" * 50_001 + "''",
    "parentheses": "(" * 50_000 + "{{x}}" + ")" * 50_000,
    "addresses": "http://" * 50_000,
    "addresses and templates": "http://a{{nowrap|b}}" * 5_000,
    "brackets": "[http://a " * 50_000,
    "spaces": "a\u2028" + "\u2028" * 100_000 + "b" + " " * 100_000 + "c",
    "entities": "&#" + "9" * 200_000 + ";" + "&a" * 100_000,
    "terms": ";" + "a" * 100_000 + "\n;" * 50_000,
    "bars": "{{lang|" + "|" * 200_000 + "}}",
    "switches": "__A" * 50_000 + "-{" * 50_000,
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_markup_takes_a_bounded_number_of_sweeps(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No sweep runs more often than DEEPEST: time is the page's size times a constant."""
    sweeps = 0

    class Counted:
        def __init__(self, pattern: re.Pattern[str]) -> None:
            self.pattern = pattern

        def subn(self, instead: object, text: str) -> tuple[str, int]:
            nonlocal sweeps
            sweeps += len(text)
            return self.pattern.subn(instead, text)  # type: ignore[call-overload, no-any-return]

        def sub(self, instead: object, text: str) -> str:
            return self.subn(instead, text)[0]

    for module, swept in [(scan, ["TEMPLATE", "LOOSE", "PAIR"]), (links, ["LINK", "LOOSE_LINK", "BRACKETED"])]:
        for name in swept:
            monkeypatch.setattr(module, name, Counted(getattr(module, name)))
    text = HOSTILE[kind]
    found = scan.clean(text)
    assert sweeps <= 4 * marks.DEEPEST * len(text)
    assert found is None or not [mark for mark in tidy.RESIDUE if mark in found]


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_markup_is_read_or_refused_by_name(tmp_path: Path, kind: str) -> None:
    escaped = HOSTILE[kind].replace("&", "&amp;").replace("<", "&lt;")
    found = everything(file(tmp_path, "enwiki-x.xml", (HEADER + page(1, "A", escaped) + page(2, "B")).encode()))
    names = [type(record).__name__ for record in found if not isinstance(record, Aside)]
    assert names[0] in ("Dropped", "SetAside", "Document")
    assert names[1] == "Document"


def test_controls_and_lone_surrogates_are_no_marks() -> None:
    every = "".join(map(chr, (*range(32), 127, 0xD800, 0xDFFF)))
    for text in (f"a{every}b", f"[[a|{every}]]", f"{{{{lang|fr|{every}x}}}}", f"<b>{every}</b>c", f"&#1;{every}&#6;d"):
        assert scan.clean(text) in (None, clean(text))


def test_what_an_article_cites_is_kept_beside_it_normalised_and_once(tmp_path: Path) -> None:
    text = (
        PROSE + "A.&lt;ref>{{cite web|url=HTTP://Example.org:80/A?b=1#c|title=T}}&lt;/ref> "
        "B.&lt;ref name='x'>[http://example.org/A?b=1 again], https://b.net.&lt;/ref>&lt;ref name='x'/> "
        "{{cite book|title={{lang|fr|t}}|url=http://c.org/x_(y)}} {{Infobox|url=http://not.org}} "
        "&lt;!-- &lt;ref>http://hidden.org&lt;/ref> -->"
        "&lt;ref>hTTp://e.org/&lt;/ref>&lt;ref>http://web.archive.org/web/2012/http://d.org/p&lt;/ref>"
        "\n== External links ==\n* [http://no.org no]"
    )
    found = everything(
        file(tmp_path, "enwiki-1.xml", (HEADER + page(7, "A", text) + page(8, "B") + "</mediawiki>").encode())
    )
    (aside,) = [record for record in found if isinstance(record, Aside)]
    assert (aside.kind, aside.value["page"]) == ("references", "7")
    assert aside.value["urls"] == [
        "http://example.org/A?b=1", "https://b.net/", "http://e.org/", "http://d.org/p", "http://c.org/x_(y)"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("address", "same"),
    [
        ("https://A.de:443", "https://a.de/"),
        ("http://a.de:8080/x#y", "http://a.de:8080/x"),
        ("http://me:pw@a.de/x", "http://a.de/x"),
        ("http://a.de?x=1&amp;y=2", "http://a.de/?x=1&y=2"),
        ("http://a.de/x).", "http://a.de/x"),
        ("http://a.de/x_(y)", "http://a.de/x_(y)"),
        ("http://a.de/''b", "http://a.de/"),
        ("http://localhost/x", ""),
        ("http:///x", ""),
        ("http://a.de/" + "x" * 3000, ""),
    ],
)
def test_addresses_have_one_form(address: str, same: str) -> None:
    assert normal(address) == same
    assert normal(same) == same


@given(
    st.lists(st.sampled_from(["<ref>", "</ref>", "{{cite web|url=", "}}", "http://a.b/c", "<!--", "-->", "x", "{{"]))
)
@settings(deadline=None, max_examples=200)
def test_no_text_breaks_the_search_for_references(parts: list[str]) -> None:
    found = references("".join(parts))
    assert len(set(found)) == len(found)
    assert all(one.startswith("http://a.b/") for one in found)


def test_the_exact_parser_can_be_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = file(tmp_path, "enwiki-1.xml", (HEADER + page(1, "A")).encode())
    fast = everything(source)
    monkeypatch.setattr(scan, "clean", lambda *given, **named: pytest.fail("the fast reader was asked"))
    assert everything(source, parser="exact") == fast


def test_a_page_that_both_refuse_is_set_aside() -> None:
    text = "[[a|{{b|" * 50_000
    assert scan.clean(text) is None
    with pytest.raises(BrokenMarkupError):
        clean(text)


_MEMORY = """
import re, sys
from pathlib import Path
from puna.data.sources import locate, read, split
from puna.recipe import Wikipedia
recipe = Wikipedia.model_validate({"inputs": [sys.argv[1]], "share": 1})
inputs = locate("wikipedia", recipe)
count = sum(1 for task in split("wikipedia", inputs, recipe, 1 << 40) for _ in read(task, inputs, recipe))
print(count, int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) // 1024)
"""


def _streams(size: int, each: int) -> Iterator[bytes]:
    """About `size` bytes of pages in pieces of `each`."""
    body = "".join(page(number, f"P{number}", PROSE * 400) for number in range(5))
    yield HEADER.encode()
    for _ in range(max(1, size // each)):
        yield (body * max(1, each // len(body))).encode()
    yield b"</mediawiki>\n"


@pytest.mark.prove
@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process alone is told by Linux only")
def test_memory_does_not_grow_with_a_dump(tmp_path: Path, proved: Callable[[str], None]) -> None:
    """What is held is one page and two blocks, so what holds for 12 MB against 4 MB holds for any size: the peak of a
    worker stays flat, for a dump of one stream as for one of many."""
    peaks = {}
    for name, size, one in [("one4", 4, True), ("one12", 12, True), ("many4", 4, False), ("many12", 12, False)]:
        pieces = list(_streams(size * 1_000_000, 1_000_000))
        data = bz2.compress(b"".join(pieces), 1) if one else b"".join(bz2.compress(piece, 1) for piece in pieces)
        source = file(tmp_path, f"enwiki-{name}.xml.bz2", data)
        done = subprocess.run([sys.executable, "-c", _MEMORY, str(source)], capture_output=True, text=True, check=True)
        peaks[name] = int(done.stdout.split()[1])
    assert all(peak < 500 for peak in peaks.values()), peaks
    assert peaks["one12"] <= peaks["one4"] + 10, peaks
    assert peaks["many12"] <= peaks["many4"] + 10, peaks
    proved(f"{max(peaks.values())} MB at most while 12 MB of a dump are read, as for 4 MB")
