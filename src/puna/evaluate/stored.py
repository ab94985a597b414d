"""Results that were written before, read back: for the report and the model card, which ask no model anything.

A run's newest checkpoint is asked twice: a sample of the items when the run ends (evaluations/tables), and what
`puna evaluate` is told to ask (evaluations/benchmarks/CHECKPOINT). Of each task the result over more items counts.
Tasks of lm-eval stand in the second alone.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from puna import storage
from puna import tokenizer as tokenizers
from puna.errors import InputError
from puna.evaluate.others import Other
from puna.evaluate.results import NAME, folder_of, kept, others_of, told_of
from puna.evaluate.run import Result, Value, model_digest
from puna.evaluate.tasks import PACK
from puna.model.folder import find
from puna.storage import Place

Known: TypeAlias = Mapping[tuple[str, int], Result]
"""Results by task and number of examples."""


def of(checkpoint: Place) -> Known:
    """What `read` gives of the pack's tasks."""
    return read(checkpoint)[0]


def read(checkpoint: Place) -> tuple[Known, list[Other]]:
    """What is known of a model: a checkpoint of a run, or a folder with a model; of the pack's tasks, and of lm-eval's.
    Reads its weights once, since results are of a model only where they hold its digest. InputError for a damaged file,
    Newer for one of a newer Puna."""
    places = [folder_of(checkpoint) / NAME]
    if checkpoint.parent.name == "checkpoints":
        places.append(checkpoint.parent.parent / "evaluations" / "tables" / NAME)
    found: dict[tuple[str, int], Result] = {}
    others: list[Other] = []
    digest = functools.cache(lambda dtype: _digest(checkpoint, dtype))
    for place in filter(storage.is_file, places):
        results, more = _of_model(place, digest)
        others += more
        for result in results:
            before = found.get((result.task, result.shots))
            if before is None or before.items < result.items:
                found[result.task, result.shots] = result
    return found, others


def _digest(checkpoint: Place, dtype: str) -> str:
    return model_digest(checkpoint, tokenizers.load(find(checkpoint)[1]).digest, dtype)


def _of_model(file: Place, digest: Callable[[str], str]) -> tuple[list[Result], list[Other]]:
    """The results of a results.json, those of earlier calls behind them; none where they are another model's. digest:
    the model's, by the type of the computation."""
    told = kept(file.parent)
    try:
        if told["digest"] != digest(told["dtype"]):
            return [], []
        results = [_result(line) for line in told_of(told) if line["task"] in PACK]
        return results, [Other(**{**line, "values": _values(line["values"])}) for line in others_of(told)]
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError("is no table of benchmarks", where=str(file), mend="ask puna evaluate again") from error


def _result(line: Mapping[str, Any]) -> Result:
    groups = {name: _values(values) for name, values in line["groups"].items()}
    known = {"values": _values(line["values"]), "groups": groups, "clean": _values(line["clean"])}
    return Result(**{**line, **known})


def _values(told: Mapping[str, Any]) -> dict[str, Value]:
    return {name: _value(value) for name, value in told.items()}


def _value(told: Mapping[str, Any]) -> Value:
    interval = told.get("interval")
    ends = None if interval is None else (float(interval[0]), float(interval[1]))
    return Value(float(told["mean"]), told["error"], int(told["items"]), ends, told.get("clusters"))
