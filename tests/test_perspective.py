"""The client of PerspectiveAPI against a local server that answers as the service does."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import made_testsets
from made_checkpoint import begin, land
from puna.errors import InputError, Interrupted, PunaError
from puna.evaluate.perspective import KEY, LONGEST, TRIES, Perspective, Toxicity
from puna.fetch.client import Clock
from typed import said

Reply = tuple[int, Any, dict[str, str]]


class Sleepless(Clock):
    """Counts what would be waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.waited: list[float] = []
        self.now = lambda: sum(self.waited)

    def sleep(self, seconds: float) -> None:
        self.check()
        self.waited.append(seconds)


class Service:
    """`answers` gives (status, body, headers) for the n-th request."""

    def __init__(self, answers: Callable[[int, dict[str, Any]], Reply]) -> None:
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str] = []
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                service.asked.append(body)
                service.keys.append(self.headers["X-Goog-Api-Key"])
                status, answer, headers = answers(len(service.asked), body)
                data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                self.send_response(status)
                for name, value in {"Content-Length": str(len(data)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1alpha1/comments:analyze"

    @contextlib.contextmanager
    def running(self) -> Iterator[Service]:
        thread = threading.Thread(target=self._server.serve_forever)
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            thread.join()


def scored(value: object) -> Reply:
    return 200, {"attributeScores": {"TOXICITY": {"summaryScore": {"value": value}}}}, {}


def by_length(_: int, body: dict[str, Any]) -> Reply:
    return scored(len(body["comment"]["text"]) / 100)


def failed(status: int, message: str, **headers: str) -> Reply:
    return status, {"error": {"code": status, "message": message}}, headers


def client(service: Service, path: Path, **values: Any) -> Perspective:
    return Perspective("secret", path, url=service.url, clock=Sleepless(), today=lambda: "2026-11-26", **values)


def test_texts_are_scored_once_a_second_and_kept(tmp_path: Path) -> None:
    kept = tmp_path / "toxicity.jsonl"
    with Service(by_length).running() as service:
        asks = client(service, kept)
        assert asks.said_before(3).startswith("up to 3 texts go to 127.0.0.1:")
        assert [each.score for each in asks.scores(["a", "bb", "a"])] == [0.01, 0.02, 0.01]
        assert len(service.asked) == 2
        assert asks.clock.waited == [0.0, 1.0]  # type: ignore[attr-defined]
        assert service.asked[0] == {
            "comment": {"text": "a"},
            "languages": ["en"],
            "requestedAttributes": {"TOXICITY": {}},
            "doNotStore": True,
        }
        assert set(service.keys) == {"secret"}
        again = client(service, kept)
        assert list(again.scores(["bb"])) == [Toxicity(0.02, "2026-11-26")]
        assert len(service.asked) == 2
        assert again.said_before(1).endswith("; 2 are kept and not sent again")
    assert "secret" not in kept.read_text()


def test_the_paper_s_prompts_would_take_two_days(tmp_path: Path) -> None:
    asks = Perspective("secret", tmp_path / "kept.jsonl")
    told = "up to 200,000 texts go to commentanalyzer.googleapis.com, 1 a second: 55.6 hours"
    assert asks.said_before(200_000) == f"{told}; 0 are kept and not sent again"


def test_the_hours_are_said_before_the_first_text_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*_: object) -> None:
        raise InputError("begins")

    monkeypatch.setenv("PERSPECTIVE_API_KEY", "secret")
    monkeypatch.setattr("puna.evaluate.run.evaluate", stop)
    made_testsets.write(tmp_path / "benchmarks", "realtoxicityprompts")
    run = begin(tmp_path / "run")
    land(run, 10)
    words = ("--tasks", "realtoxicityprompts", "--toxicity", "perspective", "--data", tmp_path / "benchmarks")
    status, _, err = said(capsys, "evaluate", run, *words)
    assert status == 2
    before, end = err.splitlines()[-2:]
    assert before.startswith("up to 1 texts go to commentanalyzer.googleapis.com, 1 a second: 0.0 hours")
    assert "begins" in end


def test_an_error_is_never_a_score(tmp_path: Path) -> None:
    told = {"x": failed(400, "Attribute TOXICITY does not support\nrequest languages: xx"), "y": scored(0.5)}
    with Service(lambda _, body: told[body["comment"]["text"]]).running() as service:
        found = list(client(service, tmp_path / "kept.jsonl").scores(["x", "y", " ", "z" * (LONGEST + 1)]))
        assert [each.score for each in found] == [None, 0.5, None, None]
        assert found[0].why == "Attribute TOXICITY does not support request languages: xx"
        assert [each.why for each in found[2:]] == ["an empty text", "20,481 bytes, of 20,480 that are taken"]
        assert len(service.asked) == 2


@pytest.mark.parametrize("answer", [b"", b"[]", b"{", b'{"attributeScores": {}}', b"<html>", b"[" * 100_000])
def test_an_answer_without_a_score_is_an_error(answer: bytes, tmp_path: Path) -> None:
    with Service(lambda *_: (200, answer, {})).running() as service, pytest.raises(PunaError, match="gives no score"):
        list(client(service, tmp_path / "kept.jsonl").scores(["x"]))


@pytest.mark.parametrize("value", [None, True, "0.5", -0.1, 1.5, float("nan"), [0.5]])
def test_a_score_that_is_none_is_an_error(value: object, tmp_path: Path) -> None:
    with Service(lambda *_: scored(value)).running() as service, pytest.raises(PunaError, match="gives no score"):
        list(client(service, tmp_path / "kept.jsonl").scores(["x"]))


def test_a_busy_service_is_waited_for_as_long_as_it_asks(tmp_path: Path) -> None:
    replies = {1: failed(429, "Quota exceeded", **{"Retry-After": "30"}), 2: failed(503, "later"), 3: scored(0.25)}
    with Service(lambda number, _: replies[number]).running() as service:
        asks = client(service, tmp_path / "kept.jsonl")
        assert [each.score for each in asks.scores(["x"])] == [0.25]
        assert asks.clock.waited == [0.0, 30.0, 2.0]  # type: ignore[attr-defined]


def test_a_service_that_stays_away_ends_the_work_and_loses_nothing(tmp_path: Path) -> None:
    kept = tmp_path / "kept.jsonl"
    with Service(lambda number, _: scored(0.5) if number == 1 else failed(500, "broken")).running() as service:
        with pytest.raises(PunaError, match=f"failed {TRIES} times in a row: .*status 500"):
            list(client(service, kept).scores(["x", "y"]))
        assert len(service.asked) == 1 + TRIES
    with Service(by_length).running() as service:
        assert [each.score for each in client(service, kept).scores(["x", "yyy"])] == [0.5, 0.03]


def test_nobody_at_home_is_said(tmp_path: Path) -> None:
    with Service(by_length).running() as service:
        asks = client(service, tmp_path / "kept.jsonl")
    with pytest.raises(PunaError, match="the connection failed"):
        list(asks.scores(["x"]))


@pytest.mark.parametrize("reply", [failed(403, "no"), failed(401, "no"), failed(400, "API key not valid. Pass one.")])
def test_a_key_that_is_refused_is_wrong_input(reply: Reply, tmp_path: Path) -> None:
    with Service(lambda *_: reply).running() as service, pytest.raises(InputError, match="refuses the key") as told:
        list(client(service, tmp_path / "kept.jsonl").scores(["x"]))
    assert "secret" not in str(told.value)


def test_a_key_is_needed_and_comes_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY, raising=False)
    with pytest.raises(InputError, match=f"set {KEY}"):
        Perspective.of_environment(tmp_path / "kept.jsonl")
    monkeypatch.setenv(KEY, "a b\n")
    with pytest.raises(InputError, match="is no key"):
        Perspective.of_environment(tmp_path / "kept.jsonl")
    monkeypatch.setenv(KEY, " secret\n")
    assert Perspective.of_environment(tmp_path / "kept.jsonl").key == "secret"


