"""One file, from its place to its final name: asked for, gone on with, checked, renamed.

A lost connection, a busy server or a short body is waited for and gone on from where it was, as long as bytes come or
ATTEMPTS times without any. The rest of a file is asked for by range, and joined only when the server says that the file
is still the same (If-Range with a strong ETag or a date), or when a published checksum will tell. What is wrong at the
end is never given the final name: it is fetched once more from its beginning if it was joined from pieces, and else set
aside.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from puna.errors import InputError, PunaError
from puna.fetch.border import border
from puna.fetch.client import LONGEST_WAIT, TIMEOUT, Answer, Clock, Gate, Passing, wait_for
from puna.fetch.coding import Coding, Misstated
from puna.fetch.file import File
from puna.fetch.partial import Partial
from puna.fetch.sending import Part, begun
from puna.progress import say, seconds
from puna.storage import Place

SLOWEST = 10_000  # bytes that a connection must bring in TIMEOUT seconds; else another one is tried
ATTEMPTS = 6  # requests in a row that may bring no byte
MAGIC = {".gz": b"\x1f\x8b", ".bz2": b"BZh", ".7z": b"7z\xbc\xaf"}  # looked for where no checksum is published


class Asks(Protocol):
    """A client of one place."""

    def ask(self, url: str, *, start: int = 0, end: int | None = None, validator: str = "") -> Answer: ...


@dataclass(frozen=True)
class Door:
    """How one place is asked."""

    client: Asks
    gate: Gate
    clock: Clock


@dataclass(frozen=True)
class Fetched:
    """What came of a file."""

    size: int
    digest: str
    """xxh3 of the bytes that stand here."""
    validator: str
    checked: bool
    """Whether a published checksum was compared."""


class Wrong(PunaError):
    """The bytes are not those that the place published."""


def download(
    file: File, target: Place, door: Door, on_bytes: Callable[[int], None], record: Callable[[Fetched], None]
) -> Fetched:
    """Fetch a file to `target`. `record` is called when all is checked and synced, before the file has its name.

    on_bytes: told how many came, negative when bytes were forgotten. Raises PunaError when it cannot be had, Wrong when
    it is not what was published; Interrupted when fetching is to end.
    """
    part = begun(file, target)
    if isinstance(part, Partial) and file.limit is not None and part.length > file.limit:
        part.cut(file.limit)
    on_bytes(part.length)
    ranges = True
    try:
        while True:
            ranges = _filled(file, part, door, on_bytes, ranges)
            try:
                fetched = _checked(file, part)
                break
            except Wrong as error:
                if not part.joined:
                    aside = part.set_aside()
                    what = f"{error.what}; it {f'lies in {aside}' if aside else 'was not kept'}"
                    raise Wrong(what, where=error.where, mend=error.mend) from None
                say(f"{file.name}: {error.what}; joined from pieces, it is fetched once more from its beginning")
                on_bytes(-part.length)
                part.restart()
                ranges = False
        part.sync()
        record(fetched)
        part.become()
        return fetched
    finally:
        part.close()


def _filled(file: File, part: Part, door: Door, on_bytes: Callable[[int], None], ranges: bool) -> bool:
    """Bring all bytes; whether this server's ranges can be relied on."""
    failures, farthest = 0, part.length
    while not _whole(file, part):
        try:
            with door.gate.turn():
                _stream(file, part, door, on_bytes, ranges)
            if _whole(file, part):
                break
            error = Passing("the connection ended early", where=file.url)
        except Misstated as misstated:
            ranges, error = False, misstated
            on_bytes(-part.length)
            part.restart()
        except Passing as passing:
            error = passing
        failures = 1 if part.length > farthest else failures + 1
        farthest = max(farthest, part.length)
        if failures >= ATTEMPTS:
            raise error
        if error.after is not None:
            if error.after > LONGEST_WAIT:
                raise PunaError(f"asks to be left alone for {seconds(error.after)}", where=file.url, mend=error.mend)
            wait = max(error.after, wait_for(failures))
            door.gate.hold(wait)
        else:
            wait = wait_for(failures)
        say(f"{file.name}: {error.what}; again in {seconds(wait)}")
        door.clock.sleep(wait)
    return ranges


def _whole(file: File, part: Part) -> bool:
    if file.limit is not None and part.length >= file.limit:
        return True
    return part.length == part.total


