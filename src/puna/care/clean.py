"""`puna clean RUN`: what lies in a run folder by step, what of it may go, and what that costs later.

Never documents, held-out text, tokenizer, tokens, the newest checkpoint, metrics, evaluations, or records. The lock is
held while anything is removed. Records are changed before the files they speak of go, and a folder goes by being
renamed first, so a cleaning that is killed at any moment leaves a run that goes on, and the next one ends it.

Links are left alone: what lies behind a linked folder is neither counted nor removed.
"""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from puna import records, storage
from puna.care import removable, states
from puna.care.removable import Item, Tree
from puna.care.states import Known
from puna.formats import refuse_newer
from puna.progress import WIDTH, progress, say, seconds, size
from puna.run import hold

PARTS = ("results", "work", "superseded")  # columns of the table of steps


@dataclass(frozen=True)
class Kind:
    """What is said of a kind of `removable`."""

    option: str
    """That it needs; "" when none."""
    what: str
    price: str
    """What its going costs; {steps} are the steps that it concerns."""


KINDS = {
    "leftover": Kind("", "half-written files of processes that were killed", "none"),
    "tasks": Kind("", "parts of finished steps that nothing reads any more", "none"),
    "old work": Kind("", "parts of work under earlier values", "coming back to those values does {steps} again"),
    "superseded": Kind("", "results of earlier values", "coming back to those values does {steps} again"),
    "work": Kind(
        "--work",
        "what finished steps hand to each other",
        "a change that needs it first does {steps} again, from the raw dumps",
    ),
    "checkpoints": Kind(
        "--checkpoints", "checkpoints before {newest}", "if {newest} is damaged, training begins from the start"
    ),
    "old index": Kind("", "parts of indexes of text that nothing reads", "none, but to a build that was stopped"),
    "index": Kind("--index", "the index of text", "puna trace --index builds it again"),
}


@dataclass(frozen=True)
class Plan:
    """What may go of a run folder; `clean` removes `going`."""

    folder: str
    work: bool
    checkpoints: bool
    index: bool
    holder: str
    """Who holds the run, so that nothing can go now; "" when nobody does."""
    space: dict[str, int]
    """Bytes by the folder directly below the run's."""
    steps: dict[str, dict[str, int]]
    """Bytes by step, as `results`, `work` and `superseded`; under "" what is of no step."""
    items: tuple[Item, ...]
    newest: str
    """The checkpoint that stays whatever goes; "" when there is none, or none that is intact."""

    @property
    def going(self) -> tuple[Item, ...]:
        options = {"": True, "--work": self.work, "--checkpoints": self.checkpoints, "--index": self.index}
        return tuple(item for item in self.items if options[KINDS[item.kind].option])

    def as_json(self) -> dict[str, Any]:
        going = self.going
        items = [asdict(item) | {"goes": item in going} for item in self.items]
        return asdict(self) | {"items": items, "freed": sum(item.size for item in going)}

    def as_text(self) -> str:
        """For a terminal of 80 columns: what there is, and what a cleaning would do."""
        lines = [f"{self.folder}: {size(sum(self.space.values()))}", "", *_by_step(self.steps)]
        for option in dict.fromkeys(kind.option for kind in KINDS.values()):
            kinds = [name for name, kind in KINDS.items() if kind.option == option]
            if found := [line for kind in kinds for line in self._told(kind)]:
                lines += ["", f"With {option}:" if option else "May go:", *found]
        return "\n".join([*lines, "", *self._end()])

    def _told(self, name: str) -> list[str]:
        items = [item for item in self.items if item.kind == name]
        if not items:
            return []
        kind = KINDS[name]
        steps = states.told_steps([item.step for item in items], list(self.steps))
        took = sum(item.seconds or 0.0 for item in items)
        what = kind.what.format(newest=self.newest)
        price = kind.price.format(steps=steps, newest=self.newest) + (f" ({seconds(took)})" if took >= 1 else "")
        head = f"  {what:{WIDTH - 14}}{size(sum(item.size for item in items)):>12}"
        return [head, *textwrap.wrap(f"price: {price}", WIDTH, initial_indent=" " * 4, subsequent_indent=" " * 4)]

    def _end(self) -> list[str]:
        if self.holder:
            return [f"Held by {self.holder}: nothing can go until that has ended."]
        if not self.items:
            return ["Nothing of it may go."]
        given = {"--work": self.work, "--checkpoints": self.checkpoints, "--index": self.index}
        options = [name for name in given if given[name]]
        if not self.going:
            return ["Nothing goes without an option."]
        command = " ".join(["puna clean", shlex.quote(self.folder), *options, "--yes"])
        return [
            f"Nothing was removed yet. This removes {size(sum(item.size for item in self.going))}:",
            f"    {command}",
        ]


