"""lm-eval's own tasks over a model of ours: `puna evaluate --tasks NAME` for a name that the pack does not have.

lm-eval's index of its 14,000 tasks takes some ten seconds to read, so a folder that was named (`--include`) is looked
at first and by itself. Tasks are loaded before anything is asked; one whose data would have to be fetched is refused.
All requests of all tasks come to `HarnessModel` in one list, which keeps each answer under what was asked: whoever is
killed asks only what was not answered. lm-eval's bootstrap is left out; standard errors are those of a mean over items.
"""

from __future__ import annotations

import difflib
import itertools
import logging
import math
import re
import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lm_eval import __version__
from lm_eval.api.metrics import mean
from lm_eval.evaluator import evaluate
from lm_eval.tasks import TaskManager
from lm_eval.tasks._yaml_loader import load_yaml

from puna import storage
from puna.errors import InputError, PunaError
from puna.evaluate.answering import Model
from puna.evaluate.harness.model import HarnessModel
from puna.evaluate.harness.offline import offline
from puna.evaluate.kept import Kept
from puna.evaluate.others import Other
from puna.evaluate.run import Value
from puna.evaluate.tasks import PACK
from puna.generate import Generator
from puna.progress import say
from puna.storage import Place

NAME = "lm-eval.jsonl"
SEED = 1234  # lm-eval's own, by which its command draws examples
UNREACHED = re.compile(r"Couldn't reach '([^']+)'")


class Tasks:
    """Tasks by the names that lm-eval has for them. shots, limit: None: those of each task, and all its items."""

    def __init__(self, names: Sequence[str], include: Path | None, shots: int | None, limit: int | None) -> None:
        """InputError for a name that neither `include` nor lm-eval has."""
        self.names, self._shots, self._limit = tuple(names), shots, limit
        with _quiet():
            self._manager = _found(names, include)
        self._ready: dict[str, Any] | None = None

    def demand(self) -> None:
        self._ready = self._loaded()

    def ask(self, loaded: Generator, model: Model, folder: Place, digest: str) -> list[Other]:
        # A task keeps what was asked of it, so each model is asked by tasks of its own.
        tasks, self._ready = self._ready or self._loaded(), None
        kept = Kept(folder / NAME, digest)
        try:
            asked = HarnessModel(loaded, model=model, kept=kept)
            with _quiet(), offline():
                told = evaluate(asked, tasks, limit=self._limit, bootstrap_iters=0, log_samples=True)
        except PunaError:
            raise
        except Exception as error:  # of a task's own functions
            raise _failed(", ".join(self.names), error) from error
        finally:
            kept.close()
        if asked.cut:
            say(f"lm-eval: {len(asked.cut):,} texts did not fit the context and lost their beginning")
        return _results(told, tasks)

    def _loaded(self) -> dict[str, Any]:
        """Tasks and groups, with the number of examples that is asked for."""
        found: dict[str, Any] = {"tasks": {}, "groups": {}, "group_map": {}}
        for name in self.names:
            try:
                with _quiet(), offline():
                    one = self._manager.load(name)
            except Exception as error:
                raise _failed(name, error) from error
            for kind, entries in one.items():
                found[kind] |= entries
        for name, task in found["tasks"].items():
            if getattr(task, "UNSAFE_CODE", False):
                raise InputError("runs programs that the model wrote, without a cage", where=name, mend="leave it out")
            own = task.get_config("num_fewshot")
            if self._shots is not None and own != 0:  # 0 is what a task means, and lm-eval keeps it
                task.set_config(key="num_fewshot", value=self._shots)
            elif own is None:
                task.set_config(key="num_fewshot", value=0)
            task.set_fewshot_seed(seed=SEED)
        return found


def _found(names: Sequence[str], include: Path | None) -> TaskManager:
    """What knows all the names."""
    if include is not None and not storage.is_folder(include):
        raise InputError("is no folder", where=str(include), mend="--include names one with tasks of lm-eval")
    manager = TaskManager(include_path=include, include_defaults=False)
    if not all(name in manager.task_index for name in names):
        if include is not None:
            _refuse_broken(include)
        say("reading lm-eval's index of tasks")
        manager = TaskManager(include_path=include)
    for name in names:
        if name not in manager.task_index:
            near = difflib.get_close_matches(name, dict.fromkeys([*PACK, *manager.all_tasks]), 3, 0.6)
            mend = f"did you mean {' or '.join(near)}?" if near else "`lm-eval ls tasks` shows all"
            raise InputError(f"--tasks {name} is no task, neither here nor of lm-eval {__version__}", mend=mend)
    return manager


