"""One request to a place that publishes dumps: what is asked, what is followed, what is refused, what may pass.

The standard library's client, opened by hand: http and https alone (no file, ftp or data), no cookies, no credentials,
no `Accept-Encoding` but identity, nothing decoded, no redirect followed unseen. Proxies are those of the environment,
certificates are checked against the system's list. A library on top would add what is here switched off.

A redirect is followed to the host that was asked, and to hosts that the recipe names for that place (`redirects`) with
all below them; never from https to http, never to a URL that holds a user name, five times at most.
"""

from __future__ import annotations

import email.utils
import http.client
import ssl
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Protocol

from puna import __version__
from puna.errors import InputError, Interrupted, PunaError

TIMEOUT = 60.0  # seconds without a byte
REDIRECTS = 5
MOVED = (301, 302, 303, 307, 308)
BUSY = (408, 425, 429, 500, 502, 503, 504)
ANSWER = 1 << 20  # bytes that are read of a short answer
BLOCK = 1 << 16  # bytes read at once: what a connection holds in memory
LONGEST_WAIT = 900.0  # seconds; a place that asks for more is left alone
FIRST_WAIT, LONGEST_OWN_WAIT = 1.0, 60.0


class Passing(PunaError):
    """What may be over in a moment: a lost connection, a busy server. after: seconds that the server asks for."""

    def __init__(self, what: str, *, where: str = "", after: float | None = None) -> None:
        super().__init__(what, where=where, mend="give the same command again: it goes on from there")
        self.after = after


@dataclass
class Clock:
    """Time as fetching sees it. Tests put one here that does not wait."""

    stopped: threading.Event = field(default_factory=threading.Event)
    now: Callable[[], float] = time.monotonic

    def sleep(self, seconds: float) -> None:
        """Wait; raises Interrupted when fetching is to end."""
        if self.stopped.wait(max(0.0, seconds)):
            self.check()

    def check(self) -> None:
        if self.stopped.is_set():
            raise Interrupted("interrupted; the same command goes on where it was")


class Gate:
    """How one place may be asked: `connections` at the same time, begun `pause` seconds apart, and after what it asked
    us to wait."""

    def __init__(self, clock: Clock, connections: int, pause: float) -> None:
        self._clock, self._pause = clock, pause
        self._free = threading.Semaphore(connections)
        self._lock = threading.Lock()
        self._next = clock.now()

    @contextmanager
    def turn(self) -> Iterator[None]:
        with self._free:
            while (left := self._reserve()) > 0:
                self._clock.sleep(left)
            yield

    def hold(self, seconds: float) -> None:
        """Let nobody begin a request for so long."""
        with self._lock:
            self._next = max(self._next, self._clock.now() + seconds)

    def _reserve(self) -> float:
        """0 and the turn is taken, or the seconds until it may be asked for again."""
        with self._lock:
            now = self._clock.now()
            if now >= self._next:
                self._next = now + self._pause
                return 0.0
            return self._next - now


class Answer(Protocol):
    """What a place answered: its status, headers in lower case, and its bytes as they were sent."""

    status: int
    headers: Mapping[str, str]
    length: int | None
    """Bytes that the body has by its header; None where it ends by chunks or with the connection."""
    ends: bool
    """Whether a body that is cut short can be told from one that ends: by its length or its last chunk."""

    def read(self) -> bytes: ...

    def close(self) -> None: ...


class Client:
    """Asks one place over HTTP. redirects: hosts that it may send on to."""

    def __init__(self, contact: str, redirects: tuple[str, ...]) -> None:
        about = f"; {contact}" if contact else ""
        self.agent = f"puna/{__version__} (fetches published text dumps{about})"
        self._redirects = redirects
        self._opener = opener()

    def ask(self, url: str, *, start: int = 0, end: int | None = None, validator: str = "") -> Answer:
        """GET, from byte `start` to the last byte before `end`. validator: an ETag or date that the file must still
        have for a part of it to be sent. Gives status 200, 206 or 416; raises Passing or PunaError for all else."""
        headers = {"User-Agent": self.agent, "Accept": "*/*", "Accept-Encoding": "identity"}
        if start or end is not None:
            headers["Range"] = f"bytes={start}-{'' if end is None else end - 1}"
        if start and validator:
            headers["If-Range"] = validator
        asked = url
        for _ in range(REDIRECTS + 1):
            answer = self._once(url, headers)
            if answer.status not in MOVED:
                return _judged(answer, url)
            answer.close()
            url = self._followed(url, answer.headers.get("location", ""), asked)
        raise PunaError(f"sends on more than {REDIRECTS} times", where=asked)

    def _once(self, url: str, headers: Mapping[str, str]) -> HttpAnswer:
        if not url.startswith(("http://", "https://")):
            raise PunaError("is no web address", where=url)
        try:
            request = urllib.request.Request(url, headers=dict(headers), method="GET")
            response = self._opener.open(request, timeout=TIMEOUT)
        except (ValueError, http.client.InvalidURL) as error:  # what cannot stand in a request
            raise PunaError(f"cannot be asked for ({error})", where=url) from None
        except (OSError, http.client.HTTPException) as error:
            raise _of_network(error, url) from error
        return HttpAnswer(response, url)

    def _followed(self, url: str, location: str, asked: str) -> str:
        """Where a redirect leads; PunaError where it may not."""
        try:
            to = urllib.parse.urljoin(url, location)
            old, new = urllib.parse.urlsplit(url), urllib.parse.urlsplit(to)
            host = (new.hostname or "").lower()
            _ = new.port
        except ValueError:
            raise PunaError("sends on to no address", where=asked) from None
        mend = "fetch it by hand if you trust that place"
        if new.scheme not in ("http", "https") or not host:
            raise PunaError(f"sends on to {_shown(to)}, which is no web address", where=asked, mend=mend)
        if old.scheme == "https" and new.scheme == "http":
            raise PunaError(f"sends on from https to {_shown(to)}, which is not followed", where=asked, mend=mend)
        if new.username is not None or new.password is not None:
            raise PunaError("sends on to an address with a user name", where=asked, mend=mend)
        own = (urllib.parse.urlsplit(asked).hostname or "").lower()
        if host != own and not any(host == name or host.endswith(f".{name}") for name in self._redirects):
            what = f"sends on to another host, {host}"
            raise PunaError(what, where=asked, mend="name it in that source's `redirects` if you trust it")
        return urllib.parse.urlunsplit(new._replace(fragment=""))


