"""Files that change while work goes on: metrics and log, which grow by lines, and the one that tells how far it is."""

from __future__ import annotations

import errno
import io
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from puna import remote, storage
from puna.errors import PunaError, telling_denial

if TYPE_CHECKING:
    from puna.storage import Place

UPLOAD_EVERY = 30.0  # seconds between two uploads of a file on an object store


class Appender:
    """A file that grows by lines (metrics, log). A line is in the system's hands when `line` returns; `sync` makes all
    lines so far survive a power cut. A half line left by a killed process is cut off when the file is opened again.

    On an object store, which knows no growing files, lines wait in a local one that is uploaded whole by `sync`, by
    `close`, and by a line that comes UPLOAD_EVERY seconds after the last upload.
    """

    def __init__(self, location: Place, *, vital: bool = True) -> None:
        """vital: whether a line that cannot be written is an error; otherwise it is dropped."""
        self.location = location
        self._vital = vital
        self._remote = storage.is_remote(location)
        self._uploaded = time.monotonic()
        if self._remote:
            self._file: Any = tempfile.NamedTemporaryFile("a+b", buffering=0, prefix=remote.temporary())  # noqa: SIM115
            if storage.exists(location):
                remote.download(location, cast(BinaryIO, self._file))
        else:
            self._file = _open_to_append(Path(str(location)))
        self._cut_half_line()

    def line(self, text: str) -> None:
        data = text.encode("utf-8", "backslashreplace").replace(b"\n", b" ") + b"\n"
        with self._told():
            storage.border("before write", str(self.location))
            end = self._file.seek(0, io.SEEK_END)
            if self._file.write(data) < len(data):  # a disk that fills up takes what it has room for
                self._file.truncate(end)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            storage.border("after write", str(self.location))
        if self._remote and time.monotonic() - self._uploaded > UPLOAD_EVERY:
            self.sync()

    def sync(self) -> None:
        with self._told():
            if self._remote:
                storage.upload(Path(self._file.name), self.location)
                self._uploaded = time.monotonic()
            else:
                storage.sync(self._file, self.location)

    def close(self) -> None:
        try:
            if self._remote:
                self.sync()
        finally:
            self._file.close()

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            with telling_denial(self.location):
                yield
        except (OSError, PunaError):
            if self._vital:
                raise

    def _cut_half_line(self) -> None:
        end = self._file.seek(0, io.SEEK_END)
        start = end
        while start > 0:
            step = min(65536, start)
            self._file.seek(start - step)
            newline = self._file.read(step).rfind(b"\n")
            if newline >= 0:
                start = start - step + newline + 1
                break
            start -= step
        if start < end:
            self._file.truncate(start)
        self._file.seek(0, io.SEEK_END)


def show(location: Place, data: bytes) -> None:
    """Replace a small file that tells how far work is: in one step, but neither synced nor worth an error."""
    with suppress(OSError, PunaError):
        if storage.is_remote(location):
            remote.put(location, data)
            return
        path = Path(str(location))
        temporary = storage.aside(path)
        try:
            temporary.write_bytes(data)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def hide(location: Place) -> None:
    """Take away what `show` left."""
    with suppress(OSError, PunaError):
        if storage.is_remote(location):
            remote.remove(location)
        else:
            Path(str(location)).unlink(missing_ok=True)


def _open_to_append(path: Path) -> Any:
    with telling_denial(path):
        storage.make_folder(path.parent)
        new = not path.exists()
        file = path.open("a+b", buffering=0)
        if new:
            storage.sync_folder(path.parent)
    return file
