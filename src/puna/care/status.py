"""`puna status RUN`: what runs now and how far it is, which steps are done, the training, space, and the log's end.

How far a step is stands in RUN/progress.json, which the working process writes every few seconds and removes when it
ends. So one that is old, or whose process is dead, is told as what it is: the last that was seen.
"""

from __future__ import annotations

import shlex
import textwrap
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from puna import cost as costs
from puna import recipe as recipes
from puna import storage
from puna.care import results, states
from puna.care.results import Training
from puna.care.states import Known, number
from puna.formats import PROGRESS
from puna.progress import WIDTH, seconds, size
from puna.recipe import Recipe

STALE = 60.0  # seconds after which the last word of a process says nothing of now
LOG_LINES = 5
TIED = "\u00a0"  # a space at which no line ends
INDENT = 11  # columns before what a heading tells
STATES = ("done", "under way", "to come")  # of a step


@dataclass(frozen=True)
class Progress:
    """The last that a working process told of how far it is."""

    label: str
    done: float
    total: float
    unit: str
    note: str
    seconds_left: float | None
    """From the moment at which it was told."""
    age: float
    """Seconds since then."""
    alive: bool
    """Whether the process that told it holds the run."""

    @property
    def fresh(self) -> bool:
        return self.alive and self.age < STALE

    def as_text(self) -> str:
        share = f"{100 * self.done / self.total:.0f} %" if self.total > 0 else f"{self.done:g} {self.unit}".strip()
        left = f"{seconds(max(0.0, self.seconds_left - self.age))} left" if self.seconds_left is not None else ""
        parts = [f"{self.label.strip()} {share}", self.note, left if self.fresh else ""]
        return ", ".join(part for part in parts if part)


@dataclass(frozen=True)
class StepLine:
    """One step of the run."""

    name: str
    state: str
    """`done`, `under way` or `to come`."""
    seconds: float | None
    """That it took; None when it is not done."""


@dataclass(frozen=True)
class Status:
    """How one run stands."""

    folder: str
    recipe: str
    """The recipe's name; "" when recipe.toml cannot be read."""
    state: str
    """See `states`."""
    trouble: str
    """What is wrong with the run folder; "" when nothing."""
    holder: str
    """Who holds the run; "" when nobody does."""
    step: str
    """The step under way; "" when none is."""
    progress: Progress | None
    steps: tuple[StepLine, ...]
    training: Training | None
    training_tokens: int | None
    """Tokens of the whole training."""
    bits_per_byte: dict[str, float]
    """Of all held-out text, by `model` and baseline; empty while they do not stand."""
    best_baseline: str
    """The name of the best of them, for people."""
    space: dict[str, int]
    """Bytes by the folder directly below the run's."""
    log: tuple[str, ...]
    """The last lines of log.txt."""
    cost: dict[str, dict[str, Any]]
    """Of each stage of the data that is done `label`, `bytes` read, `seconds` of work over all processes, `share`."""

    def as_text(self) -> str:
        """For a terminal of 80 columns."""
        lines = [_wrapped("Run", f"{self.folder}{f', recipe {self.recipe}' if self.recipe else ''}")]
        lines.append(_wrapped("State", self._state()))
        lines += self._now()
        lines += self._steps()
        lines += [_wrapped("Training", _training(self.training, self.training_tokens))] if self.training else []
        lines += [_wrapped("Held out", self._quality())] if self.bits_per_byte else []
        lines.append(_wrapped("Space", _space(self.space)))
        lines += [_wrapped("Log", self.log[0])] if self.log else []
        lines += [_wrapped("", line) for line in self.log[1:]]
        return "\n".join([*lines, *self._next()])

    def as_json(self) -> dict[str, Any]:
        value = asdict(self)
        if self.progress is not None:
            value["progress"]["fresh"] = self.progress.fresh
        return value

    def _state(self) -> str:
        at = f" at {self.step}" if self.state in ("stopped", "interrupted") and self.step else ""
        more = {
            "running": f", {self.holder}",
            "held": f" by {self.holder}; whether that still runs cannot be told from here",
            "interrupted": f": {self.holder} held the run and is dead",
        }
        return f"{self.state}{at}{more.get(self.state, '')}{f'; {self.trouble}' if self.trouble else ''}"

    def _now(self) -> list[str]:
        told = self.progress
        if self.state not in ("running", "held"):
            return [_wrapped("Last seen", f"{seconds(told.age)} ago: {told.as_text()}")] if told is not None else []
        step = self.step or "between two steps"
        if told is None or (told.fresh and told.done >= told.total > 0):
            return [_wrapped("Now", step)]
        if told.fresh:
            return [_wrapped("Now", f"{step}: {told.as_text()}")]
        said = f"{step}; nothing was told for {seconds(told.age)}, last: {told.as_text()}"
        return [_wrapped("Now", said)]

    def _steps(self) -> list[str]:
        if not self.steps:
            return [_wrapped("Steps", "none is begun")]
        names = [step.name for step in self.steps]
        by_state = {state: [step.name for step in self.steps if step.state == state] for state in STATES}
        counted = ", ".join(f"{len(found)} {state}" for state, found in by_state.items() if found)
        lines = [_wrapped("Steps", f"{counted}; they took {seconds(sum(step.seconds or 0.0 for step in self.steps))}")]
        lines += [
            _wrapped("", f"{state}: {states.told_steps(found, names)}") for state, found in by_state.items() if found
        ]
        return lines

    def _quality(self) -> str:
        return results.told_quality(self.bits_per_byte) + (f" ({self.best_baseline})" if self.best_baseline else "")

    def _next(self) -> list[str]:
        folder = shlex.quote(self.folder)
        if self.state == "broken" and "denied" in self.trouble:
            return [f"{'Mend':{INDENT}}mend the permissions of {shlex.quote(f'{self.folder}/recipe.toml')}"]
        if self.state == "broken":
            return [f"{'Mend':{INDENT}}puna recipe show RECIPE > {shlex.quote(f'{self.folder}/recipe.toml')}"]
        if self.state in ("stopped", "interrupted"):
            return [f"{'Next':{INDENT}}puna run {shlex.quote(f'{self.folder}/recipe.toml')} --out {folder}"]
        return [f"{'Next':{INDENT}}puna generate {folder} 'The history of'"] if self.state == "done" else []