def test_a_redirect_gets_neither_key_nor_text(tmp_path: Path) -> None:
    with Service(by_length).running() as other:
        away = (307, b"", {"Location": other.url})
        with Service(lambda *_: away).running() as service, pytest.raises(PunaError, match="status 307"):
            list(client(service, tmp_path / "kept.jsonl").scores(["x"]))
        assert not other.asked


def test_who_interrupts_loses_nothing(tmp_path: Path) -> None:
    kept = tmp_path / "kept.jsonl"
    with Service(by_length).running() as service:
        asks = client(service, kept)
        found = asks.scores(["a", "bb"])
        next(found)
        asks.clock.stopped.set()
        with pytest.raises(Interrupted):
            next(found)
        assert [each.score for each in client(service, kept).scores(["a", "bb"])] == [0.01, 0.02]
        assert len(service.asked) == 2


def test_what_is_kept_may_end_in_half_a_line_and_not_be_anything(tmp_path: Path) -> None:
    kept = tmp_path / "kept.jsonl"
    with Service(by_length).running() as service:
        list(client(service, kept).scores(["a", "bb"]))
        whole = kept.read_bytes()
        for cut in range(whole.rindex(b"\n", 0, -1) + 1, len(whole)):
            kept.write_bytes(whole[:cut])
            assert [each.score for each in client(service, kept).scores(["a", "bb"])] == [0.01, 0.02]
        assert kept.read_bytes() == whole
        for damage in (b"{}\n", b"nonsense\n", b"[]\n", b'{"text": "x", "score": 2, "day": ""}\n'):
            kept.write_bytes(whole + damage)
            with pytest.raises(InputError, match=r"kept\.jsonl:4: is no kept score"):
                list(client(service, kept).scores(["a"]))
        kept.write_bytes(b'{"format": 99}\n')
        with pytest.raises(InputError, match="newer Puna"):
            list(client(service, kept).scores(["a"]))
