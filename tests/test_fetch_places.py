"""The seven places: what is asked of each, and what is there when `fetch` ends, or was ended."""

from __future__ import annotations

import gzip
import hashlib
import itertools
import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import fetch_server as fakes
import object_store
import puna
import tiny
from fetch_server import Server
from made_fetch import HERE, KILLED, SOURCES, WARC, Waits, get, there
from made_fetch import clock as clock
from made_fetch import one as one
from made_fetch import server as server
from made_fetch import written as written
from puna import fetch, recipe, storage, workflow
from puna.data.sources.inputs import DUMPS, locate
from puna.errors import InputError, PunaError
from puna.fetch import Options, partial
from puna.fetch.account import Account, Done
from puna.fetch.file import File
from puna.recipe_fetch import Fetch
from puna.recipe_sources import Sources


def test_every_place_is_fetched_to_where_its_source_reads(server: Server, written: Path, tmp_path: Path) -> None:
    said = get(written)
    assert "11 files, 10 of them fetched now" in said
    assert "5 of these were compared with published checksums" in said
    assert "1 that a catalogue names are not at their place" in said
    found = there(tmp_path / "dumps")
    assert set(found) == HERE
    published = {Path(path).name: data for path, data in server.files.items() if "/raw/" not in path}
    for name, data in found.items():
        assert data == published.get(Path(name).name, server.files["/pytest-dev/pluggy/tar.gz/1.5.0"])
    loaded = recipe.load(written)
    for name in SOURCES:
        places_read = (Path(entry.location) for entry in locate(name, loaded.sources[name]))
        read = {place.relative_to(tmp_path / "dumps").as_posix() for place in places_read}
        assert read == {each for each in found if each.startswith(f"{name}/")}


def test_what_was_fetched_is_what_a_run_of_the_same_recipe_reads(server: Server, tmp_path: Path) -> None:
    tiny.write(tmp_path / "made", dumps=1, pages=30)
    (made,) = (tmp_path / "made/dumps").iterdir()
    name = "enwiki-20261101-pages-articles-multistream.xml.bz2"
    server.files[f"/enwiki/20261101/{name}"] = data = made.read_bytes()
    files = {name: {"size": len(data), "sha1": hashlib.sha1(data).hexdigest()}}
    status = {"jobs": {"articlesmultistreamdump": {"status": "done", "files": files}}}
    server.files["/enwiki/20261101/dumpstatus.json"] = json.dumps(status).encode()
    place = f'[fetch]\nto = "{tmp_path}/dumps"\n[fetch.wikipedia]\nbase = "{server.address}"\nlanguages = ["en"]\n'
    written = tmp_path / "mine.toml"
    written.write_text(tiny.RECIPE.replace('inputs = ["dumps/*.xml.bz2"]\n', "") + place + "date = 20261101\n")
    assert "1 of them fetched now" in get(written)
    workflow.work(str(written), [], str(tmp_path / "run"), "documents", workflow.Options(workers=1))
    documents = list(puna.documents(tmp_path / "run", "wikipedia"))
    assert len(documents) > 10
    assert {document.origin.file for document in documents} == {name}


def test_what_is_there_is_not_asked_for_again_and_nobody_is_asked_at_all(
    server: Server, written: Path, tmp_path: Path
) -> None:
    get(written)
    asked, before = len(server.asked), there(tmp_path / "dumps")
    server.files.clear()
    assert "11 files, 0 of them fetched now" in get(written)
    assert len(server.asked) == asked
    assert there(tmp_path / "dumps") == before


def test_a_file_that_went_or_was_changed_is_fetched_again(server: Server, written: Path, tmp_path: Path) -> None:
    get(written, "books", "c4")
    (tmp_path / "dumps/books/pg1.txt").unlink()
    book = tmp_path / "dumps/books/pg5.txt"
    book.write_bytes(b"x" * book.stat().st_size)
    assert "1 of them fetched now" in get(written, "books")
    assert book.read_bytes().startswith(b"x")  # its size is right
    assert "1 of them fetched now" in get(written, "books", verify=True)
    assert book.read_bytes() == server.files["/cache/epub/5/pg5.txt"]


