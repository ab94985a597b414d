"""The one thread that decodes, and what stands between it and the server's event loop.

The engine knows nothing of connections and the event loop nothing of tensors. Requests go to the thread through one
queue; what each step made comes back in one call a step. Both ways are bounded: choices are counted before they are
handed over (429), a thread that is `AHEAD` steps before the loop waits for it, and a reader that leaves too much unread
loses its request and stalls nobody else's.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
import traceback
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import PurePath
from typing import Literal, Protocol

from puna.errors import InputError, PunaError
from puna.generate.request import End, Event, Request, Token
from puna.progress import tell
from puna.serve.limits import Limits
from puna.serve.metrics import Metrics
from puna.serve.refusals import Refusal

AHEAD = 64  # steps that the thread may be before the event loop
PLACES = 4  # calls that a line about a defect names


class Decoder(Protocol):
    """What is used of `generate.engine.Engine`; only the worker's thread calls it."""

    def submit(self, request: Request) -> int: ...

    def step(self) -> Sequence[Event]: ...

    def cancel(self, handle: int) -> Sequence[Event]: ...

    @property
    def busy(self) -> bool: ...


class Stream:
    """What comes of one request of a client: events of its prompts, in the order in which they are made."""

    def __init__(self, worker: Worker, requests: Sequence[Request], bounded: bool) -> None:
        self.requests = requests
        self.choices = sum(request.n for request in requests)
        self.begun = time.monotonic()
        self._worker, self._bounded = worker, bounded
        self._events: deque[Sequence[tuple[int, Event]]] = deque()
        self._wake = asyncio.Event()
        self._left = self.choices
        self._error: Refusal | None = None
        self._closed = False
        self._first = True
        late = Refusal(504, f"not done within {worker.limits.seconds:g} seconds")
        self._late = asyncio.get_running_loop().call_later(worker.limits.seconds, self.fail, late)

    async def __aiter__(self) -> AsyncIterator[Sequence[tuple[int, Event]]]:
        """(number of the prompt, event), as many as a step made at once. Refusal when the request fails."""
        try:
            while self._left or self._events:
                while self._events:
                    yield self._events.popleft()
                if self._error:
                    raise self._error
                if self._left:
                    self._wake.clear()
                    await self._wake.wait()
        finally:
            self.close()

    def close(self) -> None:
        """Nothing more is read; what is under way is taken back."""
        if not self._closed:
            self._closed = True
            self._late.cancel()
            self._events.clear()
            self._worker.closed(self, cancelled=self._left > 0)

    def fail(self, error: Refusal) -> None:
        self._error, self._left = self._error or error, max(1, self._left)
        self._wake.set()

    def drop(self) -> None:
        """Give a reader up that does not read."""
        if not self._error:
            self._worker.metrics.dropped.add()
            self.fail(Refusal(408, "the reply was not read in time", code="reader_too_slow"))

    def deliver(self, events: Sequence[tuple[int, Event]]) -> None:
        """Called in the event loop with what a step made."""
        if self._closed or self._error:
            return
        made = sum(isinstance(event, Token) for _, event in events)
        ended = [event for _, event in events if isinstance(event, End)]
        if self._first and (made or ended):
            self._first = False
            self._worker.metrics.first_token.observe(time.monotonic() - self.begun)
        self._worker.metrics.made.add(made)
        self._left -= len(ended)
        if wrong := next((event for event in ended if event.reason in ("error", "cancelled")), None):
            self.fail(Refusal(500, wrong.error or "decoding was ended", code="decoding_failed"))
            return
        if self._bounded and len(self._events) >= self._worker.limits.unread_events:
            self.drop()
            return
        self._events.append(events)
        self._wake.set()


@dataclass(slots=True)
class _Under:
    """A prompt under way: the request it is of, its number there, and choices that have not ended."""

    stream: Stream
    number: int
    left: int


