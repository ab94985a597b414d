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
from puna.evaluate.published import missing
from puna.evaluate.task import Asked, Task
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


def read(benchmark: str, folder: Place) -> Items:
    """The items of a benchmark below `folder`; InputError, with what to put there, where it has none."""
    try:
        files = [path for name, path in testsets.find(folder, benchmark).files if name == benchmark]
    except InputError as error:
        raise missing(benchmark, folder) if "is there; name" in str(error) else error from None
    split = BENCHMARKS[benchmark].split
    asked: dict[str, Item] = {}
    others: list[Item] = []
    for path in files:
        for item in testsets.read_file(benchmark, path):
            if item.split == split or (not item.split and not EXAMPLES.search(path.name)):
                asked[item.id if item.id not in asked else f"{path.name}:{item.id}"] = item
            else:
                others.append(item if item.split else replace(item, split="train"))
    return Items(folder, asked, tuple(others), {path.name: storage.digest(path) for path in files})


def questions(task: Task, items: Items, shots: int, limit: int | None) -> dict[str, tuple[Item, Asked]]:
    """Key -> item and what is asked of it; InputError where there are none, or too few examples."""
    kept = {key: item for key, item in items.asked.items() if task.takes(item)}
    if not kept:
        raise missing(task.benchmark, items.folder)
    if limit is not None:
        kept = {key: kept[key] for key in sorted(kept, key=lambda key: _drawn(task.benchmark, key))[:limit]}
    pools = _pools(task, items.others) if shots else {}
    found = {}
    for key, item in kept.items():
        pool = pools.get(task.alike(item), ())
        if len(pool) < shots:
            raise missing(task.benchmark, items.folder, examples=True)
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