def test_a_plan_holds_until_the_recipe_asks_for_something_else(server: Server, written: Path, tmp_path: Path) -> None:
    server.faults["/cache/epub/5/pg5.txt"] += [fakes.refuses(403)]
    with pytest.raises(PunaError, match=r"pg5\.txt: is refused \(status 403\)"):
        get(written, "books")
    server.files["/cache/epub/feeds/pg_catalog.csv"] = b"Text#,Type,Language\n3,Text,de\n"
    get(written, "books")
    assert sorted(path.name for path in (tmp_path / "dumps/books").glob("*.txt")) == ["pg1.txt", "pg5.txt"]
    assert server.count("/cache/epub/feeds/pg_catalog.csv") == 1
    get(written, "books", overrides=('fetch.books.languages=["de"]',))
    assert server.count("/cache/epub/feeds/pg_catalog.csv") == 2
    assert (tmp_path / "dumps/books/pg3.txt").exists()
    assert server.count("/cache/epub/1/pg1.txt") == 1
    said = get(written, "books", overrides=('fetch.books.languages=["de"]',))
    assert "2 files of earlier plans in" in said  # they are read too, and that is said
    get(written, "books", overrides=('fetch.books.languages=["de"]', "fetch.books.pause=1"), anew=True)
    assert server.count("/cache/epub/feeds/pg_catalog.csv") == 3
    assert server.count("/cache/epub/3/pg3.txt") == 1


