"""One file on its way: what servers and networks do wrong, and that the bytes at the end are those published."""

from __future__ import annotations

import gzip
import hashlib
import random
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import fetch_server as fakes
from fetch_server import Server, serving
from puna import storage
from puna.errors import InputError, Interrupted, PunaError
from puna.fetch import client, download, partial
from puna.fetch.client import Client, Clock, Gate, Passing, retry_after
from puna.fetch.download import Door, Fetched, Wrong
from puna.fetch.file import File

DATA = random.Random(1).randbytes(100_000)
SHA1 = f"sha1:{hashlib.sha1(DATA).hexdigest()}"


class Waits(Clock):
    """Time that passes only by waiting, and what was waited."""

    def __init__(self) -> None:
        super().__init__(now=lambda: self.time)
        self.time = 0.0
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.check()
        self.slept.append(seconds)
        self.time += seconds


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "*")
    with serving() as server:
        server.files["/a.bin"] = DATA
        yield server


@pytest.fixture
def clock() -> Waits:
    return Waits()


Get = Callable[..., bytes]


@pytest.fixture
def get(server: Server, clock: Waits, tmp_path: Path) -> Get:
    """Fetches a path of the server, and gives the bytes that stand here then."""

    def get(path: str = "/a.bin", redirects: tuple[str, ...] = (), **told: object) -> bytes:
        file = File(Path(path).name, server.address + path, **told)  # type: ignore[arg-type]
        door = Door(Client("", redirects), Gate(clock, 2, 0.0), clock)
        got: list[Fetched] = []
        came: list[int] = []
        fetched = download.download(file, tmp_path / file.name, door, came.append, got.append)
        data = (tmp_path / file.name).read_bytes()
        assert got == [fetched]
        assert fetched.size == len(data)
        if file.limit is None:
            assert sum(came) == len(data)
        assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".fetch-")] == []
        return data

    return get


def test_a_file_is_fetched_with_a_name_and_version_and_no_credentials(server: Server, get: Get) -> None:
    assert get(size=len(DATA), checksum=SHA1) == DATA
    (_, headers), *others = server.asked
    assert not others
    assert headers["user-agent"].startswith("puna/0.")
    assert headers["accept-encoding"] == "identity"
    assert not {"authorization", "cookie", "proxy-authorization", "range"} & headers.keys()


@pytest.mark.parametrize("told", [{}, {"size": len(DATA)}, {"size": len(DATA), "checksum": SHA1}], ids=str)
def test_a_connection_that_drops_is_gone_on_with_from_where_it_was(
    told: dict[str, object], server: Server, clock: Waits, get: Get
) -> None:
    server.faults["/a.bin"] += [fakes.drops(40_000), fakes.drops(0), fakes.drops(30_000)]
    assert get(**told) == DATA
    assert server.ranges("/a.bin") == ["", "bytes=40000-", "bytes=40000-", "bytes=70000-"]
    assert {headers.get("if-range") for _, headers in server.asked[1:]} == {f'"{hashlib.md5(DATA).hexdigest()}"'}
    assert clock.slept == [1.0, 2.0, 1.0]


def test_a_place_that_never_sends_anything_is_given_up_after_growing_waits(
    server: Server, clock: Waits, get: Get
) -> None:
    server.faults["/a.bin"] += [fakes.drops(10)] + [fakes.drops(0)] * 9
    with pytest.raises(Passing, match="ended early; give the same command again"):
        get()
    assert clock.slept == [1.0, 2.0, 4.0, 8.0, 16.0]
    assert get() == DATA  # what came is kept, and gone on with


def test_a_server_that_forgets_what_it_sent_is_not_asked_without_end(server: Server, get: Get) -> None:
    def cut(request: object, data: bytes) -> None:
        request.head(200, {"Content-Length": str(len(data))})  # type: ignore[attr-defined]
        request.wfile.write(data[: 50_000 - 100 * server.count("/a.bin") % 3])  # type: ignore[attr-defined]

    server.faults["/a.bin"] += [cut] * 50
    with pytest.raises(Passing):
        get()
    assert server.count("/a.bin") < 20


@pytest.mark.parametrize(
    ("status", "after", "waits"), [(429, "7", 7.0), (503, "", 1.0), (500, "", 1.0), (503, "0", 1.0)]
)
def test_a_busy_server_is_left_alone_for_as_long_as_it_asks(
    status: int, after: str, waits: float, server: Server, clock: Waits, get: Get
) -> None:
    server.faults["/a.bin"].append(fakes.busy(status, after))
    assert get() == DATA
    assert clock.slept == [waits]


