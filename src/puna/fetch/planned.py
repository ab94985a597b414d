"""What a command is going to fetch: files, sizes and cost, said before anything is fetched.

A plan that is written down (`account.py`) holds; else each place's catalogue is asked for, with the same patience as
its files.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from puna import storage
from puna.errors import InputError, Interrupted, PunaError
from puna.fetch import places
from puna.fetch.account import Account
from puna.fetch.bucket import Bucket
from puna.fetch.catalogues import LARGEST
from puna.fetch.client import LONGEST_WAIT, Client, Clock, Gate, Passing, wait_for
from puna.fetch.coding import Coding
from puna.fetch.download import ATTEMPTS, Asks, Door
from puna.fetch.file import File
from puna.progress import say, seconds, size
from puna.recipe import Recipe
from puna.recipe_fetch import FetchArXiv, Place

FORMAT = 1  # of the JSON of `puna fetch`
NOT_THE_FILES = {"connections", "pause", "redirects", "price"}  # keys of a place on which no planned file depends


@dataclass(frozen=True)
class Options:
    """What the command line says beside the recipe."""

    pay: bool = False
    anew: bool = False
    verify: bool = False
    clock: Clock = field(default_factory=Clock)


class Asked(Protocol):
    """What planning and fetching have to know of a place."""

    @property
    def base(self) -> str: ...

    @property
    def connections(self) -> int: ...


@dataclass
class Planned:
    """One source: its place, how it is asked, what is to be there."""

    source: str
    place: Asked
    door: Door
    account: Account
    asked: dict[str, Any]
    files: list[File]
    missing: list[File]

    @property
    def bytes(self) -> int:
        """Of all files, as far as known: of those that are there, what they have."""
        gone = {file.name for file in self.missing}
        there = sum(self.account.done[file.name].size for file in self.files if file.name not in gone)
        return there + self.left

    @property
    def left(self) -> int:
        """Of those that are not there."""
        return sum(file.expected for file in self.missing)

    @property
    def cost(self) -> float | None:
        """Dollars for what is missing; None where nobody is to be paid."""
        if isinstance(self.place, FetchArXiv) and self.place.base.startswith("s3:"):
            return self.left / 1e9 * self.place.price
        return None

    def line(self) -> str:
        """What the plan says of this source."""
        exact = all(file.size is not None for file in self.missing)
        unknown = sum(not file.expected for file in self.missing)
        many = f"{len(self.files):,} file{'s' if len(self.files) != 1 else ''}"
        known = f"{'' if exact else 'about '}{size(self.bytes)}"
        parts = [f"{many} of unpublished size" if unknown == len(self.files) else f"{many}, {known}"]
        if 0 < unknown < len(self.files):
            parts.append(f"without {unknown:,} of unpublished size")
        if there := len(self.files) - len(self.missing):
            parts.append(f"{there:,} of them there")
        if self.cost is not None:
            parts.append(f"costs about {self.cost:.2f} dollars")
        return f"{self.source:14} {', '.join(parts)}, from {urlsplit(self.place.base).netloc}"


@dataclass
class Plan:
    """What a command is going to do."""

    to: storage.Place
    sources: list[Planned]
    clock: Clock
    verify: bool = False
    failed: list[PunaError] = field(default_factory=list)
    """What was said of places whose catalogues could not be had."""
    what: str = "Dumps"
    """What is fetched, as its summary begins."""

    def complain(self) -> None:
        """Raise what was wrong with the first place that could not be asked, if any."""
        if self.failed:
            raise self.failed[0]

    @property
    def left(self) -> int:
        return sum(planned.left for planned in self.sources)

    @property
    def missing(self) -> int:
        return sum(len(planned.missing) for planned in self.sources)

    def as_text(self, *, every: bool = False) -> str:
        """every: each file with its size."""
        lines = []
        for planned in self.sources:
            lines.append(planned.line())
            if every:
                lines += [f"  {_size(file):>10}  {planned.source}/{file.name}" for file in planned.files]
        lines.append(f"To fetch       {self.missing:,} files, about {size(self.left)}, into {self.to}")
        return "\n".join(lines)

    def as_json(self) -> dict[str, Any]:
        sources = {
            planned.source: {
                "files": [file.as_json() for file in planned.files],
                "bytes": planned.bytes,
                "missing": len(planned.missing),
                "dollars": planned.cost,
            }
            for planned in self.sources
        }
        return {"format": FORMAT, "to": str(self.to), "sources": sources, "bytes_left": self.left}


def plan(recipe: Recipe, names: Sequence[str], options: Options) -> Plan:
    """What the recipe asks of these sources (none: all) and what of it is there. Asks places for their catalogues where
    no plan is written down; writes nothing. A place that does not answer holds up no other one: see `Plan.failed`."""
    asked = _chosen(recipe, names)
    assert recipe.fetch is not None
    _refuse_unpaid(asked, options)
    to = recipe.fetch.to.rstrip("/") or "/"
    folder = storage.place(to) if storage.is_remote(to) else Path(to).expanduser()
    gates: dict[str, Gate] = {}
    sources, failed = [], []
    for source, place in asked.items():
        door = Door(_client(recipe, place), _gate(gates, place, asked.values(), options.clock), options.clock)
        account = Account(folder, source)
        values = place.model_dump(mode="json", exclude=NOT_THE_FILES)
        files = account.files
        if options.anew or account.asked != values:
            try:
                files = places.files(place, _Reader(place, door, gates).read)
            except (InputError, Interrupted):
                raise
            except PunaError as error:
                say(f"{source}: {error}")
                failed.append(error)
                continue
        missing = [file for file in files if not account.is_done(file, verify=options.verify)]
        sources.append(Planned(source, place, door, account, values, files, missing))
    planned = Plan(folder, sources, options.clock, options.verify, failed)
    if not sources:
        planned.complain()
    return planned


class _Reader:
    """Reads catalogues of one place."""

    def __init__(self, place: Place, door: Door, gates: dict[str, Gate]) -> None:
        self._place, self._door, self._gates = place, door, gates

    def read(self, url: str) -> bytes:
        """A catalogue's bytes as published; PunaError when it cannot be had or has no end."""
        door = self._door
        if urlsplit(url).netloc != urlsplit(self._place.base).netloc:
            other = self._place.model_copy(update={"base": url})
            door = replace(door, gate=_gate(self._gates, other, [other], door.clock))
        say(f"asking {url}")
        failures = 0
        while True:
            try:
                with door.gate.turn():
                    return _once(door.client, url, door.clock)
            except Passing as error:
                failures += 1
                if failures == ATTEMPTS or (error.after or 0.0) > LONGEST_WAIT:
                    raise
                wait = max(wait_for(failures), error.after or 0.0)
                say(f"  {error.what}; again in {seconds(wait)}")
                door.clock.sleep(wait)


