"""Records come out of WARC files, the same however they are cut, and broken files cost what is broken in them."""

from __future__ import annotations

import gzip
import io
import os
import subprocess
import sys
from collections.abc import Callable
from itertools import accumulate, pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from made_web import PROSE, aside, html, http, kept, page, record, records, rules, write, zipped
from puna import storage
from puna.data.sources import Dropped, SetAside, locate, split
from puna.data.web import members, warc
from puna.recipe import CommonCrawl


@pytest.mark.promise("order")
@given(st.lists(st.integers(0, 3000), min_size=1, max_size=5), st.integers(200, 2500), st.booleans())
@settings(deadline=None, max_examples=25)
def test_any_cut_of_a_file_gives_the_same_documents(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], task_size: int, lie: bool
) -> None:
    shown = "<pre>\r\n\r\nWARC/1.0\r\nWARC-Type: response\r\nContent-Length: 4\r\n\r\nabcd</pre>"
    pages = [page(n, html(n, PROSE * 3 + shown + os.urandom(size).hex())) for n, size in enumerate(sizes)]
    if lie:
        pages.insert(len(pages) // 2, b"WARC/1.0\r\nWARC-Type: response\r\nContent-Length: 9999999\r\n\r\nlost\r\n\r\n")
    folder = tmp_path_factory.mktemp("cut")
    for name, data in (("a.warc", b"".join(pages)), ("a.warc.gz", zipped(*pages))):
        file = write(folder, name, data)
        whole, many = records(file), records(file, task_size=task_size)
        assert [one.id for one in kept(many)] == [one.id for one in kept(whole)]
        assert kept(many) == kept(whole)
        assert len(kept(whole)) == len(sizes)


def test_a_large_file_is_cut_where_records_begin(tmp_path: Path) -> None:
    pages = [page(n, html(n, PROSE * 4 + os.urandom(300).hex())) for n in range(30)]
    for name, data in (("a.warc", b"".join(pages)), ("b.warc.gz", zipped(*pages))):
        cuts = warc.borders(write(tmp_path, name, data), 3000)
        assert len(cuts) > 4
        begins = list(accumulate([0, *(len(p if name == "a.warc" else zipped(p)) for p in pages)]))
        assert set(cuts) <= set(begins)
    recipe = CommonCrawl.model_validate({"inputs": [str(tmp_path)], "share": 1})
    inputs = locate("commoncrawl", recipe)
    assert split("commoncrawl", inputs, recipe, 3000) == split("commoncrawl", inputs, recipe, 3000)


@pytest.mark.promise("twins")
@given(
    st.lists(st.tuples(st.binary(max_size=400), st.booleans()), max_size=6),
    st.sampled_from(["members", "one", "plain"]),
)
@settings(deadline=None, max_examples=60)
def test_records_are_those_that_fastwarc_reads_in_a_sound_file(
    tmp_path_factory: pytest.TempPathFactory, blocks: list[tuple[bytes, bool]], kind: str
) -> None:
    from fastwarc.warc import ArchiveIterator

    made = [record(n, http(block) if page else block, kind="x") for n, (block, page) in enumerate(blocks)]
    data = {"members": zipped(*made), "one": gzip.compress(b"".join(made)), "plain": b"".join(made)}[kind]
    file = write(tmp_path_factory.mktemp("twin"), "a.warc", data)
    ours = list(warc.records(file, 0, len(data), 1 << 20)) if made else []
    twin = ArchiveIterator(io.BytesIO(data), parse_http=False)
    theirs = [(one.record_id, one.reader.read()) for one in twin]
    assert [(r.headers["warc-record-id"], r.block) for r in ours if isinstance(r, warc.WarcRecord)] == theirs


def test_lengths_of_2018_34_that_are_two_bytes_off_are_survived(tmp_path: Path) -> None:
    for wrong in (-2, 2):
        pages = [page(n, wrong=wrong) for n in range(5)]
        for name, data in (("a.warc.gz", zipped(*pages)), ("a.warc", b"".join(pages))):
            found = records(write(tmp_path, name, data))
            assert [one.text for one in kept(found)] == [f"Chapter {n}\n{n} {(PROSE * 4).strip()}" for n in range(5)]
            assert len(found) == 5


def test_a_file_that_is_cut_costs_the_member_that_is_cut(tmp_path: Path) -> None:
    data = zipped(*(page(n) for n in range(4)))
    last = len(zipped(page(3)))
    found = records(write(tmp_path, "a.warc.gz", data[:-20]))
    assert len(kept(found)) == 3
    assert aside(found) == [SetAside("the file ends inside a gzip member", "a.warc.gz", aside(found)[0].key, last - 20)]
    plain = b"".join(page(n) for n in range(4))
    found = records(write(tmp_path, "b.warc", plain[:-200]))
    assert len(kept(found)) == 3
    assert [(one.key, one.size) for one in aside(found)] == [("<urn:uuid:0003>", len(page(3)) - 200)]


def test_damage_costs_what_is_damaged_and_the_reading_goes_on(tmp_path: Path) -> None:
    good, bad = zipped(page(1)), bytearray(zipped(page(2)))
    bad[len(bad) // 2] ^= 0xFF
    found = records(write(tmp_path, "a.warc.gz", good + bytes(bad) + zipped(page(3)) + b"\0" * 3000))
    assert [one.origin.key for one in kept(found)] == ["urn:uuid:0001", "urn:uuid:0003"]
    assert [(one.reason, one.size) for one in aside(found)] == [("the gzip data is damaged", len(bad))]
    cases = [
        b"no record at all, only a line of text",
        b"WARC/1.0\r\nWARC-Type: response\r\n\r\n" + http(html()) + b"\r\n\r\n",
        record(2, http(html(2)), Content_Length="ten"),
        record(2, http(html(2)), wrong=4000),
        b"WARC/1.0\r\nX: " + b"y" * 200_000 + b"\r\n\r\n",
    ]
    for data in cases:
        for name, whole in (("b.warc", page(1) + data + page(3)), ("b.warc.gz", zipped(page(1), data, page(3)))):
            found = records(write(tmp_path, name, whole))
            assert [one.origin.key for one in kept(found)] == ["urn:uuid:0001", "urn:uuid:0003"], data[:40]
            assert len(aside(found)) == 1
            assert aside(found)[0].size == (len(data) if name == "b.warc" else 0), data[:40]


def test_a_search_for_the_next_member_that_gives_up_says_all_that_it_costs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(members, "MAX_CANDIDATES", 3)
    false = b"\x1f\x8b\x08\0" + b"\xff" * 20
    for count, found_again in ((3, True), (4, False)):  # the first one begins the damage, the search is behind it
        file = write(tmp_path, "a.warc.gz", zipped(page(1)) + false * count + zipped(page(2), page(3)))
        found = records(file)
        keys = ["urn:uuid:0001", *(["urn:uuid:0002", "urn:uuid:0003"] if found_again else [])]
        assert [one.origin.key for one in kept(found)] == keys
        lost = len(false * count) + (0 if found_again else len(zipped(page(2), page(3))))
        assert [(one.reason, one.size) for one in aside(found)] == [("the gzip data is damaged", lost)]


def test_files_without_records_and_files_of_another_kind_are_said(tmp_path: Path) -> None:
    for data, reason in (
        (b"", "the file is empty"),
        (b"\r\n\r\n", "holds no WARC record"),
        (b"\x28\xb5\x2f\xfd" + b"x" * 50, "is zstd; WARC files are read as gzip or plain"),
        (gzip.compress(b"just text"), "what follows a record is no record"),
        (b"\x1f\x8b", "the file ends inside a gzip member"),
    ):
        found = records(write(tmp_path, "a.warc.gz", data))
        assert [one.reason for one in aside(found)][:1] == [reason]
        assert not kept(found)


def test_records_without_a_block_and_responses_without_headers_are_set_aside(tmp_path: Path) -> None:
    data = [record(1, b""), record(2, b"<html>no header</html>"), record(3, http(b"")), page(4), page(4)]
    found = records(write(tmp_path, "a.warc.gz", zipped(*data)))
    assert [(one.key, one.reason) for one in aside(found)] == [
        (f"urn:uuid:000{n}", "a response without an HTTP header") for n in (1, 2)
    ]
    assert rules(found) == {"empty": 1}
    assert len(kept(found)) == 2  # two records of one id are two records
    (one,) = kept(records(write(tmp_path, "b.warc", page(1, WARC_Record_ID=""))))
    assert one.origin.key == "offset 0"


@given(st.lists(st.tuples(st.integers(0, 5000), st.binary(max_size=5)), max_size=6), st.booleans(), st.integers(0, 3))
@settings(deadline=None, max_examples=120)
def test_no_mutation_of_a_file_raises_or_loses_a_record_unsaid(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, bytes]], compressed: bool, cut: int
) -> None:
    pages = [page(n, html(n, PROSE * 2)) for n in range(4)]
    data = bytearray(zipped(*pages) if compressed else b"".join(pages))
    for at, put in changes:
        at %= len(data)
        data[at : at + len(put)] = put
    data = data[: len(data) - cut]
    file = write(tmp_path_factory.mktemp("mutated"), "a.warc", bytes(data))
    found = records(file)
    assert found == records(file)
    for one in found:
        assert isinstance(one, Dropped | SetAside) or one.text
    if compressed and len(kept(found)) < 4:
        assert len(found) > len(kept(found))


