"""A reply that is sent as it is made: it ends when its reader goes, and is cut off from a reader that does not read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from fastapi.responses import Response
from starlette.types import Receive, Scope, Send

from puna.serve.worker import Stream

Result = TypeVar("Result")
HEADERS = {"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}


class Gone(Exception):
    """The reader closed its connection."""


class EventStream(Response):
    """Server-sent events from `lines`, which are of `stream`. reader_seconds: that one piece may wait to be taken."""

    def __init__(self, lines: AsyncIterator[bytes], stream: Stream, reader_seconds: float) -> None:
        self.status_code = 200
        self.background = None
        self._lines, self._stream, self._seconds = lines, stream, reader_seconds
        self.init_headers(HEADERS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await unless_gone(self._send(send), receive)
        except Gone:
            pass
        except TimeoutError:
            self._stream.drop()
            # Closing would wait for what the reader has not taken; the server's protocol (running.py) lends its wire.
            with suppress(KeyError):
                scope["state"]["transport"].abort()
        finally:
            self._stream.close()

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async for line in self._lines:
            async with asyncio.timeout(self._seconds):
                await send({"type": "http.response.body", "body": line, "more_body": True})
        async with asyncio.timeout(self._seconds):
            await send({"type": "http.response.body", "body": b"", "more_body": False})


async def unless_gone(work: Coroutine[Any, Any, Result], receive: Callable[[], Awaitable[Any]]) -> Result:
    """What `work` gives, or Gone, with `work` cancelled, when the client leaves before."""

    async def gone() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    doing, leaving = asyncio.create_task(work), asyncio.create_task(gone())
    try:
        await asyncio.wait((doing, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not doing.done():
            raise Gone
        return doing.result()
    finally:
        for task in (doing, leaving):
            task.cancel()
        await asyncio.gather(doing, leaving, return_exceptions=True)
