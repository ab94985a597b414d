"""Wikipedia dumps become clean articles, whole and the same however they are cut, and broken ones never stop a run."""

from __future__ import annotations

import bz2
import codecs
import re
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from puna import recipe as recipes
from puna.data import extract
from puna.data.document import Document, document_id
from puna.data.pipeline import bad_share
from puna.data.sources import Aside, Dropped, SetAside, locate, read, split
from puna.data.sources.wikipedia import edition_of, language_of
from puna.data.wiki import dump as wikidump
from puna.data.wiki.text import BrokenMarkupError, clean
from puna.data.wiki.tidy import RESIDUE
from puna.data.wiki.words import sections
from puna.recipe import Wikipedia

HEADER = '<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.10/" version="0.10" xml:lang="en">\n<siteinfo/>\n'
PROSE = "The [[river]] flows through '''many''' towns of the [[Valley|wide valley]] before it meets the sea. " * 5


def page(number: int, title: str, text: str = PROSE, ns: int = 0, inside: str = "") -> str:
    return (
        f"  <page>\n    <title>{title}</title>\n    <ns>{ns}</ns>\n    <id>{number}</id>\n{inside}"
        f"    <revision>\n      <id>{number}99</id>\n      <timestamp>2022-06-01T00:00:00Z</timestamp>\n"
        f'      <text xml:space="preserve">{text}</text>\n    </revision>\n  </page>\n'
    )


def dump(*pages: str) -> bytes:
    return (HEADER + "".join(pages) + "</mediawiki>\n").encode()


def everything(*files: Path, task_size: int = 1 << 30, **values: object) -> list[Document | Dropped | SetAside | Aside]:
    recipe = Wikipedia.model_validate({"inputs": [str(file) for file in files], "share": 1, **values})
    inputs = locate("wikipedia", recipe)
    return [record for task in split("wikipedia", inputs, recipe, task_size) for record in read(task, inputs, recipe)]


def records(*files: Path, task_size: int = 1 << 30, **values: object) -> list[Document | Dropped | SetAside]:
    found = everything(*files, task_size=task_size, **values)
    return [record for record in found if not isinstance(record, Aside)]


def file(folder: Path, name: str, data: bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)
    return folder / name


def test_articles_are_kept_and_each_rule_is_counted(tmp_path: Path) -> None:
    data = dump(
        page(1, "River"),
        page(2, "Talk:River", ns=1),
        page(3, "Stream", "#REDIRECT [[River]]", inside='    <redirect title="River" />\n'),
        page(4, "Bach", "#WEITERLEITUNG [[River]]"),
        page(5, "Rhine (disambiguation)"),
        page(6, "Main", PROSE + "{{Disambig|geo}}"),
        page(7, "Brook", "Too short."),
        page(8, "Style", PROSE, inside="").replace("<text", "<model>css</model><text"),
        page(9, "Void", " "),
        page(10, "Elbe &amp; Oder: a river", PROSE + "{{about|x|y|Elbe (disambiguation)}}"),
    )
    found = records(file(tmp_path, "enwiki-20220601-pages-articles.xml", data))
    dropped = Counter(record.rule for record in found if isinstance(record, Dropped))
    assert dropped == {"namespace": 1, "redirect": 2, "disambiguation": 2, "short": 1, "model": 1, "empty": 1}
    kept = [record for record in found if isinstance(record, Document)]
    assert [one.origin.title for one in kept] == ["River", "Elbe & Oder: a river"]
    first = kept[0]
    dumped = "enwiki-20220601-pages-articles.xml"
    assert first.id == document_id("wikipedia", dumped, "1")
    assert (first.group, first.language, first.source) == ("1", "en", "wikipedia")
    assert first.origin.url == "https://en.wikipedia.org/wiki/River"
    assert (first.origin.date, first.origin.licence) == ("2022-06-01T00:00:00Z", "CC-BY-SA")
    assert data[first.origin.offset :].startswith(b"<page>\n    <title>River<")
    assert first.text.startswith("The river flows through many towns of the wide valley")


