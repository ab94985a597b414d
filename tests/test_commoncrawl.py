"""Pages become main text by named rules, in whatever coding and charset they come."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from made_web import PROSE, aside, html, http, kept, page, record, records, rules, write, zipped
from marked_pages import body_of, f1, marked, mean_f1, records_of, rendered
from puna.data.document import document_id
from puna.data.extract import extract
from puna.data.sources import Aside, locate, split
from puna.data.web import charset, main_text
from puna.data.web.main_text import HostilePageError, Prose, deepest, parsed, trimmed
from puna.recipe import CommonCrawl

FLOOR = 0.952  # of the main text's mean F1 on the marked pages; docs/log.md has trafilatura's
PLAIN = Prose(60, 40, 500)


def test_pages_are_kept_with_their_origin_and_each_rule_is_counted(tmp_path: Path) -> None:
    data = [
        record(0, b"software: x\r\n", kind="warcinfo", Content_Type="application/warc-fields"),
        page(1),
        record(2, b"GET / HTTP/1.1\r\n\r\n", kind="request"),
        record(3, http(html(3), status="404 Not Found")),
        record(4, http(b"%PDF-1.4", ["Content-Type: application/pdf"])),
        page(5, "<html><body></body></html>"),
        record(6, http(html(6), ["content-type: Application/XHTML+XML"])),
        record(7, b"{}", kind="metadata", Content_Type="application/json"),
    ]
    found = records(write(tmp_path, "CC-MAIN-1.warc.gz", zipped(*data)))
    assert rules(found) == {"type": 3, "status": 1, "mime": 1, "empty": 1}
    first, second = kept(found)
    assert first.id == document_id("commoncrawl", "CC-MAIN-1.warc.gz", "urn:uuid:0001")
    assert (first.source, first.group, first.language) == ("commoncrawl", "site1.org", "und")
    origin = first.origin
    assert (origin.dump, origin.key, origin.title) == ("CC-MAIN-1.warc.gz", "urn:uuid:0001", "Chapter 1 | Site")
    assert (origin.url, origin.date) == ("https://www.site1.org/page", "2020-01-02T03:04:05Z")
    assert origin.offset == len(zipped(data[0]))
    assert first.text == f"Chapter 1\n1 {(PROSE * 4).strip()}"
    assert second.origin.title == "Chapter 6 | Site"


def test_headers_are_found_by_name_and_never_by_position(tmp_path: Path) -> None:
    block = http(html(1), ["Server: x", "X-Fold: a", "  b: text/plain", "CONTENT-TYPE:text/html", "Date: never"])
    data = (
        b"WARC/1.1\r\nContent-Length: %d\r\nwarc-date: 2019-01-01T00:00:00Z\r\nWARC-Refers-To: <urn:uuid:9>\r\n"
        b"warc-record-id: <urn:uuid:1>\r\nX: y\r\nWARC-Target-URI:https://a.org/\r\nWARC-TYPE:  response\r\n\r\n"
    ) % len(block)
    (one,) = kept(records(write(tmp_path, "a.warc", data + block + b"\r\n\r\n")))
    assert (one.origin.key, one.origin.url) == ("urn:uuid:1", "https://a.org/")
    assert one.origin.date == "2019-01-01T00:00:00Z"


def test_codings_of_payloads_are_undone(tmp_path: Path) -> None:
    import brotli

    data = html(1).encode()
    raw = zlib.compressobj(wbits=-15)
    coded = {
        "gzip": gzip.compress(data),
        "x-gzip": gzip.compress(data),
        "deflate": zlib.compress(data),
        "Deflate": raw.compress(data) + raw.flush(),
        "br": brotli.compress(data),
        "identity": data,
    }
    chunked = b"".join(b"%x;a=b\r\n%s\r\n" % (len(part), part) for part in (data[:100], data[100:])) + b"0\r\n\r\n"
    made = [
        record(n, http(d, ["Content-Type: text/html", f"Content-Encoding: {c}"]))
        for n, (c, d) in enumerate(coded.items())
    ]
    made += [record(9, http(data, ["Content-Type: text/html", f"Content-Encoding: {coding}"])) for coding in coded]
    made += [record(9, http(chunked, ["Content-Type: text/html", "Transfer-Encoding: chunked"]))]
    made += [record(9, http(data, ["Content-Type: text/html", "Transfer-Encoding: chunked"]))]
    both = b"%x\r\n%s\r\n0\r\n\r\n" % (len(coded["gzip"]), coded["gzip"])
    made += [record(9, http(both, ["Content-Type: text/html", "Content-Encoding: gzip", "Transfer-Encoding: chunked"]))]
    found = records(write(tmp_path, "a.warc.gz", zipped(*made)))
    assert {one.text for one in kept(found)} == {f"Chapter 1\n1 {(PROSE * 4).strip()}"}
    assert len(kept(found)) == len(made)


def test_broken_codings_and_bombs_are_set_aside(tmp_path: Path) -> None:
    bomb = gzip.compress(b" " * 4_900_000)
    data = gzip.compress(html(1, PROSE * 50 + os.urandom(2000).hex()).encode())
    cases = {
        "a payload is larger than 5000000 bytes": (gzip.compress(b" " * 9_000_000), "gzip"),
        "a payload decodes to over 250 times its size": (bomb, "gzip"),
        "the compressed payload breaks off": (data[:-900], "gzip"),
        "the compressed payload is damaged": (b"\x1f\x8b\x08\0" + b"\xff" * 50, "gzip"),
        "Content-Encoding 'zstd' is not known": (b"\x28\xb5\x2f\xfd", "zstd"),
    }
    for reason, (body, coding) in cases.items():
        block = http(body, ["Content-Type: text/html", f"Content-Encoding: {coding}"])
        found = records(write(tmp_path, "a.warc.gz", zipped(record(1, block), page(2))))
        assert [one.reason for one in aside(found)] == [reason]
        assert len(kept(found)) == 1
    block = http(data[:-900], ["Content-Type: text/html", "Content-Encoding: gzip"])
    found = records(write(tmp_path, "a.warc.gz", zipped(record(1, block, WARC_Truncated="length"))))
    assert len(kept(found)) == 1
    block = http(b"5\r\nabcde\r\n99\r\nabc", ["Content-Type: text/html", "Transfer-Encoding: chunked"])
    found = records(write(tmp_path, "a.warc.gz", zipped(record(1, block))))
    assert [one.reason for one in aside(found)] == ["the chunks of a payload are broken"]


def test_pages_that_the_crawl_cut_are_kept_noted_and_dropped_when_asked(tmp_path: Path) -> None:
    whole = html(1).encode()[:-60] + "ä".encode()[:1]
    file = write(tmp_path, "a.warc.gz", zipped(page(1, whole, WARC_Truncated="length"), page(2)))
    found = records(file)
    assert [one.value for one in found if isinstance(one, Aside)] == [
        {"id": kept(found)[0].id, "key": "urn:uuid:0001", "reason": "length"}
    ]
    assert len(kept(found)) == 2
    assert rules(records(file, drop_truncated=True)) == {"truncated": 1}
    recipe = CommonCrawl.model_validate({"inputs": [str(file)], "share": 1})
    inputs = locate("commoncrawl", recipe)
    (task,) = split("commoncrawl", inputs, recipe, 1 << 30)
    counts = extract(inputs, recipe, 1 << 20, task, tmp_path / "run" / "work" / "extract")
    assert counts["kept"]["documents"] == counts["records"] == 2
    assert [name.rpartition("/")[2] for name in counts["files"]] == ["00000-000.parquet", "00000.truncated.jsonl.zst"]


def test_payloads_over_the_limit_are_set_aside_but_for_what_a_rule_drops(tmp_path: Path) -> None:
    large = http(html(1, PROSE * 100_000))
    film = http(b"x" * 8_000_000, ["Content-Type: video/mp4"])
    for name, join in (("a.warc.gz", zipped), ("a.warc", lambda *made: b"".join(made))):
        found = records(write(tmp_path, name, join(record(1, large), record(2, film), page(3))))
        assert [(one.key, one.reason) for one in aside(found)] == [
            ("urn:uuid:0001", "a payload is larger than 5000000 bytes")
        ]
        assert rules(found) == {"mime": 1}
        assert len(kept(found)) == 1


def test_robots_rules_are_obeyed_when_asked(tmp_path: Path) -> None:
    meta = "<meta name='robots' content='index, NOARCHIVE'>"
    tagged = http(html(2), ["Content-Type: text/html", "X-Robots-Tag: noindex"])
    file = write(tmp_path, "a.warc.gz", zipped(page(1, meta + html(1)), record(2, tagged), page(3)))
    assert len(kept(records(file))) == 3
    assert rules(records(file, respect_robots=True)) == {"robots": 2}
    asking = [
        '<META NAME="ROBOTS" CONTENT="NOINDEX">',
        '<meta content="noindex" name="robots">',
        "<meta name=viewport content=none><Meta Content = 'follow, noarchive'\n\tdata-x=1 Name = robots/>",
        "<meta name=robots content=follow, noindex>",
        "<meta name=robots content=all><meta name=robots data-content=all content=none>",
    ]
    allowing = [
        '<META NAME="ROBOTS" CONTENT="INDEX">',
        '<meta content="noindex" name="description">',
        '<meta content="index" name="robots" title="none">',
        "<meta name=robots data-content=none content=all><meta name=keywords content=noindex>",
    ]
    made = [page(n, each + html(n)) for n, each in enumerate([*asking, *allowing])]
    file = write(tmp_path, "b.warc.gz", zipped(*made))
    assert rules(records(file, respect_robots=True)) == {"robots": len(asking)}
    assert [one.origin.key for one in kept(records(file, respect_robots=True))] == [
        f"urn:uuid:{n:04d}" for n in range(len(asking), len(made))
    ]


def test_charsets_are_told_by_mark_bytes_http_meta_and_detection(tmp_path: Path) -> None:
    text = "Größe, Straße und Übermut: " + "Die Gäste aßen früh am Morgen süße Brötchen mit Käse. " * 6
    body = f"<title>ä</title><p>{text}</p>"
    meta = "<meta charset=%s>" + body
    made = [
        http(body.encode("latin-1"), ["Content-Type: text/html; charset=ISO-8859-1"]),
        http((meta % "windows-1252").encode("cp1252"), ["Content-Type: text/html"]),
        http((meta % "'iso-8859-15'").encode("iso-8859-15"), ["Content-Type: text/html"]),
        http(body.encode("cp1252"), ["Content-Type: text/html"]),
        http(body.encode(), ["Content-Type: text/html; charset=iso-8859-1"]),
        http(body.encode("cp1252"), ["Content-Type: text/html; charset=utf-8"]),
        http(body.encode("utf-8-sig"), ["Content-Type: text/html; charset=x-nonsense"]),
        http(body.encode("utf-16"), ["Content-Type: text/html; charset=utf-8"]),
        http(body.encode("utf-16-le"), ["Content-Type: text/html"]),
        http(body.encode("utf-16-be"), ["Content-Type: text/html"]),
        http(body.encode().replace(b"aus", b"a\0us"), ["Content-Type: text/html"]),
    ]
    found = records(write(tmp_path, "a.warc.gz", zipped(*(record(n, one) for n, one in enumerate(made)))))
    assert [one.text for one in kept(found)] == [text.strip()] * len(made)
    assert charset.decode("日本語のページ".encode("shift_jis"), "text/html; charset=Shift_JIS") == "日本語のページ"
    assert charset.decode("日本語".encode("iso-2022-jp"), "text/html; charset=iso-2022-jp") == "日本語"
    assert charset.decode("中文网页".encode("gbk"), "text/html; charset=gb2312") == "中文网页"
    noise = bytes(range(128, 256)) * 20
    found = records(
        write(tmp_path, "b.warc.gz", zipped(record(1, http(noise, ["Content-Type: text/html; charset=shift_jis"]))))
    )
    assert [one.reason for one in aside(found)] == ["its charset cannot be told"]


def test_wet_files_give_the_text_that_they_hold(tmp_path: Path) -> None:
    text = f"Menu\n\n{PROSE}\r\nGrüße\0 aus  der\tStadt\n"
    data = zipped(
        record(0, b"x: y\r\n", kind="warcinfo"),
        record(1, text.encode(), kind="conversion", Content_Type="text/plain"),
        record(2, b"{}", kind="conversion", Content_Type="application/json"),
    )
    found = records(write(tmp_path, "a.warc.wet.gz", data))
    assert [one.text for one in kept(found)] == [f"Menu\n{PROSE.strip()}\nGrüße aus der Stadt"]
    assert rules(found) == {"type": 1, "mime": 1}


def test_pages_built_to_cost_much_are_set_aside(tmp_path: Path) -> None:
    hostile = {
        "a page that nests over 1000 elements": "<div>" * 100_000 + PROSE,
        "a page that nests over 1000 elements ": "".join(f"<b id={n}><p>" for n in range(3000)),
        "a page that nests over 1000 elements  ": "<DIV>" * 3000 + "</span>" * 3000 + "</DIV>" * 3000,
        "a page of over 300000 tags": "<p>" * 400_000,
        "a tag of over 10000 attributes": "<p " + " ".join(f"a{n}='>'" for n in range(60_000)) + ">",
    }
    made = [page(n, body) for n, body in enumerate(hostile.values())]
    found = records(write(tmp_path, "a.warc.gz", zipped(*made, page(9))))
    assert [one.reason for one in aside(found)] == [reason.strip() for reason in hostile]
    assert len(kept(found)) == 1
    long_line = page(1, f"<p>{PROSE * 30_000}</p>")
    assert len(kept(records(write(tmp_path, "b.warc.gz", zipped(long_line))))) == 1


@given(st.lists(st.sampled_from(["<b>", "</b>", "<DIV>", "</DIV>", "<p>", "</i>", "text"]), max_size=30))
@settings(deadline=None, max_examples=100)
def test_depth_is_never_told_below_what_the_elements_reach(parts: list[str]) -> None:
    deepest_div = max(accumulate((part == "<DIV>") - (part == "</DIV>") for part in ["", *parts]), default=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(main_text, "MAX_OPEN", 0)  # else so few parts are told by their number alone
        assert deepest("".join(parts)) >= deepest_div


def test_pages_that_nest_too_deep_are_refused() -> None:
    assert deepest("<table><tr><td>" * 7) == 7
    with pytest.raises(HostilePageError):
        parsed("<section>" * 2500)


@pytest.mark.promise("twins")
@given(st.lists(st.sampled_from(["short", PROSE, "A line that ends like a sentence.", "x" * 61]), max_size=12))
@settings(deadline=None, max_examples=150)
def test_trimming_keeps_the_run_of_lines_with_the_most_prose(lines: list[str]) -> None:
    def worth(line: str) -> int:
        return len(line) if len(line) >= 60 or (len(line) >= 30 and line.endswith(".")) else -40

    runs = {(a, b): sum(map(worth, lines[a:b])) for b in range(len(lines) + 1) for a in range(b)}
    best = max(runs.values(), default=0)
    found = trimmed("\n".join(lines), "", PLAIN)
    if best <= 0:
        assert found == "\n".join(lines)
    else:
        assert sum(map(worth, found.split("\n"))) == best
        assert found in ["\n".join(lines[a:b]) for (a, b), value in runs.items() if value == best]


def test_the_title_is_put_before_the_text_and_menus_are_not() -> None:
    text = f"Home\nShop\nA day at the river\nby someone\n{PROSE}\nAnd:\n{PROSE}\nShare\nMore news"
    prose = PROSE.strip()
    assert trimmed(text, "A day at the river | Site", PLAIN).split("\n") == ["A day at the river", PROSE, "And:", PROSE]
    assert main_text.plain(f" a\u00a0 b\r\nc\x0b{prose}\ufeff\n\n") == f"a b\nc\n{prose}"


def test_main_text_is_near_what_was_marked_by_hand(
    samples: Path, tmp_path: Path, proved: Callable[[str], None]
) -> None:
    wanted: dict[str, str] = {}
    chosen = []
    for one, block in records_of(samples):
        whole = one.rendered(body_of(block))
        assert all(0 <= start < end <= len(whole) for start, end in one.ranges), one.url
        wanted[one.url] = one.main(body_of(block))
        chosen.append(record(len(chosen), block, WARC_Target_URI=one.url))
    found = {one.origin.url: one.text for one in kept(records(write(tmp_path, "marked.warc.gz", zipped(*chosen))))}
    assert len(wanted) == len(list(marked())) >= 100
    score = mean_f1(found, wanted)
    proved(f"main text: F1 {score:.4f} on {len(wanted)} pages marked by hand")
    assert score >= FLOOR


def test_marked_pages_are_rendered_and_compared_by_expressions_alone() -> None:
    assert rendered("<head>x</head><p>a &amp;\n b<script>no</p></script><br>c<!-- d --> <b>e</b></p>") == "a & b\nc e"
    assert (f1("a b b", "b a"), f1("", ""), f1("x", "")) == (0.8, 1.0, 0.0)


def test_real_files_give_pages_and_no_loss(samples: Path, proved: Callable[[str], None]) -> None:
    floors = {
        "CC-REAL-dev-00000.warc.gz": (248, 0),
        "CC-REAL-dev-00000.warc.wet.gz": (918, 0),
        "CC-REAL-dev-00001.warc.gz": (250, 0),
        "CC-REAL-dev-00002.warc.gz": (195, 0),
        "upstream/chatnoir-resiliparse--warcfile.warc.gz": (16, 0),
        "upstream/dolma--sample-0000.warc.gz": (22, 0),
        "upstream/warcio--example.warc": (1, 0),
        "upstream/whirlwind-python--whirlwind.warc.gz": (1, 0),
        "upstream/whirlwind-python--whirlwind.warc.wet.gz": (1, 0),
    }
    total = 0
    for name, (least, lost) in floors.items():
        found = records(samples / "commoncrawl" / name)
        assert len(kept(found)) >= least, name
        assert len(aside(found)) == lost, name
        total += len(kept(found))
    proved(f"real WARC and WET files: {total:,} pages kept, none set aside")
