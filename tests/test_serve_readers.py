"""Readers that leave, that do not read, and that are too many: each loses its own request, and nobody else's."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest

from puna.serve.limits import Limits
from puna.serve.worker import Stream
from serving import Running, plain, running

RUN = Path(__file__).parent / "fixtures" / "run-1"
ENDLESS = {"prompt": "the", "max_tokens": 90, "temperature": 1.0, "seed": 1, "stream": True}


def _wire(server: Running, body: object, room: int | None = None) -> socket.socket:
    """A connection with a request on it that nobody reads from yet."""
    host, port = server.url.removeprefix("http://").split(":")
    wire = socket.socket()
    if room:
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
    wire.connect((host, int(port)))
    data = json.dumps(body).encode()
    head = f"Host: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    wire.sendall(b"POST /v1/completions HTTP/1.1\r\n" + head.encode() + data)
    return wire


def _until(true: object, seconds: float = 20.0) -> None:
    until = time.monotonic() + seconds
    while not true():  # type: ignore[operator]
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.mark.parametrize("stream", [False, True])
def test_a_request_whose_reader_leaves_is_given_up(stream: bool) -> None:
    with running(plain()) as server:
        server.engine.gate.clear()
        wire = _wire(server, {**ENDLESS, "stream": stream, "n": 2})
        _until(lambda: server.worker.waiting == 2)
        wire.close()
        _until(lambda: server.worker.waiting == 0)
        server.engine.gate.set()
        server.quiet()
        assert server.engine.steps < 80
        assert "puna_cancelled_total 1" in server.get("/metrics").text


def test_a_request_that_waits_for_a_place_is_given_up_too() -> None:
    with running() as server:
        wires = [_wire(server, {**ENDLESS, "n": 8}) for _ in range(4)]
        _until(lambda: server.worker.waiting == 32)
        for wire in wires:
            wire.close()
        server.quiet()
        assert server.post("/v1/completions", {"prompt": "a"}).status_code == 200


def test_a_full_queue_says_when_to_come_again() -> None:
    with running(plain(), limits=Limits(queue=3)) as server:
        server.engine.gate.clear()
        wire = _wire(server, {**ENDLESS, "n": 2})
        _until(lambda: server.worker.waiting == 2)
        reply = server.post("/v1/completions", {"prompt": "a", "n": 2})
        assert (reply.status_code, reply.json()["error"]["code"]) == (429, "queue_full")
        assert int(reply.headers["retry-after"]) > 0
        server.engine.gate.set()
        assert server.post("/v1/completions", {"prompt": "a"}).status_code == 200
        wire.close()
        server.quiet()


def test_a_reader_that_does_not_read_loses_its_request_and_stalls_nobody() -> None:
    """What is made for it is bounded: by the wire's own buffers, then by `unread_events`, then it is cut off."""
    limits = Limits(reader_seconds=0.5, unread_events=8)
    with running(plain(), limits=limits) as server:
        body = {**ENDLESS, "logprobs": 20, "echo": True, "n": 16, "prompt": "the end " * 3, "max_tokens": 60}
        wire = _wire(server, body, room=4096)
        _until(lambda: server.worker.waiting == 16)
        alone = server.post("/v1/completions", {"prompt": "the cat", "max_tokens": 5, "temperature": 0})
        assert alone.status_code == 200
        server.quiet()
        dropped = re.search(r"puna_dropped_total (\d+)", server.get("/metrics").text)
        assert dropped
        assert dropped[1] == "1"
        _until(lambda: len(server.server.server_state.connections) == 0 or _cut(wire))
        wire.close()


def test_a_whole_reply_that_nobody_reads_holds_no_connection_for_ever() -> None:
    with running(plain(), limits=Limits(reader_seconds=0.5)) as server:
        body = {**ENDLESS, "stream": False, "logprobs": 20, "echo": True, "n": 16, "prompt": "the end " * 3}
        wires = [_wire(server, {**body, "max_tokens": 60}, room=4096)]
        wires.append(_wire(server, {**body, "max_tokens": 60}, room=4096))
        _until(lambda: server.worker.waiting)
        server.quiet()
        _until(lambda: len(server.server.server_state.connections) == 0)
        for wire in wires:
            wire.close()