def _stream(file: File, part: Part, door: Door, on_bytes: Callable[[int], None], ranges: bool) -> None:
    """One request, its bytes added to the part as they come."""
    if part.length and not (ranges and (part.validator or file.checksum)):
        on_bytes(-part.length)
        part.restart()  # nothing would tell whether the rest belongs to these bytes
    end = file.limit if ranges else None
    answer = door.client.ask(file.url, start=part.length, end=end, validator=part.validator)
    try:
        coding = _begun(file, part, answer, on_bytes)
        came = before = 0
        since = door.clock.now()
        while file.limit is None or part.length < file.limit:
            door.clock.check()
            data = answer.read()
            came += len(data)
            if door.clock.now() - since > TIMEOUT:
                if came - before < SLOWEST:
                    raise Passing(f"sent {came - before} bytes in {seconds(door.clock.now() - since)}", where=file.url)
                since, before = door.clock.now(), came
            for piece in coding.undone(data) if data else coding.rest():
                taken = piece if file.limit is None else piece[: file.limit - part.length]
                part.add(taken)
                on_bytes(len(taken))
            if not data:
                if part.total is None and came == (answer.length or came) and coding.ended:
                    part.total = part.length  # of unknown length, but it says where it ends
                return
    finally:
        answer.close()


def _begun(file: File, part: Part, answer: Answer, on_bytes: Callable[[int], None]) -> Coding:
    """Compare what the server says of its answer with what was asked; how its bytes are to be taken."""
    headers = answer.headers
    if answer.status == 416:
        raise Misstated("has no such range", where=file.url)
    coding = Coding(headers.get("content-encoding", ""), file, ranged=answer.status == 206)
    if answer.status == 206:
        first, total = _range(headers.get("content-range", ""))
        if first != part.length:
            raise Misstated("sent another range than was asked for", where=file.url)
        if part.length and (not _still(part.validator, headers) or (part.total or total) != (total or part.total)):
            raise Misstated("changed while it was fetched", where=file.url)
        part.joined = part.length > 0
    else:
        if part.length:  # the file has changed, or ranges are not known there
            on_bytes(-part.length)
            part.restart()
        total = None if coding.named else answer.length
    if not answer.ends and file.size is None:
        raise PunaError("does not say where it ends", where=file.url, mend="name a mirror that does")
    if file.size is not None and total not in (None, file.size):
        mend = "give --anew if the place has a new file, or name another mirror"
        raise PunaError(f"has {total} bytes where {file.size} are published", where=file.url, mend=mend)
    # What was packed on its way is not gone on with: a byte's number there may be one of the packed file.
    part.validator = "" if coding.named else _validator(headers) or part.validator
    part.total = file.size if total is None else total
    return coding


def _still(validator: str, headers: Mapping[str, str]) -> bool:
    """Whether the headers of a part do not contradict what was told of the file before; both need not be there."""
    now = headers.get("etag" if validator.startswith('"') else "last-modified", "").strip()
    return not validator or not now or now == validator


def _validator(headers: Mapping[str, str]) -> str:
    """What makes the rest of this very file known again: a strong ETag, or the time of its last change."""
    tag = headers.get("etag", "").strip()
    if re.fullmatch(r'"[\x21\x23-\x7e]*"', tag):
        return tag
    return "" if tag.startswith("W/") else headers.get("last-modified", "").strip()


def _range(told: str) -> tuple[int, int | None]:
    """(first byte, bytes of the whole file) of `Content-Range: bytes 5-9/10`."""
    found = re.fullmatch(r"bytes ([0-9]{1,15})-([0-9]{1,15})/([0-9]{1,15}|\*)", told.strip())
    if found is None:
        return -1, None
    return int(found[1]), None if found[3] == "*" else int(found[3])


def _checked(file: File, part: Part) -> Fetched:
    """Compare sizes and checksums, cut what is wanted in part; Wrong when it is not what was published."""
    if file.limit is not None and (part.total is None or file.limit < part.total):
        assert isinstance(part, Partial)  # what is to be cut is not sent as it comes
        with part.reader() as reader:
            try:
                end = border(reader, file.name, part.length)
            except ValueError as error:
                raise Wrong(f"cannot be cut: it {error}", where=file.url) from None
        if not end:
            what = f"holds no whole record in its first {part.length} bytes"
            raise InputError(what, where=file.url, mend="ask for more `bytes` of each file")
        part.cut(end)
        return Fetched(part.length, f"xxh3:{part.digests(set())['xxh3']}", part.validator, checked=False)
    if file.size is not None and part.length != file.size:
        raise Wrong(f"has {part.length} bytes where {file.size} are published", where=file.url)
    algorithm, _, published = file.checksum.partition(":")
    kind = "" if algorithm else next((end for end in MAGIC if file.name.endswith(end)), "")
    if kind and not part.head().startswith(MAGIC[kind]):
        raise Wrong(f"does not begin as a {kind} file does", where=file.url)
    found = part.digests({algorithm} if algorithm else set())
    if algorithm and found[algorithm] != published:
        since = f"was first seen on {file.first_seen}" if file.first_seen else "is published"
        what = f"its {algorithm} is {found[algorithm]} where {published} {since}"
        raise Wrong(what, where=file.url, mend="give the same command again, or another mirror")
    return Fetched(part.length, f"xxh3:{found['xxh3']}", part.validator, checked=bool(algorithm))
