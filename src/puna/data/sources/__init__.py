"""The seven raw sources (section 2.1), each in one file: where its dumps lie, how they are cut, what is kept of them.

Every source has the same two functions. `split` cuts located inputs into tasks by what the format allows; `read` turns
one task into documents, and says of every other record which rule dropped it or why it could not be read.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from typing import Any

from puna.data.sources import inputs as _inputs
from puna.data.sources.records import Aside, Dropped, Input, Part, Record, SetAside, Task, as_json, from_json
from puna.recipe import Source

__all__ = [
    "Aside", "Dropped", "Input", "Part", "Record", "SetAside", "Task", "as_json", "from_json", "locate", "read",
    "split",
]  # fmt: skip


def locate(source: str, recipe: Source) -> list[Input]:
    """The inputs that a source of the recipe names, sorted; InputError with the mend where one is missing."""
    return _inputs.locate(source, recipe)


def split(source: str, inputs: Sequence[Input], recipe: Source, task_size: int) -> list[Task]:
    """Tasks of about `task_size` raw bytes; the same inputs give the same tasks."""
    tasks: list[Task] = _reader(source).split(inputs, recipe, task_size)
    return tasks


def read(task: Task, inputs: Sequence[Input], recipe: Source) -> Iterator[Record | Aside]:
    """Every record of a task, in the order of the dump: kept, dropped by a named rule, or set aside with a reason."""
    records: Iterator[Record | Aside] = _reader(task.source).read(task, inputs, recipe)
    return records


def _reader(source: str) -> Any:
    return importlib.import_module(f"puna.data.sources.{source}")
