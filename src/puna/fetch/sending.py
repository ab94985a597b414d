"""A file on its way to an object store, behind the face of `partial.Partial`.

Its bytes are sent as they come, as parts of one upload; the object is there when its place's checksum was compared and
the upload is completed. A lost connection to the place is gone on with as on a disk. A process that ends leaves no
object: parts cannot be read back, so nobody can check what stands behind them, and the file starts again. What is to be
cut behind its last whole record has to be read for that, and waits in this machine's temporary folder until it is; so
does all that goes to a store other than S3, of which nobody knows that it shows no half file.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from pathlib import Path
from typing import Any, TypeAlias

import xxhash

from puna import remote, storage
from puna.errors import telling_denial
from puna.fetch.file import File
from puna.fetch.partial import Partial
from puna.storage import Place

HEAD = 8  # bytes that are kept, to tell an archive from a page in its place


class Sending:
    """The bytes so far of the object that will stand at `target`. Memory: `remote.Growing`'s parts."""

    def __init__(self, target: Place, algorithm: str) -> None:
        """algorithm: of the published checksum, or ""."""
        self.target = target
        self.length = 0
        self.joined = False
        """Whether its bytes came by more than one request."""
        self.validator = ""
        """What the server told of this state of the file."""
        self.total: int | None = None
        """Bytes that the whole file has, as the server told."""
        self._algorithm = algorithm
        self._object: remote.Growing | None = None
        self._begin()

    def add(self, data: bytes) -> None:
        if not data:
            return
        with telling_denial(self.target):
            self._growing().write(data)
        for state in self._states.values():
            state.update(data)
        self._head += data[: HEAD - len(self._head)]
        self.length += len(data)

    def restart(self) -> None:
        """Forget all bytes."""
        self.close()
        self.length = 0
        self.joined = False
        self.validator, self.total = "", None
        self._begin()

    def head(self) -> bytes:
        """The first eight bytes."""
        return self._head

    def digests(self, algorithms: set[str]) -> dict[str, str]:
        """Checksums of all bytes, `xxh3` among them."""
        assert algorithms <= self._states.keys()
        return {name: state.hexdigest() for name, state in self._states.items()}

    def sync(self) -> None:
        """Have all bytes at the store."""
        with telling_denial(self.target):
            storage.border("before sync", str(self.target))
            self._growing().send()
            storage.border("after sync", str(self.target))

    def become(self) -> None:
        """Stand at the final name, in one step. `sync` was called."""
        with telling_denial(self.target):
            storage.border("before write", str(self.target))
            self._growing().complete()
            self._object = None
            storage.border("after write", str(self.target))

    def set_aside(self) -> Path | None:
        """Nothing is kept of what is wrong: it would be an object of its own."""
        self.close()
        return None

    def close(self) -> None:
        """Have the store forget what did not become an object."""
        if self._object is not None:
            self._object.abandon()
            self._object = None

    def _growing(self) -> remote.Growing:
        if self._object is None:
            self._object = remote.Growing(self.target, self.total)
        return self._object

    def _begin(self) -> None:
        self._head = b""
        self._states: dict[str, Any] = {"xxh3": xxhash.xxh3_128()}
        if self._algorithm:
            self._states[self._algorithm] = hashlib.new(self._algorithm, usedforsecurity=False)


class Waiting(Partial):
    """The bytes so far of an object that is sent when it is whole, in a temporary folder. Disk: the file."""

    def __init__(self, target: Place, url: str) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix=remote.temporary()))
        self._object = target
        super().__init__(self._folder / target.name, url)

    def become(self) -> None:
        """Stand at the final name, in one completed upload. `sync` was called."""
        storage.upload(self.path, self._object)

    def set_aside(self) -> Path | None:
        """Nothing is kept of what is wrong."""
        return None

    def close(self) -> None:
        """Nothing of it outlives the command."""
        super().close()
        shutil.rmtree(self._folder, ignore_errors=True)


Part: TypeAlias = Partial | Sending


def begun(file: File, target: Place) -> Part:
    """The bytes so far of a file, in its folder or on their way to a store. Raises PunaError as `storage.create`."""
    if isinstance(target, Path):
        return Partial(target, file.url)
    if file.limit is not None or not remote.grows(target):
        return Waiting(target, file.url)
    return Sending(target, file.checksum.partition(":")[0])