def test_files_of_object_stores_are_read_like_local_ones(tmp_path: Path) -> None:
    data = zipped(*(page(n) for n in range(6)))
    storage.write("memory://crawl/a.warc.gz", data)
    local = records(write(tmp_path, "a.warc.gz", data), task_size=300)
    assert records("memory://crawl/*.warc.gz", task_size=300) == local


@pytest.mark.prove
@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process is read as Linux tells it")
def test_a_record_of_300_mb_and_a_line_of_200_mb_cost_bounded_memory(
    tmp_path: Path, proved: Callable[[str], None]
) -> None:
    body = b"<p>" + b"word " * 60_000_000
    line = http(b"<html><body><p>" + b"x" * 200_000_000)
    tags = page(5, "<p>x" * 290_000)
    file = write(tmp_path, "a.warc.gz", zipped(record(1, http(body)), page(2), record(3, line), page(4), tags))
    plain = write(tmp_path, "b.warc", b"".join([record(1, http(body)), page(2)]))
    code = (
        "import re, sys; from made_web import records, kept, aside\n"
        "found = records(*sys.argv[1:])\n"
        "peak = re.search(r'VmHWM:\\s*(\\d+)', open('/proc/self/status').read())[1]\n"
        "print(len(kept(found)), len(aside(found)), int(peak) // 1024)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(file), str(plain)],
        capture_output=True, text=True, check=True, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    pages, lost, peak = map(int, done.stdout.split())
    assert (pages, lost) == (4, 3)
    proved(f"records of 300 MB: {peak} MB at most")
    assert peak < 500


@pytest.mark.prove
def test_a_real_file_gives_the_same_pages_at_any_cut(samples: Path) -> None:
    file = samples / "commoncrawl" / "CC-REAL-dev-00002.warc.gz"
    whole = kept(records(file))
    for task_size in (20_000, 333_333, 2_000_000):
        assert kept(records(file, task_size=task_size)) == whole
    cuts = warc.borders(file, 20_000)
    assert sum(b - a for a, b in pairwise(cuts)) == file.stat().st_size
