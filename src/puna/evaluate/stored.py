"""Results that were written before, read back: for the report and the model card, which ask no model anything.

A run's newest checkpoint is asked twice: a sample of the items when the run ends (evaluations/tables), and what
`puna evaluate` is told to ask (evaluations/benchmarks/CHECKPOINT). Of each task the result over more items counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from puna import storage
from puna import tokenizer as tokenizers
from puna.errors import InputError
from puna.evaluate.results import NAME, folder_of
from puna.evaluate.run import Result, Value, model_digest
from puna.evaluate.tasks import PACK
from puna.formats import RESULTS
from puna.model.folder import find
from puna.storage import Place

Known: TypeAlias = Mapping[tuple[str, int], Result]
"""Results by task and number of examples."""


def of(checkpoint: Place) -> Known:
    """What is known of a model: a checkpoint of a run, or a folder with a model. Reads its weights once, since results
    are of a model only where they hold its digest. InputError for a damaged file, Newer for one of a newer Puna."""
    places = [folder_of(checkpoint) / NAME]
    if checkpoint.parent.name == "checkpoints":
        places.append(checkpoint.parent.parent / "evaluations" / "tables" / NAME)
    found: dict[tuple[str, int], Result] = {}
    for place in filter(storage.is_file, places):
        for result in _of_model(place, checkpoint):
            before = found.get((result.task, result.shots))
            if before is None or before.items < result.items:
                found[result.task, result.shots] = result
    return found


def _of_model(file: Place, checkpoint: Place) -> list[Result]:
    """The results of a results.json, those of earlier calls behind them; none where they are another model's."""
    told = storage.read_json(file)
    try:
        RESULTS.refuse_newer(told["format"], file)
        tokenizer = tokenizers.load(find(checkpoint)[1])
        if told["digest"] != model_digest(checkpoint, tokenizer.digest, told["dtype"]):
            return []
        lines = [*told["results"], *told.get("earlier", [])]
        return [_result(line) for line in lines if line["task"] in PACK]
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
