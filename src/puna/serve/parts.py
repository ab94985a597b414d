"""What the routes work with."""

from __future__ import annotations

from dataclasses import dataclass

from puna.serve.guard import Door
from puna.serve.limits import Limits
from puna.serve.metrics import Metrics
from puna.serve.served import Served
from puna.serve.worker import Worker


@dataclass(frozen=True)
class Parts:
    """One of each."""

    served: Served
    worker: Worker
    metrics: Metrics
    limits: Limits
    door: Door