def _once(client: Asks, url: str, clock: Clock) -> bytes:
    answer = client.ask(url)
    try:
        coding = Coding(answer.headers.get("content-encoding", ""), File(url, url), ranged=False)
        pieces: list[bytes] = []
        came = length = 0
        while data := answer.read():
            clock.check()
            came += len(data)
            pieces += coding.undone(data)
            length = sum(map(len, pieces)) if coding.named else came
            if length > LARGEST:
                raise InputError(f"is larger than {size(LARGEST)}", where=url, mend="is this its catalogue?")
        pieces += coding.rest()
        if answer.length not in (None, came) or not coding.ended:
            raise Passing("the connection ended early", where=url)
        return b"".join(pieces)
    finally:
        answer.close()


def _chosen(recipe: Recipe, names: Sequence[str]) -> dict[str, Place]:
    """The places to ask, in the recipe's order."""
    there = dict(recipe.fetch.items()) if recipe.fetch else {}
    if not there:
        mend = "write [fetch.NAME] tables, as docs/fetch.md shows, or take the recipe web"
        raise InputError(f"the recipe {recipe.name} says nothing of what to fetch", mend=mend)
    for name in names:
        if name not in there:
            what = f"the recipe {recipe.name} has no [fetch.{name}]"
            raise InputError(what, mend=f"it has {', '.join(there)}")
    return {name: place for name, place in there.items() if not names or name in names}


def _refuse_unpaid(asked: Mapping[str, Place], options: Options) -> None:
    """Nothing is asked of a bucket that bills the one who asks, its list neither, unless that was said."""
    for source, place in asked.items():
        if place.base.startswith("s3:") and not options.pay:
            what = f"{place.base} bills the one who asks"
            if isinstance(place, FetchArXiv):
                what += f", about {place.price:.2f} dollars for a GB by the recipe"
            others = " ".join(name for name in asked if name != source)
            mend = "give --pay, and it says the cost before it fetches"
            raise InputError(what, where=source, mend=f"{mend}; or leave it out: {others}" if others else mend)


def _client(recipe: Recipe, place: Place) -> Asks:
    if place.base.startswith("s3:"):
        return Bucket()
    return Client(recipe.fetch.contact if recipe.fetch else "", tuple(name.lower() for name in place.redirects))


def _gate(gates: dict[str, Gate], place: Place, others: Iterable[Place], clock: Clock) -> Gate:
    """One gate a host: places that name the same host share it, the gentlest of their settings."""
    host = urlsplit(place.base).netloc
    if host not in gates:
        same = [each for each in others if urlsplit(each.base).netloc == host]
        gates[host] = Gate(clock, min(each.connections for each in same), max(each.pause for each in same))
    return gates[host]


def _size(file: File) -> str:
    if file.size is not None and file.limit is None:
        return size(file.size)
    return f"~{size(file.expected)}" if file.expected else "?"
