"""What stands before every route: whose request it is, and how large it may be.

- A page from elsewhere must not reach a server on this machine through a browser: `Host` must be an address, localhost
  or a name that was allowed (against DNS rebinding, where another's name leads here), and `Origin`, where there is one,
  this server's own or an allowed one.
- A body is read here, whole, within its size and time, before anything looks at it, and must say that it is JSON: what
  a form of another page can send without asking is not.
- With a key, all but the page's own files and /health want it.
- Every answer tells a browser to load, frame and guess nothing.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import re
import secrets
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from puna.serve.limits import Limits
from puna.serve.metrics import Metrics
from puna.serve.refusals import Refusal

OPEN = ("/", "/report", "/health")  # and what lies under /page/: the same for everybody
PATHS = {"/v1/models", "/v1/completions", "/v1/chat/completions", "/tokenize", "/detokenize", "/tokenizer_info"} | {
    *OPEN,
    *("/metrics", "/about", "/openapi.json", "/report/document", "/report/session"),
}
LINGER = 2.0  # seconds
COOKIE = "puna_report"
# A name or an address and a port, and nothing else: what stands before an @, say, is no part of any host.
HOST = re.compile(r"(?:\[(?P<address>[0-9A-Fa-f:.]{2,45})\]|(?P<name>[\w.-]{1,253}))(?::[0-9]{1,5})?", re.ASCII)
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; frame-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# The report is one file with its style and drawings in it. It is shown without any right: no script, no form.
REPORT_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'self'; sandbox"
)
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Content-Security-Policy": POLICY,
}


@dataclass(frozen=True)
class Door:
    """Who may come in. hosts: names besides localhost and addresses. origins: of other pages. key: "" asks for none."""

    hosts: frozenset[str] = frozenset()
    origins: frozenset[str] = frozenset()
    key: str = ""
    session: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    """What the report's cookie holds: a frame cannot send a key, and the key itself stays out of the cookie."""

    def check(self, method: str, path: str, scheme: str, headers: Headers) -> None:
        """Refusal when the request is not from whom it may be."""
        host = headers.get("host", "")
        if not self._is_known(host):
            mend = "give --allow-host NAME to puna serve where this name is right"
            raise Refusal(403, f"Host {host!r} is not this server's; {mend}", code="host_not_allowed")
        origin = headers.get("origin")
        if origin is not None and origin not in self.origins and origin != f"{scheme}://{host}":
            mend = "give --allow-origin URL to puna serve where that page may ask"
            raise Refusal(403, f"Origin {origin!r} is another page's; {mend}", code="origin_not_allowed")
        if self.key and path not in OPEN and not path.startswith("/page/"):
            self._check_key(method, path, headers)
        if method == "POST" and headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise Refusal(415, "the body must be JSON, and Content-Type say application/json")

    def _is_known(self, host: str) -> bool:
        parts = HOST.fullmatch(host)
        if parts is None:
            return False
        address, name = parts["address"], (parts["name"] or "").lower()
        if address is None and name in ("localhost", *self.hosts):
            return True
        try:
            return ipaddress.ip_address(address or name).version == (6 if address else 4)
        except ValueError:
            return False

    def _check_key(self, method: str, path: str, headers: Headers) -> None:
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), self.key.encode()):
            return
        if path == "/report/document" and method == "GET" and self._has_cookie(headers):
            return
        raise Refusal(401, "give the server's key: Authorization: Bearer KEY")

    def _has_cookie(self, headers: Headers) -> bool:
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            return False
        return cookie is not None and hmac.compare_digest(cookie.value.encode(), self.session.encode())


class Guard:
    """The ASGI application that lets requests through to another."""

    def __init__(self, app: ASGIApp, door: Door, limits: Limits, metrics: Metrics) -> None:
        self.app, self.door, self.limits, self.metrics = app, door, limits, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        begun, path, answered = time.monotonic(), scope["path"], 0

        async def answer(message: Message) -> None:
            nonlocal answered
            if message["type"] == "http.response.start":
                answered = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        if scope["method"] == "HEAD":  # what GET is answered, of which the server sends the head alone
            scope = {**scope, "method": "GET"}
        try:
            headers = Headers(scope=scope)
            self._measure(scope)
            self.door.check(scope["method"], path, scope["scheme"], headers)
            body = await self._body(headers, receive)
            await self.app(scope, _again(body, receive), answer)
        except Refusal as refusal:
            response = refusal.response()
            response.headers["Connection"] = "close"  # what is left of the body is not waited for
            await response(scope, receive, answer)
        finally:
            self.metrics.requests.add(1, path if path in PATHS else "other", str(answered))
            self.metrics.took.observe(time.monotonic() - begun)

    def _measure(self, scope: Scope) -> None:
        """h11 counts only headers that come in parts."""
        size = len(scope["raw_path"]) + len(scope["query_string"]) + sum(len(a) + len(b) for a, b in scope["headers"])
        if size > self.limits.header_bytes:
            raise Refusal(
                431, f"the headers are larger than {self.limits.header_bytes} bytes", code="headers_too_large"
            )

    async def _body(self, headers: Headers, receive: Receive) -> bytes:
        """All of the body. Refusal when it is too large or too slow."""
        too_large = Refusal(413, f"the body is larger than {self.limits.body_bytes} bytes")
        if int(headers.get("content-length") or 0) > self.limits.body_bytes:
            await _read_away(receive)
            raise too_large
        parts, size = [], 0
        try:
            async with asyncio.timeout(self.limits.body_seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise Refusal(408, "the body ended too early", code="cut_short")
                    parts.append(message.get("body", b""))
                    size += len(parts[-1])
                    if size > self.limits.body_bytes:
                        if message.get("more_body"):
                            await _read_away(receive)
                        raise too_large
                    if not message.get("more_body", False):
                        return b"".join(parts)
        except TimeoutError:
            what = f"the body did not arrive within {self.limits.body_seconds:g} seconds"
            raise Refusal(408, what, code="timeout") from None


async def _read_away(receive: Receive) -> None:
    """Let a client finish a body that is refused, for a moment: one that still sends when the connection is closed is
    reset, and never reads why."""
    with suppress(TimeoutError):
        async with asyncio.timeout(LINGER):
            while (await receive()).get("more_body"):
                pass


def _again(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body once more, and then what is left: that the client is gone."""
    messages: Sequence[Message] = [{"type": "http.request", "body": body, "more_body": False}]
    left = iter(messages)

    async def replayed() -> Message:
        return next(left, None) or await receive()

    return replayed