def test_a_day_and_time_to_come_back_is_compared_with_the_servers_own_clock(
    server: Server, clock: Waits, get: Get
) -> None:
    server.faults["/a.bin"].append(fakes.busy(503, "Sun, 09 Sep 2001 01:47:10 GMT"))  # its Date says 30 s before
    assert get() == DATA
    assert clock.slept == [30.0]
    date = {"date": "Sun, 09 Sep 2001 01:47:10 GMT"}
    assert retry_after({"retry-after": "Sun, 09 Sep 2001 01:46:40 GMT"} | date, 0.0) == 0.0
    for nonsense in ("", "soon", "-3", "1e9", "Sun, 99 Sep 2001", "\u0663"):
        assert retry_after({"retry-after": nonsense}, 0.0) is None


def test_a_place_that_asks_for_hours_is_left_alone(server: Server, clock: Waits, get: Get) -> None:
    server.faults["/a.bin"].append(fakes.busy(429, "7200"))
    with pytest.raises(PunaError, match="asks to be left alone for 2 h 00 min"):
        get()
    assert clock.slept == []


def test_what_one_request_is_told_to_wait_holds_for_the_whole_place(clock: Waits) -> None:
    gate = Gate(clock, 2, 0.0)
    gate.hold(5.0)
    with gate.turn():
        assert clock.slept == [5.0]


def test_requests_to_one_place_begin_as_far_apart_as_it_wants(clock: Waits) -> None:
    gate = Gate(clock, 1, 2.0)
    for _ in range(3):
        with gate.turn():
            clock.time += 0.5
    assert clock.slept == [1.5, 1.5]


@pytest.mark.parametrize("status", [404, 410, 403, 401, 400, 418])
def test_a_refusal_is_one_line_and_not_asked_again(status: int, server: Server, clock: Waits, get: Get) -> None:
    server.faults["/a.bin"].append(fakes.refuses(status))
    with pytest.raises(PunaError, match=rf"/a\.bin: .*status {status}") as error:
        get()
    assert "\n" not in str(error.value)
    assert (server.count("/a.bin"), clock.slept) == (1, [])


def test_a_server_without_ranges_is_asked_for_the_whole_file(server: Server, get: Get) -> None:
    server.faults["/a.bin"] += [fakes.drops(40_000), fakes.ignores_ranges]
    assert get(checksum=SHA1) == DATA


def test_a_range_that_is_misstated_is_not_joined(server: Server, get: Get) -> None:
    server.faults["/a.bin"] += [fakes.drops(40_000), fakes.misstates_the_range]
    assert get() == DATA
    assert server.ranges("/a.bin") == ["", "bytes=40000-", ""]


def test_a_file_that_changes_under_way_is_fetched_anew(server: Server, get: Get) -> None:
    other = DATA[::-1]

    def changes(request: object, data: bytes) -> None:
        fakes.drops(40_000)(request, data)  # type: ignore[arg-type]
        server.files["/a.bin"] = other

    server.faults["/a.bin"].append(changes)
    assert get() == other
    server.files["/b.bin"] = DATA
    server.faults["/b.bin"] += [fakes.drops(40_000), fakes.ignores_if_range('"another"')]
    assert get("/b.bin") == DATA
    assert server.ranges("/b.bin") == ["", "bytes=40000-", ""]


def test_pieces_are_only_joined_where_something_tells_that_they_belong_together(server: Server, get: Get) -> None:
    def weak(request: object, data: bytes) -> None:
        request.head(200, {"Content-Length": str(len(data)), "ETag": 'W/"1"'})  # type: ignore[attr-defined]
        request.wfile.write(data[:40_000])  # type: ignore[attr-defined]

    server.faults["/a.bin"] += [weak]
    assert get() == DATA
    assert server.ranges("/a.bin") == ["", ""]
    server.files["/b.bin"] = DATA
    server.faults["/b.bin"] += [weak]
    assert get("/b.bin", checksum=SHA1) == DATA  # the checksum will tell
    assert server.ranges("/b.bin") == ["", "bytes=40000-"]


def test_pieces_that_give_a_wrong_sum_are_fetched_once_more_from_the_beginning(server: Server, get: Get) -> None:
    def another(request: object, data: bytes) -> None:
        request.file(data[::-1], tag=f'"{hashlib.md5(data).hexdigest()}"')  # type: ignore[attr-defined]

    server.faults["/a.bin"] += [fakes.drops(40_000), another]
    assert get(checksum=SHA1) == DATA
    assert server.ranges("/a.bin") == ["", "bytes=40000-", ""]