class Worker:
    """Owns the engine and its thread. All methods but `_work` and what it calls belong to the event loop."""

    def __init__(self, decoder: Decoder, limits: Limits, metrics: Metrics) -> None:
        self.limits, self.metrics = limits, metrics
        self.broken = ""
        self.draining = False
        self._decoder = decoder
        self._open: set[Stream] = set()
        self._inbox: queue.SimpleQueue[tuple[Literal["submit", "cancel", "end"], Stream | None]] = queue.SimpleQueue()
        self._keys: dict[int, _Under] = {}
        self._of: dict[Stream, set[int]] = {}
        self._ahead = threading.BoundedSemaphore(AHEAD)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._work, name="decoding", daemon=True)

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    async def stop(self) -> None:
        """End what is under way with an error, then the thread."""
        self.end_all()
        self._inbox.put(("end", None))
        await asyncio.to_thread(self._thread.join, 10)

    def end_all(self) -> None:
        """Every request under way ends with the error that the server shuts down."""
        self.draining = True
        for stream in list(self._open):
            stream.fail(Refusal(503, "the server is shutting down"))

    def submit(self, requests: Sequence[Request], *, bounded: bool) -> Stream:
        """Begin a request. bounded: its reader may be slow. Refusal when there is no room."""
        if self.broken:
            raise Refusal(503, f"decoding has ended: {self.broken}", code="broken")
        if self.draining:
            raise Refusal(503, "the server is shutting down")
        choices = sum(request.n for request in requests)
        if self.waiting + choices > self.limits.queue:
            self.metrics.full.add()
            what = f"the queue is full: {self.waiting} choices are under way, and {choices} more are asked for"
            raise Refusal(429, f"{what}; at most {self.limits.queue} may be", retry=1)
        stream = Stream(self, requests, bounded)
        self._open.add(stream)
        self.metrics.read.add(sum(len(request.prompt) for request in requests))
        self._inbox.put(("submit", stream))
        return stream

    def closed(self, stream: Stream, *, cancelled: bool) -> None:
        self._open.discard(stream)
        if cancelled:
            self.metrics.cancelled.add()
            self._inbox.put(("cancel", stream))

    @property
    def waiting(self) -> int:
        """Choices that clients wait for."""
        return sum(stream.choices for stream in self._open)

    @property
    def decoding(self) -> int:
        """Prompts that the thread knows of: with no client left, none within a step."""
        return len(self._keys)

    def _work(self) -> None:
        """The thread. What goes wrong in a step costs the requests that are under way; anything else ends it."""
        try:
            while self._take():
                if not self._decoder.busy:
                    continue
                try:
                    made = self._decoder.step()
                except Exception as error:
                    self._give_up(error)
                    continue
                if made:
                    self._tell(made)
        except Exception as error:
            tell(f"error: {_where(error)}: no request is answered any more; start the server again")
            self.broken = f"{type(error).__name__}: {error}"
            self._call(self.end_all)

    def _take(self) -> bool:
        """Do what was asked since the last step; waits for something while there is nothing to decode."""
        while not self._decoder.busy or not self._inbox.empty():
            what, stream = self._inbox.get()
            if stream is None:
                return False
            if what == "cancel":
                self._cancel(stream)
                continue
            for number, request in enumerate(stream.requests):
                try:
                    key = self._decoder.submit(request)
                except Exception as error:
                    self._cancel(stream)
                    self._call(stream.fail, _told(error))
                    break
                self._keys[key] = _Under(stream, number, request.n)
                self._of.setdefault(stream, set()).add(key)
        return True

    def _cancel(self, stream: Stream) -> None:
        for key in self._of.pop(stream, ()):
            del self._keys[key]
            self._decoder.cancel(key)

    def _tell(self, made: Sequence[Event]) -> None:
        by_stream: dict[Stream, list[tuple[int, Event]]] = defaultdict(list)
        for event in made:
            if under := self._keys.get(event.handle):
                by_stream[under.stream].append((under.number, event))
                under.left -= isinstance(event, End)
                if not under.left:
                    self._forget(event.handle)
        self._ahead.acquire()
        self._call(self._deliver, by_stream)

    def _forget(self, key: int) -> None:
        stream = self._keys.pop(key).stream
        self._of[stream].discard(key)
        if not self._of[stream]:
            del self._of[stream]

    def _deliver(self, by_stream: dict[Stream, list[tuple[int, Event]]]) -> None:
        self._ahead.release()
        for stream, events in by_stream.items():
            stream.deliver(events)

    def _give_up(self, error: Exception) -> None:
        """Forget all that is under way."""
        tell(f"error: {_where(error)}: requests under way were ended, and the server goes on")
        refusal = _told(error)
        for stream in list(self._of):
            self._call(stream.fail, refusal)
            self._cancel(stream)

    def _call(self, function: Callable[..., None], *values: object) -> None:
        assert self._loop is not None
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(function, *values)


def _where(error: Exception) -> str:
    """What went wrong in decoding, in one line; of a defect also where, from the innermost call outwards."""
    if isinstance(error, PunaError):
        return str(error)
    calls = traceback.extract_tb(error.__traceback__)[: -PLACES - 1 : -1]
    places = ", ".join(f"{PurePath(call.filename).name}:{call.lineno}" for call in calls)
    return " ".join(f"decoding failed: {type(error).__name__}: {error} ({places})".split())


def _told(error: Exception) -> Refusal:
    if isinstance(error, InputError):
        return Refusal(400, str(error))
    return Refusal(500, "decoding failed; the server's log says where", code="decoding_failed")
