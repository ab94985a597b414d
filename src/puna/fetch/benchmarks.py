"""`puna fetch --benchmarks`: the release files of the paper's benchmarks, from where each is published.

The story: choose the releases (`released.py`); say licence, condition, size and checksum of each (`as_text`); fetch
what is not there with the machinery of raw dumps (`work.py`); write down the checksums of what had none published;
unpack archives (`unpack.py`); look at what lies there as `puna evaluate` will, and compare the numbers of items.

FOLDER/NAME/FILE is a release file as it came, FOLDER/NAME/unpacked holds what was wanted of an archive, and
FOLDER/checksums.json the SHA-256 of files of which none is published, with the day on which each was first seen.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from puna import storage, testsets
from puna.errors import InputError, PunaError
from puna.fetch import recorded, work
from puna.fetch.account import Account
from puna.fetch.client import Client, Clock, Gate
from puna.fetch.download import Door
from puna.fetch.file import File
from puna.fetch.planned import FORMAT, Plan, Planned
from puna.fetch.released import Release, ReleaseFile, chosen, releases
from puna.fetch.unpack import unpack
from puna.formats import FETCHED
from puna.progress import say, size
from puna.storage import Place
from puna.testsets import BENCHMARKS

TO = "benchmarks"  # where `puna evaluate` looks unless it is told
UNPACKED, SEEN = "unpacked", "checksums.json"
MEND = "remove it to fetch it again; where the change is right, remove its line in " + SEEN


@dataclass
class Wanted:
    """What a command is going to fetch."""

    to: Place
    releases: list[Release]
    plan: Plan
    seen: dict[str, dict[str, str]] = field(default_factory=dict)
    """Of files without a published checksum, by their names below `to`: `sha256`, and `day` when it was first seen."""

    @property
    def conditions(self) -> dict[str, str]:
        """What must be accepted before this is fetched, by the release's name."""
        missing = {planned.source for planned in self.plan.sources if planned.missing}
        return {each.name: each.condition for each in self.releases if each.condition and each.name in missing}

    def as_text(self) -> str:
        """Of each release its licence, condition, files, sizes and checksums, and what is there."""
        lines = []
        for release, planned in zip(self.releases, self.plan.sources, strict=True):
            lines.append(f"{release.name}: {release.licence}; published by {release.published_by}")
            if release.condition:
                lines.append(f"  condition: {release.condition}")
            gone = {file.name for file in planned.missing}
            for file in planned.files:
                state = "to fetch" if file.name in gone else "there"
                told = size(file.size) if file.size is not None else "size not published"
                lines.append(f"  {file.name}, {told}, {self._checksum(file)}, {state}")
                lines.append(f"    {file.url}")
        unknown = sum(file.size is None for planned in self.plan.sources for file in planned.missing)
        more = f", and {unknown} of unpublished size" if unknown else ""
        lines.append(f"To fetch  {self.plan.missing} files, {size(self.plan.left)}{more}, into {self.to}")
        return "\n".join(lines)

    def as_json(self) -> dict[str, Any]:
        told = {}
        for release, planned in zip(self.releases, self.plan.sources, strict=True):
            gone = {file.name for file in planned.missing}
            files = [{**file.as_json(), "there": file.name not in gone} for file in planned.files]
            about = {"published_by": release.published_by, "licence": release.licence, "condition": release.condition}
            told[release.name] = {**about, "benchmarks": list(release.benchmarks), "files": files}
        return {"format": FORMAT, "to": str(self.to), "releases": told, "bytes_left": self.plan.left}

    def _checksum(self, file: File) -> str:
        if not file.checksum:
            return "no checksum published"
        return f"{file.checksum[:19]}... {f'first seen on {file.first_seen}' if file.first_seen else 'published'}"


def plan(names: Sequence[str], to: str = TO, clock: Clock | None = None) -> Wanted:
    """What is to be fetched for these benchmarks (none: all), and what of it is there. Reads what is there and compares
    its checksums; asks nobody, writes nothing. PunaError for a file that is not what was published or seen."""
    folder, clock = storage.place(to), clock or Clock()
    if storage.is_remote(folder):
        raise InputError("benchmarks are fetched into a folder of this machine", where=to, mend="give another --to")
    wanted = chosen(names, releases())
    seen = _seen(folder)
    gates: dict[str, Gate] = {}  # one request at a time to each host
    sources = []
    for release in wanted:
        gate = gates.setdefault(urlsplit(release.base).netloc, Gate(clock, 1, 0.0))
        sources.append(_planned(release, folder, Door(Client("", ()), gate, clock), seen))
    return Wanted(folder, wanted, Plan(folder, sources, clock, what="Benchmarks"), seen)


