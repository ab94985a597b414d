"""A run's documents as a data set that `datasets`, DuckDB and Polars open directly.

    README.md                                   the card (data_card.py)
    shards.json                                 of each shard: rows, bytes and digest of its text, digest of the file
    data/SOURCE/train-00000-of-00003.parquet    what the run trains on, sorted by id
    data/SOURCE/test-00000-of-00001.parquet     what it holds out
    notices/github.txt                          what code was read under, where there is code

A shard is the run's own, byte for byte, so no document loses its origin and Puna reads it too. Held-out text is the
split `test`: Puna holds out whole groups (a page, a package) and drops training text that overlaps with them, which is
what a test split is to be.

The folder is written aside. Before it gets its name, each copy has the digest that the run recorded, and is read back
from its first row to its last: rows, and bytes of text, must be what the run counted. Memory: one row group.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import xxhash

from puna import inspect, storage
from puna.care import states
from puna.data import exclude, verdicts
from puna.data.document import row_groups
from puna.errors import InputError, PunaError
from puna.progress import Bar, progress
from puna.progress import size as in_units
from puna.publish import data_card, facts
from puna.publish.facts import Facts
from puna.storage import Location, Place

FORMAT = 1
CARD, SHARDS = "README.md", "shards.json"
NOTICE = "notices/github.txt"
SPLITS = {"documents": "train", "heldout": "test"}
BLOCK = 1 << 20
KINDS = 1_000  # languages and licences that are counted by name; what more there are, together
MORE = "and others"


@dataclass(frozen=True)
class Shard:
    """A shard of the run and its place in the data set."""

    source: str
    split: str
    made: str
    """Its path in the run."""
    path: str
    """Its path in the data set."""
    size: int
    digest: str
    """As the run recorded them."""


@dataclass
class _Read:
    """What reading a shard back has counted."""

    rows: int = 0
    bytes: int = 0
    digest: str = ""
    languages: Counter[str] = field(default_factory=Counter)
    licences: Counter[str] = field(default_factory=Counter)


def write(run: Location, out: Location, *, licence: str = "", heldout: bool = True) -> str:
    """Write the documents of `run` as a data set at `out`; a line that says what it holds.

    licence: the card's, as the hub names it; else what the documents say. heldout: with the split `test`.
    Raises InputError for a run whose documents are not finished or not those that its recipe asks for, and PunaError,
    leaving nothing on disk, when what was written does not say what the run counted.
    """
    target = storage.place(out)
    if storage.exists(target):
        raise InputError("is there already", where=str(out), mend="give another name, or remove it")
    if storage.is_remote(target):
        raise InputError("is on an object store", where=str(out), mend="give a folder of this machine, and copy it")
    folder = storage.place(run)
    told, shards = _asked(folder, heldout)
    total = sum(shard.size for shard in shards)
    with storage.create_folder(target) as aside, progress("documents", 2 * total, "bytes") as bar:
        for shard in shards:
            _copy(folder / shard.made, aside / shard.path, shard, bar)
        if storage.is_file(folder / NOTICE):
            storage.write(aside / NOTICE, storage.read(folder / NOTICE))
        table = _read_back(aside, shards, told, bar)
        storage.write_json(aside / SHARDS, table)
        storage.write(aside / CARD, data_card.text(told, licence).encode())
    return _said(told)


def check(run: Location, out: Location, *, heldout: bool = True) -> str:
    """Hold the data set at `out` against the run that it was made from, as `write` does; what it holds. The card may
    have been edited. Raises PunaError when it is another."""
    folder, place = storage.place(run), storage.place(out)
    told, shards = _asked(folder, heldout)
    mend = "remove it, and export anew"
    with progress("documents", 2 * sum(shard.size for shard in shards), "bytes") as bar:
        for shard in shards:
            if not storage.is_file(place / shard.path):
                raise PunaError(f"lacks {shard.path}", where=str(out), mend=mend)
            if _digest(place / shard.path, bar) != shard.digest:
                raise PunaError("is not the run's shard", where=str(place / shard.path), mend=mend)
        table = _read_back(place, shards, told, bar)
    known = {CARD, SHARDS, *(shard.path for shard in shards)}
    if storage.is_file(folder / NOTICE):
        known.add(NOTICE)
        if storage.find(place / NOTICE) != storage.read(folder / NOTICE):
            raise PunaError(f"its {NOTICE} is not the run's", where=str(out), mend=mend)
    if strange := sorted(storage.tree(place).keys() - known):
        raise PunaError(f"{strange[0]} is none of the run's", where=str(out), mend="move it elsewhere")
    if not storage.is_file(place / CARD) or storage.read_json(place / SHARDS) != table:
        raise PunaError(f"its {CARD} or {SHARDS} is not what the run gives", where=str(out), mend=mend)
    return _said(told)


def _asked(folder: Place, heldout: bool) -> tuple[Facts, list[Shard]]:
    """What the card is filled from, and the shards; InputError when the run's documents are not to be had."""
    known = states.look(folder)
    if known.newer or known.recipe is None:
        raise InputError(known.newer or known.trouble, where=str(folder))
    funnels = {funnel.source: funnel for funnel in inspect.funnels(str(folder))}
    mend = f"puna data {known.recipe.name} makes them"
    unfinished = [
        name for name, funnel in funnels.items() if not funnel.left or f"documents.{name}" not in known.current
    ]
    if unfinished:
        raise InputError(f"its documents of {', '.join(unfinished)} are not finished", where=str(folder), mend=mend)
    # What the recipe takes out of documents may have been changed after they were written: nobody wants that published.
    excluded = exclude.entries(known.recipe.data.exclude)
    wanted = verdicts.on_request(known.recipe, excluded)
    shards: list[Shard] = []
    for name in funnels:
        record = known.records[f"documents.{name}"]
        made = {key: value for key, value in record["values"].items() if key in ("mask", "exclude")}
        if made != wanted:
            what = "data.exclude or data.mask was changed after its documents were written"
            raise InputError(what, where=str(folder), mend=mend)
        shards += [shard for shard in _shards(name, record) if heldout or shard.split == "train"]
    if not any(shard.split == "train" for shard in shards):
        raise InputError("holds no documents", where=str(folder), mend=mend)
    return facts.of_run(folder, known.recipe, funnels, len(excluded), heldout), shards


