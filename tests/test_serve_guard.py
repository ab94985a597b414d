"""Who reaches a server: no other page through a browser, nobody without the key, and nothing larger than its limits."""

from __future__ import annotations

import json
import re
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from puna.cli import serving
from puna.errors import InputError
from puna.serve import Options, page, serve
from puna.serve.guard import COOKIE, Door
from puna.serve.limits import Limits
from puna.serve.running import bound, is_loopback
from puna.serve.starting import door_of, url
from serving import Running, running

KEY = "a-key-of-twenty-characters"
REPORT = Path(__file__).parent / "fixtures" / "run-1"
TIGHT = Limits(header_seconds=0.5, body_seconds=0.5, header_bytes=4000, connections=8, idle_seconds=1)


@pytest.fixture(scope="module")
def open_door() -> Iterator[Running]:
    door = Door(hosts=frozenset({"model.example"}), origins=frozenset({"https://page.example"}))
    with running(door=door, limits=TIGHT, run=REPORT) as server:
        yield server


@pytest.fixture(scope="module")
def locked() -> Iterator[Running]:
    with running(door=Door(key=KEY), run=REPORT) as server:
        yield server


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LOCALHOST:9", 200),
        ("127.0.0.1:80", 200),
        ("[::1]:80", 200),
        ("192.168.7.7", 200),
        ("model.example", 200),
        ("model.example:8000", 200),
        ("evil.example", 403),
        ("localhost.evil.example", 403),
        ("model.example.evil.example", 403),
        ("127.0.0.1.evil.example", 403),
        ("localhost:80@evil.example", 403),
        ("evil.example@localhost", 403),
        ("evil.example@127.0.0.1:8000", 403),
        ("localhost/evil.example", 403),
        ("localhost?evil.example", 403),
        ("localhost#evil.example", 403),
        ("localhost:port", 403),
        ("[localhost]", 403),
        ("[127.0.0.1]", 403),
        ("[::1", 403),
        ("2130706433", 403),
        ("LOCALHOST:8000", 200),
        ("", 403),
        ("[", 403),
    ],
)
def test_a_name_that_leads_here_from_elsewhere_is_refused(open_door: Running, host: str, status: int) -> None:
    assert open_door.get("/v1/models", headers={"Host": host}).status_code == status


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("{own}", 200),
        ("https://page.example", 200),
        ("http://page.example", 403),
        ("https://evil.example", 403),
        ("null", 403),
        ("http://127.0.0.1", 403),
        ("", 403),
    ],
)
def test_another_page_is_refused_unless_it_was_allowed(open_door: Running, origin: str, status: int) -> None:
    given = origin.format(own=open_door.url)
    reply = open_door.post("/tokenize", {"prompt": "a"}, headers={"Origin": given})
    assert reply.status_code == status
    allowed = reply.headers.get("access-control-allow-origin")
    assert allowed == (given if given == "https://page.example" else None)


def test_nobody_is_allowed_from_elsewhere_unless_asked(locked: Running) -> None:
    with locked.client() as client:
        asked = {"Origin": "https://page.example", "Access-Control-Request-Method": "POST"}
        reply = client.options("/v1/completions", headers=asked)
    assert reply.status_code == 403
    assert not [name for name in reply.headers if name.startswith("access-control")]


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_what_a_form_of_another_page_can_send_is_refused(open_door: Running, kind: str) -> None:
    with open_door.client() as client:
        reply = client.post("/tokenize", content=b'{"prompt": "a"}', headers={"Content-Type": kind})
    assert (reply.status_code, reply.json()["error"]["code"]) == (415, "not_json")


@pytest.mark.parametrize(
    "given", [None, "", "Bearer", "Bearer wrong", f"Basic {KEY}", f"Bearer {KEY}x", "Bearer ümläut"]
)
def test_without_the_key_there_is_only_the_page(locked: Running, given: str | None) -> None:
    with locked.client() as client:
        client.headers.pop("Authorization")
        if given is not None:
            client.headers.update([(b"Authorization", given.encode("latin-1"))])
        for path in ("/v1/models", "/metrics", "/about", "/openapi.json", "/tokenizer_info", "/report/document", "/x"):
            reply = client.get(path)
            assert (reply.status_code, reply.json()["error"]["code"]) == (401, "invalid_api_key"), path
            assert KEY not in reply.text
        assert client.post("/v1/completions", json={"prompt": "a"}).status_code == 401
        for path in ("/", "/report", "/health", "/page/page.js"):
            assert client.get(path).status_code == 200


def test_with_the_key_there_is_all(locked: Running) -> None:
    assert locked.get("/v1/models").status_code == 200
    assert locked.post("/v1/completions", {"prompt": "a"}).status_code == 200
    assert locked.get("/v1/models", headers={"Authorization": f"bearer {KEY}"}).status_code == 200


def test_the_frame_with_the_report_is_let_in_by_a_cookie_that_opens_nothing_else(locked: Running) -> None:
    with locked.client() as client:
        client.headers.pop("Authorization")
        assert client.post("/report/session", json={}).status_code == 401
        reply = client.post("/report/session", json={}, headers=locked.headers)
        cookie = reply.headers["set-cookie"]
        assert all(part in cookie for part in ("HttpOnly", "SameSite=strict", "Path=/report"))
        assert KEY not in cookie
        given = {"Cookie": cookie.partition(";")[0]}
        assert client.get("/report/document", headers=given).status_code == 200
        assert client.get("/v1/models", headers=given).status_code == 401
        assert client.get("/report/document", headers={"Cookie": f"{COOKIE}=other"}).status_code == 401


