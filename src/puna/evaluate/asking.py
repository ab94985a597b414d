"""A model asked what a command asks for: read, planned, answered, and written as results and tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from puna import generate, lock, storage
from puna.errors import InputError, telling_denial
from puna.evaluate import overlap, results, run
from puna.evaluate.answering import Model, tokens_a_second
from puna.evaluate.others import Other, Others
from puna.evaluate.run import Plan, Result, Wanted
from puna.evaluate.tables import Filled, Table
from puna.evaluate.task import Judge, Norm, Prompt
from puna.generate.packed import pack
from puna.meter import metered
from puna.progress import say, seconds
from puna.storage import Location, Place

MANY = 1000  # texts of a task from which on it is said how long they take
TRIED = 2.0  # seconds in which that is tried


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
    present: bool = False
    """Whether a task whose files are not all there is left out, with a line, rather than refused."""


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
        left_out=say if asking.present else None,
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
    name = results.name_of(loaded.folder)
    with held(folder):
        with metered() as meter:
            answering = Model(pack(loaded.model, asking.dtype), loaded.tokenizer)
            for plan in plans:
                if line := _foretold(plan, answering):
                    say(line)
            found = run.evaluate(plans, answering, folder, digest)
            others = asking.others.ask(loaded, answering, folder, digest) if asking.others else []
            taken = meter.taken().as_json()
        kind = asking.dtype
        tables = results.write(folder, name, found, asking.tables, others, digest=digest, dtype=kind, energy=taken)
    return Asked(folder, name, found, tables, others)


def _foretold(plan: Plan, model: Model) -> str:
    """A line for a task that draws many samples of its items: how many, and how long that takes at most; else ""."""
    drawn = [asked for _, asked in plan.questions.values() if isinstance(asked, Prompt) and asked.samples > 1]
    texts, tokens = sum(each.samples for each in drawn), sum(each.samples * each.tokens for each in drawn)
    if texts < MANY:
        return ""
    rate = tokens_a_second(model, drawn[0], TRIED)
    time = f", {seconds(tokens / rate)} at the {rate:,.0f} tokens a second of this machine" if rate else ""
    what = f"{plan.wanted.task.name}, {plan.wanted.shots}-shot draws {texts:,} texts of {len(drawn):,} items"
    return f"{what}: at most {tokens:,} tokens{time}; what was drawn before is kept, and --samples draws fewer"


@contextmanager
def held(folder: Place) -> Iterator[None]:
    """Make the folder of answers, and hold it, so that no two processes ask the same. A run is not held by it: its
    training goes on beside. Held where another process has it; InputError for a place where no folder can be made."""
    with telling_denial(folder):
        try:
            storage.make_folder(folder)
        except (FileNotFoundError, FileExistsError, NotADirectoryError) as error:
            what = f"no folder can be made there ({error.strerror})"
            raise InputError(what, where=str(folder), mend="give another with --out") from None
    with lock.locked(folder, mend=f"stop it there; when you know that it is dead, remove {folder / 'run.lock'}"):
        yield


def as_text(asked: Asked) -> str:
    return results.as_text(asked.results, asked.tables, asked.others) + f"\nWritten  {asked.folder / results.TABLES}"