def _shards(source: str, record: Mapping[str, Any]) -> Iterator[Shard]:
    for above, split in SPLITS.items():
        made = sorted(path for path in record["outputs"] if path.startswith(f"{above}/"))
        if not record["counts"]["training" if split == "train" else "heldout"]["documents"]:
            continue
        for number, path in enumerate(made):
            name = f"data/{source}/{split}-{number:05d}-of-{len(made):05d}.parquet"
            found = record["outputs"][path]
            yield Shard(source, split, path, name, found["size"], found["digest"])


def _copy(source: Place, target: Place, shard: Shard, bar: Bar) -> None:
    """The run's shard byte for byte; InputError when these are not the bytes that the run recorded."""
    state = xxhash.xxh3_128()
    with storage.open_read(source) as read, storage.create(target) as written:
        while block := read.read(BLOCK):
            state.update(block)
            written.write(block)
            bar.advance(len(block))
    if f"xxh3:{state.hexdigest()}" != shard.digest:
        mend = "puna data RECIPE --verify makes it again"
        raise InputError("is not what the run recorded", where=str(source), mend=mend)


def _digest(location: Place, bar: Bar) -> str:
    state = xxhash.xxh3_128()
    with storage.open_read(location) as file:
        while block := file.read(BLOCK):
            state.update(block)
            bar.advance(len(block))
    return f"xxh3:{state.hexdigest()}"


def _read_back(place: Place, shards: list[Shard], told: Facts, bar: Bar) -> dict[str, Any]:
    """shards.json of what lies at `place`, with what was counted added to `told`; PunaError when it is not what the
    run counted."""
    table: dict[str, Any] = {}
    for shard in shards:
        found = _read(place / shard.path)
        bar.advance(shard.size)
        table[shard.path] = {
            "rows": found.rows,
            "bytes": found.bytes,
            "text": found.digest,
            "file": shard.digest,
        }
        counts = told.sources[shard.source]
        part = counts.train if shard.split == "train" else counts.test
        part.shards += 1
        part.rows += found.rows
        part.bytes += found.bytes
        part.size += shard.size
        for name in ("languages", "licences"):
            _add(getattr(counts, name), getattr(found, name))
    for source, counts in told.sources.items():
        test = [("held out", "test", counts.test)] if told.heldout else []
        for name, split, part in (("training", "train", counts.train), *test):
            wanted = counts.funnel.left[name]
            # The run counts bytes before it masks what points to a person.
            asked = (wanted["documents"], part.bytes if told.masked else wanted["bytes"])
            if (part.rows, part.bytes) != asked:
                what = f"{source}, {split}: {part.rows:,} documents of {part.bytes:,} bytes were read back"
                raise PunaError(f"{what}, and the run has {asked[0]:,} of {asked[1]:,}", where=str(place))
    return {"format": FORMAT, "shards": table}


def _read(location: Place) -> _Read:
    """Every row of a shard, one row group in memory. The digest is xxh3-128 over each text behind its length (8 bytes,
    little-endian)."""
    found, state = _Read(), xxhash.xxh3_128()
    for _, table in row_groups(location, ["language", "text", "origin"]):
        for text in table["text"].to_pylist():
            data = text.encode()
            state.update(len(data).to_bytes(8, "little"))
            state.update(data)
            found.bytes += len(data)
        found.rows += len(table)
        _add(found.languages, Counter(table["language"].to_pylist()))
        _add(found.licences, Counter(row["licence"] for row in table["origin"].to_pylist()))
    found.digest = f"xxh3:{state.hexdigest()}"
    return found


def _add(counted: Counter[str], more: Mapping[str, int]) -> None:
    """Count on, of at most KINDS names."""
    for name, times in more.items():
        counted[name if name in counted or len(counted) < KINDS else MORE] += times


def _said(told: Facts) -> str:
    parts = [part for counts in told.sources.values() for part in (counts.train, counts.test)]
    rows, stored = sum(part.rows for part in parts), sum(part.size for part in parts)
    sources = f"{len(told.sources)} source{'' if len(told.sources) == 1 else 's'}"
    found = f"{rows:,} documents of {sources}, {in_units(stored)}"
    return f"{found}; read back, every row: counts and digests are the run's"
