"""How a run stands, from what lies in its folder; the lock is looked at, never taken.

    running       a living process holds the lock
    held          the lock is held on another host, where nobody here can tell whether that process lives
    interrupted   the process that held the lock is dead
    stopped       nobody holds it, and there is more to do
    done          the report stands, made from what every step gave and from the recipe as it is
    newer         a newer Puna wrote records here
    broken        recipe.toml is missing or cannot be read

A step is current when its record was made from what the steps that it needs have given. A changed value breaks that
chain at the first step that was redone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from puna import storage
from puna.errors import InputError, PunaError
from puna.formats import RECORD, Newer
from puna.lock import Holder, holder
from puna.recipe import Recipe, chosen
from puna.records import OF_A_STEP, TABLES_OF_A_STEP, Record, is_record
from puna.run import read_recipe
from puna.storage import Place

RECIPE = "recipe.toml"
TAIL = 1 << 16  # bytes of a growing file that are read from its end
REPORT = "report"  # the step that needs all others


@dataclass(frozen=True)
class Known:
    """What a run folder tells of itself."""

    folder: Place
    recipe: Recipe | None
    trouble: str
    """Why recipe.toml cannot be used; "" when it can."""
    newer: str
    """What a newer Puna wrote, in words; "" when nothing."""
    holder: Holder | None
    records: Mapping[str, Record]
    """Done-records by step, each behind those it was made from."""
    begun: Mapping[str, str]
    """Steps begun and not ended, with their fingerprints."""
    unreadable: tuple[str, ...]
    """Steps whose records are damaged."""
    current: frozenset[str]
    """Steps whose records still hold."""

    @property
    def writer(self) -> Holder | None:
        """Who may be writing now; None when nobody holds the run, or a dead process only."""
        return self.holder if self.holder is not None and self.holder.alive is not False else None

    @property
    def state(self) -> str:
        if self.writer is not None:
            return "held" if self.writer.alive is None else "running"
        if self.trouble:
            return "broken"
        if self.newer:
            return "newer"
        if self.holder is not None:
            return "interrupted"
        return "done" if REPORT in self.current and not self.begun else "stopped"

    @property
    def step(self) -> str:
        """The step that is or was under way; "" when none is begun."""
        return next(iter(self.begun), "")


def is_run(folder: Place) -> bool:
    """Whether `folder` holds what makes it a run; a recipe.toml alone may be anybody's."""
    if storage.exists(folder / "run.lock") or (storage.exists(folder / RECIPE) and storage.exists(folder / "log.txt")):
        return True
    return bool(storage.listing(folder / "records", "*.json"))


def look(folder: Place) -> Known:
    """What the run folder tells; InputError when it is none."""
    if not is_run(folder):
        what = "is not a run folder" if storage.exists(folder) else "there is no such run folder"
        raise InputError(what, where=str(folder), mend="`puna ls FOLDER` shows the runs in a folder")
    recipe, trouble, newer = None, "", ""
    try:
        recipe = read_recipe(folder) if storage.exists(folder / RECIPE) else None
        trouble = "" if recipe else f"{RECIPE} is missing"
    except Newer as error:
        newer = error.what
    except (PunaError, OSError, ValueError) as error:
        trouble = f"{RECIPE}: {error.what if isinstance(error, PunaError) else error}"
    records: dict[str, Record] = {}
    begun: dict[str, str] = {}
    unreadable: list[str] = []
    for path in storage.listing(folder / "records", "*.json"):
        name = path.name.removesuffix(".json")
        value = read_object(path)
        try:
            RECORD.refuse_newer(value.get("format"), path)
        except Newer as error:
            newer = error.what
            continue
        if name.endswith(".begun"):
            begun[name.removesuffix(".begun")] = str(value.get("fingerprint", ""))
        elif is_record(value, OF_A_STEP, TABLES_OF_A_STEP):
            records[name] = value
        else:
            unreadable.append(name)
    records = _in_order(records)
    # A process that died while it ended a step leaves both.
    begun = {
        name: made
        for name, made in begun.items()
        if records.get(name, {}).get("fingerprint") != made or records[name].get("cleaned")
    }
    current = _current(records, begun, recipe)
    return Known(folder, recipe, trouble, newer, holder(folder), records, begun, tuple(unreadable), current)


def read_object(location: Place) -> dict[str, Any]:
    """The JSON object at `location`; an empty one where there is none that can be read."""
    try:
        value = storage.read_json(location)
    except (PunaError, OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def last_lines(location: Place) -> list[str]:
    """The lines at the end of a file that grows, as far as 64 KiB hold them; none where there is no file. A half line
    at the end, which is being written, is left out."""
    try:
        size = storage.size(location)
        with storage.open_read(location) as file:
            file.seek(max(0, size - TAIL))
            data = file.read(TAIL)
    except (PunaError, OSError):
        return []
    lines = data.decode("utf-8", "replace").split("\n")[:-1]
    return lines[1:] if size > TAIL else lines


def parts(tree: Mapping[str, int]) -> dict[str, int]:
    """Bytes by the folder directly below the run's; what lies beside these is `files`."""
    found: dict[str, int] = {}
    for path, size in tree.items():
        name = path.split("/", 1)[0] if "/" in path else "files"
        found[name] = found.get(name, 0) + size
    return found


def number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def told_steps(names: Sequence[str], among: Sequence[str]) -> str:
    """Names of steps for a line, in order: the steps of all sources by what they have in common, `extract` for
    `extract.github` and `extract.wikipedia`, where all of them `among` these steps are meant."""
    kinds: dict[str, list[str]] = {}
    for name in dict.fromkeys(names):
        kinds.setdefault(name.split(".")[0], []).append(name)
    whole = {kind: sum(name.split(".")[0] == kind for name in among) for kind in kinds}
    return ", ".join(kind if len(found) >= whole[kind] else ", ".join(found) for kind, found in kinds.items())


def _in_order(records: Mapping[str, Record]) -> dict[str, Record]:
    """The records, each behind those it was made from."""
    ordered: dict[str, Record] = {}
    left = dict(records)
    while left:
        ready = [name for name, record in left.items() if not set(record["inputs"]) & left.keys() - {name}]
        for name in ready or list(left):
            ordered[name] = left.pop(name)
    return ordered


def _current(records: Mapping[str, Record], begun: Mapping[str, str], recipe: Recipe | None) -> frozenset[str]:
    current: set[str] = set()
    for name, record in records.items():
        holds = (need in current and records[need]["produced"] == made for need, made in record["inputs"].items())
        if name not in begun and all(holds):
            current.add(name)
    # The report holds the whole recipe, so that it tells of a value that was changed and of which nothing came yet.
    if REPORT in current and recipe and records[REPORT]["values"].get("recipe") != chosen(recipe):
        current.discard(REPORT)
    return frozenset(current)