def accept(wanted: Wanted, accepted: Collection[str], ask: Callable[[str, str], bool]) -> None:
    """Have every condition accepted: by the release's name or a benchmark's, else by `ask(name, condition)`.

    Raises InputError for the first that is not, and nothing is fetched.
    """
    for release in wanted.releases:
        condition = wanted.conditions.get(release.name, "")
        if condition and not {release.name, *release.benchmarks} & set(accepted) and not ask(release.name, condition):
            mend = f"give --accept {release.name} if you accept it, or name the other benchmarks"
            raise InputError(f"its condition is not accepted: {condition}", where=release.name, mend=mend)


def fetch(wanted: Wanted) -> str:
    """Fetch, unpack and count; what came of it, a line for each benchmark.

    Raises PunaError where a file could not be had, is not what it was, or holds another number of items than is known;
    all others were fetched before.
    """
    failed: list[PunaError] = []
    if wanted.plan.missing:
        try:
            work.fetch(wanted.plan)
        except InputError:
            raise
        except PunaError as error:
            if error.exit_status != 1:
                raise
            failed.append(error)
    _note(wanted)
    lines = []
    for release, planned in zip(wanted.releases, wanted.plan.sources, strict=True):
        if planned.missing:
            continue
        folder = wanted.to / release.name
        try:
            for file in release.files:
                if file.keep and not storage.is_folder(folder / UNPACKED):
                    say(f"unpacking {folder / file.name}")
                    unpack(folder / file.name, file.keep, folder / UNPACKED)
                    recorded.note(wanted.to, release.name, UNPACKED)
            lines += [_counted(name, folder) for name in release.benchmarks]
        except PunaError as error:
            failed.append(error)
    if failed:
        for line in [*lines, *(f"error: {error}" for error in failed[1:])]:
            say(line)
        raise failed[0]
    return "\n".join(lines)


def _planned(release: Release, folder: Place, door: Door, seen: Mapping[str, Mapping[str, str]]) -> Planned:
    files = [_file(each, seen.get(f"{release.name}/{each.name}")) for each in release.files]
    missing = []
    for file in files:
        path = folder / release.name / file.name
        if not storage.is_file(path):
            missing.append(file)
        elif file.checksum and (found := f"sha256:{sha256(path)}") != file.checksum:
            since = f"was first seen on {file.first_seen}" if file.first_seen else "is published"
            raise PunaError(f"its {found} where {file.checksum} {since}", where=str(path), mend=MEND)
    asked = {"release": release.name}
    return Planned(release.name, release, door, Account(folder, release.name), asked, files, missing)


def _file(released: ReleaseFile, seen: Mapping[str, str] | None) -> File:
    if released.sha256 or seen is None:
        checksum = f"sha256:{released.sha256}" if released.sha256 else ""
        return File(released.name, released.url, released.size, checksum=checksum)
    return File(released.name, released.url, released.size, checksum=f"sha256:{seen['sha256']}", first_seen=seen["day"])


def _note(wanted: Wanted) -> None:
    """Write down the checksums of files that are there and have none."""
    new = {}
    for planned in wanted.plan.sources:
        for file in planned.files:
            path, name = wanted.to / planned.source / file.name, f"{planned.source}/{file.name}"
            if not file.checksum and storage.is_file(path):
                new[name] = {"sha256": sha256(path), "day": time.strftime("%Y-%m-%d", time.gmtime())}
                say(f"{name}: sha256 {new[name]['sha256']}, first seen; it is compared from now on")
    if new:
        known = _seen(wanted.to)
        storage.write_json(wanted.to / SEEN, {"format": FETCHED.version, "files": {**new, **known}})


def _seen(folder: Place) -> dict[str, dict[str, str]]:
    path = folder / SEEN
    if not storage.is_file(path):
        return {}
    try:
        told = storage.read_json(path)
        FETCHED.refuse_newer(told["format"], path)
        return {name: {key: str(each[key]) for key in ("sha256", "day")} for name, each in told["files"].items()}
    except (TypeError, KeyError, AttributeError):
        mend = "remove it: what is there is then taken for what was first seen"
        raise InputError("is no list of checksums", where=str(path), mend=mend) from None


def _counted(name: str, folder: Place) -> str:
    """How many items of the paper's split lie there, as `puna evaluate` finds them; PunaError where it is another
    number than is known."""
    benchmark = BENCHMARKS[name]
    files = [path for _, path in testsets.find(folder, name).files]
    measured = [path for path in files if testsets.split_of(name, path) in ("", benchmark.split)]
    found = sum(item.split == benchmark.split for path in measured for item in testsets.read_file(name, path))
    if benchmark.items != found:
        what = f"holds {found:,} {benchmark.split} items of {benchmark.title} where {benchmark.items:,} are known"
        raise PunaError(
            what, where=str(folder), mend="remove the folder and fetch it again, or say so to its publisher"
        )
    return f"{benchmark.title}: {found:,} {benchmark.split} items, as many as are known"


def sha256(path: Place) -> str:
    """Hex digits of a file's SHA-256, read in blocks."""
    state = hashlib.sha256()
    with storage.open_read(path) as file:
        while block := file.read(1 << 20):
            state.update(block)
    return state.hexdigest()
