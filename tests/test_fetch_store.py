"""Dumps that go straight to an object store: what stands there is what was published, and nothing half."""

from __future__ import annotations

import hashlib
import json
import random
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

import fetch_server as fakes
import object_store
import puna
import tiny
from fetch_server import Server
from made_fetch import DATA, HERE, KILLED, SHA1, SOURCES, Waits, get
from made_fetch import clock as clock
from made_fetch import server as server
from made_fetch import written as written
from object_store import ObjectStore
from puna import fetch, recipe, remote, storage, workflow
from puna.data.sources.inputs import locate
from puna.errors import InputError, Interrupted, PunaError
from puna.fetch import Options, download
from puna.fetch.client import Client, Gate
from puna.fetch.download import Door, Wrong
from puna.fetch.file import File

SITE = "/download/stackexchange/ai.stackexchange.com.7z"


@pytest.fixture(scope="module")
def serving() -> Iterator[ObjectStore]:
    pytest.importorskip("moto", reason="the object store of the tests needs moto[server]")
    with object_store.serving() as found:
        yield found


@pytest.fixture
def store(serving: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    for name, value in serving.environment.items():
        monkeypatch.setenv(name, value)
    return serving


@pytest.fixture
def to(store: ObjectStore, request: pytest.FixtureRequest) -> tuple[str, ...]:
    """An override by which dumps go to a folder of the store, named as the test."""
    return (f'fetch.to="{store.url(request.node.name)}"',)


def _sent(server: Server, clock: Waits, target: str, path: str = "/a.bin", **told: object) -> None:
    file = File(Path(path).name, server.address + path, **told)  # type: ignore[arg-type]
    door = Door(Client("", ()), Gate(clock, 2, 0.0), clock)
    download.download(file, storage.place(target), door, lambda count: None, lambda fetched: None)


def test_every_place_is_fetched_to_a_store_where_its_source_reads(
    server: Server, written: Path, store: ObjectStore, to: tuple[str, ...], request: pytest.FixtureRequest
) -> None:
    said = get(written, overrides=to)
    assert "11 files, 10 of them fetched now" in said
    assert "5 of these were compared with published checksums" in said
    name = request.node.name
    published = {Path(path).name: data for path, data in server.files.items() if "/raw/" not in path}
    published["pluggy-1.5.0.tar.gz"] = server.files["/pytest-dev/pluggy/tar.gz/1.5.0"]
    accounts = {f"{source}.fetch.jsonl" for source in SOURCES}
    assert set(store.listing(name)) == HERE | accounts
    for each in HERE:
        assert store.read(f"{name}/{each}") == published[Path(each).name]
    assert store.unfinished(name) == []
    loaded = recipe.load(written, to)
    for source in SOURCES:
        read = {str(entry.location) for entry in locate(source, loaded.sources[source])}
        assert read == {store.url(f"{name}/{each}") for each in HERE if each.startswith(f"{source}/")}
    before, asked = store.listing(name), len(server.asked)
    assert "11 files, 0 of them fetched now" in get(written, overrides=to)
    assert len(server.asked) == asked
    storage.remove(store.url(f"{name}/books/pg1.txt"))
    storage.write(store.url(f"{name}/books/pg5.txt"), b"x" * len(published["pg5.txt"]))
    assert "2 of them fetched now" in get(written, overrides=to, verify=True)
    found = store.listing(name)
    assert found == {**before, "books.fetch.jsonl": found["books.fetch.jsonl"]}


def _streams(end: int) -> fakes.Fault:
    """Sends what was asked for up to byte `end`, without a copy of it in memory."""

    def fault(request: fakes.Request, data: bytes) -> None:
        first = int(request.headers.get("Range", "bytes=0-")[6:-1])
        told = {"ETag": '"1"', "Content-Length": str(len(data) - first)}
        told |= {"Content-Range": f"bytes {first}-{len(data) - 1}/{len(data)}"} if first else {}
        request.head(206 if first else 200, told)
        for at in range(first, end, 1 << 16):
            request.wfile.write(data[at : at + (1 << 16)])

    return fault


def test_a_large_file_goes_there_in_parts_as_it_comes_and_memory_holds_few_of_them(
    server: Server, clock: Waits, store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "PART", 5 << 20)
    data = random.Random(2).randbytes(32 << 20)
    server.files["/large.bin"] = data
    server.faults["/large.bin"] += [_streams(7 << 20), _streams(16 << 20), _streams(32 << 20)]
    sums = {"size": len(data), "checksum": f"sha1:{hashlib.sha1(data).hexdigest()}"}
    storage.write(store.url("parts/warm"), b"")
    tracemalloc.start()
    _sent(server, clock, store.url("parts/large.bin"), "/large.bin", **sums)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert store.listing("parts")["large.bin"].endswith("-7")  # the ETag of an upload of seven parts
    assert hashlib.sha1(store.read("parts/large.bin")).hexdigest() == hashlib.sha1(data).hexdigest()
    assert server.ranges("/large.bin") == ["", f"bytes={7 << 20}-", f"bytes={16 << 20}-"]
    assert peak < 4 * remote.PART < len(data)


def test_parts_are_as_large_as_the_number_of_parts_asks() -> None:
    assert remote.MOST_PARTS * remote.PART > 70e9
    made: list[int] = []

    class Files:
        path, protocol = "a", "s3"

        @property
        def fs(self) -> Files:
            return self

        def open(self, path: str, mode: str, *, block_size: int, autocommit: bool) -> None:
            made.append(block_size)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(remote, "place", lambda location: Files())
        for size in (None, 10**9, 10**12):
            remote.Growing("s3://bucket/a", size)
    assert made == [remote.PART, remote.PART, made[2]]
    assert 10**12 / made[2] < remote.MOST_PARTS


def test_what_is_wrong_is_no_object_and_leaves_no_parts(server: Server, clock: Waits, store: ObjectStore) -> None:
    with pytest.raises(Wrong, match=r"its md5 is \w+ where 0+ is published; it was not kept"):
        _sent(server, clock, store.url("wrong/a.bin"), checksum=f"md5:{'0' * 32}")
    server.files["/a.7z"] = b"<html>Please log in to this network.</html>"
    with pytest.raises(Wrong, match=r"does not begin as a \.7z file does; it was not kept"):
        _sent(server, clock, store.url("wrong/a.7z"), "/a.7z")
    server.faults["/a.bin"] += [fakes.drops(40_000), fakes.ignores_if_range('"other"')]
    _sent(server, clock, store.url("wrong/b.bin"))  # begun anew, since the rest belongs to another file
    assert store.read("wrong/b.bin") == DATA
    assert list(store.listing("wrong")) == ["b.bin"]
    assert store.unfinished("wrong") == []


def test_a_store_whose_client_knows_no_parts_has_a_whole_file_or_none(server: Server, clock: Waits) -> None:
    with pytest.raises(Wrong, match="it was not kept"):
        _sent(server, clock, "memory://fetched/wrong.bin", checksum=f"md5:{'0' * 32}")
    assert not storage.exists("memory://fetched/wrong.bin")
    _sent(server, clock, "memory://fetched/a.bin", checksum=SHA1)
    assert storage.read("memory://fetched/a.bin") == DATA


def test_a_file_without_a_byte_is_an_object_without_one(server: Server, clock: Waits, store: ObjectStore) -> None:
    server.files["/empty.txt"] = b""
    _sent(server, clock, store.url("empty/empty.txt"), "/empty.txt")
    assert store.read("empty/empty.txt") == b""
    assert store.unfinished("empty") == []


def test_a_part_of_a_file_is_cut_before_it_is_sent(
    server: Server, clock: Waits, store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    server.files["/a.warc.gz"] = pages = fakes.warc(30)
    _sent(server, clock, store.url("cut/a.warc.gz"), "/a.warc.gz", limit=len(pages) // 2)
    part = store.read("cut/a.warc.gz")
    assert 0 < len(part) <= len(pages) // 2
    assert pages.startswith(part)
    with pytest.raises(InputError, match="holds no whole record in its first 20 bytes"):
        _sent(server, clock, store.url("cut/b.warc.gz"), "/a.warc.gz", limit=20)
    assert list(store.listing("cut")) == ["a.warc.gz"]
    assert list(tmp_path.iterdir()) == []


def test_a_stopped_fetch_leaves_no_parts_and_begins_that_file_again(
    server: Server, clock: Waits, store: ObjectStore
) -> None:
    def stops(request: fakes.Request, data: bytes) -> None:
        fakes.drops(60_000)(request, data)
        clock.stopped.set()

    server.faults["/a.bin"].append(stops)
    with pytest.raises(Interrupted, match="the same command goes on"):
        _sent(server, clock, store.url("stopped/a.bin"), checksum=SHA1)
    clock.stopped.clear()
    assert store.unfinished("stopped") == []
    _sent(server, clock, store.url("stopped/a.bin"), checksum=SHA1)
    assert store.read("stopped/a.bin") == DATA
    assert server.ranges("/a.bin") == ["", ""]


@pytest.mark.prove
def test_a_run_reads_the_folder_of_a_store_as_it_reads_one_of_a_disk(
    server: Server, store: ObjectStore, tmp_path: Path
) -> None:
    tiny.write(tmp_path / "made", dumps=1, pages=30)
    (made,) = (tmp_path / "made/dumps").iterdir()
    name = "enwiki-20261101-pages-articles-multistream.xml.bz2"
    server.files[f"/enwiki/20261101/{name}"] = data = made.read_bytes()
    files = {name: {"size": len(data), "sha1": hashlib.sha1(data).hexdigest()}}
    status = {"jobs": {"articlesmultistreamdump": {"status": "done", "files": files}}}
    server.files["/enwiki/20261101/dumpstatus.json"] = json.dumps(status).encode()
    place = f'[fetch.wikipedia]\nbase = "{server.address}"\nlanguages = ["en"]\ndate = 20261101\n'
    found = []
    for to in (str(tmp_path / "dumps"), store.url("read")):
        (tmp_path / "mine.toml").write_text(tiny.RECIPE.replace('inputs = ["dumps/*.xml.bz2"]\n', "") + place)
        override = f'fetch.to="{to}"'
        assert "1 of them fetched now" in get(tmp_path / "mine.toml", overrides=(override,))
        run = tmp_path / f"run-{len(found)}"
        workflow.work(str(tmp_path / "mine.toml"), [override], str(run), "documents", workflow.Options(workers=1))
        found.append(list(puna.documents(run, "wikipedia")))
    assert len(found[0]) > 10
    assert found[0] == found[1]
    with pytest.raises(InputError, match="holds no file that books is read from"):
        list(locate("books", recipe.load("web", [f'sources.books.inputs=["{store.url("read")}"]']).sources["books"]))


@pytest.mark.prove
def test_killed_in_the_middle_of_a_file_the_same_command_begins_it_again_and_no_finished_one(
    server: Server, written: Path, store: ObjectStore, to: tuple[str, ...], request: pytest.FixtureRequest
) -> None:
    name, first = request.node.name, SITE.rpartition("/")[2]
    other = "physics.stackexchange.com.7z"
    data = b"7z\xbc\xaf" + random.Random(3).randbytes(12 << 20)
    server.files[f"/download/stackexchange/{other}"] = data
    known = f'<file name="{first}"><size>{len(server.files[SITE])}</size></file>'
    known += f'<file name="{other}"><size>{len(data)}</size></file>'
    server.files["/download/stackexchange/stackexchange_files.xml"] = f"<files>{known}</files>".encode()
    sites = 'fetch.stackexchange.sites=["ai.stackexchange.com", "physics.stackexchange.com"]'
    server.faults[f"/download/stackexchange/{other}"].append(fakes.slowly(held := threading.Event()))
    code = KILLED.replace("from puna.fetch import partial", "from puna import remote")
    code = code.replace("partial.MARK_EVERY = 20_000", "remote.PART = 5 << 20")
    words = [str(written), "stackexchange", "--yes", *to, sites, "fetch.stackexchange.connections=1"]
    with subprocess.Popen([sys.executable, "-c", code, *words], stdout=subprocess.DEVNULL) as process:
        for _ in range(3000):
            if store.unfinished(name) == [f"stackexchange/{other}"]:
                break
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    held.set()
    assert store.unfinished(name) == [f"stackexchange/{other}"]
    assert set(store.listing(name)) == {
        "stackexchange.fetch.jsonl", "stackexchange/run.lock", f"stackexchange/{first}"
    }  # fmt: skip
    again = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True)
    assert "1 of them fetched now" in again.stdout
    assert "is dead; going on where it was" in again.stderr
    assert store.read(f"{name}/stackexchange/{other}") == data
    assert server.ranges(f"/download/stackexchange/{other}") == ["", ""]
    assert server.count(SITE) == 1
    assert store.unfinished(name) == []
    assert not any("lock" in each for each in store.listing(name))


def test_a_folder_there_that_another_machine_fetches_into_is_left_alone(
    server: Server, written: Path, store: ObjectStore, to: tuple[str, ...], request: pytest.FixtureRequest
) -> None:
    name = request.node.name
    told = {"format": 1, "host": "elsewhere", "pid": 1, "born": "x", "namespace": "y", "flock": False}
    storage.write(store.url(f"{name}/books/run.lock"), json.dumps(told).encode())
    growing = remote.Growing(store.url(f"{name}/books/pg1.txt"))
    growing.write(b"of another machine")
    growing.send()
    with pytest.raises(InputError, match=r"held by process 1 on elsewhere; wait for it; .* remove s3://.*/run\.lock"):
        get(written, "books", overrides=to)
    assert store.unfinished(name) == ["books/pg1.txt"]
    growing.abandon()


def test_a_store_that_does_not_serve_is_one_line(
    server: Server, written: Path, store: ObjectStore, to: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = fetch.plan(recipe.load(written, to), ["books"], Options(clock=Waits()))

    def fail(*arguments: object) -> None:
        raise OSError("the network is down")

    monkeypatch.setattr(remote.Growing, "complete", lambda growing: _answered(growing, fail))
    with pytest.raises(PunaError, match=r"does not serve \(the network is down\)"):
        fetch.fetch(plan)


def _answered(growing: remote.Growing, work: object) -> None:
    assert callable(work)
    with remote.answers(growing.location, writing=True):
        work()
