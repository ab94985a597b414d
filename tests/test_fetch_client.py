"""How a place is asked: what is followed, what is refused, how long it is left alone."""

from __future__ import annotations

import ast
import ssl
from pathlib import Path

import pytest

import fetch_server as fakes
import puna
from fetch_server import Server, serving
from made_fetch import DATA, Get, Waits
from made_fetch import clock as clock
from made_fetch import one as one
from made_fetch import server as server
from made_fetch import written as written
from puna import recipe
from puna.errors import InputError, PunaError
from puna.fetch import client, download, partial, work
from puna.fetch.client import Client, Gate, retry_after
from puna.fetch.download import Door
from puna.fetch.file import File
from puna.formats import FETCHED


@pytest.mark.parametrize(
    ("status", "after", "waits"), [(429, "7", 7.0), (503, "", 1.0), (500, "", 1.0), (503, "0", 1.0)]
)
def test_a_busy_server_is_left_alone_for_as_long_as_it_asks(
    status: int, after: str, waits: float, server: Server, clock: Waits, one: Get
) -> None:
    server.faults["/a.bin"].append(fakes.busy(status, after))
    assert one() == DATA
    assert clock.slept == [waits]


def test_a_day_and_time_to_come_back_is_compared_with_the_servers_own_clock(
    server: Server, clock: Waits, one: Get
) -> None:
    server.faults["/a.bin"].append(fakes.busy(503, "Sun, 09 Sep 2001 01:47:10 GMT"))  # its Date says 30 s before
    assert one() == DATA
    assert clock.slept == [30.0]
    date = {"date": "Sun, 09 Sep 2001 01:47:10 GMT"}
    assert retry_after({"retry-after": "Sun, 09 Sep 2001 01:46:40 GMT"} | date, 0.0) == 0.0
    for nonsense in ("", "soon", "-3", "1e9", "Sun, 99 Sep 2001", "\u0663"):
        assert retry_after({"retry-after": nonsense}, 0.0) is None


def test_a_place_that_asks_for_hours_is_left_alone(server: Server, clock: Waits, one: Get) -> None:
    server.faults["/a.bin"].append(fakes.busy(429, "7200"))
    with pytest.raises(PunaError, match="asks to be left alone for 2 h 00 min"):
        one()
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
def test_a_refusal_is_one_line_and_not_asked_again(
    status: int, server: Server, clock: Waits, one: Get, tmp_path: Path
) -> None:
    server.faults["/a.bin"].append(fakes.refuses(status))
    with pytest.raises(PunaError, match=rf"/a\.bin: .*status {status}") as error:
        one()
    assert "\n" not in str(error.value)
    assert (server.count("/a.bin"), clock.slept) == (1, [])
    assert list(tmp_path.iterdir()) == []


def test_redirects_are_followed_on_the_same_host_and_to_hosts_that_are_named(server: Server, one: Get) -> None:
    server.faults["/old"].append(fakes.redirects("/a.bin", 301))
    assert one("/old") == DATA
    port = server.address.rpartition(":")[2]
    elsewhere = f"http://localhost:{port}/a.bin"
    server.faults["/old"] += [fakes.redirects(elsewhere)] * 3
    with pytest.raises(PunaError, match="sends on to another host, localhost; name it"):
        one("/old")
    with pytest.raises(PunaError, match="sends on to another host"):
        one("/old", redirects=("host", "ocalhost"))
    assert one("/old", redirects=("localhost",)) == DATA


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
def test_redirects_lead_to_web_addresses_only(to: str, what: str, server: Server, one: Get) -> None:
    server.faults["/old"].append(fakes.redirects(to))
    with pytest.raises(PunaError, match=what):
        one("/old")


def test_the_limits_that_the_page_names_are_those_of_the_code() -> None:
    page = " ".join((Path(__file__).parents[1] / "docs" / "fetch.md").read_text("utf-8").split())
    assert (download.ATTEMPTS, work.GIVES_UP, client.LONGEST_WAIT) == (6, 3, 15 * 60)
    assert "Six requests in a row without a byte, or a wish to be left alone for more than 15 minutes" in page
    assert f"A busy server ({', '.join(map(str, client.BUSY))}) is left alone" in page
    assert (download.SLOWEST, client.TIMEOUT) == (10_000, 60)
    assert "less than 10 kB in a minute" in page
    assert "three failed files in a row leave the rest" in page
    assert (client.FIRST_WAIT, client.LONGEST_OWN_WAIT) == (1, 60)
    assert f"(every {partial.MARK_EVERY // 10**6} MB)" in page
    assert "(format 1)" in page
    assert FETCHED.version == 1
    web = recipe.load("web").fetch
    assert web is not None
    assert web.arxiv is not None
    assert f"about {web.arxiv.price} dollars for a GB" in page
    for name, place in web.items():
        assert f"| `{name}` | `{place.base}`" in page
    sizes = [file for _, place in web.items() if (file := getattr(place, "bytes", None))]
    assert sum(sizes) == 25_000_000 + 2 * 60_000_000


def test_redirects_end(server: Server, one: Get) -> None:
    server.faults["/old"] += [fakes.redirects("/old")] * 9
    with pytest.raises(PunaError, match="sends on more than 5 times"):
        one("/old")


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


def test_only_fetching_imports_a_client_of_the_web() -> None:
    house = Path(puna.__file__).parent
    webs = {"http", "ftplib", "requests", "httpx", "urllib3", "aiohttp", "urllib.request"}
    found = set()
    for path in house.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if any({name, name.split(".")[0]} & webs for name in names if name != "http.cookies"):
                found.add(path.relative_to(house).as_posix())
    assert found == {"fetch/client.py"}