def test_a_wrong_sum_is_set_aside_and_has_no_final_name(server: Server, get: Get, tmp_path: Path) -> None:
    with pytest.raises(Wrong, match=r"its md5 is \w+ where 0+ is published; it lies in .*\.wrong-a\.bin"):
        get(checksum=f"md5:{'0' * 32}")
    assert [path.name for path in tmp_path.iterdir()] == [".wrong-a.bin"]
    assert get(checksum=SHA1) == DATA


def test_another_size_than_was_published_is_told_before_it_is_fetched(server: Server, get: Get) -> None:
    with pytest.raises(PunaError, match="has 100000 bytes where 5 are published"):
        get(size=5)


def test_a_body_without_a_length_is_whole_only_with_its_last_chunk(server: Server, get: Get) -> None:
    server.faults["/a.bin"] += [fakes.cuts_chunks, fakes.without_length]
    assert get() == DATA
    assert server.count("/a.bin") == 2


def test_a_body_whose_end_nothing_tells_is_taken_only_when_its_size_is_published(server: Server, get: Get) -> None:
    server.faults["/a.bin"] += [fakes.without_end] * 2
    with pytest.raises(PunaError, match="does not say where it ends"):
        get()
    assert get(size=len(DATA)) == DATA


@pytest.mark.parametrize("fault", [fakes.names_its_packing, fakes.packs], ids=["names its packing", "packs once more"])
@pytest.mark.parametrize("known", [True, False], ids=["size published", "size unknown"])
def test_the_bytes_of_a_gz_file_are_those_published_whatever_packing_is_named(
    fault: fakes.Fault, known: bool, server: Server, get: Get
) -> None:
    packed = gzip.compress(DATA[:5000])
    server.files["/a.json.gz"] = packed
    server.faults["/a.json.gz"].append(fault)
    assert get("/a.json.gz", **({"size": len(packed)} if known else {})) == packed


def test_text_that_was_packed_on_its_way_is_unpacked_and_never_beyond_its_size(server: Server, get: Get) -> None:
    server.faults["/a.bin"] += [fakes.packs] * 2
    assert get() == DATA
    with pytest.raises(PunaError, match="unpacks to more than is published"):
        get(size=50_000)


def test_a_packing_that_nobody_asked_for_is_refused(server: Server, get: Get) -> None:
    server.faults["/a.bin"].append(fakes.packs_unknown)
    with pytest.raises(PunaError, match="is sent packed as 'br'"):
        get()


def test_a_server_that_falls_silent_is_asked_again(
    server: Server, clock: Waits, get: Get, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "TIMEOUT", 0.05)
    server.faults["/a.bin"].append(fakes.slowly(end := threading.Event()))
    assert get() == DATA
    end.set()
    assert server.ranges("/a.bin") == ["", "bytes=50000-"]
    assert clock.slept == [1.0]


def test_redirects_are_followed_on_the_same_host_and_to_hosts_that_are_named(server: Server, get: Get) -> None:
    server.faults["/old"].append(fakes.redirects("/a.bin", 301))
    assert get("/old") == DATA
    port = server.address.rpartition(":")[2]
    elsewhere = f"http://localhost:{port}/a.bin"
    server.faults["/old"] += [fakes.redirects(elsewhere)] * 3
    with pytest.raises(PunaError, match="sends on to another host, localhost; name it"):
        get("/old")
    with pytest.raises(PunaError, match="sends on to another host"):
        get("/old", redirects=("host", "ocalhost"))
    assert get("/old", redirects=("localhost",)) == DATA


@pytest.mark.parametrize(
    ("to", "what"),
    [
        ("file:///etc/passwd", "which is no web address"),
        ("ftp://127.0.0.1/a", "which is no web address"),
        ("data:text/plain,a", "which is no web address"),
        ("http://user:secret@127.0.0.1/a", "with a user name"),
        ("http://[::1", "sends on to no address"),
        ("http://127.0.0.1:99999/", "sends on to no address"),
    ],
)
def test_redirects_lead_to_web_addresses_only(to: str, what: str, server: Server, get: Get) -> None:
    server.faults["/old"].append(fakes.redirects(to))
    with pytest.raises(PunaError, match=what):
        get("/old")


def test_redirects_end(server: Server, get: Get) -> None:
    server.faults["/old"] += [fakes.redirects("/old")] * 9
    with pytest.raises(PunaError, match="sends on more than 5 times"):
        get("/old")


