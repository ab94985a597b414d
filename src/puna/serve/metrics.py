"""What /metrics shows, in Prometheus' text format.

Written here and not taken from prometheus_client: what is used of it would be counters, gauges and one kind of
histogram in one process, the sixty lines below, and its registry is global, so two servers in one test would share it.
All values are written in the event loop but those that are asked for when the page is read.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter as Counts
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)


@dataclass
class Counter:
    """A number that only grows; with a label, one for each of its values, which come from a closed set."""

    name: str
    tells: str
    label: tuple[str, ...] = ()
    values: Counts[tuple[str, ...]] = field(default_factory=Counts)

    def add(self, number: int = 1, *labels: str) -> None:
        self.values[labels] += number

    @property
    def value(self) -> int:
        return self.values.total()

    def lines(self) -> Iterator[str]:
        yield from _head(self.name, self.tells, "counter")
        if not self.label:
            yield f"{self.name} {self.value}"
        for labels, value in sorted(self.values.items()) if self.label else ():
            named = ",".join(f'{name}="{given}"' for name, given in zip(self.label, labels, strict=True))
            yield f"{self.name}{{{named}}} {value}"


@dataclass
class Histogram:
    """How many seconds things took, by bounds that do not change."""

    name: str
    tells: str
    counts: list[int] = field(default_factory=lambda: [0] * (len(SECONDS) + 1))
    total: float = 0.0

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(SECONDS, seconds)] += 1
        self.total += seconds

    def lines(self) -> Iterator[str]:
        yield from _head(self.name, self.tells, "histogram")
        below = 0
        for bound, count in zip((*SECONDS, "+Inf"), self.counts, strict=True):
            below += count
            yield f'{self.name}_bucket{{le="{bound}"}} {below}'
        yield f"{self.name}_sum {self.total}"
        yield f"{self.name}_count {below}"


@dataclass(frozen=True)
class Gauge:
    """A number that is asked for when it is shown."""

    name: str
    tells: str
    ask: Callable[[], float]

    def lines(self) -> Iterator[str]:
        yield from _head(self.name, self.tells, "gauge")
        yield f"{self.name} {self.ask()}"


class Metrics:
    """All of them; `gauges` are added by who can answer."""

    def __init__(self) -> None:
        self.requests = Counter("puna_requests_total", "Requests answered, by path and status.", ("path", "status"))
        self.read = Counter("puna_prompt_tokens_total", "Tokens of the prompts taken up.")
        self.made = Counter("puna_generated_tokens_total", "Tokens generated.")
        self.full = Counter("puna_queue_full_total", "Requests refused because the queue was full.")
        self.cancelled = Counter(
            "puna_cancelled_total", "Requests that ended before their text: reader gone, or error."
        )
        self.dropped = Counter("puna_dropped_total", "Requests dropped because their reader was too slow.")
        self.first_token = Histogram("puna_first_token_seconds", "From a request's arrival to its first token.")
        self.took = Histogram("puna_request_seconds", "From a request's arrival to the end of its reply.")
        self.gauges: list[Gauge] = []

    def text(self) -> str:
        parts = (self.requests, self.read, self.made, self.full, self.cancelled, self.dropped)
        shown: list[Counter | Histogram | Gauge] = [*parts, self.first_token, self.took, *self.gauges]
        return "".join(f"{line}\n" for part in shown for line in part.lines())


def _head(name: str, tells: str, kind: str) -> Iterator[str]:
    yield f"# HELP {name} {tells}"
    yield f"# TYPE {name} {kind}"
