"""What a task is: how the items of a benchmark become text for a model, and how its answers become numbers.

A task is a frozen record. Its `ask` makes of an item and of the examples before it a `Ranking` (texts whose
log-probabilities are compared) or a `Prompt` (a text that the model goes on from); its `judge` makes of the answer a
number for each of its metrics. Neither knows of a model: what answers is run.py, or its readable twin, reference.py.

The paper gives the protocol (section 3) but not the text of its zero-shot prompts. So `paper` says what it tells of a
task, `ours` what was chosen here; whoever changes a prompt or a score raises `version`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal, Protocol, TypeAlias, get_args, runtime_checkable

from puna.testsets import Item

Norm = Literal["char", "token", "answer", "none"]
"""What a choice's log-probability is set against: its characters without the space before it, its tokens, its
log-probability behind "Answer:" alone (so that P(choice | context) / P(choice | "Answer:") ranks), or nothing."""
NORMS: tuple[Norm, ...] = get_args(Norm)
ANSWER = "Answer:"
"""The context of `answer`."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A text to be scored behind its context; "" is the beginning of a document."""

    context: str
    text: str
    """With the space that parts it from the context."""


@dataclass(frozen=True, slots=True)
class Ranking:
    choices: tuple[Choice, ...]


@dataclass(frozen=True, slots=True)
class Prompt:
    """A text to go on from. temperature 0: the likeliest token each time."""

    text: str
    stop: tuple[str, ...]
    tokens: int
    """At most so many are made."""
    samples: int = 1
    temperature: float = 0.0
    top_p: float = 1.0


Asked: TypeAlias = Ranking | Prompt


@dataclass(frozen=True, slots=True)
class Score:
    """What a model says of a choice: nats of its text behind its context and, where `answer` asks for it, behind
    "Answer:"; tokens: of the text."""

    logprob: float
    tokens: int
    alone: float | None = None


Answer: TypeAlias = tuple[Score, ...] | tuple[str, ...]
"""Of a ranking a score for each choice, of a prompt a text for each sample."""
Judge: TypeAlias = Callable[[Item, Asked, Answer, Norm], Mapping[str, float]]


@runtime_checkable
class Demanding(Protocol):
    """A judge that may be unable to judge some questions, and can tell before they are asked."""

    def demand(self, asked: Sequence[tuple[Item, Asked]]) -> None:
        """InputError for questions that it cannot judge."""


@dataclass(frozen=True, slots=True)
class Clusters:
    """Items that depend on each other stand in one cluster, which the bootstrap draws whole (bootstrap.py)."""

    of: Callable[[Item], str]
    """The name of an item's cluster."""
    name: str
    """What they are, in the plural."""


def no_group(item: Item) -> tuple[str, ...]:
    return ()


def no_lack(items: Sequence[Item]) -> str:
    return ""


@dataclass(frozen=True)
class Task:
    name: str
    version: int
    benchmark: str
    """In puna.testsets, which holds its split and its size."""
    title: str
    paper: str
    """What the paper says of it."""
    ours: str
    """What was chosen here: what the paper leaves open, or where this differs from it."""
    ask: Callable[[Item, str], Asked]
    """Of an item, and of the text of the examples before it, "" for none."""
    judge: Judge
    """Metric -> number of one item; a metric of a task is the mean over its items. It is given the task's norm."""
    shots: tuple[int, ...] = (0,)
    """Examples before each item, as in the paper; one result each."""
    norm: Norm = "none"
    """The paper's. Of a ranking."""
    norms: tuple[Norm, ...] = ("none",)
    """Those that say something of this task. With one alone there is nothing to choose."""
    metric: str = "accuracy"
    """The one that the paper's table shows."""
    example: Callable[[Item], str] | None = None
    """An item with its answer, as it stands among the examples."""
    head: Callable[[Item], str] = lambda item: ""
    """What stands before the examples, and before the item where there are none."""
    joint: str = "\n\n"
    """Between examples, and between the last and the item."""
    pool: Callable[[Item], bool] = lambda item: item.split == "train"
    """Which items of the release may be examples."""
    takes: Callable[[Item], bool] = lambda item: True
    """Which items it is made of, where files of several kinds lie there."""
    drawn: bool = True
    """Whether examples are drawn from the pool by seed, or are its first in the release's order."""
    alike: Callable[[Item], str] = lambda item: ""
    """Examples and item must agree in it."""
    groups: Callable[[Item], tuple[str, ...]] = no_group
    """Parts of the benchmark that have a result of their own."""
    lacks: Callable[[Sequence[Item]], str] = no_lack
    """What is not known of these items, whose file of it is missing, and what that costs; "" where nothing is."""
    clusters: Clusters | None = None
    """Over what intervals are drawn; None: the table has none."""
    samples: int = 1
    """Texts that it draws of an item, unless told otherwise."""
    least: int = 1
    """Texts of an item without which its metric cannot be told."""
    needs: Literal["", "programs", "toxicity", "truth"] = ""
    """What is judged by something outside of this pack."""

    def shown(self, examples: Sequence[Item], item: Item) -> str:
        """The text before an item: the head, and its examples."""
        parts = [self.example(each) for each in examples] if self.example else []
        return self.head(item) + "".join(part + self.joint for part in parts)


def digest(asked: Asked) -> str:
    """Tells whether two questions are the same."""
    kind = type(asked).__name__
    return hashlib.sha256(json.dumps([kind, asdict(asked)], sort_keys=True).encode()).hexdigest()[:32]