def test_a_request_that_the_queue_has_no_room_for_is_kept_nowhere() -> None:
    """Each would stay in memory with its prompt for as long as a request may take."""
    earlier = _streams()  # of servers of other tests
    with running(plain(), limits=Limits(queue=3)) as server:
        for _ in range(3):
            assert server.post("/v1/completions", {"prompt": "the cat", "n": 4}).status_code == 429
        for _ in range(100):  # an answer is read before its server has let go of it
            kept = sum(not any(stream is other for other in earlier) for stream in _streams())
            if not kept:
                break
            time.sleep(0.05)
    assert not kept


def _streams() -> list[Stream]:
    gc.collect()
    return [each for each in gc.get_objects() if type(each) is Stream]


def _cut(wire: socket.socket) -> bool:
    """Whether the other side has ended the connection."""
    wire.settimeout(5)
    with contextlib.suppress(ConnectionResetError):
        while wire.recv(65536):
            pass
    return True


def test_a_request_that_takes_too_long_is_an_error() -> None:
    with running(plain(), limits=Limits(seconds=0.3)) as server:
        server.engine.gate.clear()
        reply = server.post("/v1/completions", {"prompt": "a"})
        assert (reply.status_code, reply.json()["error"]["code"]) == (504, "timeout")
        server.engine.gate.set()
        server.quiet()


def test_a_server_that_ends_lets_requests_finish_and_takes_no_more() -> None:
    with running(plain()) as server:
        server.engine.gate.clear()
        with server.client() as client, client.stream("POST", "/v1/completions", json=ENDLESS) as reply:
            server.server.should_exit = True
            _until(lambda: server.worker.draining)
            server.engine.gate.set()
            text = "".join(reply.iter_text())
        assert text.endswith("data: [DONE]\n\n")
        with pytest.raises(httpx.ConnectError):
            server.get("/health")


def test_what_does_not_finish_in_time_is_told_that_the_server_ends() -> None:
    with running(plain(), limits=Limits(shutdown_seconds=0.3)) as server:
        server.engine.gate.clear()
        with server.client() as client, client.stream("POST", "/v1/completions", json=ENDLESS) as reply:
            server.server.should_exit = True
            text = "".join(reply.iter_text())
        assert json.loads(text.split("data: ")[-1])["error"]["code"] == "shutting_down"
        server.engine.gate.set()


def test_many_at_once_each_get_their_own_text() -> None:
    with running() as server:
        alone = {}
        for prompt in ("the cat", "the hat", "the end", "naïve"):
            body = {"prompt": prompt, "max_tokens": 12, "temperature": 0}
            alone[prompt] = server.post("/v1/completions", body).json()["choices"][0]["text"]
        found: list[tuple[str, str]] = []

        def ask(prompt: str) -> None:
            body = {"prompt": prompt, "max_tokens": 12, "temperature": 0}
            found.append((prompt, server.post("/v1/completions", body).json()["choices"][0]["text"]))

        threads = [threading.Thread(target=ask, args=(prompt,)) for prompt in list(alone) * 6]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == 24
        assert all(alone[prompt] == text for prompt, text in found)
        server.quiet()


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.prove)])
def test_the_command_serves_a_run_until_a_signal_and_ends_with_0(number: signal.Signals) -> None:
    command = [sys.executable, "-m", "puna.cli", "serve", str(RUN), "--port", "0", "--threads", "1"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "PUNA_KEY": ""})
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        address = re.search(r"http://127\.0\.0\.1:\d+", line)
        assert address, line
        with httpx.Client(base_url=address[0], trust_env=False, timeout=60) as client:
            reply = client.post("/v1/completions", json={"prompt": "a", "max_tokens": 3})
            assert reply.json()["usage"]["completion_tokens"] <= 3
            assert client.get("/v1/models").json()["data"][0]["id"] == "run-1"
        process.send_signal(number)
        _, rest = process.communicate(timeout=60)
        assert process.returncode == 0
        assert rest == "ended\n"
    finally:
        process.kill()
        process.wait()