def test_no_redirect_leads_from_https_to_http() -> None:
    asks = Client("", ("example.org",))
    with pytest.raises(PunaError, match="sends on from https to http"):
        asks._followed("https://example.org/a", "http://example.org/a", "https://example.org/a")
    assert asks._followed("https://example.org/a", "/b#c", "https://example.org/a") == "https://example.org/b"
    assert asks._followed("http://example.org/a", "https://x.example.org/", "http://example.org/a")[:5] == "https"


def test_a_certificate_that_nobody_vouches_for_is_refused(clock: Waits, tmp_path: Path) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(fakes.certificate(tmp_path))
    with serving(tls=tls) as server:
        door = Door(Client("me@example.org", ()), Gate(clock, 1, 0.0), clock)
        file = File("a.bin", f"{server.address}/a.bin")
        with pytest.raises(InputError, match=r"certificate is not valid .*self-signed"):
            download.download(file, tmp_path / "a.bin", door, print, print)
        assert (server.asked, clock.slept) == ([], [])


def test_nothing_but_http_can_be_opened_and_the_contact_is_told() -> None:
    asks = Client("me@example.org", ())
    assert asks.agent.endswith("; me@example.org)")
    for address in ("file:///etc/passwd", "ftp://127.0.0.1/a", "data:,a", "/etc/passwd"):
        with pytest.raises(PunaError, match="is no web address"):
            asks.ask(address)
    with pytest.raises(PunaError, match="cannot be asked for"):
        asks.ask("http://127.0.0.1:port/a")


def test_a_part_of_a_file_is_cut_behind_its_last_whole_record(server: Server, get: Get) -> None:
    server.files |= {"/a.warc.gz": (pages := fakes.warc(30)), "/a.tar": (papers := fakes.tar(30))}
    part = get("/a.warc.gz", limit=len(pages) // 2)
    assert 0 < len(part) <= len(pages) // 2
    assert pages.startswith(part)
    assert gzip.decompress(part).endswith(b"text \r\n\r\n")
    assert server.ranges("/a.warc.gz") == [f"bytes=0-{len(pages) // 2 - 1}"]
    server.faults["/a.tar"] += [fakes.drops(700), fakes.ignores_ranges]
    part = get("/a.tar", limit=5000, size=len(papers), checksum=f"md5:{'0' * 32}")
    assert (len(part) % 512, papers.startswith(part)) == (0, True)
    assert len(part) > 3000
    assert get("/a.warc.gz", limit=10**9) == pages
    with pytest.raises(InputError, match="holds no whole record in its first 20 bytes; ask for more"):
        get("/a.warc.gz", limit=20)
    with pytest.raises(Wrong, match="cannot be cut"):
        get("/a.bin", limit=50)


def test_whoever_goes_on_begins_at_the_last_synced_byte(
    server: Server, get: Get, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partial, "MARK_EVERY", 30_000)
    part = partial.Partial(tmp_path / "a.bin", f"{server.address}/a.bin")
    part.validator, part.total = f'"{hashlib.md5(DATA).hexdigest()}"', len(DATA)
    for start in range(0, 50_000, 10_000):
        part.add(DATA[start : start + 10_000])
    part._file.flush()
    with part.path.open("ab") as file:
        file.write(b"\0" * 7000)  # what a power cut may leave behind the last sync
    assert get() == DATA
    assert server.ranges("/a.bin") == ["bytes=30000-"]


@pytest.mark.parametrize("state", [b"", b"{", b"[]", b'{"synced": 99999999}', b'{"synced": "9"}', b"\xff\x00"])
def test_a_damaged_mark_costs_what_was_fetched_and_nothing_else(state: bytes, get: Get, tmp_path: Path) -> None:
    (tmp_path / ".fetch-a.bin").write_bytes(DATA[::-1])
    (tmp_path / ".fetch-a.bin.json").write_bytes(state)
    assert get() == DATA


class Died(BaseException):
    """The process is gone."""


def test_killed_at_every_border_of_durable_bytes_the_same_file_comes_out(
    server: Server, get: Get, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, proved: Callable[[str], None]
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
            get()
            break
        except Died:
            died += 1
        monkeypatch.setattr(storage, "border", lambda event, location: None)
        assert not target.exists() or target.read_bytes() == DATA
        if not target.exists():
            assert get() == DATA
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


def test_a_stopped_fetch_keeps_what_came(server: Server, get: Get, clock: Waits, tmp_path: Path) -> None:
    def stops(request: object, data: bytes) -> None:
        fakes.drops(60_000)(request, data)  # type: ignore[arg-type]
        clock.stopped.set()

    server.faults["/a.bin"].append(stops)
    with pytest.raises(Interrupted, match="the same command goes on"):
        get()
    clock.stopped.clear()
    assert get() == DATA
