"""Catalogues are read with distrust: names, sizes and lists of places that could be anybody's."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fetch_server as fakes
from fetch_server import Server
from made_fetch import Waits, get, there
from made_fetch import clock as clock
from made_fetch import one as one
from made_fetch import server as server
from made_fetch import written as written
from puna import fetch, recipe
from puna.errors import InputError, PunaError
from puna.fetch import Options, catalogues, places
from puna.fetch.border import border
from puna.fetch.file import checked_name


def test_a_dump_of_many_streams_is_cut_where_one_begins() -> None:
    streams = [bz2.compress(f"<page>{number}</page>".encode() * 400) for number in range(30)]
    data = b"".join(streams)
    for length in (len(data), len(data) // 2, len(streams[0]) + len(streams[1]) + 12, len(streams[0]) + 5):
        end = border(io.BytesIO(data[:length]), "a.xml.bz2", length)
        assert end < length
        assert b"".join(map(bz2.decompress, streams)).startswith(bz2.decompress(data[:end]))
        assert end in {sum(map(len, streams[:count])) for count in range(31)}
    assert border(io.BytesIO(streams[0]), "a.xml.bz2", len(streams[0])) == 0
    with pytest.raises(ValueError, match="is no bz2"):
        border(io.BytesIO(b"PK"), "a.xml.bz2", 2)


LIES = [
    "../../etc/passwd",
    "/etc/passwd",
    "a/../../b",
    "..",
    ".",
    "",
    ".hidden",
    "a//b",
    "a\\b",
    "a\0b",
    "a\nb",
    "x" * 300,
]


@pytest.mark.parametrize("name", LIES, ids=repr)
def test_a_name_that_could_leave_its_folder_is_refused(
    name: str, server: Server, written: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="which is no plain name"):
        checked_name(name, "catalogue")
    path = f"crawl-data/CC-MAIN-2019-09/segments/1.2/warc/{name}.warc.gz"
    server.files["/crawl-data/CC-MAIN-2019-09/warc.paths.gz"] = gzip.compress(path.encode("utf-8", "replace") + b"\n")
    if name not in (".", "..", ""):
        with pytest.raises(InputError, match=r"warc\.paths\.gz: names "):
            get(written, "commoncrawl")
    status = json.loads(server.files["/simplewiki/20261101/dumpstatus.json"])
    status["jobs"]["articlesmultistreamdump"]["files"][name] = {"size": 1}
    server.files["/simplewiki/20261101/dumpstatus.json"] = json.dumps(status).encode()
    with pytest.raises(InputError, match=r"dumpstatus\.json: names a file"):
        get(written, "wikipedia")
    if "\0" not in name:
        manifest = f"<arXivSRC><file><filename>{name}</filename></file></arXivSRC>".encode()
        with pytest.raises(InputError, match="which is no tar of sources"):
            list(catalogues.papers(manifest, "m"))
    assert not (tmp_path / "dumps").exists()


@given(st.text(max_size=30) | st.lists(st.sampled_from(["..", ".", "", "a", "~", "a.b"])).map("/".join))
@settings(deadline=None, max_examples=300)
def test_a_name_that_is_taken_lies_below_the_folder(name: str) -> None:
    taken = False
    with suppress(InputError):
        checked_name(name, "catalogue")
        taken = True
    if not taken:
        return
    path = Path("/dumps/c4", name)
    assert os.path.normpath(path) == str(path)
    assert path.is_relative_to("/dumps/c4")


READS: dict[str, Callable[[bytes], object]] = {
    "paths": lambda data: list(catalogues.crawl_paths(catalogues.unpacked(data, "c"), "c", "CC-MAIN-2019-09", "warc")),
    "dump": lambda data: catalogues.dump_files(data, "c", "simplewiki", "20261101"),
    "date": lambda data: catalogues.newest_date(data, "c", "simplewiki"),
    "sums": lambda data: catalogues.sums(data, "c"),
    "books": lambda data: list(catalogues.books(data, "c", ["en"])),
    "papers": lambda data: list(catalogues.papers(data, "c")),
    "archives": lambda data: catalogues.archives(data, "c"),
    "pointer": lambda data: catalogues.pointer(data, "c"),
}


def _refusal(read: Callable[[bytes], object], data: bytes) -> str:
    try:
        read(data)
    except InputError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("kind", READS)
@given(data=st.binary(max_size=200))
@settings(deadline=None, max_examples=60)
def test_any_bytes_are_a_catalogue_or_refused_in_one_line(kind: str, data: bytes) -> None:
    for each in (data, gzip.compress(data, mtime=0), b"Text#,Type,Language\n" + data):
        said = _refusal(READS[kind], each)
        assert not said or said.startswith("c: ")
        assert "\n" not in said


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("paths", gzip.compress(b"\0" * 70_000_000, 1, mtime=0)),
        ("paths", gzip.compress(b"crawl-data/CC-MAIN-2013-20/segments/1.2/warc/a.warc.gz\n", mtime=0)),
        ("paths", gzip.compress(b"a" * 100, mtime=0)[:-9]),
        ("archives", b'<!DOCTYPE a [<!ENTITY b "cccc"><!ENTITY d "&b;&b;">]><files><file name="&d;.7z"/></files>'),
        ("archives", b'<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><files><file name="&b;.7z"/></files>'),
        ("archives", b'<files><file name="x.7z"><size>-5</size></file></files>'),
        ("archives", b'<files><file name="x.7z"><sha1>zz</sha1></file></files>'),
        ("archives", b'<files><file name="../x.7z"/></files>'),
        ("dump", b'{"jobs": {"articlesmultistreamdump": {"status": "in-progress", "files": {}}}}'),
        ("dump", b'{"jobs": []}'),
        ("dump", b"[" * 100_000),
        ("dump", b'{"jobs": {"articlesmultistreamdump": {"status": "done", "files": {"a.txt": {}}}}}'),
        ("books", b"Text#,Type,Language\n../1,Text,en\n"),
        ("books", b"a,b\n"),
        ("pointer", b"<html>"),
        ("pointer", b"version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 5\n"),
        ("date", b"abc  otherwiki-20261101-pages-articles-multistream.xml.bz2\n"),
    ],
)  # fmt: skip
def test_a_catalogue_that_lies_is_refused_by_its_address(kind: str, data: bytes) -> None:
    with pytest.raises(InputError, match=r"^c: "):
        READS[kind](data)


def test_a_catalogue_without_end_is_refused(server: Server, written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("puna.fetch.planned.LARGEST", 1000)
    server.files["/cache/epub/feeds/pg_catalog.csv"] += b" " * 2000
    with pytest.raises(InputError, match=r"pg_catalog\.csv: is larger than 1\.0 kB"):
        get(written, "books")


def test_a_catalogue_is_asked_for_with_patience(server: Server, written: Path) -> None:
    path = "/cache/epub/feeds/pg_catalog.csv"
    server.faults[path] += [fakes.busy(503, "3"), fakes.drops(20), fakes.packs]
    options = Options(clock=(clock := Waits()))
    (planned,) = fetch.plan(recipe.load(written), ["books"], options).sources
    assert [file.name for file in planned.files] == ["pg1.txt", "pg5.txt", "pg7.txt"]
    assert clock.slept == [3.0, 2.0]
    server.faults[path] += [fakes.busy(500)] * 9
    with pytest.raises(PunaError, match="is busy"):
        fetch.plan(recipe.load(written), ["books"], Options(clock=Waits(), anew=True))


def test_a_place_that_does_not_answer_keeps_no_other_from_being_fetched(
    server: Server, written: Path, tmp_path: Path
) -> None:
    server.faults["/cache/epub/feeds/pg_catalog.csv"] += [fakes.busy(500)] * 6
    with pytest.raises(PunaError, match=r"pg_catalog\.csv: is busy \(status 500\)"):
        get(written, "books", "c4")
    assert {name.split("/")[0] for name in there(tmp_path / "dumps")} == {"c4"}
    get(written, "books", "c4")
    assert {name.split("/")[0] for name in there(tmp_path / "dumps")} == {"c4", "books"}


def test_two_files_of_one_name_are_refused() -> None:
    place = recipe.load("laptop", ['fetch.github.repositories=["a/b@1", "A/b@1"]']).fetch
    assert place is not None
    assert place.github is not None
    with pytest.raises(InputError, match=r"a/b-1\.tar\.gz would be fetched twice"):
        places.files(place.github, lambda url: b"")


def test_what_is_asked_for_and_not_there_is_named(server: Server, written: Path) -> None:
    for overrides, name, what in (
        (('fetch.stackexchange.sites=["none.stackexchange.com"]',), "stackexchange", r"has no none\.stackexchange"),
        (('fetch.arxiv.months=["9912"]',), "arxiv", "nothing of 9912"),
        (("fetch.commoncrawl.skip=9",), "commoncrawl", "names nothing of what is asked for"),
        (("fetch.c4.numbers=[8]",), "c4", "there is no file 8: they are 0 to 7"),
        (("fetch.wikipedia.date=19990101",), "wikipedia", r"19990101/dumpstatus\.json: is not there"),
        (('fetch.books.languages=["tlh"]',), "books", "names nothing of what is asked for"),
    ):
        with pytest.raises(PunaError, match=what):
            get(written, name, overrides=overrides)