def test_every_answer_tells_a_browser_to_load_and_guess_nothing(open_door: Running) -> None:
    for path in ("/", "/page/page.js", "/v1/models", "/nothing", "/report/document"):
        headers = open_door.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        policy = headers["content-security-policy"]
        assert policy.startswith("default-src 'none'")
        assert ("unsafe" in policy) == ("sandbox" in policy) == (path == "/report/document")
        assert "server" not in headers
    assert open_door.get("/", headers={"Host": "evil.example"}).headers["content-security-policy"]


def test_the_page_is_made_of_files_that_are_all_there_and_name_no_other_place() -> None:
    folder = Path(page.__file__).parent
    assert {path.name for path in folder.iterdir() if path.suffix not in (".py", ".html", "")} == set(page.FILES)
    for path in folder.iterdir():
        if path.suffix in (".html", ".css", ".js", ".svg"):
            text = path.read_text("utf-8").replace("http://www.w3.org/2000/svg", "")
            assert not re.search(r"https?:|//\w+\.\w", text), path.name
            assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", text), path.name


def test_a_run_with_a_report_shows_it_and_a_model_without_says_so(open_door: Running) -> None:
    assert open_door.get("/report/document").content == (REPORT / "report.html").read_bytes()
    assert open_door.get("/about").json()["report"] is True
    with running() as other:
        assert other.get("/report/document").status_code == 404
        assert other.get("/about").json()["report"] is False


def _raw(server: Running, data: bytes, wait: float = 5.0) -> bytes:
    """What is answered to bytes on a connection, until it is closed."""
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=wait) as wire:
        wire.sendall(data)
        found = b""
        while part := wire.recv(65536):
            found += part
    return found


@pytest.mark.promise("errors")
@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\n\r\n",
        b"GET /\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 5000 + b"\r\n\r\n",
    ],
    ids=["tls", "old", "two-hosts", "two-lengths", "negative", "large"],
)
def test_what_is_no_http_is_answered_in_the_same_shape_and_closed(open_door: Running, data: bytes) -> None:
    reply = _raw(open_door, data)
    head, _, body = reply.partition(b"\r\n\r\n")
    assert head.startswith((b"HTTP/1.1 400", b"HTTP/1.1 431"))
    assert set(json.loads(body)["error"]) == {"message", "type", "param", "code"}
    assert open_door.get("/health").status_code == 200


@pytest.mark.promise("errors")
def test_who_sends_far_too_much_still_reads_why(open_door: Running) -> None:
    body = b'{"prompt": "' + b"a" * 12_000_000 + b'"}'
    with open_door.client() as client:
        kind = {"Content-Type": "application/json"}
        assert client.post("/tokenize", content=body, headers=kind).status_code == 413
        assert client.post("/tokenize", content=iter([body]), headers=kind).status_code == 413


def test_who_sends_nothing_or_too_slowly_is_cut_off(open_door: Running) -> None:
    begun = time.monotonic()
    assert _raw(open_door, b"") == b""
    assert _raw(open_door, b"GET / HTT") == b""
    kept = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\nGET / H"
    assert _raw(open_door, kept).startswith(b"HTTP/1.1 200")
    json_type = b"Host: localhost\r\nContent-Type: application/json\r\n"
    slow = b"POST /tokenize HTTP/1.1\r\n" + json_type + b"Content-Length: 50\r\n\r\n{"
    assert _raw(open_door, slow).startswith(b"HTTP/1.1 408")
    assert time.monotonic() - begun < 20  # whoever waits for uvicorn's own timers waits 30 s for the third alone


def test_more_connections_than_are_allowed_are_told_so(open_door: Running) -> None:
    host, port = open_door.url.removeprefix("http://").split(":")
    wires = [socket.create_connection((host, int(port))) for _ in range(TIGHT.connections)]
    try:
        assert _raw(open_door, b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").startswith(b"HTTP/1.1 503")
    finally:
        for wire in wires:
            wire.close()


@pytest.mark.promise("errors")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (Options(host="0.0.0.0"), "PUNA_KEY"),
        (Options(host="192.168.1.1"), "key must be asked for"),
        (Options(host="::"), "key must be asked for"),
        (Options(host="0.0.0.0", key="short"), "16 characters"),
        (Options(key="a key with spaces in it"), "without spaces"),
        (Options(allow_origins=["page.example"]), "is no origin"),
        (Options(allow_origins=["https://page.example/"]), "is no origin"),
        (Options(allow_origins=["*"]), "is no origin"),
        (Options(allow_hosts=["https://x"]), "is no name"),
        (Options(allow_hosts=["*"]), "is no name"),
    ],
)
def test_a_door_that_is_open_to_nobody_in_particular_is_refused(options: Options, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        door_of(options)


@pytest.mark.promise("errors")
def test_a_file_without_a_key_in_it_does_not_open_the_door(tmp_path: Path) -> None:
    empty = tmp_path / "key.txt"
    empty.write_text("\n")
    with pytest.raises(InputError, match="holds no key"):
        serving.serve(str(tmp_path / "nothing"), key_file=str(empty))


def test_addresses_of_this_machine_are_known() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "127.9.9.9", "::1", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "10.0.0.1", "model.example", "localhost.example")))
    assert url("::1", 80) == "http://[::1]:80/"


@pytest.mark.promise("errors")
def test_an_address_that_is_taken_is_one_line(tmp_path: Path) -> None:
    with bound("127.0.0.1", 0) as taken, pytest.raises(InputError, match="cannot be listened at"):
        bound("127.0.0.1", taken.getsockname()[1])
    with pytest.raises(InputError, match="no such folder"):
        serve(tmp_path / "nothing", Options(port=0))


@pytest.mark.promise("errors")
def test_without_the_extra_the_mend_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(InputError, match=r"serving needs uvicorn; pip install 'puna\[serve\]'"):
        serve(tmp_path, Options(port=0))