def post(url: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, Mapping[str, str], bytes]:
    """(status, headers in lower case, at most ANSWER bytes of the answer) of one request with a JSON body. A redirect
    is an answer like any other: what was sent is for this address. Raises Passing when the connection fails."""
    sent = {"User-Agent": f"puna/{__version__}", "Content-Type": "application/json", **headers}
    try:
        with opener().open(urllib.request.Request(url, body, sent, method="POST"), timeout=TIMEOUT) as response:
            found = {name.lower(): value for name, value in response.getheaders()}
            return response.status, found, response.read(ANSWER)
    except (ValueError, http.client.InvalidURL) as error:
        raise PunaError(f"cannot be asked ({error})", where=url) from None
    except (OSError, http.client.HTTPException) as error:
        raise _of_network(error, url) from error


def opener() -> urllib.request.OpenerDirector:
    """http and https alone, through the environment's proxies; no redirect is followed, no status is an error."""
    made = urllib.request.OpenerDirector()
    made.addheaders = []
    for each in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(context=_context()),
    ):
        made.add_handler(each)
    return made


@cache
def _context() -> ssl.SSLContext:
    """Certificates and host names are checked, against what this system trusts; read once."""
    return ssl.create_default_context()


class HttpAnswer:
    def __init__(self, response: http.client.HTTPResponse, url: str) -> None:
        self._response, self._url = response, url
        self.status = response.status
        self.headers: Mapping[str, str] = {name.lower(): value for name, value in response.getheaders()}
        self.length = None if response.chunked else response.length
        self.ends = bool(response.chunked) or self.length is not None

    def read(self) -> bytes:
        """The next bytes, at most BLOCK; none at the end."""
        try:
            return self._response.read1(BLOCK)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise _of_network(error, self._url) from error

    def close(self) -> None:
        self._response.close()


def wait_for(failures: int) -> float:
    """Seconds to wait after so many failures in a row: 1, 2, 4, to a minute."""
    return float(min(LONGEST_OWN_WAIT, FIRST_WAIT * 2 ** (failures - 1)))


def retry_after(headers: Mapping[str, str], wall: float) -> float | None:
    """Seconds that `Retry-After` asks for: a number, or a day and time, which is compared with the server's own clock
    where it tells it. None where there is none or it says nothing."""
    told = headers.get("retry-after", "").strip()
    if told.isascii() and told.isdecimal():
        return float(min(int(told[:12]), 10**9))
    then, now = _time(told), _time(headers.get("date", ""))
    return None if then is None else max(0.0, then - (wall if now is None else now))


def _time(text: str) -> float | None:
    try:
        return email.utils.parsedate_to_datetime(text).timestamp() if text else None
    except (ValueError, OverflowError, TypeError, IndexError):
        return None


def _judged(answer: HttpAnswer, url: str) -> HttpAnswer:
    if answer.status in (200, 206, 416):
        return answer
    answer.close()
    if answer.status in BUSY:
        after = retry_after(answer.headers, time.time())
        raise Passing(f"is busy (status {answer.status})", where=url, after=after)
    if answer.status in (404, 410):
        raise Missing(f"is not there (status {answer.status})", where=url, mend="check the recipe's [fetch] tables")
    if answer.status in (401, 403):
        mend = "wait some hours, in case too much was asked; see docs/fetch.md for what the place expects"
        raise PunaError(f"is refused (status {answer.status})", where=url, mend=mend)
    raise PunaError(f"answers with status {answer.status}", where=url)


class Missing(PunaError):
    """There is no such file at the place."""


def _of_network(error: Exception, url: str) -> PunaError:
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(reason, ssl.SSLCertVerificationError):
        mend = "check this machine's clock and certificates; they are never left unchecked"
        what = getattr(reason, "verify_message", str(reason))
        return InputError(f"its certificate is not valid ({what})", where=url, mend=mend)
    if isinstance(reason, http.client.IncompleteRead):
        return Passing("the connection ended in the middle", where=url)
    if isinstance(reason, TimeoutError):
        return Passing(f"sent nothing for {TIMEOUT:.0f} s", where=url)
    return Passing(f"the connection failed ({str(reason) or type(reason).__name__})", where=url)


def _shown(url: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in url[:100])