def test_one_file_that_cannot_be_had_keeps_no_other_from_being_fetched(
    server: Server, written: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = "/download/stackexchange/ai.stackexchange.com.7z"
    server.files[path] = server.files[path][::-1]
    del server.files["/pytest-dev/pluggy/tar.gz/1.5.0"]
    with pytest.raises(
        PunaError, match=r"2 of 11 files could not be fetched; the first: .*; give the same command again"
    ):
        get(written)
    assert set(there(tmp_path / "dumps")) == HERE - {
        "github/pytest-dev/pluggy-1.5.0.tar.gz", "stackexchange/ai.stackexchange.com.7z"
    }  # fmt: skip
    said = capsys.readouterr().err
    assert "github: http://127.0.0.1" in said
    assert "is not there (status 404)" in said
    assert (tmp_path / "dumps/stackexchange/.wrong-ai.stackexchange.com.7z").exists()


def test_a_place_that_fails_again_and_again_is_left_for_the_next_time(server: Server, written: Path) -> None:
    for number in range(10, 20):
        path = "/cache/epub/feeds/pg_catalog.csv"
        server.files[path] += f"{number},Text,1971,Z,en,,,,\n".encode()
        server.faults[f"/cache/epub/{number}/pg{number}.txt"] += [fakes.refuses(403)] * 9
    with pytest.raises(PunaError, match="10 of 13 files could not be fetched"):
        get(written, "books")
    assert sum("/cache/epub/1" in path and "pg1" in path for path, _ in server.asked) == 1 + 3


def test_a_mirror_without_checksums_is_checked_by_the_list_beside_its_files(server: Server, written: Path) -> None:
    path, name = "/simplewiki/20261101/dumpstatus.json", "simplewiki-20261101-pages-articles-multistream1.xml-p1p5.bz2"
    status = json.loads(server.files[path])
    for told in status["jobs"]["articlesmultistreamdump"]["files"].values():
        told.pop("sha1", None)
        told.pop("md5", None)
    server.files[path] = json.dumps(status).encode()
    dumps = recipe.load(written, ["fetch.wikipedia.files=1"])
    (plain,) = fetch.plan(dumps, ["wikipedia"], Options(clock=Waits())).sources
    assert [file.checksum for file in plain.files] == [""]
    server.files["/simplewiki/20261101/simplewiki-20261101-sha1sums.txt"] = f"{'a' * 40}  {name}\n".encode()
    (listed,) = fetch.plan(dumps, ["wikipedia"], Options(clock=Waits())).sources
    assert [file.checksum for file in listed.files] == [f"sha1:{'a' * 40}"]


def test_files_of_one_place_are_fetched_at_the_same_time(server: Server, written: Path) -> None:
    together = threading.Barrier(2)

    def waits(request: fakes.Request, data: bytes) -> None:
        together.wait(20)
        request.file(data)

    for number in range(2):
        name = WARC.format(number).rpartition("/")[2]
        path = f"/crawl-data/CC-MAIN-2019-09/segments/{fakes.SEGMENTS[0]}/warc/{name}"
        server.faults[path].append(waits)
    get(written, "commoncrawl")
    assert server.most == 2


def test_no_place_is_asked_by_more_connections_than_the_recipe_says(server: Server, written: Path) -> None:
    overrides = tuple(f"fetch.{name}.connections=4" for name in SOURCES if name != "books")
    get(written, overrides=overrides)  # all places are one host here, and books asks for one connection
    assert server.most == 1


@pytest.mark.parametrize("kind", ["warc", "wet"])
def test_a_crawl_is_cut_as_the_recipe_says(kind: str, server: Server, written: Path, tmp_path: Path) -> None:
    path = "/crawl-data/CC-MAIN-2019-09/segments/1550247479627.17/warc/"
    wanted = sorted(name for name in server.files if name.startswith(path))
    overrides = [f'fetch.commoncrawl.segments=["{path.split("/")[4]}"]', "fetch.commoncrawl.skip=1"]
    overrides += ["fetch.commoncrawl.files=5", "fetch.commoncrawl.bytes=1500"]
    if kind == "wet":
        names = [name.replace("/warc/", "/wet/").replace(".warc.gz", ".warc.wet.gz") for name in wanted]
        server.files["/crawl-data/CC-MAIN-2019-09/wet.paths.gz"] = gzip.compress(
            "".join(f"{n[1:]}\n" for n in names).encode()
        )
        server.files |= {new: server.files[old] for old, new in zip(wanted, names, strict=True)}
        wanted = names
        overrides.append("fetch.commoncrawl.kind=wet")
    get(written, "commoncrawl", overrides=tuple(overrides))
    ((name, data),) = there(tmp_path / "dumps").items()
    assert name.endswith(Path(wanted[1]).name)
    assert 1000 < len(data) <= 1500
    assert server.ranges(wanted[1]) == ["bytes=0-1499"]
    assert gzip.decompress(data).count(b"WARC/1.0") == len(data) // (len(server.files[wanted[1]]) // 30)


def test_a_bucket_that_bills_is_asked_nothing_unless_that_was_said(
    written: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("puna.fetch.planned.Bucket", lambda: pytest.fail("it was asked"))
    with pytest.raises(
        InputError, match=r"s3://arxiv bills the one who asks, about 0\.09 dollars for a GB.*; give --pay"
    ):
        fetch.plan(recipe.load(written, ["fetch.arxiv.base=s3://arxiv"]), [], Options())


def test_a_bucket_is_fetched_with_its_cost_said_first_and_gone_on_with(
    server: Server, written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    papers = server.files["/arxiv/src/arXiv_src_2001_001.tar"]
    monkeypatch.setattr("puna.fetch.bucket.BLOCK", 10_000)
    with object_store.serving() as store:
        for name, value in store.environment.items():
            monkeypatch.setenv(name, value)
        storage.write(store.url("src/arXiv_src_2001_001.tar"), papers)
        manifest = server.files["/arxiv/src/arXiv_src_manifest.xml"]
        storage.write(store.url("src/arXiv_src_manifest.xml"), manifest)
        bucket = ("fetch.arxiv.base=s3://bucket", "fetch.arxiv.price=1e6")
        plan = fetch.plan(recipe.load(written, bucket), ["arxiv"], Options(pay=True, clock=Waits()))
        assert f"costs about {len(papers) / 1e3:.2f} dollars" in plan.as_text()
        fetch.fetch(plan)
        assert (tmp_path / "dumps/arxiv/arXiv_src_2001_001.tar").read_bytes() == papers
        get(written, "arxiv", overrides=(*bucket, "fetch.arxiv.bytes=20000"), pay=True)
        part = (tmp_path / "dumps/arxiv/arXiv_src_2001_001.tar").read_bytes()
        assert 15_000 < len(part) <= 20_000
        assert papers.startswith(part)
        with pytest.raises(PunaError, match="is not there"):
            get(written, "arxiv", overrides=("fetch.arxiv.base=s3://bucket/none",), pay=True)


def test_a_disk_without_room_is_told_before_anything_is_fetched(
    server: Server, written: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("puna.space.free", lambda folder: 1000)
    with pytest.raises(PunaError, match=r"are to be fetched and 1\.0 kB are free"):
        get(written)
    assert not [path for path, _ in server.asked if path.endswith(".tar")]


def test_a_disk_that_fills_up_ends_the_fetch_in_one_line(
    server: Server, written: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(part: object, data: bytes) -> None:
        with puna.errors.telling_full_disk("here"):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(partial.Partial, "add", full)
    with pytest.raises(PunaError, match="the disk is full"):
        get(written, "books")
    assert sum(path.endswith(".txt") for path, _ in server.asked) == 1


def test_a_damaged_account_is_named_and_a_torn_or_newer_one_is_known(written: Path, tmp_path: Path) -> None:
    get(written, "books")
    path = tmp_path / "dumps/books.fetch.jsonl"
    text = path.read_bytes()
    path.write_bytes(text[:-30])
    assert len(Account(tmp_path / "dumps", "books").done) == 2
    assert "1 that a catalogue names" in get(written, "books")
    path.write_bytes(text.replace(b'"format": 1', b'"format": 2'))
    with pytest.raises(InputError, match="was written by a newer Puna"):
        get(written, "books")
    for wrong in (b"{}\n", b"[]\n", text + b"x\n", text + b'{"done": {}}\n'):
        path.write_bytes(wrong)
        with pytest.raises(InputError, match=r"books\.fetch\.jsonl, line \d+"):
            get(written, "books")
    path.write_bytes(text.replace(b"pg1.txt", b"../x.txt"))
    with pytest.raises(InputError, match=r"books\.fetch\.jsonl: names a file"):
        get(written, "books")


def test_a_fetch_that_was_killed_goes_on_with_the_same_command(server: Server, written: Path, tmp_path: Path) -> None:
    path = "/download/stackexchange/ai.stackexchange.com.7z"
    data = server.files[path] * 40
    server.files[path] = data
    sums = f'<files><file name="ai.stackexchange.com.7z"><size>{len(data)}</size></file></files>'
    server.files["/download/stackexchange/stackexchange_files.xml"] = sums.encode()
    server.faults[path].append(fakes.slowly(held := threading.Event()))
    command = [sys.executable, "-c", KILLED, str(written), "stackexchange", "--yes"]
    mark = tmp_path / "dumps/stackexchange/.fetch-ai.stackexchange.com.7z.json"
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        for _ in range(1000):
            if mark.exists() and json.loads(mark.read_bytes())["synced"] > 0:
                break
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    held.set()
    assert there(tmp_path / "dumps") == {}
    synced = json.loads(mark.read_bytes())["synced"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "1 of them fetched now" in done.stdout
    assert there(tmp_path / "dumps") == {"stackexchange/ai.stackexchange.com.7z": data}
    assert server.ranges(path) == ["", f"bytes={synced}-"]


DYING = """
import os, sys
from puna import cli, storage
left = int(sys.argv[1])
def border(event, location):
    global left
    left -= 1
    if left < 0:
        os._exit(9)
storage.border = border
sys.argv = ["puna", "fetch", *sys.argv[2:]]
cli.main()
"""


@pytest.mark.prove
def test_killed_at_any_border_all_seven_places_are_gone_on_with_and_nothing_finished_is_asked_again(
    server: Server, written: Path, tmp_path: Path, proved: Callable[[str], None]
) -> None:
    to, kills = tmp_path / "dumps", 0
    get(written)
    undisturbed = there(to)
    for lives in itertools.count(1, 17):
        shutil.rmtree(to)
        command = [sys.executable, "-c", DYING, str(lives), str(written), "--yes"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            break
        assert done.returncode == 9, done.stderr
        kills += 1
        assert there(to).items() <= undisturbed.items()
        finished = {each.file.url for name in SOURCES for each in _done(to, name)}
        server.asked.clear()
        get(written)
        assert there(to) == undisturbed
        assert not finished & {server.address + path for path, _ in server.asked}
        left = [path.name for path in to.rglob(".*") if path.is_file()]
        assert set(left) <= {".fetch-lock"}
    proved(f"puna fetch of all seven places killed {kills} times")


def _done(to: Path, name: str) -> list[Done]:
    """What the account says is done and stands there."""
    account = Account(to, name)
    return [done for done in account.done.values() if account.is_done(done.file)]


def test_the_recipe_web_asks_for_all_seven_and_reads_what_it_asks_for() -> None:
    web = recipe.load("web")
    assert web.fetch is not None
    assert [name for name, _ in web.fetch.items()] == SOURCES == list(Sources.model_fields)
    assert list(Fetch.model_fields) == ["to", "contact", *SOURCES]
    for name, source in web.sources.items():
        assert source.inputs == [f"dumps/{name}"]
    without = recipe.load("web", ["sources.arxiv=none"])
    assert "arxiv" not in without.sources
    moved = recipe.load("web", ["fetch.to=/big/dumps/", 'sources.c4.inputs=["mine"]'])
    assert moved.sources["books"].inputs == ["/big/dumps/books"]
    assert moved.sources["c4"].inputs == ["mine"]
    assert {row.key: row.origin for row in recipe.explain(moved)}["sources.books.inputs"] == "recipes/web.toml"
    assert web.fetch.commoncrawl is not None
    assert len(web.fetch.commoncrawl.snapshots) == 5
    assert all("2017" <= name[8:12] <= "2020" for name in web.fetch.commoncrawl.snapshots)
    lines = {name: place.model_dump() for name, place in web.fetch.items()}
    assert all(each["base"].startswith("https://") for name, each in lines.items() if name != "arxiv")


def test_every_place_names_dumps_that_its_source_reads() -> None:
    for name in SOURCES:
        assert any(DUMPS[name].search(each) for each in HERE if each.startswith(f"{name}/"))
    assert File("a", "b", size=5, limit=3).expected == 3
