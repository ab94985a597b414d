"""Steps, their order, and the records that tell what is done.

A step is a name, the steps it needs, the recipe values that matter to it, and the files that it owns. Its fingerprint
is the digest of those values and of what the needed steps produced, so a changed value redoes just what depends on it,
and a step whose result came out the same stops the change there. The done-record is written last: a step without one is
not done, whatever lies in the folder. Within a step, tasks have records of their own, so a killed run redoes only tasks
that had not ended.

    records/STEP.json                    done: fingerprint, values, outputs with size, time and digest, counts, seconds
    records/STEP.begun.json              begun: fingerprint of the work whose parts may lie in the folder
    work/STEP/FINGERPRINT/TASK.json      done-record of one task, beside what it made
    superseded/STEP-FINGERPRINT/         what an earlier value made; nothing removes it but its owner
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from puna import storage
from puna.engine import map_tasks
from puna.errors import InputError
from puna.progress import say, seconds

FORMAT = 1
T = TypeVar("T")


@dataclass(frozen=True)
class Step:
    """One node of the graph. `outputs` are glob patterns below the run folder that this step alone writes; in them
    `{work}` stands for its folder of tasks."""

    name: str
    work: Callable[[Context], Mapping[str, Any]]
    outputs: tuple[str, ...]
    needs: tuple[str, ...] = ()
    values: Mapping[str, Any] = field(default_factory=dict)
    version: int = 1  # raised when the code of the step comes to give other bytes for the same values


@dataclass
class Context:
    """What the work of a step is given."""

    folder: Path
    name: str
    fingerprint: str
    workers: int
    records: Mapping[str, Mapping[str, Any]]  # done-records of the steps before
    result: tuple[str, ...] | None = None  # patterns of the outputs that later steps depend on; None: all of them

    @property
    def scratch(self) -> Path:
        """Where tasks put what they make; parts of an interrupted run with this fingerprint are found here."""
        return self.folder / _work(self.name, self.fingerprint)

    def counts(self, step: str) -> Mapping[str, Any]:
        counts: Mapping[str, Any] = self.records[step]["counts"]
        return counts

    def map(
        self,
        function: Callable[[T, Path], Mapping[str, Any]],
        tasks: Sequence[T],
        *,
        label: str,
        name: Callable[[T], str],
        size: Callable[[T], float] = lambda task: 1.0,
    ) -> list[Mapping[str, Any]]:
        """Run function(task, scratch) -> result for every task without a done-record; all results, in order.

        A result is a JSON object. The files that a task makes are listed in it as "files", relative to the run folder:
        a record whose files are gone or of another size does not count.
        """
        results = {name(task): _finished(self.folder, self.scratch, name(task)) for task in tasks}
        missing = [(name(task), task) for task in tasks if results[name(task)] is None]
        if len(missing) < len(tasks):
            say(f"{label}: {len(tasks) - len(missing)} of {len(tasks)} tasks were done before")
        run = partial(_run_task, function, self.folder, self.scratch)
        done = map_tasks(run, missing, workers=self.workers, label=label, size=lambda named: size(named[1]))
        results |= {task_name: result for (task_name, _), result in done}
        return [result for result in results.values() if result is not None]


def run_steps(
    folder: Path, steps: Sequence[Step], *, workers: int, verify: bool = False, targets: Sequence[str] | None = None
) -> dict[str, Mapping[str, Any]]:
    """Bring every step (or `targets` and what they need) to done, in order; return the records by name."""
    chosen = _needed(steps, targets)
    records: dict[str, Mapping[str, Any]] = {}
    for step in chosen:
        fingerprint = _fingerprint(step, records)
        record = _record(folder, step.name)
        if record is not None and record["fingerprint"] == fingerprint:
            damaged = _damaged(folder, record, verify)
            if damaged is None:
                records[step.name] = record
                continue
            say(f"{step.name}: {damaged}; done again")
            _forget(folder, step, fingerprint)
            record = None
        elif record is not None:
            say(f"{step.name}: done again, since {_difference(record, step, records)}")
        _set_aside(folder, step, fingerprint, record)
        records[step.name] = _do(folder, step, fingerprint, workers, records)
    return records


def read_records(folder: Path) -> dict[str, Mapping[str, Any]]:
    """Every done-record in a run folder, by step."""
    found = (storage.read_json(name) for name in storage.listing(folder / "records", "*.json"))
    return {record["step"]: record for record in found if "counts" in record}


def _do(
    folder: Path, step: Step, fingerprint: str, workers: int, records: Mapping[str, Mapping[str, Any]]
) -> Mapping[str, Any]:
    begun = _begin(folder, step, fingerprint)
    context = Context(folder, step.name, fingerprint, workers, records)
    start = time.monotonic()
    counts = step.work(context)
    outputs = {
        path.relative_to(folder).as_posix(): {
            "size": path.stat().st_size,
            "modified": path.stat().st_mtime_ns,
            "digest": storage.digest(path),
        }
        for path in _files(folder, _patterns(step, fingerprint))
    }
    if context.result is None:
        result = sorted(outputs)
    else:
        result = [path.relative_to(folder).as_posix() for path in _files(folder, context.result)]
    record = {
        "format": FORMAT,
        "step": step.name,
        "version": step.version,
        "fingerprint": fingerprint,
        "values": _plain(step.values),
        "inputs": {need: records[need]["produced"] for need in step.needs},
        "outputs": outputs,
        "produced": storage.digest_bytes(_bytes([[name, outputs[name]["digest"]] for name in result])),
        "counts": _plain(counts),
        "seconds": round(time.monotonic() - start, 3),
    }
    storage.write_json(folder / "records" / f"{step.name}.json", record)
    storage.remove(begun)
    say(f"{step.name}: done in {seconds(time.monotonic() - start)}")
    return record


def _begin(folder: Path, step: Step, fingerprint: str) -> Path:
    begun = folder / "records" / f"{step.name}.begun.json"
    storage.write_json(begun, {"format": FORMAT, "step": step.name, "fingerprint": fingerprint})
    return begun


def _set_aside(folder: Path, step: Step, fingerprint: str, record: Mapping[str, Any] | None) -> None:
    """Move away what other values made, so that nothing stale is taken for this step's; parts made under this very
    fingerprint stay, and the step goes on from them."""
    begun = folder / "records" / f"{step.name}.begun.json"
    earlier = storage.read_json(begun)["fingerprint"] if begun.exists() else None
    if record is not None and earlier is None:
        earlier = record["fingerprint"]
    if earlier == fingerprint:
        return
    aside = folder / "superseded" / f"{step.name}-{earlier[:16] if earlier else time.time_ns()}"
    for path in _files(folder, [p for p in step.outputs if "{work}" not in p]):
        storage.move(path, aside / path.relative_to(folder))
    # The record goes last: as long as it stands, a killed run comes here again and moves the rest.
    if record is not None:
        storage.move(folder / "records" / f"{step.name}.json", aside / f"{step.name}.json")


def _forget(folder: Path, step: Step, fingerprint: str) -> None:
    """Let a step whose outputs were damaged be done again: its tasks' records may vouch for what is no longer there.
    What is whole of its outputs stays where it is, so that training goes on from a checkpoint that is intact."""
    _begin(folder, step, fingerprint)
    storage.remove(folder / "records" / f"{step.name}.json")
    storage.remove(folder / _work(step.name, fingerprint))


def _needed(steps: Sequence[Step], targets: Sequence[str] | None) -> list[Step]:
    by_name = {step.name: step for step in steps}
    seen: set[str] = set()
    for step in steps:
        unknown = [need for need in step.needs if need not in seen]
        if unknown:
            raise ValueError(f"step {step.name} needs {unknown}, which do not stand before it")
        seen.add(step.name)
    if targets is None:
        return list(steps)
    wanted: set[str] = set()
    stack = list(targets)
    while stack:
        name = stack.pop()
        if name not in wanted:
            wanted.add(name)
            stack.extend(by_name[name].needs)
    return [step for step in steps if step.name in wanted]


def _fingerprint(step: Step, records: Mapping[str, Mapping[str, Any]]) -> str:
    inputs = {need: records[need]["produced"] for need in step.needs}
    value = [FORMAT, step.name, step.version, _plain(step.values), inputs]
    return storage.digest_bytes(_bytes(value)).removeprefix("xxh3:")


def _record(folder: Path, name: str) -> Mapping[str, Any] | None:
    path = folder / "records" / f"{name}.json"
    if not path.exists():
        return None
    try:
        record: Mapping[str, Any] = storage.read_json(path)
    except InputError:
        say(f"{name}: its record is damaged; the step is done again")
        return None
    if record.get("format", 0) > FORMAT:
        what = f"was written by a newer Puna (record format {record['format']}, this one reads {FORMAT})"
        raise InputError(what, where=str(path), mend="update puna, or choose another folder with --out")
    return record


def _damaged(folder: Path, record: Mapping[str, Any], verify: bool) -> str | None:
    """Why the outputs are not what the record says, or None. Size and time are looked at; a file with another time, and
    every file under `verify`, is read and its digest compared."""
    for name, known in record["outputs"].items():
        path = folder / name
        if not path.is_file():
            return f"{name} is gone"
        status = path.stat()
        if status.st_size != known["size"]:
            return f"{name} has another size than recorded"
        if (verify or status.st_mtime_ns != known["modified"]) and storage.digest(path) != known["digest"]:
            return f"{name} was changed"
    return None


def _difference(record: Mapping[str, Any], step: Step, records: Mapping[str, Mapping[str, Any]]) -> str:
    """What changed, in words: the value with its old and new form, or the step before."""
    old, new = record["values"], _plain(step.values)
    changed = [
        f"{key} changed from {_short(old.get(key))} to {_short(new.get(key))}"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
    ]
    changed += [
        f"{need} gave something else" for need in step.needs if record["inputs"].get(need) != records[need]["produced"]
    ]
    if record["version"] != step.version:
        changed.append("the step itself is of a newer version")
    return "; ".join(changed) or "the steps it needs changed"


def _run_task(
    function: Callable[[T, Path], Mapping[str, Any]], folder: Path, scratch: Path, named: tuple[str, T]
) -> Mapping[str, Any]:
    name, task = named
    start = time.monotonic()
    result = function(task, scratch)
    sizes = {file: storage.size(folder / file) for file in result.get("files", ())}
    record = {"format": FORMAT, "result": _plain(result), "sizes": sizes, "seconds": time.monotonic() - start}
    storage.write_json(scratch / f"{name}.json", record)
    plain: Mapping[str, Any] = record["result"]
    return plain


def _finished(folder: Path, scratch: Path, name: str) -> Mapping[str, Any] | None:
    path = scratch / f"{name}.json"
    if not path.exists():
        return None
    record = storage.read_json(path)
    for file, size in record["sizes"].items():
        if not storage.exists(folder / file) or storage.size(folder / file) != size:
            return None
    result: Mapping[str, Any] = record["result"]
    return result


def _files(folder: Path, patterns: Iterable[str]) -> list[Path]:
    found = {path for pattern in patterns for path in folder.glob(pattern) if path.is_file()}
    return sorted(path for path in found if not path.name.startswith(storage.TEMPORARY))


def _patterns(step: Step, fingerprint: str) -> list[str]:
    return [pattern.replace("{work}", _work(step.name, fingerprint)) for pattern in step.outputs]


def _work(name: str, fingerprint: str) -> str:
    return f"work/{name}/{fingerprint[:16]}"


def _plain(value: Any) -> Any:
    """The value as JSON gives it back, so that what is compared is what was recorded."""
    return json.loads(_bytes(value))


def _bytes(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, default=str).encode("utf-8", "surrogatepass")


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."
