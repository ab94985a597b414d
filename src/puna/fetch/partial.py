"""A file on its way: bytes that outlive the process that fetched them, and what must hold for the rest to be joined.

`storage.create` leaves a file whole or not at all, and a download of hours must survive its process half-done; so this
module writes too, and it alone. The bytes grow under one name that no reader takes for a dump (`.fetch-NAME`), and
beside them stands what they belong to (`.fetch-NAME.json`): the address, the validator, and how many bytes were synced.
Whoever goes on begins at that mark: what a killed process or a power cut left behind it is cut off, since after a power
cut it may be anything. A finished one becomes the file by one rename (`storage.move`).
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import xxhash

from puna import lock, remote, storage
from puna.errors import InputError, PunaError, telling_denial
from puna.formats import FETCHED
from puna.storage import Place

ASIDE, WRONG = ".fetch-", ".wrong-"
MARK_EVERY = 8_000_000  # bytes between two marks: what a kill may cost
BLOCK = 1 << 20


@contextmanager
def held(folder: Place) -> Iterator[None]:
    """Hold a source's folder, so that no two commands fetch into it; given back however the process ends. One on an
    object store is held as a run there is (lock.py), and what a dead holder had begun to upload is forgotten."""
    if not isinstance(folder, Path):
        with ExitStack() as holding:
            try:
                holding.enter_context(lock.locked(folder))
            except InputError as error:
                mend = f"wait for it; when you know that it is dead, remove {folder}/run.lock"
                raise InputError(error.what, where=error.where, mend=mend) from None
            remote.forget_uploads(folder)
            yield
        return
    with telling_denial(folder):
        storage.make_folder(folder)
        file = (folder / f"{ASIDE}lock").open("ab")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                mend = "wait for it, or stop it"
                raise InputError("another command fetches into it", where=str(folder), mend=mend) from None
        yield


class Partial:
    """The bytes so far of the file that will stand at `target`."""

    def __init__(self, target: Path, url: str) -> None:
        self.target, self.url = target, url
        self.path = target.with_name(f"{ASIDE}{target.name}")
        self._state = target.with_name(f"{ASIDE}{target.name}.json")
        self.validator = ""
        """What the server told of this state of the file: its ETag, or the date of its last change."""
        self.total: int | None = None
        """Bytes that the whole file has, as the server told."""
        with telling_denial(self.path):
            storage.make_folder(target.parent)
            self._file: BinaryIO = self.path.open("r+b" if storage.is_file(self.path) else "w+b")
        self.length = self._marked = self._resumed()
        self.joined = self.length > 0
        """Whether its bytes came by more than one request."""

    def add(self, data: bytes) -> None:
        with telling_denial(self.path):
            self._file.write(data)
            self.length += len(data)
            if self.length - self._marked >= MARK_EVERY:
                self.mark()

    def mark(self) -> None:
        """Have all bytes so far survive, and be gone on from."""
        with telling_denial(self.path):
            storage.sync(self._file, self.path)
        self._marked = self.length
        state = {"format": FETCHED.version, "url": self.url, "validator": self.validator, "total": self.total}
        storage.write_json(self._state, state | {"synced": self.length})

    def restart(self) -> None:
        """Forget all bytes."""
        with telling_denial(self.path):
            storage.remove(self._state)
            self._file.seek(0)
            self._file.truncate(0)
        self.length = self._marked = 0
        self.joined = False
        self.validator, self.total = "", None

    def cut(self, length: int) -> None:
        """Keep only the first bytes."""
        with telling_denial(self.path):
            self._file.flush()
            self._file.truncate(length)
            self._file.seek(length)
        self.length = length

    def digests(self, algorithms: set[str]) -> dict[str, str]:
        """Checksums of all bytes, `xxh3` among them."""
        self._file.flush()
        found: dict[str, Any] = {name: hashlib.new(name, usedforsecurity=False) for name in algorithms}
        found["xxh3"] = xxhash.xxh3_128()
        with storage.open_read(self.path) as file:
            while block := file.read(BLOCK):
                for state in found.values():
                    state.update(block)
        return {name: state.hexdigest() for name, state in found.items()}

    def reader(self) -> BinaryIO:
        """The bytes so far, to be read."""
        self._file.flush()
        return storage.open_read(self.path)

    def head(self) -> bytes:
        """The first eight bytes."""
        with self.reader() as file:
            return file.read(8)

    def sync(self) -> None:
        with telling_denial(self.path):
            storage.sync(self._file, self.path)
            if self.path.stat().st_size != self.length:
                raise PunaError("fewer bytes stand on the disk than were written", where=str(self.path))

    def become(self) -> None:
        """Stand at the final name, in one step. `sync` was called."""
        self._file.close()
        storage.move(self.path, self.target)
        storage.remove(self._state)

    def set_aside(self) -> Path | None:
        """Stand under a name that no reader takes for a dump, to be looked at."""
        self._file.close()
        aside = self.target.with_name(f"{WRONG}{self.target.name}")
        storage.move(self.path, aside)
        storage.remove(self._state)
        return aside

    def close(self) -> None:
        """Keep what there is for the next time."""
        if not self._file.closed:
            with suppress(OSError, PunaError):
                if self.length > self._marked:
                    self.mark()
            self._file.close()
            if not self.length:
                forget(self.target)

    def _resumed(self) -> int:
        """Bytes to go on from, after what stands behind the last mark was cut off."""
        try:
            found = storage.find(self._state)
            state = storage.read_json(self._state) if found else {}
        except InputError:
            state = {}
        if not isinstance(state, dict):
            state = {}
        FETCHED.refuse_newer(state.get("format"), self._state)
        synced, total, validator = (state.get(name) for name in ("synced", "total", "validator"))
        size = storage.size(self.path)
        fits = state.get("url") == self.url and isinstance(synced, int) and 0 < synced <= size
        length = int(synced) if fits and isinstance(synced, int) else 0
        if length:
            self.validator = validator if isinstance(validator, str) else ""
            self.total = total if isinstance(total, int) else None
        with telling_denial(self.path):
            self._file.truncate(length)
            self._file.seek(length)
        return length


def forget(target: Place) -> None:
    """Remove what a process left that ended between the last rename and its tidying."""
    if not isinstance(target, Path):
        return
    for left in (f"{ASIDE}{target.name}", f"{ASIDE}{target.name}.json"):
        path = target.with_name(left)
        if storage.is_file(path):
            storage.remove(path)
