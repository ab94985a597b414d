"""Steps, their order, and what is redone when something changed.

A step is a name, the steps it needs, the recipe values that matter to it, and the files that it owns. Its fingerprint
is the digest of those values and of what the needed steps produced, so a changed value redoes just what depends on it,
and a step whose result came out the same stops the change there. The done-record is written last: a step without one is
not done, whatever lies in the folder. Within a step, tasks have records of their own, so a killed run redoes only tasks
that had not ended. Where what lies is told in records.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

from puna import records, space, storage
from puna.engine import Engine, map_tasks
from puna.errors import InputError, PunaError
from puna.formats import RECORD, Newer
from puna.meter import metered
from puna.progress import say, seconds
from puna.records import Record
from puna.space import Need
from puna.storage import Place

FINGERPRINTED = 1  # what a fingerprint is the digest of; with another number every run would be done again
T = TypeVar("T")


@dataclass(frozen=True)
class Step:
    """One node of the graph. `outputs` are glob patterns below the run folder that this step alone writes; in them
    `{work}` stands for its folder of tasks. `work` returns its counts, any JSON value."""

    name: str
    work: Callable[[Context], Any]
    outputs: tuple[str, ...]
    needs: tuple[str, ...] = ()
    values: Mapping[str, Any] = field(default_factory=dict)
    version: int = 1  # raised when the code comes to give other bytes for the same values; the same for every source
    reads: bool = True
    """False: its work reads the records of what it needs, never the files, so what was cleaned away is not missed."""
    space: Callable[[Context], Need] | None = None
    """What it writes at most, from what the steps before recorded; None: little, whatever the data."""


@dataclass
class Context:
    """What the work of a step is given."""

    folder: Place
    name: str
    fingerprint: str
    workers: int
    records: Mapping[str, Record]  # done-records of the steps before
    produced: str | None = None
    """Digest of what later steps depend on, where that is less than all outputs; None: of all outputs."""
    engine: Engine | None = None
    """Does the tasks in place of `workers` processes."""
    tasks: int = 0
    """Done by `map`, now or before an interruption."""
    worked: float = 0.0
    """Seconds that those took, each by its own clock."""
    waited: float = 0.0
    """Seconds that `map` took."""

    @property
    def scratch(self) -> Place:
        """Where tasks put what they make; parts of an interrupted run with this fingerprint are found here."""
        return self.folder / records.work(self.name, self.fingerprint)

    def counts(self, step: str) -> Any:
        return self.records[step]["counts"]

    def map(
        self,
        function: Callable[[T, Place], Mapping[str, Any]],
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
        start = time.monotonic()
        found = {name(task): records.of_task(self.folder, self.scratch, name(task)) for task in tasks}
        results = {task_name: record and record["result"] for task_name, record in found.items()}
        self.tasks += len(tasks)
        self.worked += sum(record["seconds"] for record in found.values() if record)
        missing = [(name(task), task) for task in tasks if found[name(task)] is None]
        if len(missing) < len(tasks):
            say(f"{label}: {len(tasks) - len(missing)} of {len(tasks)} tasks were done before")
        run = partial(_run_task, function, self.folder, self.scratch)
        done = map_tasks(
            run,
            missing,
            workers=self.workers,
            label=label,
            size=lambda named: size(named[1]),
            name=lambda named: f"the task {named[0]}",
            engine=self.engine,
        )
        for (task_name, _), (result, took) in done:
            if self.engine is not None:
                self._see(task_name)
            results[task_name] = result
            self.worked += took
        self.waited += time.monotonic() - start
        return [result for result in results.values() if result is not None]

    def _see(self, task: str) -> None:
        """Return when this machine sees what another one wrote; a network file system may show it later."""
        end = time.monotonic() + storage.SEEN
        while not storage.is_remote(self.folder) and records.of_task(self.folder, self.scratch, task) is None:
            if time.monotonic() > end:
                mend = "the run folder must be one and the same on every node; give the same command again"
                raise PunaError(f"what a node wrote is not seen here after {storage.SEEN:g} s", where=task, mend=mend)
            time.sleep(0.2)


def run_steps(
    folder: Place,
    steps: Sequence[Step],
    *,
    workers: int,
    verify: bool = False,
    targets: Sequence[str] | None = None,
    still: Callable[[], None] = lambda: None,
    engine: Engine | None = None,
) -> dict[str, Record]:
    """Bring every step (or `targets` and what they need) to done, in order; return the records by name.

    still: called before a step counts as done; raises when the run is another process's by then.
    """
    _drop_strangers(folder, {step.name for step in steps})
    done: dict[str, Record] = {}
    by_name = {step.name: step for step in steps}

    def given(step: Step) -> Context:
        return Context(folder, step.name, _fingerprint(step, done), workers, done, engine=engine)

    def again(name: str) -> bool:
        """Do a step whose files were cleaned away, after those that it needs in turn; whether it gave something else,
        as it may by other versions of what it is made with."""
        changed = False
        if records.wanting(done[name]):
            for need in by_name[name].needs if by_name[name].reads else ():
                changed = again(need) or changed
            say(f"{name}: done again, since its files were cleaned away")
            before = done[name]["produced"]
            context = given(by_name[name])
            _foresee(by_name[name], context)
            done[name] = _do(by_name[name], context, still)
            changed = changed or done[name]["produced"] != before
        return changed

    def ready(step: Step) -> bool:
        """Have the files of what a step needs; False when steps that counted as done follow from what is no more."""
        return not any(again(need) for need in step.needs if step.reads)

    def from_the_start() -> dict[str, Record]:
        return run_steps(folder, steps, workers=workers, verify=verify, targets=targets, still=still, engine=engine)

    for step in _needed(steps, targets):
        context = given(step)
        record = records.of_step(folder, step.name)
        stands = record is not None and record["fingerprint"] == context.fingerprint
        aside = not stands and records.kept_aside(folder, step.name, context.fingerprint)
        known = stands or aside
        if not known:
            # What the disk cannot hold must not cost the result of the value before; telling it may take what was
            # cleaned away.
            if not ready(step):
                return from_the_start()
            _foresee(step, context, anew=records.begun(folder, step.name) != context.fingerprint)
        found = _found(step, context, record, aside, verify)
        if found is None:
            if known:
                if not ready(step):
                    return from_the_start()
                _foresee(step, context)
            found = _do(step, context, still)
        done[step.name] = found
    return done


def refuse_newer(folder: Place, steps: Sequence[Step], others: Mapping[str, int]) -> None:
    """Raise Newer when a newer Puna has worked in the folder: on a step that this one does not have, or by a later
    version of one. Called before anything is changed, so that nothing of it is set aside or made again.

    others: steps that not every recipe has, with their versions."""
    versions = {**others, **{step.name.partition(".")[0]: step.version for step in steps}}
    for path in storage.listing(folder / "records", "*.json"):
        try:
            record = storage.read_json(path)
            name, found = record["step"].partition(".")[0], int(record.get("version", 1))
        except (InputError, LookupError, TypeError, ValueError, AttributeError):
            continue  # a damaged record is none
        if name not in versions:
            raise Newer("record", path, f"of the step {name}, which this one does not have")
        if found > versions[name]:
            raise Newer("record", path, f"version {found} of the step {name}, this one has {versions[name]}")


def _found(step: Step, context: Context, record: Record | None, aside: bool, verify: bool) -> Record | None:
    """The record of a step that is done. None when it must be done: then nothing of other values stands in its way.

    record: the one that there is, of any values. aside: whether superseded/ keeps something of these.
    """
    folder, fingerprint = context.folder, context.fingerprint
    if record is not None and record["fingerprint"] == fingerprint:
        problem = records.damaged(folder, record, verify)
        # A run killed while it moved this step's files away for another value left some of them in superseded/.
        if problem and records.bring_back(folder, step.name, fingerprint, step.version, step.outputs):
            records.end(folder, record)
            problem = records.damaged(folder, record, verify)
        if problem:
            say(f"{step.name}: {problem}; done again")
            records.forget(folder, step.name, fingerprint, step.version, step.outputs)
            return None
        records.ended(folder, step.name)
        return record
    if record is not None and not aside:
        inputs = _inputs(step, context.records)
        why = records.difference(record, records.plain(step.values), step.version, inputs)
        say(f"{step.name}: done again, since {why}")
    own = [pattern for pattern in step.outputs if "{work}" not in pattern]
    records.set_aside(folder, step.name, fingerprint, _files(folder, own))
    if not (aside and records.bring_back(folder, step.name, fingerprint, step.version, step.outputs)):
        return None
    record = records.of_step(folder, step.name)
    if record is None:
        return None  # it was interrupted then: what its tasks made is there again, and each vouches for itself
    if record["fingerprint"] != fingerprint or records.damaged(folder, record, verify):
        records.forget(folder, step.name, fingerprint, step.version, step.outputs)
        return None
    say(f"{step.name}: what an earlier run made with these values is taken up again")
    return record


def _do(step: Step, context: Context, still: Callable[[], None]) -> Record:
    folder, fingerprint = context.folder, context.fingerprint
    records.begin(folder, step.name, fingerprint, step.version, step.outputs)
    start = time.monotonic()
    try:
        with metered() as meter:
            counts = step.work(context)
            taken = meter.taken()
        if context.engine is not None and context.engine.apart and context.tasks:
            taken = replace(taken, unseen=(*taken.unseen, "tasks on a cluster"))
    except Exception as error:
        error.add_note(f"the step was {step.name}")
        raise
    # What is no task's is done by this process alone.
    worked = context.worked + max(0.0, time.monotonic() - start - context.waited)
    work = records.work(step.name, fingerprint)
    outputs = {
        storage.below(path, folder): {**_looked_at(path), "digest": storage.digest(path)}
        for path in _made(step, context)
    }
    # Without the fingerprint in their names, equal outputs are equal, and the change of a value can end here.
    made = sorted([name.replace(work, "{work}", 1), known["digest"]] for name, known in outputs.items())
    record = {
        "format": RECORD.version,
        "step": step.name,
        "version": step.version,
        "fingerprint": fingerprint,
        "values": records.plain(step.values),
        "inputs": _inputs(step, context.records),
        "outputs": outputs,
        "produced": context.produced or storage.digest_bytes(records.as_bytes(made)),
        "counts": records.plain(counts),
        "seconds": round(time.monotonic() - start, 3),
        "work": {"tasks": context.tasks, "seconds": round(worked, 3)},
        "energy": taken.as_json(),
    }
    still()
    records.end(folder, record)
    say(f"{step.name}: done in {seconds(time.monotonic() - start)}")
    return record


def _looked_at(path: Place) -> dict[str, Any]:
    seen = storage.look(path)
    if seen is None:
        raise PunaError("went while its step was being ended", where=str(path), mend="give the same command again")
    return {"size": seen.size, "modified": seen.stamp}


def _foresee(step: Step, context: Context, *, anew: bool = False) -> None:
    """PunaError before a step that the disk cannot hold. What it wrote until it was interrupted lies there already, but
    for what another value made, which will be set aside (`anew`)."""
    there = 0
    if not storage.is_remote(context.folder):
        found = {} if anew else {str(path): storage.size(path) for path in _made(step, context)}
        found |= {str(context.scratch / name): size for name, size in storage.tree(context.scratch).items()}
        there = sum(found.values())
    need = step.space(context) if step.space else space.small()
    space.check(context.folder, step.name, need, there=there)


def _made(step: Step, context: Context) -> list[Place]:
    work = records.work(step.name, context.fingerprint)
    return _files(context.folder, [pattern.replace("{work}", work) for pattern in step.outputs])


def _drop_strangers(folder: Place, names: set[str]) -> None:
    """Set aside what steps made that this recipe does not have: a source taken out must not be measured or shown."""
    made = {name: record["outputs"] for name, record in records.read_records(folder).items()}
    begun = records.unfinished(folder)
    for name in sorted((made.keys() | begun.keys()) - names):
        say(f"{name}: not in this recipe any more, set aside")
        ended = [folder / file for file in made.get(name, ()) if not file.startswith(records.WORK)]
        files = {str(path): path for path in [*ended, *_files(folder, begun.get(name, ()))] if storage.is_file(path)}
        records.set_aside(folder, name, None, files.values())


def _needed(steps: Sequence[Step], targets: Sequence[str] | None) -> list[Step]:
    by_name = {step.name: step for step in steps}
    seen: set[str] = set()
    for step in steps:
        if step.name in seen:
            raise ValueError(f"two steps are called {step.name}")
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


def _inputs(step: Step, done: Mapping[str, Record]) -> dict[str, str]:
    """What the needed steps produced, by name."""
    return {need: done[need]["produced"] for need in step.needs}


def _fingerprint(step: Step, done: Mapping[str, Record]) -> str:
    value = [FINGERPRINTED, step.name, step.version, records.plain(step.values), _inputs(step, done)]
    return storage.digest_bytes(records.as_bytes(value)).removeprefix("xxh3:")


def _run_task(
    function: Callable[[T, Place], Mapping[str, Any]], folder: Place, scratch: Place, named: tuple[str, T]
) -> tuple[Mapping[str, Any], float]:
    name, task = named
    start = time.monotonic()
    result: Mapping[str, Any] = records.plain(function(task, scratch))
    sizes = {file: storage.size(folder / file) for file in result.get("files", ())}
    took = time.monotonic() - start
    record = {"format": RECORD.version, "result": result, "sizes": sizes, "seconds": took}
    storage.write_json(scratch / f"{name}.json", record)
    return result, took


def _files(folder: Place, patterns: Iterable[str]) -> list[Place]:
    found = {str(path): path for pattern in patterns for path in storage.listing(folder, pattern)}
    return [found[name] for name in sorted(found)]
