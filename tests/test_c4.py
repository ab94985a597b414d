"""C4 is read as published, and its rules turn raw pages into such text; what is broken is set aside."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from made_web import aside, kept, page, record, records, rules, write, zipped
from puna import storage
from puna.data import extract
from puna.data.document import Document, read_documents
from puna.data.sources import Dropped, SetAside, locate, split
from puna.data.web.c4_rules import Rules, bad_words, sentences
from puna.data.web.jsonl import Line, lines
from puna.errors import InputError
from puna.recipe import C4

GOOD = "The first sentence has enough words. The second sentence has them too. And here is a third one."


def c4(*files: Path | str, **values: object) -> list[Document | Dropped | SetAside]:
    return [one for one in records(*files, source="c4", **values) if isinstance(one, Document | Dropped | SetAside)]


def row(text: str, **more: str) -> str:
    return json.dumps({"text": text, **more}, ensure_ascii=False)


def judged(text: str, **values: object) -> tuple[str, str]:
    verdict = Rules(C4.model_validate({"share": 1, **values})).judge(text)
    return verdict.text, verdict.rule


def test_published_rows_are_kept_as_they_are(tmp_path: Path) -> None:
    url = "https://www.Example.org/a?b"
    data = [row("Short\r\n and as it is {", url=url, timestamp="2019-04-25T12:57:54Z"), row(GOOD), row("")]
    found = c4(write(tmp_path, "c4-train.00000-of-01024.json.gz", gzip.compress("\n".join(data).encode())))
    first, second = kept(found)
    assert (first.text, first.group, first.source) == ("Short\nand as it is {", "example.org", "c4")
    assert (first.origin.url, first.origin.date) == (url, "2019-04-25T12:57:54Z")
    assert (first.origin.dump, first.origin.licence) == ("c4-train.00000-of-01024.json.gz", "ODC-BY")
    assert (second.text, second.origin.url, second.group) == (GOOD, "", second.origin.key)
    assert rules(found) == {"short": 1}
    assert rules(c4(write(tmp_path, "b.jsonl", "\n".join(data).encode()), published=False)) == {
        "placeholder": 1,
        "sentences": 1,
    }


def test_each_rule_of_c4_with_each_of_its_numbers() -> None:
    assert judged(GOOD) == (GOOD, "")
    lines = [
        "Menu", "No mark ends this line here", "Too few words.", "It trails off after many words...",
        "Enable JavaScript to see all of this.", "Read our Privacy Policy before you go on.",
        "This site uses cookies, as all of them do!", 'He said at last: "It is enough."',
        "See it here[1] and there[citation needed], as was said?",
    ]  # fmt: skip
    left = 'He said at last: "It is enough."\nSee it here and there, as was said?'
    assert judged("\n".join([GOOD, *lines])) == (f"{GOOD}\n{left}", "")
    assert judged(f"{GOOD}\nLorem Ipsum dolor.")[1] == "placeholder"
    assert judged(f"{GOOD}\nfunction() {{ }}")[1] == "placeholder"
    assert judged("Only one sentence stands here, alas.")[1] == "sentences"
    assert judged(GOOD, min_sentences=4)[1] == "sentences"
    assert judged("Too few words. But three. Are enough.", min_words=8)[1] == "sentences"
    assert judged(GOOD, min_characters=1000)[1] == "short"
    assert judged(f"{GOOD}\nJavaScript makes it all go round.", drop_lines=[])[0].count("\n") == 1
    assert judged(f"{GOOD}\nlorem ipsum dolor sit amet.", drop_pages=[])[1] == ""
    assert judged(f"{GOOD}\nEt puis voilà la phrase finale ;", end_marks=[";"], min_sentences=1)[0].endswith(";")


def test_sentences_are_counted_by_their_marks() -> None:
    assert sentences('One. Two! "Three?" Four...\nFive') == 5
    assert sentences("Version 3.5 of www.site.org is out.") == 1
    assert sentences("") == 0


def test_bad_words_are_the_users_own_and_stand_for_themselves(tmp_path: Path) -> None:
    words = write(tmp_path, "words.txt", b"dang\nholy cow\n\nc++\n")
    assert judged(f"{GOOD} Dang, said he.", bad_words=[str(words)])[1] == "bad words"
    assert judged(f"{GOOD} A holy cow ran off.", bad_words=[str(words)])[1] == "bad words"
    assert judged(f"{GOOD} The dangling rope fell.", bad_words=[str(words)])[1] == ""
    assert bad_words([]) is None
    with pytest.raises(InputError, match="no such file"):
        bad_words([str(tmp_path / "none.txt")])


def test_the_rules_run_on_raw_pages_of_warc_and_wet_files(tmp_path: Path) -> None:
    text = f"Menu\n{GOOD}\nAccept cookies\n"
    body = f"<html><title>A page</title><body><nav>Menu</nav><p>{GOOD}</p><p>Accept cookies</p></body></html>"
    http = f"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n{body}".encode()
    warc = write(tmp_path, "a.warc.gz", zipped(record(1, http), page(2, b""), record(3, http[:50])))
    found = c4(warc)
    assert [(one.text, one.origin.title) for one in kept(found)] == [(GOOD, "A page")]
    assert [one.group for one in kept(found)] == ["site1.org"]
    wet = write(
        tmp_path, "a.warc.wet.gz", zipped(record(1, text.encode(), kind="conversion", Content_Type="text/plain"))
    )
    assert [one.text for one in kept(c4(wet))] == [GOOD]


@pytest.mark.promise("order")
@given(
    st.lists(st.text("ab\u2028\x85 ", max_size=40), max_size=12), st.integers(1, 300), st.sampled_from(["\n", "\r\n"])
)
@settings(deadline=None, max_examples=60)
def test_any_cut_of_plain_lines_gives_the_same_rows(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], task_size: int, end: str
) -> None:
    data = "".join(row(f"{number} {text}") + end for number, text in enumerate(texts)).encode()
    folder = tmp_path_factory.mktemp("rows")
    file = write(folder, "a.jsonl", data)
    whole, many = c4(file), c4(file, task_size=task_size)
    assert many == whole
    assert len(kept(whole)) == len(texts)
    if data:
        zipped_rows = c4(write(folder / "b", "a.jsonl", gzip.compress(data)))
        assert [one.text for one in kept(zipped_rows)] == [one.text for one in kept(whole)]


def test_lines_are_the_files_own(tmp_path: Path) -> None:
    file = write(tmp_path, "a.jsonl", b"one\n\ntwo\r\nthree")
    found = [one for one in lines(file, 0, 16, 100) if isinstance(one, Line)]
    assert [(one.data, one.number, one.offset, one.size) for one in found] == [
        (b"one", 1, 0, 4), (b"", 2, 4, 1), (b"two", 3, 5, 5), (b"three", 4, 10, 5),
    ]  # fmt: skip


def test_broken_rows_and_files_are_set_aside_and_the_rest_is_read(tmp_path: Path) -> None:
    deep = '{"text": ' + "[" * 100_000
    rows = [row(GOOD), "not json", '{"text": 5}', "[1]", "\0\0", deep, row("x" * 3000), row(GOOD, url="u")]
    data = "\n".join(rows).encode() + b'\n{"text": "\xff\xfe broken utf-8"}'
    found = c4(write(tmp_path, "a.jsonl", data), max_line="2000 bytes")
    assert len(kept(found)) == 2
    assert [one.reason for one in aside(found)] == [
        "a line is not JSON", "a row has no text", "a row has no text", "a line is not JSON",
        "a line is longer than 2000 bytes", "a line is longer than 2000 bytes", "a line is not JSON",
    ]  # fmt: skip
    assert aside(found)[0].key == f"offset {len(rows[0]) + 1}"
    many = "\n".join(row(f"{GOOD} {number}") for number in range(5000)).encode()
    for name, packed in (("a.json.gz", gzip.compress(many)), ("a.json.zst", zstandard.compress(many))):
        whole = c4(write(tmp_path, name, packed))
        assert len(kept(whole)) == 5000
        cut = c4(write(tmp_path, name, packed[: len(packed) * 9 // 10]))
        assert "the file ends inside a" in aside(cut)[-1].reason
        assert 0 < aside(cut)[-1].size <= len(packed)
    bad = bytearray(gzip.compress(many))
    bad[len(bad) // 2] ^= 0xFF
    assert aside(c4(write(tmp_path, "b.json.gz", bytes(bad))))[-1].reason == "the gzip data is damaged"
    assert aside(c4(write(tmp_path, "c.json.gz", b"")))[0].reason == "the file is empty"
    bomb = gzip.compress(b"a" * 90_000_000, 6)
    found = c4(write(tmp_path, "d.json.gz", bomb))
    assert "times its stored size" in aside(found)[-1].reason


@given(
    st.binary(max_size=300),
    st.sampled_from(["a.jsonl", "a.json.gz", "a.json.zst", "a.warc.gz", "a.wet"]),
    st.booleans(),
)
@settings(deadline=None, max_examples=100)
def test_no_bytes_raise(tmp_path_factory: pytest.TempPathFactory, data: bytes, name: str, packed: bool) -> None:
    file = write(tmp_path_factory.mktemp("any"), name, gzip.compress(data) if packed else data)
    assert c4(file) == c4(file)


def test_rows_of_object_stores_are_read_like_local_ones(tmp_path: Path) -> None:
    data = "\n".join(row(f"{GOOD} {number}") for number in range(50)).encode()
    storage.write("memory://c4/a.jsonl", data)
    assert c4("memory://c4/*.jsonl", task_size=500) == c4(write(tmp_path, "a.jsonl", data))


def test_the_rules_drop_next_to_nothing_of_published_c4(samples: Path, proved: Callable[[str], None]) -> None:
    before = after = dropped = 0
    for name, rows in (("c4-train.00000-of-01024.json.gz", 705), ("c4_demo.text-only.jsonl.gz", 300)):
        as_published, by_rules = c4(samples / "c4" / name), c4(samples / "c4" / name, published=False)
        assert len(kept(as_published)) == rows
        assert not aside(as_published)
        before += sum(len(one.text) for one in kept(as_published))
        after += sum(len(one.text) for one in kept(by_rules))
        dropped += sum(rules(by_rules).values())
    proved(f"C4's rules on published C4: {dropped} of 1,005 pages dropped, {1 - after / before:.2%} of the text")
    assert dropped <= 1
    assert after > 0.99 * before
    first_version = c4(
        samples / "c4" / "c4-train.00000-of-01024.json.gz", published=False, min_words=3, min_sentences=5
    )
    assert rules(first_version) == {"sentences": 122}  # why the numbers of C4 as published are the default


def test_the_rules_make_text_of_real_raw_pages(samples: Path) -> None:
    found = c4(samples / "commoncrawl" / "upstream" / "dolma--sample-0000.warc.gz")
    assert len(kept(found)) >= 10
    assert not aside(found)


def test_half_characters_in_json_end_no_run(tmp_path: Path) -> None:
    """JSON may hold lone surrogates, which no UTF-8 can say: in a text, an address, and in what is set aside."""
    half = r'{"text": "\ud800 GOOD", "url": "https://a.org/\udfff"}'.replace("GOOD", GOOD)
    data = "\n".join([half, r'{"text": "\ud83d\ude00 and more."}', r'{"text": 1, "x": "\ud800"}'])
    file = write(tmp_path, "a\udcff.jsonl", data.encode())  # a name that is not UTF-8
    recipe = C4.model_validate({"inputs": [str(file)], "share": 1})
    inputs = locate("c4", recipe)
    (task,) = split("c4", inputs, recipe, 1 << 20)
    scratch = tmp_path / "run" / "work" / "extract.c4"
    counts = extract.extract(inputs, recipe, 1 << 20, task, scratch)
    documents = list(read_documents(scratch / "00000-000.parquet"))
    assert [document.text for document in documents] == [f"\ufffd {GOOD}", "\U0001f600 and more."]
    assert counts["kept"]["bytes"] == sum(len(document.text.encode()) for document in documents)
    assert counts["set_aside"]["examples"][0]["file"] == "a\ufffd.jsonl"
    storage.write_json(tmp_path / "counts.json", counts)


def test_a_file_that_is_one_broken_line_is_lost_with_its_bytes(tmp_path: Path) -> None:
    """Counted as one record among many it would pass for next to nothing."""
    array = f"[{row(GOOD)}, {row(GOOD * 9)}]\n".encode()
    rows = (row(GOOD) + "\n").encode() * 20
    for limit in ("8 MB", "300"):
        found = c4(write(tmp_path, "array.json", array), write(tmp_path, "rows.jsonl", rows), max_line=limit)
        assert [one.size for one in aside(found)] == [len(array)]
        assert len(kept(found)) == 20
    assert [one.size for one in aside(c4(write(tmp_path, "array.json.gz", gzip.compress(array, mtime=0))))] == [0]