@pytest.mark.promise("order")
@given(st.lists(st.integers(0, 4000), max_size=8), st.integers(1, 3000))
@settings(deadline=None, max_examples=40)
def test_any_cut_of_a_dump_gives_the_same_documents(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[int], task_size: int
) -> None:
    data = dump(*(page(number, f"Page {number}", f"{PROSE} {number} äöü") for number in range(1, 6)))
    places = sorted({0, *(cut % len(data) for cut in cuts), len(data)})
    streams = b"".join(bz2.compress(data[a:b]) for a, b in pairwise(places))
    folder = tmp_path_factory.mktemp("dumps")
    name = "enwiki-pages-articles.xml.bz2"
    whole = [r.text for r in records(file(folder / "a", name, bz2.compress(data))) if isinstance(r, Document)]
    many = records(file(folder / "b", name, streams), task_size=task_size)
    plain = records(file(folder / "c", name, data), task_size=task_size)
    assert len(whole) == 5
    assert [r.text for r in many if isinstance(r, Document)] == whole
    assert [r.text for r in plain if isinstance(r, Document)] == whole
    assert len(many) == len(plain) == 5
    assert {r.id for r in many if isinstance(r, Document)} == {r.id for r in plain if isinstance(r, Document)}


def test_a_stream_of_many_is_a_task_of_its_own_and_small_files_share_one(tmp_path: Path) -> None:
    pieces = [HEADER.encode(), *(page(n, f"P{n}", PROSE + str(n)).encode() for n in range(1, 9)), b"</mediawiki>"]
    many = file(tmp_path, "enwiki-multistream.xml.bz2", b"".join(bz2.compress(piece) for piece in pieces))
    recipe = Wikipedia.model_validate({"inputs": [str(many)], "share": 1})
    inputs = locate("wikipedia", recipe)
    tasks = split("wikipedia", inputs, recipe, 700)
    assert len(tasks) > 3
    assert all(many.read_bytes()[part.start :].startswith(b"BZh") for task in tasks for part in task.parts)
    small = Wikipedia.model_validate({"inputs": [str(tmp_path / "small" / "*.xml")], "share": 1})
    for number in range(6):
        file(tmp_path / "small", f"enwiki-{number}.xml", dump(page(number, f"P{number}")))
    assert len(split("wikipedia", locate("wikipedia", small), small, 5000)) < 4


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be", "iso-8859-1"])
def test_other_encodings_of_xml_give_the_same_text(tmp_path: Path, encoding: str) -> None:
    declaration = f'<?xml version="1.0" encoding="{encoding.removesuffix("-sig")}"?>\n'
    text = declaration + HEADER + page(1, "Fluß", PROSE + "äöü") + "</mediawiki>\n"
    name = "dewiki-pages-articles.xml"
    (same,) = records(file(tmp_path / "a", name, dump(page(1, "Fluß", PROSE + "äöü"))))
    (other,) = records(file(tmp_path / "b", name, text.encode(encoding)))
    assert isinstance(same, Document)
    assert isinstance(other, Document)
    assert (other.id, other.text, other.origin.title) == (same.id, same.text, "Fluß")


def test_a_bare_page_is_read(tmp_path: Path) -> None:
    (found,) = records(file(tmp_path, "frwiki-20121230-id3.xml", page(3, "Meillet").encode()))
    assert isinstance(found, Document)
    assert found.language == "fr"


def test_the_name_of_a_dump_tells_its_language_before_what_it_says_of_itself(tmp_path: Path) -> None:
    said = b'<mediawiki version="0.10" xml:lang="en">'
    assert language_of(edition_of("dewiki-20220601-pages-articles1.xml-p1p2.bz2", said)) == "de"
    assert language_of(edition_of("zh_min_nanwiki-latest.xml", said)) == "zh-min-nan"
    assert language_of(edition_of("simplewiki-latest.xml", said)) == "en"
    assert language_of(edition_of("mine.xml", said.replace(b'"en"', b'"pt-BR"'))) == "pt-br"
    assert language_of(edition_of("mine.xml", b"<page>")) == "und"
    german = file(tmp_path, "dewiki-1.xml", dump(page(1, "Fluss")))
    assert [type(r).__name__ for r in records(german, languages=["en"])] == ["Dropped"]
    assert [type(r).__name__ for r in records(german, languages=["de", "en"])] == ["Document"]
    assert [type(r).__name__ for r in records(file(tmp_path, "mine.xml", page(1, "A").encode()))] == ["Document"]