def plan(folder: str | Path, *, work: bool = False, checkpoints: bool = False, index: bool = False) -> Plan:
    """What may go of the run in `folder`. work, checkpoints, index: whether those of that kind are to go too; for
    checkpoints the newest one is then read and compared with its digests.

    InputError when `folder` is no run, or one of a newer Puna.
    """
    place = storage.place(folder)
    refuse_newer(place)
    return _plan(states.look(place), storage.tree(place), work, checkpoints, index)


def clean(folder: str | Path, shown: Plan) -> int:
    """Remove what the plan says and what still may go; return the bytes freed.

    InputError when a living process holds the run.
    """
    place = storage.place(folder)
    refuse_newer(place)
    going = {(item.kind, item.path): item for item in shown.going}
    if not going:
        return 0
    freed = 0
    with hold(place), progress("removing", sum(item.size for item in going.values()), "bytes") as bar:
        # Taking the lock has swept what was half-written.
        freed += sum(item.size for item in going.values() if item.kind == "leftover")
        known, tree = states.look(place), storage.tree(place)
        for item in _plan(known, tree, shown.work, shown.checkpoints, shown.index).going:
            if (item.kind, item.path) in going:
                _remove(known, tree, item)
                freed += item.size
                bar.advance(item.size)
        say(f"clean: {size(freed)} removed")
    return freed


def _plan(known: Known, tree: Tree, work: bool, checkpoints: bool, index: bool) -> Plan:
    newest = removable.newest_checkpoint(known, tree, verify=checkpoints)
    return Plan(
        folder=str(known.folder),
        work=work,
        checkpoints=checkpoints,
        index=index,
        holder=str(known.writer or ""),
        space=states.parts(tree),
        steps=removable.steps(known, tree),
        items=tuple(removable.find(known, tree, newest)),
        newest=newest,
    )


def _remove(known: Known, tree: Tree, item: Item) -> None:
    """Remove it, after the record that speaks of it."""
    folder = known.folder
    if item.kind == "work":
        records.clean(folder, item.step)
        return
    if item.kind == "tasks":
        for path in removable.passing(known, tree, item):
            storage.remove(folder / path)
        return
    if item.kind == "checkpoints" and item.step in known.records:
        # Read anew: the checkpoints before this one were taken out of it.
        record = records.of_step(folder, item.step)
        assert record is not None
        kept = {name: told for name, told in record["outputs"].items() if not name.startswith(f"{item.path}/")}
        records.end(folder, {**record, "outputs": kept})
    if item.kind == "index":
        storage.remove(folder / item.path / "index.json")
    if item.kind == "superseded":
        storage.remove(folder / item.path / f"{item.step}.json")
    storage.remove(folder / item.path)


def _by_step(steps: Mapping[str, Mapping[str, int]]) -> list[str]:
    """A table of bytes by step; steps that hold less than a thousandth of all stand in one line."""
    total = sum(sum(sizes.values()) for sizes in steps.values())
    small = [name for name, sizes in steps.items() if not name or 1000 * sum(sizes.values()) < total]
    rows = [(name, steps[name]) for name in steps if name not in small]
    rest = {part: sum(steps[name].get(part, 0) for name in small) for part in PARTS}
    rows += [(f"all else ({len(small)} steps)" if len(small) > 1 else "all else", rest)] if any(rest.values()) else []
    rows.append(("all", {part: sum(sizes.get(part, 0) for sizes in steps.values()) for part in PARTS}))
    width = max(len(name) for name, _ in rows)
    lines = [f"{'step':{width}}" + "".join(f"{part:>13}" for part in PARTS)]
    for name, sizes in rows:
        lines.append(
            f"{name:{width}}" + "".join(f"{size(n) if (n := sizes.get(part, 0)) else '':>13}" for part in PARTS)
        )
    return [line.rstrip() for line in lines]
