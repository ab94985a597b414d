"""What was planned for a source and what is done of it: `SOURCE.fetch.jsonl` beside the source's folder.

The first line holds the format and the recipe's values that the plan follows from, then comes a line for each planned
file, then one for each that was fetched, written and synced before the file has its name. So a plan holds until the
recipe asks for something else: catalogues that change meanwhile do not change what is half fetched, and a command that
finds all done asks nobody. An older plan's finished files stay in the account.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from puna import storage
from puna.errors import InputError
from puna.fetch.file import File, checked_name
from puna.formats import FETCHED
from puna.lines import Appender
from puna.storage import Place

ENDING = ".fetch.jsonl"


@dataclass(frozen=True)
class Done:
    """A file that was fetched, or that its place turned out to lack."""

    file: File
    size: int
    digest: str
    """xxh3 of its bytes here; "" for a file that its place lacks."""
    validator: str = ""
    checked: bool = False
    """Whether a published checksum was compared."""
    day: str = ""
    """When, as YYYY-MM-DD in UTC."""


class Account:
    """The account of one source. Nothing is written before `plan`."""

    def __init__(self, to: Place, source: str) -> None:
        self.folder = to / source
        self.path = to / f"{source}{ENDING}"
        self.asked: Mapping[str, Any] | None = None
        self.files: list[File] = []
        self.done: dict[str, Done] = {}
        self._appender: Appender | None = None
        self.read()

    def plan(self, asked: Mapping[str, Any], files: Sequence[File]) -> None:
        """Take these files for what is to be there. What is done stays."""
        self.asked, self.files = asked, list(files)
        head = {"format": FETCHED.version, "asked": asked, "files": len(files)}
        lines = [head, *({"file": file.as_json()} for file in files), *(_line(done) for done in self.done.values())]
        self.close()
        storage.write(self.path, "".join(f"{json.dumps(line, sort_keys=True)}\n" for line in lines).encode())

    def finish(self, done: Done) -> None:
        """Write down that a file is whole; synced when this returns."""
        if self._appender is None:
            self._appender = Appender(self.path)
        self._appender.line(json.dumps(_line(done), sort_keys=True))
        self._appender.sync()
        self.done[done.file.name] = done

    def is_done(self, file: File, *, verify: bool = False) -> bool:
        """Whether the file stands here as it was fetched: by its size, and with `verify` by its digest."""
        done = self.done.get(file.name)
        if done is None or not done.file.same(file):
            return False
        if not done.digest:
            return True
        path = self.folder / file.name
        seen = storage.look(path)
        return seen is not None and seen.size == done.size and not (verify and storage.digest(path) != done.digest)

    def sweep(self) -> None:
        """Remove what killed commands left half-written; only who holds the source's folder may call this."""
        storage.sweep(self.folder)
        for name in storage.names(self.path.parent):
            if name.startswith(f"{storage.TEMPORARY}{self.path.name}-"):
                storage.remove(self.path.with_name(name))

    def others(self) -> list[str]:
        """Files that stand here and were fetched, but that the plan does not name any more: readers take them too."""
        planned = {file.name for file in self.files}
        names = (name for name, done in self.done.items() if name not in planned and done.digest)
        return sorted(name for name in names if storage.is_file(self.folder / name))

    def close(self) -> None:
        if self._appender is not None:
            self._appender.close()
            self._appender = None

    def read(self) -> None:
        """Take what is written down, of another command meanwhile too."""
        self.asked, self.files, self.done = None, [], {}
        data = storage.find(self.path)
        if data is None:
            return
        *lines, _ = data.split(b"\n")  # behind the last newline stands what a killed process did not end
        planned = -1
        for number, line in enumerate(lines, start=1):
            try:
                value = json.loads(line)
                if number == 1:
                    FETCHED.refuse_newer(value["format"], self.path)
                    self.asked, planned = dict(value["asked"]), int(value["files"])
                elif "file" in value:
                    self.files.append(_file(value["file"], str(self.path)))
                else:
                    told = dict(value["done"])
                    done = Done(**told | {"file": _file(told["file"], str(self.path))})
                    self.done[done.file.name] = done
            except (ValueError, TypeError, KeyError, RecursionError):
                mend = "remove it: what is there is fetched again"
                raise InputError("is no account of a fetch", where=f"{self.path}, line {number}", mend=mend) from None
        if planned != len(self.files):
            self.asked, self.files = None, []


def _line(done: Done) -> dict[str, Any]:
    return {"done": {**asdict(done), "file": done.file.as_json()}}


def _file(told: Mapping[str, Any], where: str) -> File:
    file = File(**told)
    checked_name(file.name, where)
    if not isinstance(file.url, str) or not isinstance(file.size, int | None) or not isinstance(file.limit, int | None):
        raise TypeError
    return file
