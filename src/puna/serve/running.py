"""uvicorn, held to the limits that it has no setting for, and ended gently.

h11 is taken and not httptools: it is strict about what a request is, is plain Python, and what it costs is nothing
beside a token.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import ipaddress
import json
import signal
import socket
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from puna.errors import InputError
from puna.processes import stopping
from puna.serve.limits import LIMITS, Limits
from puna.serve.refusals import Refusal
from puna.serve.worker import Worker


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    if host == "localhost":
        return True
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return False


def bound(host: str, port: int, wire_bytes: int = LIMITS.wire_bytes) -> socket.socket:
    """A socket that listens there; port 0 takes any. InputError when that cannot be had.

    wire_bytes: that the system buffers of replies, a connection; without it Linux would take megabytes for each reader
    that does not read.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        taken = socket.create_server(address[:2], family=family, backlog=128)
    except (OSError, UnicodeError, OverflowError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise InputError(f"cannot be listened at ({why})", where=f"{host}:{port}", mend="give another --port") from None
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, wire_bytes)
    taken.setblocking(False)
    return taken


class Server(uvicorn.Server):
    """Ends when told to: new requests are refused, those under way have `shutdown_seconds`."""

    def __init__(self, app: ASGIApp, worker: Worker, limits: Limits) -> None:
        self._worker, self._limits = worker, limits
        super().__init__(
            uvicorn.Config(
                app,
                http=functools.partial(Protocol, limits),  # type: ignore[arg-type]  # called as a class is
                ws="none",
                loop="asyncio",
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                limit_concurrency=limits.connections,
                h11_max_incomplete_event_size=limits.header_bytes,
                timeout_keep_alive=int(limits.idle_seconds),
                # What still does not end then has no reader that reads.
                timeout_graceful_shutdown=int(limits.shutdown_seconds) + 5,
            )
        )

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """What a signal does while this serves; only the main thread of a process may say so."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in stopping()}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.should_exit:
            self.force_exit = True
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._worker.draining = True
        late = asyncio.get_running_loop().call_later(self._limits.shutdown_seconds, self._worker.end_all)
        await super().shutdown(sockets)
        late.cancel()


class Protocol(H11Protocol):
    """One connection. It is cut where a request's headers do not come whole in time, and its wire is lent to replies,
    so that one whose reader has stopped reading can be cut too."""

    def __init__(self, limits: Limits, *values: Any, **named: Any) -> None:
        super().__init__(*values, **named)
        self.limits = limits
        self._late: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.app_state = {**self.app_state, "transport": transport}
        self._wait_for_headers()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._wait_for_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        self._no_longer_late()
        if self._unread is not None:
            self._unread.cancel()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._wait_for_reader()

    def _wait_for_reader(self, before: int | None = None) -> None:
        """Cut the connection where nothing of a whole reply was read for a while: to close it would wait for that.
        before: bytes that were left then."""
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None
        left = self.transport.get_write_buffer_size()
        if left and left == before:
            self.transport.abort()
        elif left:
            self._unread = self.loop.call_later(self.limits.reader_seconds, self._wait_for_reader, left)

    def _wait_for_headers(self) -> None:
        """uvicorn gives up its own timer at the first byte of a request."""
        if self.conn.their_state is not h11.IDLE:
            self._no_longer_late()
        elif self._late is None:
            self._late = self.loop.call_later(self.limits.header_seconds, self.transport.abort)

    def _no_longer_late(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def send_400_response(self, msg: str) -> None:
        """For what is no HTTP. In the middle of an answer there is nobody left to tell it."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            what = f"this is no valid HTTP request, or its headers are larger than {self.limits.header_bytes} bytes"
            body = json.dumps(Refusal(400, what, code="not_http").body()).encode()
            headers = [
                ("content-type", "application/json"),
                ("content-length", str(len(body))),
                ("connection", "close"),
            ]
            response = h11.Response(status_code=400, headers=headers, reason=b"Bad Request")
            for event in (response, h11.Data(data=body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
