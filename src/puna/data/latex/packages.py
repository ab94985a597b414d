"""What a paper's own classes and packages define, noted where it stands and read when it is first called for: most of
it never is.

Many papers of a dump hold the same file, byte for byte, so what was made of one is kept for the next: the same text
and the same notes as would be made anew. What is kept weighs ROOM at most, by an estimate from above; the oldest goes
first.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Generic, TypeVar

from puna.data.latex import words
from puna.data.latex.comments import is_letter
from puna.data.latex.definitions import IN_PACKAGE, Definition, read_definition

ROOM = 64_000_000  # bytes
CHARACTER, NOTE = 4, 1000  # bytes of memory that one takes at most
NAMES = re.compile(r"\s*(?:\[[^\]]*\])?\s*\{([^{}\\]*)\}")

Value = TypeVar("Value")


@dataclass(frozen=True)
class Package:
    """A class or package without its comments."""

    text: str
    notes: tuple[tuple[str, str, int], ...]
    """Of each definition: the name, the command that defines it, and where that command's name ends."""
    loads: tuple[tuple[str, str], ...]
    """What it loads: (command, name)."""
    _read: dict[int, Definition | None] = field(default_factory=dict)

    @cached_property
    def last(self) -> dict[str, tuple[Package, str, int]]:
        """Of each name its last definition: the package, the command, and where that command's name ends."""
        return {name: (self, command, at) for name, command, at in self.notes}

    @cached_property
    def provides(self) -> bool:
        """Whether a definition depends on what is known before."""
        return any(command == "providecommand" for _, command, _ in self.notes)

    @cached_property
    def marks(self) -> bool:
        """Whether a name is no word, such as \\0."""
        return any(not is_letter(name[0]) for name in self.last)

    def definition(self, command: str, at: int) -> Definition | None:
        """The definition that `command`, whose name ends at `at`, begins."""
        if at not in self._read:
            self._read[at] = read_definition(self.text, command, at)
        return self._read[at]


class Kept(Generic[Value]):
    """Results of a function of its key, until they weigh more than `room`."""

    def __init__(self, make: Callable[..., Value], weigh: Callable[[Value], int], room: int = ROOM // 3) -> None:
        self._make, self._weigh, self._room = make, weigh, room
        self._values: dict[Hashable, tuple[Value, int]] = {}
        self._weight = 0

    def __call__(self, *key: Hashable) -> Value:
        if key in self._values:
            return self._values[key][0]
        value = self._make(*key)
        weight = self._weigh(value) + sum(len(part) for part in key if isinstance(part, (str, bytes)))
        if weight <= self._room:
            self._values[key] = value, weight
            self._weight += weight
            while self._weight > self._room:
                self._weight -= self._values.pop(next(iter(self._values)))[1]
        return value


def plain_package(text: str) -> Package:
    """What a class or package without comments defines and loads, read anew."""
    notes, loads = [], []
    at = 0
    while match := IN_PACKAGE.search(text, at):
        at, kind = match.end(), match.lastindex
        if kind in (2, 4):
            command, name = match[kind - 1], match[kind]
            if name not in words.STRUCTURE:
                notes.append((name, command, match.start() + 1 + len(command)))
        elif kind == 6:
            where = match[5], match.start() + 1 + len(match[5])
            notes += [(f"begin{{{match[6]}}}", *where), (f"end{{{match[6]}}}", *where)]
        elif kind == 7 and (named := NAMES.match(text, match.end())):
            loads += [(match[7], name) for name in named[1].split(",")[:100]]
        elif kind == 8 and (found := read_definition(text, match[8], at)):
            own = [name for name in found.macros if name not in words.STRUCTURE and "@" not in name]
            notes += [(name, match[8], at) for name in own]
            at = found.end
    return Package(text, tuple(notes), tuple(dict.fromkeys(loads)))


read_package = Kept(plain_package, lambda package: CHARACTER * len(package.text) + NOTE * len(package.notes))