GOOD = [page(number, f"Page {number}", f"{PROSE} {number}") for number in range(1, 4)]
BOMB = '<!DOCTYPE m [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;">]>\n'


WHOLE = dump(*GOOD)


@pytest.mark.parametrize(
    ("data", "reason", "key", "kept"),
    [
        (b"", "the file is empty", "", 0),
        (b"no markup at all", "holds no <page>", "", 0),
        (b"\x1f\x8b\x08\x00 gzip", "is gzip", "", 0),
        (WHOLE.replace(b"Page 2", b"Page\x002"), "invalid XML", "page 2 (Page?2)", 2),
        (WHOLE.replace(b"Page 2", b"Page &c; 2"), "invalid XML", "page 2 (Page &c; 2)", 2),
        (BOMB.encode() + WHOLE.replace(b"Page 2", b"Page &c; 2"), "invalid XML", "page 2 (Page &c; 2)", 2),
        (WHOLE.replace(b"Page 2", b"\xff\xfe"), "invalid XML", "page 2 (\ufffd\ufffd)", 2),
        (WHOLE.replace(b"<id>2</id>", b""), "without title or id", "page 299 (Page 2)", 2),
        (
            WHOLE.replace(b"</page>\n  <page>\n    <title>Page 3", b"<page><title>Page 3"),
            "no end",
            "page 2 (Page 2)",
            2,
        ),
        (WHOLE[:-100], "the file ends inside a page", "page 3 (Page 3)", 2),
        (bz2.compress(WHOLE) + b"rubbish", "not bz2", "", 3),
        (bz2.compress(WHOLE) + bz2.compress(WHOLE)[:200], "ends inside a bz2 stream", "", 3),
        (bz2.compress(WHOLE) + b"BZh91AY&SY" + bytes(90), "damaged", "", 3),
        (b'<?xml version="1.0" encoding="x-none"?>' + WHOLE, "unknown encoding", "", 0),
        (codecs.BOM_UTF16_LE + b"\x00\xd8" * 40, "not valid utf-16", "", 0),
    ],
)
def test_damage_is_set_aside_with_its_reason_and_the_rest_is_kept(
    tmp_path: Path, data: bytes, reason: str, key: str, kept: int
) -> None:
    found = records(file(tmp_path, "enwiki-hostile.xml", data))
    (aside,) = [record for record in found if isinstance(record, SetAside)]
    assert reason in aside.reason
    assert (aside.file, aside.key) == ("enwiki-hostile.xml", key)
    assert sum(isinstance(record, Document) for record in found) == kept


def judged(folder: Path, source: Path) -> tuple[dict[str, Any], list[str]]:
    """What extraction counts of a dump, and what the recipe's max_bad_share says of it."""
    recipe = recipes.load("laptop")
    values = Wikipedia.model_validate({"inputs": [str(source)], "share": 1})
    inputs = locate("wikipedia", values)
    scratch = folder / "work" / "extract" / "1"
    scratch.mkdir(parents=True)
    tasks = split("wikipedia", inputs, values, 1 << 30)
    counts = extract.total([extract.extract(inputs, values, 1 << 30, task, scratch) for task in tasks])
    return counts, bad_share({"extract.wikipedia": {"counts": counts}}, recipe)


MANY = [page(number, f"Page {number}", f"{PROSE} {number}") for number in range(1, 301)]
STREAMS = [bz2.compress("".join(part).encode()) for part in ([HEADER], *zip(*[iter(MANY)] * 50, strict=True))]


