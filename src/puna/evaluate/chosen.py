"""Which items a task asks, and which stand before them as examples.

Items are those of the paper's split. A file whose name tells no split is taken for it, unless its name says that it
holds examples (`fewshot`). A limit takes a sample that no order of files changes, and a larger limit holds every item
of a smaller one. Examples are drawn by seed, the same for every item, so that a model reads them once.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from puna import storage, testsets
from puna.errors import InputError
from puna.evaluate.published import Missing
from puna.evaluate.task import Asked, Task
from puna.fetch import recorded
from puna.fetch.benchmarks import UNPACKED
from puna.storage import Place
from puna.testsets import BENCHMARKS, Item

EXAMPLES = re.compile(r"few[-_]?shot", re.IGNORECASE)
SEED = "examples 1"  # another draw of examples has another number


@dataclass(frozen=True)
class Items:
    """The items of a benchmark that lie in a folder."""

    folder: Place
    asked: Mapping[str, Item]
    """Those of the paper's split by key: an item's id, with its file's name before it where two have one id."""
    others: tuple[Item, ...]
    """All others, in the release's order: examples are drawn from them."""
    digests: Mapping[str, str]
    """Of the files, by name."""
    damaged: tuple[InputError, ...] = ()
    """What is wrong with files there that no benchmark is told by."""


class Folder:
    """A folder of release files, walked once for all benchmarks, each of which is read once."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self._recorded = recorded.digests(place)
        self._found: testsets.Found | None = None
        self._items: dict[str, Items] = {}

    def read(self, benchmark: str) -> Items:
        """The items of a benchmark; InputError, with what to put there, where it has none, and for a file that is not
        what was fetched."""
        if benchmark not in self._items:
            self._items[benchmark] = self._read(benchmark)
        return self._items[benchmark]

    def _read(self, benchmark: str) -> Items:
        files = self._files(benchmark)
        digests = {path: self._digest(benchmark, path) for path in [*files, *_beside(files)]}
        split = BENCHMARKS[benchmark].split
        asked: dict[str, Item] = {}
        others: list[Item] = []
        for path in files:
            for item in testsets.read_file(benchmark, path):
                if item.split == split or (not item.split and not EXAMPLES.search(path.name)):
                    if asked.get(item.id) != item:  # equal: the same file lies there twice, such as packed and unpacked
                        asked[item.id if item.id not in asked else f"{path.name}:{item.id}"] = item
                else:
                    others.append(item if item.split else replace(item, split="train"))
        names = {path.name: digest for path, digest in digests.items()}
        return Items(self.place, asked, tuple(others), names, self._found.damaged if self._found else ())

    def _files(self, benchmark: str) -> list[Place]:
        """Of ARC and RACE also those of which nothing but the name of the benchmark tells what they are."""
        if storage.is_file(self.place):
            return [path for _, path in testsets.find(self.place, benchmark).files]
        if self._found is None:
            self._found = testsets.look(self.place)
        files = [path for name, path in self._found.files if name == benchmark]
        if benchmark.startswith(("arc_", "race_")):
            files += [path for path in self._found.unknown if testsets.is_of(path, benchmark)]
        if not files:
            raise Missing(benchmark, self.place, damaged=self._found.damaged)
        return sorted(files, key=str)

    def _digest(self, benchmark: str, path: Place) -> str:
        found = storage.digest(path)
        name = storage.below(path, self.place) if self._recorded else ""
        if self._recorded.get(name, found) != found:
            what = f"is not the file that was fetched: its checksum is {found}, and was {self._recorded[name]}"
            whole = next((each for each in path.parents if each.name == UNPACKED), path)
            mend = f"remove {whole} and puna fetch --benchmarks {benchmark}, or give a changed file in another --data"
            raise InputError(what, where=str(path), mend=mend)
        return found


def _beside(files: Sequence[Place]) -> list[Place]:
    """What stands beside items and is read with them: labels, and statistics of occupations."""
    folders = dict.fromkeys(path.parent for path in files)
    return [folder / name for folder in folders for name in storage.names(folder) if name.endswith((".lst", ".tsv"))]


def read(benchmark: str, folder: Place) -> Items:
    """The items of one benchmark, as `Folder.read`."""
    return Folder(folder).read(benchmark)


def questions(task: Task, items: Items, shots: int, limit: int | None) -> dict[str, tuple[Item, Asked]]:
    """Key -> item and what is asked of it; InputError where there are none, or too few examples."""
    kept = {key: item for key, item in items.asked.items() if task.takes(item)}
    if not kept:
        raise Missing(task.benchmark, items.folder, damaged=items.damaged)
    if limit is not None:
        kept = {key: kept[key] for key in sorted(kept, key=lambda key: _drawn(task.benchmark, key))[:limit]}
    pools = _pools(task, items.others) if shots else {}
    most = min(len(pools.get(task.alike(item), ())) for item in kept.values()) if shots else 0
    if most < shots:
        whole = not task.drawn and most >= max(task.shots)  # the release has these, and no file gives more
        raise Missing(task.benchmark, items.folder, examples=most, whole=whole, damaged=items.damaged)
    found = {}
    for key, item in kept.items():
        pool = pools.get(task.alike(item), [])
        found[key] = (item, task.ask(item, task.shown(pool[:shots], item)))
    return found


def _pools(task: Task, others: Sequence[Item]) -> dict[str, list[Item]]:
    """The examples in the order in which they are taken, by what they must agree in."""
    found = defaultdict(list)
    for item in others:
        if task.pool(item) and task.takes(item):
            found[task.alike(item)].append(item)
    if task.drawn:
        for pool in found.values():
            pool.sort(key=lambda item: _drawn(SEED, item.id))
    return found


def _drawn(seed: str, key: str) -> bytes:
    """A number that nothing but seed and key decides."""
    return hashlib.sha256(f"{seed}\n{key}".encode()).digest()
