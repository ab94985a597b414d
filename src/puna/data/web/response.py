"""An HTTP response as a record holds it: its status, its headers by name, and its payload, decoded within bounds.

Common Crawl stores payloads decoded and renames the headers that said how they came (X-Crawler-Content-Encoding); other
crawlers store what came over the wire, and some decode it and leave the headers as they were. So a coding that a header
names is undone where the payload shows it, and a payload that shows nothing of it is taken as it is.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass

from puna.data.web.warc import END_OF_HEADERS, parse_headers

MAX_RATIO = 250  # times its stored size that a payload may decode to, once that is over FREE bytes
FREE = 1_000_000
STATUS = re.compile(rb"HTTP/\d(?:\.\d)?[ \t]+(\d{3})\b")
CHUNK = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;[^\r\n]{0,1000})?\r?\n")


class UnreadableError(Exception):
    """Why a response cannot be read."""


@dataclass(frozen=True, slots=True)
class Response:
    status: str
    headers: dict[str, str]
    body: bytes
    """As stored, before any coding is undone."""


def parse(block: bytes) -> Response:
    """Raises UnreadableError where there is no HTTP header."""
    status = STATUS.match(block)
    if status is None:
        raise UnreadableError("a response without an HTTP header")
    ending = END_OF_HEADERS.search(block)
    head, body = (block, b"") if ending is None else (block[: ending.start()], block[ending.end() :])
    return Response(status[1].decode(), parse_headers(head), body)


def payload(response: Response, limit: int, cut: bool) -> bytes:
    """The body with its transfer and content codings undone; of a `cut` one, what can be decoded of it. Raises
    UnreadableError where a coding is broken or unknown, or where more than `limit` bytes come out."""
    body = response.body
    if "chunked" in response.headers.get("transfer-encoding", "").lower():
        body = _unchunked(body, cut)
    codings = [name.strip().lower() for name in response.headers.get("content-encoding", "").split(",")]
    for coding in reversed(codings):
        body = _decoded(body, coding, limit, cut)
    if len(body) > limit:
        raise UnreadableError(f"a payload is larger than {limit} bytes")
    return body


def _unchunked(body: bytes, cut: bool) -> bytes:
    if CHUNK.match(body) is None:
        return body
    found: list[bytes] = []
    position = 0
    while chunk := CHUNK.match(body, position):
        size = int(chunk[1], 16)
        if size == 0:
            return b"".join(found)
        position = chunk.end() + size
        found.append(body[chunk.end() : position])
        if position > len(body):
            break
        position += 2 if body[position : position + 2] == b"\r\n" else body[position : position + 1] == b"\n"
    if cut or position == len(body):
        return b"".join(found)
    raise UnreadableError("the chunks of a payload are broken")


def _decoded(body: bytes, coding: str, limit: int, cut: bool) -> bytes:
    if coding in ("gzip", "x-gzip"):
        return _inflated(body, 31, limit, cut) if body.startswith(b"\x1f\x8b") else body
    if coding == "deflate":
        if _looks_like_text(body):
            return body
        wrapped = len(body) > 1 and body[0] & 15 == 8 and (body[0] << 8 | body[1]) % 31 == 0
        return _inflated(body, 15 if wrapped else -15, limit, cut)
    if coding == "br":
        return body if _looks_like_text(body) else _unbrotlied(body, limit, cut)
    if coding in ("", "identity", "none", "utf-8") or _looks_like_text(body):
        return body
    raise UnreadableError(f"Content-Encoding {coding[:40]!r} is not known")


def _inflated(body: bytes, window: int, limit: int, cut: bool) -> bytes:
    decompressor = zlib.decompressobj(window)
    try:
        found = decompressor.decompress(body, limit + 1)
    except zlib.error:
        raise UnreadableError("the compressed payload is damaged") from None
    _bounded(found, body, limit)
    if not decompressor.eof and not cut:
        raise UnreadableError("the compressed payload breaks off")
    return found


def _unbrotlied(body: bytes, limit: int, cut: bool) -> bytes:
    import brotli

    decompressor = brotli.Decompressor()
    try:
        found: bytes = decompressor.process(body, output_buffer_limit=limit + 1)
    except brotli.error:
        raise UnreadableError("the compressed payload is damaged") from None
    _bounded(found, body, limit)
    if not decompressor.is_finished() and not cut:
        raise UnreadableError("the compressed payload breaks off")
    return found


def _bounded(found: bytes, body: bytes, limit: int) -> None:
    if len(found) > limit:
        raise UnreadableError(f"a payload is larger than {limit} bytes")
    if len(found) > FREE and len(found) > MAX_RATIO * len(body):
        raise UnreadableError(f"a payload decodes to over {MAX_RATIO} times its size")


def _looks_like_text(body: bytes) -> bool:
    beginning = body[:1024].lstrip(b"\xef\xbb\xbf \t\r\n")
    return beginning.startswith(b"<") and not re.search(rb"[\x00-\x08\x0e-\x1a]", beginning)