@pytest.mark.parametrize(
    ("name", "data", "lost"),
    [
        ("cut.xml", dump(*MANY)[: len(dump(*MANY)) * 6 // 10], None),
        ("cut.xml", dump(*MANY).removesuffix(b"</mediawiki>\n"), None),
        ("cut.xml.bz2", bz2.compress(dump(*MANY))[: len(bz2.compress(dump(*MANY))) * 6 // 10], None),
        ("cut.xml.bz2", b"".join(STREAMS)[: len(b"".join(STREAMS)) * 6 // 10], None),
        ("cut.xml.bz2", b"".join(STREAMS[:4]), None),
        (
            "damaged.xml.bz2",
            b"".join(STREAMS[:4]) + STREAMS[4][:50] + bytes(9) + STREAMS[4][59:] + STREAMS[5],
            len(STREAMS[4] + STREAMS[5]),
        ),
    ],
)
def test_a_dump_that_breaks_off_or_is_damaged_is_said_and_judged_by_the_bytes_it_costs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, data: bytes, lost: int | None
) -> None:
    counts, bad = judged(tmp_path, file(tmp_path, f"enwiki-{name}", data))
    assert counts["input_bytes"] == len(data)
    assert counts["set_aside"]["count"] == 1
    assert counts["set_aside"]["bytes"] == (len(data) if lost is None else lost)
    (line,) = capsys.readouterr().err.splitlines()
    assert "1 of" in line
    assert f"of {len(data):,} stored bytes; the first: enwiki-{name}" in line
    assert len(bad) == 1
    assert "data.max_bad_share is 0.01" in bad[0]


def test_records_and_bytes_are_counted_as_they_are(tmp_path: Path) -> None:
    pages = [
        page(1, "Fluß", PROSE + "äöü"),
        page(2, "A", PROSE, ns=1),
        page(3, "Bach", "Zu kurz: ü"),
        page(4, "B", " "),
    ]
    source = file(tmp_path, "enwiki-counted.xml", dump(*pages, page(5, "Elbe"), page(6, "C", PROSE + "ß", ns=1)))
    counts, _ = judged(tmp_path, source)
    found = records(source)
    kept = [record for record in found if isinstance(record, Document)]
    sizes: dict[str, list[int]] = {}
    for record in found:
        if isinstance(record, Dropped):
            sizes.setdefault(record.rule, []).append(record.size)
    assert counts["records"] == 6
    assert (counts["kept"]["documents"], counts["kept"]["bytes"]) == (2, sum(len(one.text.encode()) for one in kept))
    assert {(e["key"], e["title"]) for e in counts["kept"]["examples"]} == {("1", "Fluß"), ("5", "Elbe")}
    assert sizes["namespace"] == [len(PROSE), len((PROSE + "ß").encode())]
    counted = {rule: (dropped["documents"], dropped["bytes"]) for rule, dropped in counts["dropped"].items()}
    assert counted == {rule: (len(each), sum(each)) for rule, each in sizes.items()}


def test_a_whole_dump_is_said_nothing_about(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    counts, bad = judged(tmp_path, file(tmp_path, "enwiki-whole.xml.bz2", bz2.compress(dump(*MANY))))
    assert counts["set_aside"] == {"count": 0, "bytes": 0, "examples": []}
    assert (bad, capsys.readouterr().err) == ([], "")


def test_pages_and_gaps_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wikidump, "MAX_PAGE", 20_000)
    monkeypatch.setattr(wikidump, "MAX_GAP", 2_000_000)
    monkeypatch.setattr(wikidump, "BLOCK", 4096)
    large = dump(page(1, "One"), page(2, "Two", "x" * 100_000), page(3, "Three"))
    found = records(file(tmp_path, "enwiki-large.xml", large))
    assert [type(record).__name__ for record in found] == ["Document", "SetAside", "Document"]
    assert "larger than 20000 bytes" in str(found[1])
    assert "page 2 (Two)" in str(found[1])
    bomb = bz2.compress(HEADER.encode() + bytes(5_000_000) + dump(page(1, "One")))
    found = records(file(tmp_path, "enwiki-bomb.xml.bz2", bomb))
    assert [type(record).__name__ for record in found] == ["SetAside"]


def test_markup_that_would_take_unbounded_time_is_refused() -> None:
    for opening in ("{{a|", "[[a|{{b|", "<b>", '<a b="', "{|\n|", "<ref name=x>", "[http://a "):
        with pytest.raises(BrokenMarkupError):
            clean(opening * 50_000)
    assert clean("[[a|b]] {{never closed " + "text " * 2000).startswith("b")


CASES = {
    "'''Bold''' and ''italic'' and '''''both'''''.": "Bold and italic and both.",
    "L'''amour'' of '''L'''": "L'amour of L",
    "A [[link]], a [[Page (x)|piped one]], [[bus]]es, [[:Category:X]].": "A link, a piped one, buses, Category:X.",
    "x[[File:a.jpg|thumb|A [[caption]] here]]y [[Datei:b.png]][[Kategorie:Z]][[de:Fluss]]": "xy",
    "See [http://a.org the site] and http://b.org here.": "See the site and here.",
    "Fact.<ref>{{cite web|url=x}}</ref> More<ref name=a /> text.<!-- note -->": "Fact. More text.",
    "He ({{IPA-de|x}}; born 1950) came.": "He (born 1950) came.",
    "Rome ({{IPAc-en|r}}) is ({{lang|la|Roma}}, {{IPA-la|r}}) old.": "Rome is (Roma) old.",
    "Plato (Greek: {{unknown|x}}, pronounced {{y}}) wrote {{z}}.": "Plato wrote.",
    "It is {{convert|10|km|mi}} long, {{convert|5|ft|11|in|m}} high, {{convert|10|-|20|C}}.": (
        "It is 10 km long, 5 ft 11 in high, 10–20 °C."
    ),
    "An area of {{convert|2381741|km2|0}}, {{convert|3|to|4|sqmi|km2|abbr=on}}.": (
        "An area of 2,381,741 km², 3 to 4 sq mi."
    ),
    "Born {{birth date|1980|2|9}}, {{date|3|mai|1990}}, {{as of|2014|5|lc=y}}.": (
        "Born February 9, 1980, 3 mai 1990, as of May 2014."
    ),
    "{{lang-fr|Bonjour}} is ''{{lang|fr|bon jour}}''{{citation needed|date=May 2020}}.": "Bonjour is bon jour.",
    "{{Infobox x\n| a = 1\n| b = {{c}}\n}}\nText.": "Text.",
    "Before\n{| class=x\n! a\n|-\n| b\n|}\nafter.": "Before\n\nafter.",
    "Energy is <math>E = mc^2</math>, {{nowrap|so <math>{{a}}</math>}}.": "Energy is $E = mc^2$, so ${ {a} }$.",
    "10<sup>6</sup> of H<sub>2</sub>O, 20<sub>16</sub>, 19<sup>th</sup> x<sub>max</sub>": (
        "10⁶ of H₂O, 20₁₆, 19th xmax"
    ),
    "Intro.\n\n\n\n== One ==\ntext\n=== Two ===\n== Three ==\n{{x}}\n": "Intro.\n\nOne\n\ntext",
    "Intro.\n== See also ==\n* a\n=== Deeper ===\nb\n== Works ==\nc": "Intro.\n\nWorks\n\nc",
    "Intro.\n== Einzelnachweise ==\nx": "Intro.",
    "* one\n** two\n# three\n: four\n; five : six": "- one\n- two\n- three\nfour\nfive : six",
    "one\ntwo<br/>three\n\nfour": "one two\nthree\n\nfour",
    "<nowiki>[[not a link]]</nowiki> &amp; &lt;b&gt; &nbsp;x &#99999999;": "[ [not a link] ] & <b> x &#99999999;",
    "a<div class='thumb'>gone</div><span style='display:none'>too</span>b": "ab",
    "<source lang=c>\n  int a[2][[1]];\n</source>": "int a[2][ [1] ];",
    "{{quote|Said so.|Someone}}": "Said so.",
    "-{m}- -{sr-ec:а; sr-el:a}- __NOTOC__": "m а",
    "broken {{template never closed\n| a = b\nmore [[link and <ref>rest": "broken\nmore link and",
    "{{val|30000|ul=C}}, {{val|1|u=F}}, {{val|5|u=degC}}, {{convert|5|C}}": "30000 C, 1 F, 5 °C, 5 °C",
    "{{val|9.8|u=m|up=s2}}, {{val|5|ul=km|upl=h}}, {{val|5|up=s}}, {{val|5}}": "9.8 m/s², 5 km/h, 5/s, 5",
    "{{as of|2010|²}}, {{date|2010|²|3}}, {{birth date|2010|5|²}}": "As of ² 2010, 2010 ² 3, 2010 5 ²",
    "{{flag|Peru}}, {{frac|1|2}}, {{chem|H|2|O}}, {{val|6.2|e=18|u=m}}, {{formatnum:1234}}": (
        "Peru, 1/2, H₂O, 6.2×10¹⁸ m, 1234"
    ),
}


@pytest.mark.parametrize("wikitext", CASES)
def test_wikitext_reads_as_a_reader_sees_it(wikitext: str) -> None:
    assert clean(wikitext, sections=sections(["References", "See also"])) == CASES[wikitext]


def test_tables_are_kept_as_rows_when_asked_for() -> None:
    table = "{|\n|+ title\n! Name !! Size\n|-\n| [[Elbe]] || 10\n|}"
    assert clean(table, keep_tables=True) == "Name | Size\nElbe | 10"


_WORDS = """{{a|·[[File:·[[a|·|·!·=·==·''·<ref>·<b>·</b>·<!--·-->·a·b c·(·)·,·.·:·*·#·;·&nbsp;·&#0;·<math>·</math>
<nowiki>·</nowiki>·http://x.y·[·convert|5|ft|11|in}}·<br>·<table>·{{{·}}}·-{·}-·\0·\x05·\ud800·\n·\n\n"""
TOKENS = st.sampled_from([*RESIDUE, *_WORDS.split("·")])


@given(st.lists(TOKENS, max_size=60).map("".join))
@settings(deadline=None, max_examples=300)
def test_no_markup_and_no_control_character_is_left_of_any_text(wikitext: str) -> None:
    text = clean(wikitext)
    assert not [mark for mark in RESIDUE if mark in text]
    assert "\n\n\n" not in text
    assert text == text.strip()
    assert not re.search(r"[\x00-\x08\x0b-\x1f]", text)


def test_real_dumps_of_every_language_are_read_without_residue(samples: Path, proved: Callable[[str], None]) -> None:
    found = records(samples / "wikipedia", languages=[])
    assert not [record for record in found if isinstance(record, SetAside)]
    kept = [record for record in found if isinstance(record, Document)]
    assert len(kept) >= 150
    assert {one.language for one in kept} >= set(Wikipedia.model_fields["languages"].default)
    for one in kept:
        assert not [mark for mark in RESIDUE if mark in one.text], one.origin.title
        prose = re.sub(r"\$[^$\n]*\$", "x", one.text)
        assert not re.search(r"\n\n\n|\(\s*\)|\( |[,;:] ?\)|</?(ref|div|span|br)\b|thumb\|", prose), one.origin.title
    english = [one for one in kept if one.origin.dump.startswith("enwiki-latest")]
    rules = Counter(r.rule for r in found if isinstance(r, Dropped))
    assert len(english) == 98
    assert sum(len(one.text.encode()) for one in english) > 2_500_000
    assert rules["redirect"] >= 99
    anarchism = next(one for one in english if one.origin.title == "Anarchism")
    assert anarchism.text.startswith("Anarchism is a political philosophy that advocates self-governed societies")
    assert "\n\nEtymology and terminology\n\n" in anarchism.text
    assert "External links" not in anarchism.text
    size = sum(len(one.text.encode()) for one in kept) / 1e6
    languages = len({one.language for one in kept})
    proved(f"{len(kept)} real articles in {languages} languages, {size:.1f} MB of text: no mark-up left")
