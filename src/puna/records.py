"""Done-records: what tells that a step or task is finished, and where what other values made is kept.

    records/STEP.json                    done: fingerprint, values, outputs with size, time and digest, counts, seconds
    records/STEP.begun.json              begun: fingerprint of the work whose parts may lie in the folder
    work/STEP/FINGERPRINT/TASK.json      done-record of one task, beside what it made
    superseded/STEP-FINGERPRINT/         what an earlier value made; taken up again when that value comes back

A record is written last and moved last, so whatever is interrupted between is found out by looking at the files.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from puna import storage
from puna.formats import RECORD, refuse_newer_output
from puna.progress import say
from puna.storage import Place

BEGUN = ".begun.json"
WORK = "work/"  # below it lies what tasks made
OF_A_STEP = ("step", "version", "fingerprint", "values", "inputs", "outputs", "produced", "counts", "seconds")
TABLES_OF_A_STEP = ("values", "inputs", "outputs")
OF_A_TASK = ("result", "sizes", "seconds")

Record = Mapping[str, Any]


def read_records(folder: Place) -> dict[str, Record]:
    """Every done-record in a run folder, by step."""
    names = (path.stem for path in storage.listing(folder / "records", "*.json"))
    found = ((name, of_step(folder, name)) for name in names if not name.endswith(".begun"))
    return {name: record for name, record in found if record is not None}


def of_step(folder: Place, name: str) -> Record | None:
    return _record(folder / "records" / f"{name}.json", OF_A_STEP, "the step is done again", TABLES_OF_A_STEP)


def of_task(folder: Place, scratch: Place, name: str) -> Record | None:
    """The record of a finished task; None when there is none, or its files are gone or of another size."""
    record = _record(scratch / f"{name}.json", OF_A_TASK, "the task is done again", ("result", "sizes"))
    if record is not None and not isinstance(record["seconds"], int | float):
        return None
    if record is not None:
        for file, size in record["sizes"].items():
            seen = storage.look(folder / file)
            if seen is None or seen.size != size:
                return None
    return record


def begun(folder: Place, name: str) -> str | None:
    """The fingerprint under which a step was begun and not ended."""
    record = _record(folder / "records" / f"{name}{BEGUN}", ("fingerprint",), "what it began is moved aside")
    return None if record is None else str(record["fingerprint"])


def unfinished(folder: Place) -> dict[str, Sequence[str]]:
    """The steps that were begun and not ended, and the patterns of the files that they write outside work/."""
    found = {}
    for path in storage.listing(folder / "records", f"*{BEGUN}"):
        record = _record(path, ("fingerprint",), "what it began is moved aside")
        found[path.name.removesuffix(BEGUN)] = record.get("outputs", ()) if record else ()
    return found


def begin(folder: Place, name: str, fingerprint: str, version: int, outputs: Iterable[str] = ()) -> None:
    """Say that work on a step began. version: the step's, which tells older Punas that it is not theirs. outputs: the
    patterns of the files that it writes outside work/."""
    value: dict[str, Any] = {"format": RECORD.version, "step": name, "version": version, "fingerprint": fingerprint}
    value["outputs"] = [pattern for pattern in outputs if not pattern.startswith("{work}")]
    storage.write_json(folder / "records" / f"{name}{BEGUN}", value)


def end(folder: Place, record: Record) -> None:
    """Write the record of a step: from now on it is done."""
    storage.write_json(folder / "records" / f"{record['step']}.json", record)
    ended(folder, record["step"])


def ended(folder: Place, name: str) -> None:
    """Take away what says that a step is under way."""
    begun = folder / "records" / f"{name}{BEGUN}"
    if storage.look(begun):
        storage.remove(begun)


def damaged(folder: Place, record: Record, verify: bool = False) -> str | None:
    """Why the outputs are not what the record says, or None. Size and time are looked at; a file with another time, and
    every file under `verify`, is read and its digest compared. What `clean` removed is not missed.

    Raises Newer for a file that a newer Puna put in an output's place.
    """
    for name, known in record["outputs"].items():
        if record.get("cleaned") and name.startswith(WORK):
            continue
        path = folder / name
        problem, seen = "", storage.look(path)
        if seen is None:
            problem = f"{name} is gone"
        elif seen.size != known["size"]:
            problem = f"{name} has another size than recorded"
        elif (verify or seen.stamp != known["modified"]) and storage.digest(path) != known["digest"]:
            problem = f"{name} was changed"
        if problem:
            refuse_newer_output(folder, name)
            return problem
    return None


def clean(folder: Place, name: str) -> None:
    """Remove the folder of tasks of a step that is done. The step counts as done all the same, and is done again when a
    later one needs what lay there."""
    record = of_step(folder, name)
    if record is not None:
        # The record goes first: files that a killed run left standing harm nobody.
        storage.write_json(folder / "records" / f"{name}.json", {**record, "cleaned": True})
        storage.remove(folder / WORK / name)


def wanting(record: Record) -> bool:
    """Whether `clean` took outputs away that a later step may need."""
    return bool(record.get("cleaned")) and any(name.startswith(WORK) for name in record["outputs"])


def forget(folder: Place, name: str, fingerprint: str, version: int, outputs: Iterable[str]) -> None:
    """Let a step whose outputs were damaged be done again: its tasks' records may vouch for what is no longer there.
    What is whole of its outputs stays where it is, so that training goes on from a checkpoint that is intact."""
    begin(folder, name, fingerprint, version, outputs)
    storage.remove(folder / "records" / f"{name}.json")
    storage.remove(folder / work(name, fingerprint))


def set_aside(folder: Place, name: str, fingerprint: str | None, files: Iterable[Place]) -> None:
    """Move `files`, which a step made under another fingerprint than this one, and its record to superseded/."""
    record, started = of_step(folder, name), begun(folder, name)
    earlier = started or (record["fingerprint"] if record is not None else None)
    if earlier is not None and earlier == fingerprint:
        return
    aside = _aside(folder, name, earlier or str(time.time_ns()))
    for path in files:
        storage.move(path, aside / storage.below(path, folder))
    # The record goes last: as long as it stands, a killed run comes here again and moves the rest.
    if record is not None:
        storage.move(folder / "records" / f"{name}.json", aside / f"{name}.json")
    storage.remove(folder / "records" / f"{name}{BEGUN}")


def bring_back(folder: Place, name: str, fingerprint: str, version: int, outputs: Iterable[str]) -> bool:
    """Move back what superseded/ keeps of this fingerprint, finished or not; False when there is nothing."""
    aside = _aside(folder, name, fingerprint)
    if not kept_aside(folder, name, fingerprint):
        return False
    begin(folder, name, fingerprint, version, outputs)
    record = aside / f"{name}.json"
    for file in storage.tree(aside):
        if aside / file != record:
            storage.move(aside / file, folder / file)
    if storage.is_file(record):
        storage.move(record, folder / "records" / record.name)
        storage.remove(folder / "records" / f"{name}{BEGUN}")
    storage.remove(aside)
    return True


def kept_aside(folder: Place, name: str, fingerprint: str) -> bool:
    """Whether superseded/ keeps something of this fingerprint."""
    return storage.is_folder(_aside(folder, name, fingerprint))


def difference(record: Record, values: Any, version: int, inputs: Mapping[str, str]) -> str:
    """What changed since the record, in words: each value with its old and new form, or the step before."""
    changed = [
        f"{key} changed from {_short(old)} to {_short(new)}" for key, old, new in leaves(record["values"], values)
    ]
    changed += [f"{name} gave something else" for name, made in inputs.items() if record["inputs"].get(name) != made]
    if record["version"] != version:
        changed.append("the step itself is of another version")
    return "; ".join(changed) or "the steps it needs changed"


def plain(value: Any) -> Any:
    """The value as JSON gives it back, so that what is compared is what was recorded."""
    return json.loads(as_bytes(value))


def as_bytes(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, default=str).encode("utf-8", "surrogatepass")


def work(name: str, fingerprint: str) -> str:
    """Where the tasks of a step lie, below the run folder."""
    return f"{WORK}{name}/{fingerprint[:16]}"


def _aside(folder: Place, name: str, fingerprint: str) -> Place:
    return folder / "superseded" / f"{name}-{fingerprint[:16]}"


def is_record(value: Mapping[str, Any], keys: Iterable[str], tables: Iterable[str]) -> bool:
    """Whether a JSON object has these keys, and objects under `tables`."""
    return value.keys() >= set(keys) and all(isinstance(value[key], dict) for key in tables)


def _record(path: Place, keys: tuple[str, ...], otherwise: str, tables: tuple[str, ...] = ()) -> Record | None:
    """A record, or None where there is none; a damaged one counts as none and is said, a newer one is refused."""
    data = storage.find(path)
    if data is None:
        return None
    try:
        value = json.loads(data)
    except ValueError:
        value = None
    if isinstance(value, dict):
        RECORD.refuse_newer(value.get("format"), path)
    if not isinstance(value, dict) or not is_record(value, keys, tables):
        say(f"{path}: this record is damaged; {otherwise}")
        return None
    return value


def leaves(old: Any, new: Any, above: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Where two JSON values differ: dotted key, old, new."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            yield from leaves(old.get(key), new.get(key), f"{above}.{key}" if above else key)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for number, (left, right) in enumerate(zip(old, new, strict=True)):
            yield from leaves(left, right, f"{above}[{number}]")
    elif old != new:
        yield above, old, new


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 100 else text[:97] + "..."
