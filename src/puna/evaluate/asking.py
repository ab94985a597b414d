"""A model asked what a command asks for: read, planned, answered, and written as results and tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from puna import generate
from puna.evaluate import overlap, results, run
from puna.evaluate.answering import Model
from puna.evaluate.others import Other, Others
from puna.evaluate.run import Result, Wanted
from puna.evaluate.tables import Filled, Table
from puna.evaluate.task import Judge, Norm
from puna.generate.packed import pack
from puna.meter import metered
from puna.progress import say
from puna.storage import Location, Place


@dataclass(frozen=True)
class Asking:
    """What is asked. outside: gives the judges that tasks need, for the folder of answers."""

    wanted: Sequence[Wanted]
    tables: Sequence[Table]
    data: Place
    outside: Callable[[Place], Mapping[str, Judge]]
    limit: int | None = None
    norm: Norm | None = None
    samples: int | None = None
    dtype: str = "f32"
    before: Callable[[Place, int], str] | None = None
    """What to say before so many continuations are made whose toxicity somebody is asked for."""
    compare: bool = True
    """Items with the documents that a run trained on."""
    others: Others | None = None
    """Tasks that the pack does not have."""
    named: Mapping[str, str] = field(default_factory=dict)
    """Who judges what a task `needs`."""


@dataclass(frozen=True)
class Asked:
    folder: Place
    """Of answers and results."""
    name: str
    """The model's, in its rows."""
    results: Sequence[Result]
    tables: Sequence[Filled]
    others: Sequence[Other] = ()


def ask(model: Location, asking: Asking, out: Place | None = None) -> Asked:
    """Ask `model`, a run or a checkpoint. out: for answers and results; None: beside the model. Raises InputError for
    what cannot be asked, before anything is written."""
    loaded = generate.load(model)
    folder = out or results.folder_of(loaded.folder)
    plans = run.plan(
        asking.wanted,
        asking.data,
        limit=asking.limit,
        norm=asking.norm,
        samples=asking.samples,
        outside=asking.outside(folder),
        named=asking.named,
    )
    if asking.others:
        asking.others.demand()
    if asking.compare:
        plans = overlap.compared(plans, loaded.folder)
    digest = run.model_digest(loaded.folder, loaded.tokenizer.digest, asking.dtype)
    scored = sum(len(plan.questions) for plan in plans if plan.wanted.task.needs == "toxicity")
    if asking.before and scored:
        say(asking.before(folder, scored))
    for line in dict.fromkeys([*map(run.lacking, plans), *results.changed(folder, plans)]):
        if line:
            say(line)
    with metered() as meter:
        answering = Model(pack(loaded.model, asking.dtype), loaded.tokenizer)
        found = run.evaluate(plans, answering, folder, digest)
        others = asking.others.ask(loaded, answering, folder, digest) if asking.others else []
        taken = meter.taken().as_json()
    name = results.name_of(loaded.folder)
    filled = results.write(folder, name, found, asking.tables, others, digest=digest, dtype=asking.dtype, energy=taken)
    return Asked(folder, name, found, filled, others)


def as_text(asked: Asked) -> str:
    return results.as_text(asked.results, asked.tables, asked.others) + f"\nWritten  {asked.folder / results.TABLES}"
