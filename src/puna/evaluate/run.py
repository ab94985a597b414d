"""Tasks over a model: what is asked, answered and kept, and the numbers that come of it.

Items are read for all tasks before the model is, so that a missing file is told at once. Each answer is kept as it
comes (kept.py); a process that is killed loses what was under way, and the same command goes on.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import asdict, dataclass, field, replace
from typing import Any, TypeAlias

from puna import storage
from puna.errors import InputError
from puna.evaluate import bootstrap, chosen
from puna.evaluate.answering import Model, answers
from puna.evaluate.kept import Kept
from puna.evaluate.published import Missing, publisher, together
from puna.evaluate.task import Answer, Asked, Demanding, Judge, Norm, Prompt, Task
from puna.progress import progress
from puna.storage import Place
from puna.testsets import BENCHMARKS, Item

Row: TypeAlias = tuple[str | None, Mapping[str, float]]
"""An item's cluster, where its task has such, and its number for each metric."""
Outside = Mapping[str, Judge]
"""Judges of what a task `needs`."""
REFUSED = {
    "programs": "runs programs that the model wrote; give --allow-code, or leave it out",
    "toxicity": "needs scores of its continuations; give --toxicity perspective, FILE or MODULE:FUNCTION",
    "truth": "needs judges of its answers; give --judge TRUTH,HELP (two models) or FILE",
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """A task with so many examples."""

    task: Task
    shots: int

    @property
    def name(self) -> str:
        return f"{self.task.name}-{self.shots}"


@dataclass(frozen=True, slots=True)
class Value:
    mean: float
    error: float | None
    """Standard error of the mean over items; None of one item."""
    items: int
    interval: tuple[float, float] | None = None
    """By bootstrap over clusters of items, where the task has such (bootstrap.py)."""
    clusters: int | None = None


@dataclass(frozen=True)
class Result:
    task: str
    version: int
    shots: int
    metric: str
    """The one that the paper shows."""
    norm: Norm
    paper_norm: Norm
    items: int
    of: int | None
    """Items of the paper's split; None of one that an older Puna did not know."""
    cut: int
    """Items that did not fit the model's context and lost their beginning."""
    samples: int
    """Texts of an item, 0 where none is made."""
    values: Mapping[str, Value]
    groups: Mapping[str, Mapping[str, Value]] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    """Digests of the files that the items are of."""
    found: int | None = None
    """Items that stand in documents which the model's run trained on; None: there was nothing to compare with."""
    clean: Mapping[str, Value] = field(default_factory=dict)
    """`values` of all others, where some were found."""
    judged_by: str = ""
    """Whose scores or judgements they are, where the task needs somebody's."""
    lacks: str = ""
    """What was not known of the items (`Task.lacks`)."""

    @property
    def value(self) -> Value:
        return self.values[self.metric]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Plan:
    """What is asked for one result."""

    wanted: Wanted
    norm: Norm
    questions: Mapping[str, tuple[Item, Asked]]
    judge: Judge
    items: chosen.Items
    found: Set[str] | None = None
    """Keys of questions that stand in training documents (overlap.py)."""
    judged_by: str = ""

    @property
    def alone(self) -> bool:
        """Whether choices are scored behind "Answer:", too: for the norm asked for, or for that of the paper."""
        return "answer" in (self.norm, self.wanted.task.norm)


def plan(
    wanted: Sequence[Wanted],
    data: Place | chosen.Folder,
    *,
    limit: int | None = None,
    norm: Norm | None = None,
    samples: int | None = None,
    outside: Outside | None = None,
    named: Mapping[str, str] | None = None,
    left_out: Callable[[str], object] | None = None,
) -> list[Plan]:
    """What is to be asked. data: a folder of release files, or one that others ask of too. norm: None is each task's
    own. samples: of an item, where a task draws several. named: who judges, by what a task `needs`. left_out: is given
    a line for each task whose files are not all there, which is not asked then; None: such are refused.

    InputError for a task that cannot be judged, a judge that cannot read the questions, a norm that says nothing of any
    task, and, for all tasks at once, files that are not there.
    """
    if norm is not None and not any(norm in each.task.norms for each in wanted):
        raise InputError(f"--norm {norm} says nothing of these tasks", mend="leave it out")
    if samples is not None and wanted and all(each.task.samples == 1 for each in wanted):
        raise InputError(f"--samples {samples} says nothing of these tasks", mend="leave it out")
    judges = {each.name: _judge(each, outside or {}, samples) for each in wanted}
    folder = data if isinstance(data, chosen.Folder) else chosen.Folder(data)
    made: list[Plan] = []
    lacking: list[Missing] = []
    for each in wanted:
        task = each.task
        try:
            items = folder.read(task.benchmark)
            questions = chosen.questions(task, items, each.shots, limit)
        except Missing as error:
            lacking.append(error)
            if left_out:
                left_out(f"{task.name}, {each.shots}-shot is left out: {error.what}")
            continue
        if samples is not None:
            questions = {key: (item, _with(asked, samples)) for key, (item, asked) in questions.items()}
        own = norm if norm is not None and norm in task.norms else task.norm
        named_by = (named or {}).get(task.needs, "")
        made.append(Plan(each, own, questions, judges[each.name], items, judged_by=named_by))
    if lacking and (left_out is None or not made):
        raise together(lacking)
    for one in made:
        who: object = one.judge
        if isinstance(who, Demanding):
            who.demand(list(one.questions.values()))
    return made


def _judge(wanted: Wanted, outside: Outside, samples: int | None) -> Judge:
    """Who judges; InputError for a task that cannot be asked so, whatever files are there."""
    task = wanted.task
    judge = outside.get(task.needs) if task.needs else task.judge
    if judge is None:
        what, mend = REFUSED[task.needs].split("; ")
        raise InputError(what, where=task.name, mend=mend)
    if samples is not None and samples < task.least:
        what = f"{task.metric} cannot be told from --samples {samples}"
        raise InputError(what, where=task.name, mend=f"give {task.least} or more, or leave the task out")
    if wanted.shots and task.example is None:
        raise InputError(f"{task.name} has no examples to show", mend="leave --shots out")
    return judge


def answer(
    plan: Plan, model: Model, location: Place, digest: str, *, advance: Callable[[], object] = lambda: None
) -> Result:
    """Ask what was not answered yet, and judge all. location: the file of answers; digest: of the model.

    advance: called with each item, those that were answered before first.
    """
    kept = Kept(location, digest)
    try:
        asked = {key: asked for key, (_, asked) in plan.questions.items()}
        left = {key: each for key, each in asked.items() if kept.answer(key, each, alone=plan.alone) is None}
        for _ in range(len(asked) - len(left)):
            advance()
        for found in answers(model, left, alone=plan.alone):
            kept.add(found.key, asked[found.key], found.answer, cut=found.cut)
            advance()
        known: dict[str, Answer] = {}
        for key, each in asked.items():
            one = kept.answer(key, each, alone=plan.alone)
            assert one is not None
            known[key] = one
        return judged(plan, known, sum(kept.was_cut(key) for key in asked))
    finally:
        kept.close()


def judged(plan: Plan, known: Mapping[str, Answer], cut: int) -> Result:
    """The numbers of a task, from all its answers."""
    task = plan.wanted.task
    rows: list[Row] = []
    clean: list[Row] = []
    groups: dict[str, list[Row]] = defaultdict(list)
    samples = 0
    for key, (item, asked) in plan.questions.items():
        row = (task.clusters.of(item) if task.clusters else None, plan.judge(item, asked, known[key], plan.norm))
        rows.append(row)
        if plan.found and key not in plan.found:
            clean.append(row)
        for group in task.groups(item):
            groups[group].append(row)
        samples = asked.samples if isinstance(asked, Prompt) else 0
    return Result(
        task.name,
        task.version,
        plan.wanted.shots,
        task.metric,
        plan.norm,
        task.norm,
        len(rows),
        BENCHMARKS[task.benchmark].items,
        cut,
        samples,
        _values(rows),
        {group: _values(found) for group, found in sorted(groups.items())},
        plan.items.digests,
        None if plan.found is None else len(plan.found),
        _values(clean),
        plan.judged_by,
        task.lacks([item for item, _ in plan.questions.values()]),
    )


def lacking(plan: Plan) -> str:
    """A line for what is not known of the items, before they are asked; "" where nothing is missing."""
    lacks = plan.wanted.task.lacks([item for item, _ in plan.questions.values()])
    return (
        f"{plan.wanted.task.name}: {lacks}; put that file of {publisher(plan.wanted.task.benchmark)} there"
        if lacks
        else ""
    )


def evaluate(plans: Sequence[Plan], model: Model, folder: Place, digest: str) -> list[Result]:
    """Every plan's result, one after the other; answers are kept in `folder`, a file each."""
    results = []
    for each in plans:
        name = each.wanted.name
        with progress(f"{name.rpartition('-')[0]}, {each.wanted.shots}-shot", len(each.questions), "items") as bar:
            results.append(answer(each, model, folder / f"{name}.jsonl", digest, advance=bar.advance))
    return results


def model_digest(checkpoint: Place, tokenizer: str, dtype: str) -> str:
    """Tells a model from others by all that its answers depend on: weights, shape, tokenizer, and the type it is in."""
    names = [path for path in storage.listing(checkpoint, "*") if path.name == "config.json"]
    names += storage.listing(checkpoint, "*.safetensors")
    digests = [storage.digest(path) for path in sorted(names, key=lambda path: path.name) if _is_model(path.name)]
    return storage.digest_bytes("\n".join([*digests, tokenizer, dtype]).encode())


def _is_model(name: str) -> bool:
    return not name.startswith("optimizer")


def _with(asked: Asked, samples: int) -> Asked:
    return replace(asked, samples=samples) if isinstance(asked, Prompt) and asked.samples > 1 else asked


def _values(rows: Sequence[Row]) -> dict[str, Value]:
    """Of each metric, over the items that have it: one that could not be judged has none."""
    columns: dict[str, list[float]] = defaultdict(list)
    clusters: dict[str, list[str]] = defaultdict(list)
    for cluster, row in rows:
        for name, value in row.items():
            columns[name].append(value)
            if cluster is not None:
                clusters[name].append(cluster)
    return {name: _value(column, clusters[name]) for name, column in columns.items()}


def _value(column: Sequence[float], clusters: Sequence[str]) -> Value:
    found = mean(column)
    if not clusters:
        return found
    return replace(found, interval=bootstrap.interval(column, clusters), clusters=len(set(clusters)))


def mean(column: Sequence[float]) -> Value:
    """With its standard error, of the sample's standard deviation."""
    error = statistics.stdev(column) / math.sqrt(len(column)) if len(column) > 1 else None
    return Value(statistics.fmean(column), error, len(column))
