"""The step `benchmarks`: hashes of the n-grams of the user's benchmark files, which training text is searched for.

What of an item is text that must not be trained on stands in `testsets/benchmarks.py`. A text with fewer words than
`ngram` is one gram, if it has `shortest` words or more (the 8 of GPT-3's appendix C, where n is between 8 and 13 by
benchmark), and none otherwise: how many items have none is said. A gram of numbers and single letters alone is none
either: counting to thirteen is no benchmark's. What a benchmark quotes is marked so, unless another item asks it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from puna import space, storage, testsets
from puna.data.dedup.grams import WORD, gram_hashes
from puna.data.dedup.lookup import Lookup
from puna.data.outputs import files
from puna.errors import InputError
from puna.progress import say
from puna.recipe import Recipe
from puna.space import Need
from puna.steps import Context
from puna.storage import Place

GRAM = np.dtype([("hash", "<u8"), ("item", "<u4"), ("quoted", "u1")])
PACKED = 8  # bytes of text in a byte of a packed file, at most


@dataclass(frozen=True)
class Benchmarks:
    """The benchmark files of a recipe, and what a look at them tells: that is what "the same files" means."""

    files: tuple[tuple[str, Place], ...]  # (benchmark, file)
    seen: tuple[dict[str, Any], ...]
    missing: InputError | None = None
    """Why they are not there, when only records of them are."""

    def there(self) -> tuple[tuple[str, Place], ...]:
        """The files, for a step that must read them."""
        if self.missing:
            raise self.missing
        return self.files


def locate(recipe: Recipe) -> Benchmarks | None:
    """The files that `decontaminate.benchmarks` names, each told by its content; None when it names none.

    InputError where one is missing, of another benchmark, or of none. Files of a folder that are of none are said.
    """
    named = recipe.decontaminate.benchmarks
    pairs = named.items() if isinstance(named, dict) else [("", path) for path in named]
    found: dict[str, tuple[str, Place]] = {}
    for benchmark, declared in pairs:
        if not declared.strip():
            raise InputError("a file is empty", where="decontaminate.benchmarks", mend="name a file or folder")
        here = testsets.find(_place(declared), benchmark)
        if here.unknown:
            what = f"{len(here.unknown):,} files there are no benchmark's that is known, such as {here.unknown[0].name}"
            say(f"decontaminate: {declared}: {what}")
        found |= {str(path): (name, path) for name, path in here.files}
    chosen = tuple(sorted(found.values(), key=lambda pair: (pair[0], str(pair[1]))))
    return Benchmarks(chosen, tuple(_seen(name, path) for name, path in chosen)) if chosen else None


def benchmarks(recipe: Recipe, located: Benchmarks, context: Context) -> dict[str, Any]:
    """Write known.hashes (<u8, sorted), known.starts and known.owners (<u4: where each hash's owners begin; an owner is
    twice its item's number, and 1 more where it quotes), and known.items (a line an item: benchmark, tab, id).

    Memory: 13 bytes a gram and as much again while they are sorted; all of the paper's benchmarks have some 5 million.
    """
    found_files = located.there()
    names = list(dict.fromkeys(name for name, _ in found_files))
    work = partial(_read, recipe.decontaminate.ngram, recipe.decontaminate.shortest, found_files)
    results = context.map(work, names, label="  reading benchmarks", name=lambda name: name)
    rows, first = [np.empty(0, GRAM)], 0
    for name, result in zip(names, results, strict=True):
        part = np.frombuffer(storage.read(context.scratch / f"{name}.grams"), GRAM).copy()
        part["item"] += np.uint32(first)
        rows.append(part)
        first += result["items"]
        if result["without"]:
            what = f"{result['without']:,} of its {result['items']:,} items are too short to be looked for"
            say(f"  {name}: {what} (decontaminate.shortest is {recipe.decontaminate.shortest})")
    table = np.concatenate(rows)
    del rows
    hashes, starts, owners = indexed(table)
    if not len(hashes):
        mend = "lower decontaminate.shortest, or name other files"
        raise InputError("no text of the benchmarks is long enough", where="decontaminate.benchmarks", mend=mend)
    items = [storage.read(context.scratch / f"{name}.items") for name in names]
    for ending, data in (("hashes", hashes), ("starts", starts), ("owners", owners)):
        storage.write(context.scratch / f"known.{ending}", data.tobytes())
    storage.write(context.scratch / "known.items", b"".join(items))
    lengths = sorted({length for result in results for length in result["lengths"]})
    found = {
        name: {key: result[key] for key in ("items", "without", "grams")}
        for name, result in zip(names, results, strict=True)
    }
    return {"benchmarks": found, "grams": len(hashes), "lengths": lengths}


def benchmarks_values(recipe: Recipe, located: Benchmarks) -> dict[str, Any]:
    """The values of the step: the files by content that was looked at, and how they are cut."""
    return {
        "files": list(located.seen),
        "ngram": recipe.decontaminate.ngram,
        "shortest": recipe.decontaminate.shortest,
    }


def benchmarks_space(located: Benchmarks, context: Context) -> Need:
    """Two grams for each word at most, since a question stands before each of its choices; each in its task's file and
    in the table."""
    size = sum(int(seen["size"]) * (PACKED if seen["file"].endswith(".gz") else 1) for seen in located.seen)
    return space.small(2 * size // space.WORD * (GRAM.itemsize + 16))


def item_grams(text: str, n: int, shortest: int) -> tuple[int, npt.NDArray[np.uint64]]:
    """(length, hashes) of the grams of one text of an item: see the module's head; length 0 when there are none."""
    words = WORD.findall(text.lower())
    if len(words) < shortest:
        return 0, np.empty(0, np.uint64)
    n = min(n, len(words))
    telling = np.array([len(word) > 1 and not word.isnumeric() for word in words])
    before = np.concatenate([[0], np.cumsum(telling)])
    return n, gram_hashes(text, n)[before[n:] > before[: len(words) - n + 1]]


def item_rows(
    texts: Iterable[testsets.Text], number: int, n: int, shortest: int
) -> tuple[npt.NDArray[np.void], set[int]]:
    """(rows of GRAM of the item `number`, each hash once; the lengths of its grams)."""
    found = [(item_grams(text.text, n, shortest), text.quoted) for text in texts]
    hashes = np.concatenate([np.empty(0, np.uint64), *(each for (_, each), _ in found)])
    part = np.empty(len(hashes), GRAM)
    part["hash"], part["item"] = hashes, number
    part["quoted"] = np.repeat([flag for _, flag in found], [len(each) for (_, each), _ in found]).astype("u1")
    part = part[np.lexsort((part["quoted"], part["hash"]))]
    first = np.ones(len(part), bool)
    first[1:] = part["hash"][1:] != part["hash"][:-1]  # of a gram asked and quoted by one item, the first is asked
    return part[first], {length for (length, each), _ in found if len(each)}


class Known:
    """The table of the step, mapped, for whoever searches text. Memory: that of a `Lookup`, and
    8 bytes an item; what is mapped is shared by the workers of a machine, and 12 to 20 bytes a gram."""

    def __init__(self, hashes: Any, starts: Any, owners: Any, items: Any, lengths: Sequence[int]) -> None:
        self.hashes, self.lengths = hashes, tuple(lengths)
        self._starts, self._owners, self._items = starts, owners, items
        self._ends = np.flatnonzero(items == ord("\n"))
        self.holds = Lookup(hashes).holds

    def owners(self, gram: int) -> npt.NDArray[np.uint32]:
        """Twice the number of each item that has a known gram, and 1 more where it quotes it; ascending."""
        place = int(np.searchsorted(self.hashes, np.uint64(gram)))
        return np.asarray(self._owners[int(self._starts[place]) : int(self._starts[place + 1])])

    def quoted(self, grams: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
        """Whether each of known grams stands in quoted text alone."""
        return np.array([bool((self.owners(int(gram)) & 1).all()) for gram in grams], bool)

    def item(self, number: int) -> tuple[str, str]:
        """(benchmark, id) of an item."""
        begin = int(self._ends[number - 1]) + 1 if number else 0
        benchmark, _, key = bytes(self._items[begin : int(self._ends[number])]).decode().partition("\t")
        return benchmark, key

    def wholly(self, common: npt.NDArray[np.uint64], found: npt.NDArray[np.uint64]) -> list[tuple[str, str]]:
        """The items of whose own grams some are `common`, and all that were `found` anywhere are; in order."""
        own = (self._owners & 1) == 0
        items = self._owners >> 1
        times = np.diff(self._starts.astype(np.int64))

        def counted(grams: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
            among = np.repeat(np.isin(self.hashes, grams, assume_unique=True), times)
            return np.bincount(items[own & among], minlength=len(self._ends))

        of_common = counted(common)
        those = np.flatnonzero((of_common > 0) & (of_common == counted(found)))
        return [self.item(int(number)) for number in those]


def known_of(context: Context) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """What `opened` takes, of the step that was done before."""
    names = ("hashes", "starts", "owners", "items")
    found = tuple(str(files(context, "benchmarks", f"known.{name}")[0]) for name in names)
    return found, tuple(context.counts("benchmarks")["lengths"])


@lru_cache(maxsize=1)
def opened(known: tuple[tuple[str, ...], tuple[int, ...]]) -> Known:
    """The table that `known_of` names: its folder holds a fingerprint, so what lies in it never changes."""
    locations, lengths = known
    hashes, starts, owners, items = (
        _mapped(location, kind) for location, kind in zip(locations, ("<u8", "<u4", "<u4", "u1"), strict=True)
    )
    return Known(hashes, starts, owners, items, lengths)


def in_memory(located: Sequence[tuple[str, Place]], n: int, shortest: int) -> Known:
    """The table of these files, for who searches few texts: (benchmark, file) each. Memory: as of the step."""
    rows = [np.empty(0, GRAM)]
    names: list[str] = []
    lengths: set[int] = set()
    for benchmark in dict.fromkeys(name for name, _ in located):
        found = _gathered(n, shortest, located, benchmark)
        table: Any = found.table
        table["item"] += np.uint32(len(names))
        rows.append(table)
        names += found.names
        lengths |= found.lengths
    hashes, starts, owners = indexed(np.concatenate(rows))
    items = np.frombuffer("".join(names).encode(), "u1")
    return Known(hashes, starts, owners, items, sorted(lengths))


@dataclass(frozen=True)
class _Gathered:
    """One benchmark's items and grams."""

    table: npt.NDArray[np.void]
    """Rows of GRAM, items numbered from 0."""
    names: list[str]
    """A line an item."""
    lengths: set[int]
    without: int
    """Items without a gram."""


def _gathered(n: int, shortest: int, located: Sequence[tuple[str, Place]], benchmark: str) -> _Gathered:
    rows, names, lengths = [np.empty(0, GRAM)], [], set()
    without = 0
    for number, item in enumerate(_items(benchmark, located)):
        names.append(f"{benchmark}\t{' '.join(item.id.split())}\n")
        part, those = item_rows(testsets.BENCHMARKS[benchmark].texts(item), number, n, shortest)
        rows.append(part)
        lengths |= those
        without += not len(part)
    return _Gathered(np.concatenate(rows), names, lengths, without)


def _read(
    n: int, shortest: int, located: Sequence[tuple[str, Place]], benchmark: str, scratch: Place
) -> dict[str, Any]:
    """One benchmark's files: BENCHMARK.grams (rows of GRAM, items numbered from 0) and BENCHMARK.items."""
    found = _gathered(n, shortest, located, benchmark)
    made = {".grams": found.table.tobytes(), ".items": "".join(found.names).encode()}
    for ending, data in made.items():
        storage.write(scratch / (benchmark + ending), data)
    kept = [storage.below(scratch / (benchmark + ending), scratch.parents[2]) for ending in made]
    counts = {"items": len(found.names), "without": found.without, "grams": len(found.table)}
    return {**counts, "lengths": sorted(found.lengths), "files": kept}


def _items(benchmark: str, located: Sequence[tuple[str, Place]]) -> Iterator[testsets.Item]:
    for name, path in located:
        if name == benchmark:
            yield from testsets.read_file(name, path)


def indexed(table: npt.NDArray[np.void]) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
    """(hashes, starts, owners) of rows of GRAM in the order of their items."""
    order = np.argsort(table["hash"], kind="stable")
    hashes, owner = table["hash"][order], (table["item"] * np.uint32(2) + table["quoted"])[order]
    first = np.ones(len(hashes), bool)
    first[1:] = hashes[1:] != hashes[:-1]
    starts = np.append(np.flatnonzero(first), len(hashes)).astype("<u4")
    return hashes[first].astype("<u8"), starts, owner.astype("<u4")


def _mapped(location: str, kind: str) -> Any:
    with storage.local_copy(location) as file:
        return np.memmap(file, kind, "r") if storage.size(file) else np.empty(0, kind)


def _place(declared: str) -> Place:
    return storage.place(declared) if storage.is_remote(declared) else Path(declared).expanduser()


def _seen(benchmark: str, path: Place) -> dict[str, Any]:
    look = storage.look(path)
    size, stamp = (look.size, look.stamp) if look else (0, None)
    return {"benchmark": benchmark, "file": path.name, "size": size, "modified": stamp}
