"""One task, in a worker of a cluster: what it gives, or what it raised, with its type, its notes and its traceback."""

from __future__ import annotations

import copy
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from puna.cluster.ground import Ground, stand


class Elsewhere(Exception):
    """The cause of an exception that came from another machine: its traceback there, as text."""


@dataclass(frozen=True)
class Raised:
    """An exception on its way to the driver. Ray's own way would give it another type and lose its notes."""

    error: Exception
    told: str

    def here(self) -> Exception:
        self.error.__cause__ = Elsewhere(f"\n{self.told}")
        return self.error


def work(ground: Ground, function: Callable[[Any], Any], task: Any) -> Any:
    """function(task), or Raised."""
    try:
        stand(ground)
        return function(task)
    except Exception as error:
        return Raised(_sendable(error), "".join(traceback.format_exception(error)))


def check(ground: Ground) -> Any:
    """None, or Raised when this node cannot work on the run."""
    return work(ground, lambda _: None, None)


def _sendable(error: Exception) -> Exception:
    """The exception without what hangs on it here; one whose own constructor wants other arguments than it keeps could
    not be made there, and is told as text."""
    try:
        return copy.copy(error)
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