def _refuse_broken(include: Path) -> None:
    """InputError for the first file of the folder that is no YAML: lm-eval passes over such in silence, and the task
    that is not found may be in it."""
    for path in storage.listing(include, "**/*.yaml"):
        try:
            load_yaml(str(path), resolve_func=False, recursive=False)
        except Exception as error:
            of_yaml = type(error).__module__.partition(".")[0] == "yaml"
            if not of_yaml and not isinstance(error, UnicodeError | OSError):
                continue  # YAML, but no task
            mark = getattr(error, "problem_mark", None)
            where = f"{path}:{mark.line + 1}" if mark else str(path)
            told = getattr(error, "problem", None) or getattr(error, "reason", None) or error
            mend = "mend it, or take it out of the folder"
            raise InputError(f"cannot be read as YAML ({told})", where=where, mend=mend) from None


def _failed(name: str, error: Exception) -> PunaError:
    """What to say of a task that cannot be loaded or asked, in one line."""
    causes: list[BaseException] = [error]
    while (cause := causes[-1].__cause__) is not None:
        causes.append(cause)
    said = dict.fromkeys(" ".join(str(each).split())[:300] or type(each).__name__ for each in causes)
    told = ": ".join(itertools.islice(said, 3))
    if unreached := UNREACHED.search(told):
        what = f"its data set {unreached.group(1)} is not on this machine, and nothing is fetched during evaluation"
        mend = f"fetch it first, with datasets.load_dataset({unreached.group(1)!r}, ...), or give a task of local files"
        return InputError(what, where=name, mend=f"{mend} with --include FOLDER")
    mend = "install what it asks for, mend the task, or leave it out"
    return InputError(f"lm-eval cannot run it: {told}", where=name, mend=mend)


def _results(told: Mapping[str, Any], tasks: Mapping[str, Any]) -> list[Other]:
    """What lm-eval found, groups before their tasks."""
    by = f"lm-eval {__version__}"
    found = []
    for name in told.get("groups", {}):
        parts = [each.task_name for each in tasks["groups"][name].get_all_tasks()]
        sizes = [told["n-samples"][part] for part in parts]
        items, of = (sum(size[key] for size in sizes) for key in ("effective", "original"))
        values = {metric: Value(number, None, items) for metric, number in _numbers(told["groups"][name])}
        found.append(Other(name, str(told["versions"].get(name, "")), None, items, of, values, by))
    for name, task in tasks["tasks"].items():
        size = told["n-samples"][name]
        numbers = dict(_numbers(told["results"][name]))
        values = {
            metric: _value(number, metric, told["samples"][name], task, size["effective"])
            for metric, number in numbers.items()
        }
        shots, version = told["n-shot"].get(name), str(told["versions"].get(name, ""))
        found.append(Other(name, version, shots, size["effective"], size["original"], values, by))
    return found


def _numbers(row: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """(metric, value); a metric of the filter none by its name alone."""
    for key, value in row.items():
        metric, _, which = key.partition(",")
        if which and not metric.endswith("_stderr") and isinstance(value, int | float) and math.isfinite(value):
            yield (metric if which == "none" else key), float(value)


def _value(number: float, metric: str, samples: Sequence[Mapping[str, Any]], task: Any, items: int) -> Value:
    """With its standard error, where it is a mean over items."""
    name, _, which = metric.partition(",")
    column = [each[name] for each in samples if each["filter"] == (which or "none") and name in each]
    plain = len(column) > 1 and all(isinstance(each, int | float) for each in column)
    if not plain or task.aggregation().get(name) is not mean:
        return Value(number, None, items)
    return Value(number, statistics.stdev(map(float, column)) / math.sqrt(len(column)), len(column))


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what lm-eval and `datasets` say of settings that a reader cannot change here, and of errors that are told
    in one line."""
    loggers = [logging.getLogger(name) for name in ("lm_eval", "datasets")]
    levels = [each.level for each in loggers]
    for each, least in zip(loggers, (logging.ERROR, logging.CRITICAL), strict=True):
        each.setLevel(least)
    try:
        yield
    finally:
        for each, level in zip(loggers, levels, strict=True):
            each.setLevel(level)
