"""What of a run folder may go, judged by its records: nothing that the same command would then have to make again.

    leftover      .part-*: half-written when a process was killed
    tasks         in the folder of a finished step's tasks, what is none of its outputs: were an output damaged, the
                  whole step would be done again, so nobody reads it any more
    old work      the work folder of a fingerprint that no record names
    superseded    results of earlier values; but not a folder whose files are on the move, since a process was killed
                  while it moved them
    work          outputs of finished steps below work/, once every source has its documents: all that reads them is
                  done then
    checkpoints   those before the newest
    old index     below trace/, what is of no finished index: parts of one that was killed, or of other documents
    index         the index of text (`puna trace --index`), which can be built again from the documents

What a damaged record speaks of stays: the step is done again from it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from puna import records, storage
from puna.care import states
from puna.care.states import Known

KINDS = (
    "leftover",
    "tasks",
    "old work",
    "superseded",
    "work",
    "checkpoints",
    "old index",
    "index",
)  # in the order in which they go
MARKER = re.compile(r"checkpoints/(step-\d+)/checkpoint\.json")

Tree = Mapping[str, int]
"""Bytes of every file by its path below the run folder."""


@dataclass(frozen=True)
class Item:
    """Something that may go."""

    kind: str
    """One of KINDS."""
    path: str
    """Below the run folder."""
    step: str
    """Whose it is; "" when that cannot be told."""
    size: int
    """Bytes."""
    seconds: float | None = None
    """That the step took whose result it is; None when that is not known."""


def find(known: Known, tree: Tree, newest: str) -> list[Item]:
    """All that may go, by kind and in the order of the steps. newest: the checkpoint that stays."""
    # What a process is writing now has the same names as what a killed one left.
    items = [
        *([] if known.writer else _leftovers(tree)),
        *_below_work(known, tree),
        *_superseded(known, tree),
        *_checkpoints(known, tree, newest),
        *_indexes(known, tree),
    ]
    order = {name: number for number, name in enumerate((*known.records, *known.begun))}
    return sorted(items, key=lambda item: (KINDS.index(item.kind), order.get(item.step, len(order)), item.path))


def passing(known: Known, tree: Tree, item: Item) -> list[str]:
    """The files of an item of the kind `tasks`."""
    return [path for path in tree if path.startswith(f"{item.path}/") and not _stays(known, item.step, path)]


def steps(known: Known, tree: Tree) -> dict[str, dict[str, int]]:
    """Bytes by step: its `results`, its `work`, and what of it is `superseded`; under "" what is of no step."""
    owners = {file: name for name, record in known.records.items() for file in record["outputs"]}
    found: dict[str, dict[str, int]] = {name: {} for name in (*known.records, *known.begun)}
    for path, size in tree.items():
        first, _, rest = path.partition("/")
        second = rest.partition("/")[0]
        part, step = "results", owners.get(path) or ("train" if first == "checkpoints" else f"{first}.{second}")
        if first == "work":
            part, step = "work", second
        elif first == "superseded":
            part, step = "superseded", second.rpartition("-")[0]
        elif step not in found:
            step = ""
        sizes = found.setdefault(step, {})
        sizes[part] = sizes.get(part, 0) + size
    return {name: sizes for name, sizes in found.items() if sizes}


def newest_checkpoint(known: Known, tree: Tree, *, verify: bool) -> str:
    """The name of the checkpoint that stays; "" when there is none.

    verify: the one that training would go on from, which is whole and has its metrics; "" when none is. InputError when
    all are damaged.
    """
    names = _own_checkpoints(known, tree)
    if not names or not verify:
        return names[-1] if names else ""
    from puna.train.loop import resumable

    found, _ = resumable(known.folder, _of_training(known))
    return found.path.name if found is not None else ""


def _leftovers(tree: Tree) -> list[Item]:
    sizes: dict[str, int] = {}
    for path, size in tree.items():
        parts = path.split("/")
        first = next((n for n, part in enumerate(parts, start=1) if part.startswith(storage.TEMPORARY)), None)
        if first is not None:
            name = "/".join(parts[:first])
            sizes[name] = sizes.get(name, 0) + size
    return [Item("leftover", name, "", size) for name, size in sizes.items()]


def _below_work(known: Known, tree: Tree) -> list[Item]:
    sizes: dict[tuple[str, str, str], int] = {}
    handed = _handed_on(known)
    for path, size in tree.items():
        parts = path.split("/")
        if parts[0] != "work" or len(parts) < 4 or any(part.startswith(storage.TEMPORARY) for part in parts):
            continue
        step, folder = parts[1], "/".join(parts[:3])
        if step in known.unreadable:
            continue
        if parts[2] not in _fingerprints(known, step):
            kind = "old work"
        elif step in known.begun:
            continue
        elif not _stays(known, step, path):
            kind = "tasks"
        elif step in handed:
            kind = "work"
        else:
            continue
        sizes[kind, step, folder] = sizes.get((kind, step, folder), 0) + size
    return [
        Item(kind, folder, step, size, states.number(known.records[step]["seconds"]) if kind == "work" else None)
        for (kind, step, folder), size in sizes.items()
    ]


def _superseded(known: Known, tree: Tree) -> list[Item]:
    sizes: dict[str, int] = {}
    for path, size in tree.items():
        parts = path.split("/")
        if parts[0] == "superseded" and len(parts) > 2 and not parts[1].startswith(storage.TEMPORARY):
            sizes[parts[1]] = sizes.get(parts[1], 0) + size
    items = []
    for name, size in sizes.items():
        step, _, fingerprint = name.rpartition("-")
        if step in known.unreadable or fingerprint in _fingerprints(known, step) or _wanted(known, step):
            continue
        record = states.read_object(known.folder / "superseded" / name / f"{step}.json")
        items.append(Item("superseded", f"superseded/{name}", step, size, states.number(record.get("seconds"))))
    return items


def _wanted(known: Known, step: str) -> bool:
    """Whether nothing stands yet in the place of what was set aside: the values before may be all that works."""
    source = step.partition(".")[2]
    read = {name for name, one in known.recipe.sources.items() if one.inputs} if known.recipe else set()
    return step not in known.records and (not source or source in read)


def _checkpoints(known: Known, tree: Tree, newest: str) -> list[Item]:
    names = _own_checkpoints(known, tree)
    items = []
    for name in names[: names.index(newest)] if newest in names else []:
        size = sum(count for path, count in tree.items() if path.startswith(f"checkpoints/{name}/"))
        items.append(Item("checkpoints", f"checkpoints/{name}", "train", size))
    return items


def _indexes(known: Known, tree: Tree) -> list[Item]:
    """The index that index.json names, with it, and all others; none while somebody may be building one."""
    told = states.read_object(known.folder / "trace" / "index.json")
    own, sizes = str(told.get("fingerprint", "")), dict[str, int]()
    for path, size in tree.items():
        parts = path.split("/")
        if parts[0] == "trace" and not any(part.startswith(storage.TEMPORARY) for part in parts):
            name = "trace" if parts[1] in ("index.json", own) else f"trace/{parts[1]}"
            sizes[name] = sizes.get(name, 0) + size
    took = states.number(told.get("seconds"))
    return [
        Item("index", name, "", size, took) if name == "trace" else Item("old index", name, "", size)
        for name, size in sizes.items()
    ]


def _own_checkpoints(known: Known, tree: Tree) -> list[str]:
    """The checkpoints of the training that is done or under way, oldest first, as their markers say."""
    folder, fingerprint = known.folder / "checkpoints", _of_training(known)
    names = [match[1] for path in tree if (match := MARKER.fullmatch(path))]
    markers = {name: states.read_object(folder / name / "checkpoint.json") for name in names}
    own = [name for name, marker in markers.items() if fingerprint and marker.get("fingerprint") == fingerprint]
    return sorted(own, key=lambda name: int(name.removeprefix("step-")))


def _of_training(known: Known) -> str:
    """The fingerprint of the training that is done or under way; "" when that cannot be told: where a record stands
    beside another work that is begun, files are on the move."""
    found = [known.begun.get("train"), known.records.get("train", {}).get("fingerprint")]
    return next((str(one) for one in found if one), "") if None in found and "train" not in known.unreadable else ""


def _handed_on(known: Known) -> set[str]:
    """The steps before the documents of all sources; none as long as one of these is missing or does not hold."""
    ends = [f"documents.{name.removeprefix('extract.')}" for name in known.records if name.startswith("extract.")]
    if not ends or not known.current.issuperset(ends):
        return set()
    if any(records.damaged(known.folder, known.records[name]) for name in ends):
        return set()  # they can be made again only from what would go
    before: set[str] = set()
    waiting = list(ends)
    while waiting:
        needs = set(known.records[waiting.pop()]["inputs"]) - before
        before |= needs
        waiting += needs
    return before


def _stays(known: Known, step: str, path: str) -> bool:
    """Whether the file is an output of the finished step."""
    record = known.records[step]
    return path in record["outputs"] and not record.get("cleaned")


def _fingerprints(known: Known, step: str) -> set[str]:
    """Of the work that a step has done or begun, as folders are named by them."""
    found = (known.begun.get(step), known.records.get(step, {}).get("fingerprint"))
    return {str(fingerprint)[:16] for fingerprint in found if fingerprint}
