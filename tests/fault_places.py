"""Where the run folders of trials lie: on a disk, or on an object store, asked over HTTP and not by way of Puna; and
what of a folder on a disk a power cut would leave."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tiny
from object_store import ObjectStore


class Disk:
    """Folders below the one that this process works in."""

    def url(self, out: str) -> str:
        return out

    def lay(self, source: str, out: str) -> None:
        """Have `out` be a copy of the folder `source`; of none: not there."""
        shutil.rmtree(out, ignore_errors=True)
        if source:
            shutil.copytree(source, out)

    def state(self, out: str, *, times: bool = True) -> Mapping[str, object]:
        """All that a command given next could find in the folder: names, bytes, and when files were last written."""
        return {
            path.as_posix(): (
                path.is_file() and path.read_bytes(),
                times and path.is_file() and path.stat().st_mtime_ns,
            )
            for path in [Path(out), *Path(out).rglob("*")]
            if path.exists()
        }

    def names(self, out: str) -> list[str]:
        """Every file of a folder, by its path from there."""
        return sorted(path.relative_to(out).as_posix() for path in Path(out).rglob("*"))

    def stable(self, out: str) -> Mapping[str, str]:
        """What a run must end with, bit for bit."""
        return tiny.stable(Path(out))

    def clear(self, out: str) -> None:
        shutil.rmtree(out)


@dataclass(frozen=True)
class Store:
    """Names below the bucket of an object store."""

    store: ObjectStore

    def url(self, out: str) -> str:
        return self.store.url(out)

    def lay(self, source: str, out: str) -> None:
        """Have `out` be a copy of what lies below `source`; of none: not there."""
        self.store.remove(out)
        if source:
            self.store.copy(source, out)

    def state(self, out: str) -> Mapping[str, object]:
        """All that a command given next could find: names, and digests of the bytes."""
        return self.store.listing(out)

    def names(self, out: str) -> list[str]:
        return sorted(self.store.listing(out))

    def stable(self, out: str) -> Mapping[str, str]:
        """What a run must end with: the store's own digests of what `tiny.stable` reads."""
        found = self.store.listing(out)
        folders = ("documents/", "heldout/", "tokenizer/", "tokens/", "evaluations/")
        stable = {name: digest for name, digest in found.items() if name.startswith(folders)}
        steps = [name for name in found if name.startswith("checkpoints/") and name.endswith("/model.safetensors")]
        if steps:
            stable |= {name: found[f"{max(steps).rpartition('/')[0]}/{name}"] for name in tiny.WEIGHTS}
            stable["losses"] = tiny.stable_columns(self.store.read(f"{out}/metrics.jsonl"))
        return stable

    def clear(self, out: str) -> None:
        self.store.remove(out)


@dataclass
class Durable:
    """What of a folder stands after a power cut if nothing stays but what was synced: the bytes that a file had at its
    last fsync, under the names that its folder had at its own. It takes the place of os.fsync in this process.

    A file is known by its inode, which tmpfs does not give twice.
    """

    root: Path
    names: dict[int, dict[str, int]] = field(default_factory=dict)
    """Of each folder that was synced: what lies in it, by name."""
    bytes: dict[int, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._fsync = os.fsync
        for path in [self.root, *self.root.rglob("*")] if self.root.exists() else []:
            self._look(path)
        os.fsync = self.sync

    def sync(self, handle: Any) -> None:
        self._fsync(handle)
        self._look(Path(f"/proc/self/fd/{handle}"))

    def write(self, target: Path) -> None:
        """Make the folder that would be left, at `target`."""
        self._write(self.root.stat().st_ino if self.root.exists() else 0, target)

    def _look(self, path: Path) -> None:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            with os.scandir(path) as entries:
                inside = {entry.name: (entry.inode(), entry.is_dir(follow_symlinks=False)) for entry in entries}
            self.names[status.st_ino] = {name: inode for name, (inode, _) in inside.items()}
            for inode in (inode for inode, folder in inside.values() if folder):
                self.names.setdefault(inode, {})
        else:
            self.bytes[status.st_ino] = path.read_bytes()

    def _write(self, inode: int, target: Path) -> None:
        target.mkdir()
        for name, inside in self.names.get(inode, {}).items():
            if inside in self.names:
                self._write(inside, target / name)
            else:
                (target / name).write_bytes(self.bytes.get(inside, b""))
