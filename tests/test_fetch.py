"""One file on its way: what servers and networks do wrong, and that the bytes at the end are those published."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import http.client
import io
import itertools
import random
import tarfile
import threading
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fetch_server as fakes
from fetch_server import Server
from made_fetch import DATA, SHA1, Get, Waits
from made_fetch import clock as clock
from made_fetch import one as one
from made_fetch import server as server
from made_fetch import written as written
from puna import storage
from puna.errors import InputError, Interrupted, PunaError
from puna.fetch import client, download, partial
from puna.fetch.border import border
from puna.fetch.client import Client, Gate, Passing
from puna.fetch.download import Door, Wrong
from puna.fetch.file import File


def _ends(parts: list[bytes]) -> tuple[bytes, list[int]]:
    return b"".join(parts), [0, *itertools.accumulate(map(len, parts))]


def _members(archive: bytes) -> list[bytes]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        ends = [0, *(member.offset_data + -(-member.size // 512) * 512 for member in tar)]
    return [archive[first:end] for first, end in itertools.pairwise(ends)]


RECORDS = {
    "a.warc.gz": _ends([fakes.warc(1, seed) for seed in range(80)]),
    "a.tar": _ends(_members(fakes.tar(12))),
    "a.xml.bz2": _ends([bz2.compress(random.Random(seed).randbytes(400)) for seed in range(12)]),
}


def test_a_file_is_fetched_with_a_name_and_version_and_no_credentials(server: Server, one: Get) -> None:
    assert one(size=len(DATA), checksum=SHA1) == DATA
    (_, headers), *others = server.asked
    assert not others
    assert headers["user-agent"].startswith("puna/0.")
    assert headers["accept-encoding"] == "identity"
    assert not {"authorization", "cookie", "proxy-authorization", "range"} & headers.keys()


@pytest.mark.parametrize("told", [{}, {"size": len(DATA)}, {"size": len(DATA), "checksum": SHA1}], ids=str)
def test_a_connection_that_drops_is_gone_on_with_from_where_it_was(
    told: dict[str, object], server: Server, clock: Waits, one: Get
) -> None:
    server.faults["/a.bin"] += [fakes.drops(40_000), fakes.drops(0), fakes.drops(30_000)]
    assert one(**told) == DATA
    assert server.ranges("/a.bin") == ["", "bytes=40000-", "bytes=40000-", "bytes=70000-"]
    assert {headers.get("if-range") for _, headers in server.asked[1:]} == {f'"{hashlib.md5(DATA).hexdigest()}"'}
    assert clock.slept == [1.0, 2.0, 1.0]


def test_a_place_that_never_sends_anything_is_given_up_after_growing_waits(
    server: Server, clock: Waits, one: Get
) -> None:
    server.faults["/a.bin"] += [fakes.drops(10)] + [fakes.drops(0)] * 9
    with pytest.raises(Passing, match="ended early; give the same command again"):
        one()
    assert clock.slept == [1.0, 2.0, 4.0, 8.0, 16.0]
    assert one() == DATA  # what came is kept, and gone on with


def test_a_server_that_forgets_what_it_sent_is_not_asked_without_end(server: Server, one: Get) -> None:
    def cut(request: fakes.Request, data: bytes) -> None:
        request.head(200, {"Content-Length": str(len(data))})
        request.wfile.write(data[: 50_000 - 100 * server.count("/a.bin") % 3])

    server.faults["/a.bin"] += [cut] * 50
    with pytest.raises(Passing):
        one()
    assert server.count("/a.bin") < 20


def test_a_server_without_ranges_is_asked_for_the_whole_file(server: Server, one: Get) -> None:
    server.faults["/a.bin"] += [fakes.drops(40_000), fakes.ignores_ranges]
    assert one(checksum=SHA1) == DATA


def test_a_range_that_is_misstated_is_not_joined(server: Server, one: Get) -> None:
    server.faults["/a.bin"] += [fakes.drops(40_000), fakes.misstates_the_range]
    assert one() == DATA
    assert server.ranges("/a.bin") == ["", "bytes=40000-", ""]


def test_a_file_that_changes_under_way_is_fetched_anew(server: Server, one: Get) -> None:
    other = DATA[::-1]

    def changes(request: fakes.Request, data: bytes) -> None:
        fakes.drops(40_000)(request, data)
        server.files["/a.bin"] = other

    server.faults["/a.bin"].append(changes)
    assert one() == other
    server.files["/b.bin"] = DATA
    server.faults["/b.bin"] += [fakes.drops(40_000), fakes.ignores_if_range('"another"')]
    assert one("/b.bin") == DATA
    assert server.ranges("/b.bin") == ["", "bytes=40000-", ""]


def test_pieces_are_only_joined_where_something_tells_that_they_belong_together(server: Server, one: Get) -> None:
    def weak(request: fakes.Request, data: bytes) -> None:
        request.head(200, {"Content-Length": str(len(data)), "ETag": 'W/"1"'})
        request.wfile.write(data[:40_000])

    server.faults["/a.bin"] += [weak]
    assert one() == DATA
    assert server.ranges("/a.bin") == ["", ""]
    server.files["/b.bin"] = DATA
    server.faults["/b.bin"] += [weak]
    assert one("/b.bin", checksum=SHA1) == DATA  # the checksum will tell
    assert server.ranges("/b.bin") == ["", "bytes=40000-"]


def test_pieces_that_give_a_wrong_sum_are_fetched_once_more_from_the_beginning(server: Server, one: Get) -> None:
    def another(request: fakes.Request, data: bytes) -> None:
        request.file(data[::-1], tag=f'"{hashlib.md5(data).hexdigest()}"')

    server.faults["/a.bin"] += [fakes.drops(40_000), another]
    assert one(checksum=SHA1) == DATA
    assert server.ranges("/a.bin") == ["", "bytes=40000-", ""]


def test_a_connection_that_hardly_moves_is_left_for_another(server: Server, clock: Waits, tmp_path: Path) -> None:
    def trickles(request: fakes.Request, data: bytes) -> None:
        request.head(200, {"Content-Length": str(len(data)), "ETag": '"1"'})
        for at in range(0, 3000, 1000):
            request.wfile.write(data[at : at + 1000])
            request.wfile.flush()
            passed.wait(5)
            passed.clear()

    def came(count: int) -> None:
        if clock.slept == []:
            clock.time += 31
        passed.set()

    passed = threading.Event()
    server.faults["/a.bin"].append(trickles)
    door = Door(Client("", ()), Gate(clock, 1, 0.0), clock)
    file = File("a.bin", f"{server.address}/a.bin", checksum=SHA1)
    download.download(file, tmp_path / "a.bin", door, came, lambda fetched: None)
    assert (tmp_path / "a.bin").read_bytes() == DATA
    assert server.count("/a.bin") == 2
    assert clock.slept == [1.0]


def test_a_page_in_the_place_of_an_archive_is_set_aside(server: Server, one: Get, tmp_path: Path) -> None:
    for name in ("/a.warc.gz", "/a.7z", "/a.xml.bz2"):
        server.files[name] = b"<html>Please log in to this network.</html>"
        with pytest.raises(Wrong, match="does not begin as a"):
            one(name)
        assert not (tmp_path / name[1:]).exists()


TROUBLE = st.one_of(
    st.integers(0, 120_000).map(fakes.drops),
    st.sampled_from([fakes.busy(503), fakes.busy(429, "2"), fakes.ignores_ranges, fakes.misstates_the_range]),
    st.sampled_from([fakes.cuts_chunks, fakes.without_length, fakes.packs, fakes.ignores_if_range('"other"')]),
)


@given(faults=st.lists(TROUBLE, max_size=5), known=st.booleans())
@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_goes_wrong_in_whatever_order_the_bytes_are_those_published(
    faults: list[fakes.Fault], known: bool, server: Server, one: Get, tmp_path: Path
) -> None:
    for left in tmp_path.iterdir():
        left.unlink()
    server.faults["/a.bin"].clear()
    server.faults["/a.bin"] += faults
    assert one(**({"checksum": SHA1} if known else {})) == DATA


@given(length=st.integers(0, 8000), kind=st.sampled_from(["a.warc.gz", "a.tar", "a.xml.bz2"]))
@settings(deadline=None, max_examples=60)
def test_wherever_a_file_ends_it_is_cut_to_whole_records(length: int, kind: str) -> None:
    whole, records = RECORDS[kind]
    data = whole[:length]
    try:
        end = border(io.BytesIO(data), kind, len(data))
    except ValueError:
        assert length < 600
        return
    assert end <= len(data)
    assert end in records
    assert len(data) - end < max(later - earlier for earlier, later in itertools.pairwise(records)) * 2


def test_a_wrong_sum_is_set_aside_and_has_no_final_name(server: Server, one: Get, tmp_path: Path) -> None:
    with pytest.raises(Wrong, match=r"its md5 is \w+ where 0+ is published; it lies in .*\.wrong-a\.bin"):
        one(checksum=f"md5:{'0' * 32}")
    assert [path.name for path in tmp_path.iterdir()] == [".wrong-a.bin"]
    assert one(checksum=SHA1) == DATA


def test_another_size_than_was_published_is_told_before_it_is_fetched(server: Server, one: Get) -> None:
    with pytest.raises(PunaError, match="has 100000 bytes where 5 are published"):
        one(size=5)


def test_a_body_without_a_length_is_whole_only_with_its_last_chunk(server: Server, one: Get) -> None:
    server.faults["/a.bin"] += [fakes.cuts_chunks, fakes.without_length]
    assert one() == DATA
    assert server.count("/a.bin") == 2


def test_a_body_whose_end_nothing_tells_is_taken_only_when_its_size_is_published(server: Server, one: Get) -> None:
    server.faults["/a.bin"] += [fakes.without_end] * 2
    with pytest.raises(PunaError, match="does not say where it ends"):
        one()
    assert one(size=len(DATA)) == DATA


@pytest.mark.parametrize("fault", [fakes.names_its_packing, fakes.packs], ids=["names its packing", "packs once more"])
@pytest.mark.parametrize("known", [True, False], ids=["size published", "size unknown"])
def test_the_bytes_of_a_gz_file_are_those_published_whatever_packing_is_named(
    fault: fakes.Fault, known: bool, server: Server, one: Get
) -> None:
    packed = gzip.compress(DATA[:5000])
    server.files["/a.json.gz"] = packed
    server.faults["/a.json.gz"].append(fault)
    assert one("/a.json.gz", **({"size": len(packed)} if known else {})) == packed


def test_text_that_was_packed_on_its_way_is_unpacked_and_never_beyond_its_size(server: Server, one: Get) -> None:
    server.faults["/a.bin"] += [fakes.packs] * 2
    assert one() == DATA
    with pytest.raises(PunaError, match="unpacks to more than is published"):
        one(size=50_000)


def test_what_was_packed_on_its_way_is_never_gone_on_with(server: Server, one: Get) -> None:
    def cut(request: fakes.Request, data: bytes) -> None:
        packed = gzip.compress(data)
        tag = f'"{hashlib.md5(data).hexdigest()}"'
        request.head(200, {"Content-Length": str(len(packed)), "ETag": tag, "Content-Encoding": "gzip"})
        request.wfile.write(packed[: len(packed) // 2])

    server.files["/a.json.gz"] = rows = gzip.compress(DATA)
    for path, data in (("/a.bin", DATA), ("/a.json.gz", rows)):
        server.faults[path].append(cut)
        assert one(path) == data
        assert server.ranges(path) == ["", ""]


def test_a_packing_that_nobody_asked_for_is_refused(server: Server, one: Get) -> None:
    server.faults["/a.bin"].append(fakes.packs_unknown)
    with pytest.raises(PunaError, match="is sent packed as 'br'"):
        one()


def test_a_server_that_falls_silent_is_asked_again(
    server: Server, clock: Waits, one: Get, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, reads, waits = http.client.HTTPResponse.read1, itertools.count(), []

    def read1(response: http.client.HTTPResponse, count: int = -1) -> bytes:
        if next(reads) == 1:
            raise TimeoutError("timed out")
        return real(response, count)

    def opened(opener: urllib.request.OpenerDirector, request: urllib.request.Request, timeout: float) -> object:
        waits.append(timeout)
        return open_(opener, request, timeout=timeout)

    open_ = urllib.request.OpenerDirector.open
    monkeypatch.setattr(http.client.HTTPResponse, "read1", read1)
    monkeypatch.setattr(urllib.request.OpenerDirector, "open", opened)
    assert one() == DATA
    assert waits == [client.TIMEOUT, client.TIMEOUT]
    first, second = server.ranges("/a.bin")
    assert (first, second[:6]) == ("", "bytes=")
    assert clock.slept == [1.0]


def test_a_part_of_a_file_is_cut_behind_its_last_whole_record(server: Server, one: Get) -> None:
    server.files |= {"/a.warc.gz": (pages := fakes.warc(30)), "/a.tar": (papers := fakes.tar(30))}
    part = one("/a.warc.gz", limit=len(pages) // 2)
    assert 0 < len(part) <= len(pages) // 2
    assert pages.startswith(part)
    assert gzip.decompress(part).endswith(b"text \r\n\r\n")
    assert server.ranges("/a.warc.gz") == [f"bytes=0-{len(pages) // 2 - 1}"]
    server.faults["/a.tar"] += [fakes.drops(700), fakes.ignores_ranges]
    part = one("/a.tar", limit=5000, size=len(papers), checksum=f"md5:{'0' * 32}")
    assert (len(part) % 512, papers.startswith(part)) == (0, True)
    assert len(part) > 3000
    assert one("/a.warc.gz", limit=10**9) == pages
    with pytest.raises(InputError, match="holds no whole record in its first 20 bytes; ask for more"):
        one("/a.warc.gz", limit=20)
    with pytest.raises(Wrong, match="cannot be cut"):
        one("/a.bin", limit=50)


def test_whoever_goes_on_begins_at_the_last_synced_byte(
    server: Server, one: Get, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partial, "MARK_EVERY", 30_000)
    part = partial.Partial(tmp_path / "a.bin", f"{server.address}/a.bin")
    part.validator, part.total = f'"{hashlib.md5(DATA).hexdigest()}"', len(DATA)
    for start in range(0, 50_000, 10_000):
        part.add(DATA[start : start + 10_000])
    part._file.flush()
    with part.path.open("ab") as file:
        file.write(b"\0" * 7000)  # what a power cut may leave behind the last sync
    assert one() == DATA
    assert server.ranges("/a.bin") == ["bytes=30000-"]


@pytest.mark.parametrize("state", [b"", b"{", b"[]", b'{"synced": 99999999}', b'{"synced": "9"}', b"\xff\x00"])
def test_a_damaged_mark_costs_what_was_fetched_and_nothing_else(state: bytes, one: Get, tmp_path: Path) -> None:
    (tmp_path / ".fetch-a.bin").write_bytes(DATA[::-1])
    (tmp_path / ".fetch-a.bin.json").write_bytes(state)
    assert one() == DATA


class Died(BaseException):
    """The process is gone."""


def test_killed_at_every_border_of_durable_bytes_the_same_file_comes_out(
    server: Server, one: Get, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, proved: Callable[[str], None]
) -> None:
    monkeypatch.setattr(partial, "MARK_EVERY", 40_000)
    died = 0
    while True:
        left_to_live = [died]

        def border(event: str, location: str, left: list[int] = left_to_live) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise Died

        monkeypatch.setattr(storage, "border", border)
        target = tmp_path / "a.bin"
        try:
            one()
            break
        except Died:
            died += 1
        monkeypatch.setattr(storage, "border", lambda event, location: None)
        assert not target.exists() or target.read_bytes() == DATA
        if not target.exists():
            assert one() == DATA
        target.unlink()
        for left in tmp_path.iterdir():
            left.unlink()
    assert died > 10
    proved(f"a fetch ended at {died} borders of durable bytes")


def test_two_commands_do_not_fetch_into_one_folder(tmp_path: Path) -> None:
    with (
        partial.held(tmp_path / "c4"),
        pytest.raises(InputError, match="another command fetches into it"),
        partial.held(tmp_path / "c4"),
    ):
        pass
    with partial.held(tmp_path / "c4"):
        pass


def test_a_stopped_fetch_keeps_what_came(server: Server, one: Get, clock: Waits, tmp_path: Path) -> None:
    def stops(request: fakes.Request, data: bytes) -> None:
        fakes.drops(60_000)(request, data)
        clock.stopped.set()

    server.faults["/a.bin"].append(stops)
    with pytest.raises(Interrupted, match="the same command goes on"):
        one()
    clock.stopped.clear()
    assert one() == DATA