def status(folder: str | Path, steps: Callable[[Recipe], Sequence[str]] | None = None) -> Status:
    """How the run in `folder` stands. steps: gives the names of all steps of a recipe, in order, and is asked where
    more is to do; without it, those that the run itself names.

    InputError when `folder` is no run.
    """
    place = storage.place(folder)
    known = states.look(place)
    training, bits = results.training(known), results.quality(known)
    names: Sequence[str] = ()
    if steps is not None and known.recipe is not None and known.state not in ("done", "newer"):
        names = steps(known.recipe)
    return Status(
        folder=str(folder),
        recipe=known.recipe.name if known.recipe else "",
        state=known.state,
        trouble="; ".join(part for part in (known.trouble, known.newer) if part),
        holder=str(known.holder or ""),
        step=known.step,
        progress=_progress(known),
        steps=_step_lines(known, names),
        training=training,
        training_tokens=_tokens(known, training),
        bits_per_byte=bits,
        best_baseline=results.told_baseline(known, results.best_baseline(bits)),
        space=states.parts(storage.tree(place)),
        log=tuple(states.last_lines(place / "log.txt")[-LOG_LINES:]),
        cost=_cost(known),
    )


def _cost(known: Known) -> dict[str, dict[str, Any]]:
    found = costs.stages(known.records)
    whole = sum(part.seconds for part in found.values())
    return {name: part.as_json(whole) for name, part in found.items()}


def _progress(known: Known) -> Progress | None:
    told = states.read_object(known.folder / "progress.json")
    moment = number(told.get("time"))
    if told.get("format") != PROGRESS.version or moment is None:
        return None
    writer = known.writer
    alive = writer is not None and (writer.pid, writer.host) == (told.get("pid"), told.get("host"))
    return Progress(
        str(told.get("label", "")),
        number(told.get("done")) or 0.0,
        number(told.get("total")) or 0.0,
        str(told.get("unit", "")),
        str(told.get("note", "")),
        number(told.get("seconds_left")),
        max(0.0, time.time() - moment),
        alive,
    )


def _step_lines(known: Known, steps: Sequence[str]) -> tuple[StepLine, ...]:
    names = steps or [*dict.fromkeys((*known.records, *known.begun))]
    lines = []
    for name in names:
        if name in known.begun:
            lines.append(StepLine(name, "under way", None))
        elif name in known.current:
            lines.append(StepLine(name, "done", number(known.records[name]["seconds"])))
        else:
            lines.append(StepLine(name, "to come", None))
    return tuple(lines)


def _tokens(known: Known, training: Training | None) -> int | None:
    if training is None or training.steps is None or known.recipe is None:
        return None
    return training.steps * recipes.batch_tokens(known.recipe)


def _training(training: Training, tokens: int | None) -> str:
    of_steps = f" of {training.steps:,} ({100 * training.step / training.steps:.0f} %)" if training.steps else ""
    of_tokens = f" of {tokens / 1e6:,.2f}M" if tokens else ""
    parts = [f"step {training.step:,}{of_steps}", f"{training.tokens / 1e6:,.2f}M{of_tokens} tokens"]
    parts += [f"loss {training.loss:.3f}"] if training.loss is not None else []
    parts += [f"{training.tokens_per_second:,.0f}{TIED}tokens/s"] if training.tokens_per_second else []
    return ", ".join(parts)


def _space(space: dict[str, int]) -> str:
    largest = sorted(space.items(), key=lambda item: -item[1])
    told = ", ".join(f"{part} {size(count)}".replace(" ", TIED) for part, count in largest if count)
    return f"{size(sum(space.values()))}: {told}"


def _wrapped(heading: str, text: str) -> str:
    """`text` behind its heading, wrapped into the columns that are left."""
    lines = textwrap.wrap(text, WIDTH - INDENT, break_long_words=False, break_on_hyphens=False) or [""]
    told = "\n".join(f"{heading if not number else '':{INDENT}}{line}" for number, line in enumerate(lines))
    return told.replace(TIED, " ")
