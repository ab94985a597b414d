"""The process of a cage that runs the tests. What it has of the solution are proxies, which ask that one's process.

A pass is told from here alone. The other process is asked, never believed: an answer is plain data or another proxy; a
proxy equals nothing but itself; and what cannot be read, comes unasked or does not come is a failing. So all that a
test compares it compares here, by types and functions that no solution can reach.
"""

from __future__ import annotations

import builtins
import select
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

from puna.evaluate.sandbox.messages import Reader, Unreadable, Unsendable, Writer, receive, send


class Proxy:
    """An object of the solution. Of equality, order and arithmetic it has none: they are not the solution's to say."""

    __slots__ = ("_number", "_solution")
    _solution: Solution
    _number: int

    def __init__(self, solution: Solution, number: int) -> None:
        object.__setattr__(self, "_solution", solution)
        object.__setattr__(self, "_number", number)

    def __call__(self, *given: object, **named: object) -> Any:
        return self._solution.ask("call", self, given, tuple(named.items()))

    def __getattr__(self, name: str) -> Any:
        return self._solution.ask("attribute", self, name)

    def __setattr__(self, name: str, value: object) -> None:
        self._solution.ask("set attribute", self, name, value)

    def __delattr__(self, name: str) -> None:
        self._solution.ask("delete attribute", self, name)

    def __getitem__(self, key: object) -> Any:
        return self._solution.ask("item", self, key)

    def __setitem__(self, key: object, value: object) -> None:
        self._solution.ask("set item", self, key, value)

    def __delitem__(self, key: object) -> None:
        self._solution.ask("delete item", self, key)

    def __len__(self) -> Any:
        return self._solution.ask("length", self)

    def __bool__(self) -> Any:
        return self._solution.ask("truth", self)

    def __str__(self) -> Any:
        return self._solution.ask("text", self)

    def __iter__(self) -> Any:
        return self._solution.ask("iterate", self)

    def __next__(self) -> Any:
        return self._solution.ask("next", self)


class Solution:
    """The process of a solution. ended: called with the reason when it is not to be asked any more."""

    def __init__(self, reads: int, writes: int, ended: Callable[[str], NoReturn]) -> None:
        self._reads, self._writes, self._ended = reads, writes, ended
        self._turn = 0
        self._proxies: dict[int, Proxy] = {}

    def begin(self, names: Iterable[str]) -> dict[str, Any]:
        """Waits until it has run, and gives what it has by these names. Raises what it raised."""
        self._reply("", [])
        return {name: self.ask("name", name) for name in names}

    def end(self) -> None:
        """It ends in failing when there is something that was not asked for."""
        if select.select([self._reads], [], [], 0)[0]:
            self._ended("it ended, or said something unasked")

    def ask(self, what: str, *given: object) -> Any:
        """What the solution answers. Raises what it raised; containers that were given hold what they hold there."""
        writer = Writer(_number)
        writer.value((what, given))
        try:
            send(self._writes, self._turn + 1, bytes(writer.data))
        except BrokenPipeError:
            self._ended("it ended")
        self._turn += 1
        return self._reply(what, writer.known)

    def _reply(self, what: str, known: list[Any]) -> Any:
        try:
            number, data = receive(self._reads)
            if number != self._turn:
                raise Unreadable("it answers something else")
            reader = Reader(data, self._proxy, known)
            told = reader.value()
            if type(told) is not tuple:
                raise Unreadable("it is no answer")
            held = [] if told[:1] == ("unsent",) else [reader.contents(each) for each in known]
            reader.end()
        except EOFError:
            self._ended("it ended")
        except Unreadable as error:
            self._ended(f"its answer cannot be read: {error}")
        for container, now in zip(known, held, strict=False):
            _hold(container, now)
        match told:
            case ("gave", value):
                return value
            case ("raised" | "unsent", str(name), str(text)):
                raise _error(name, text)
            case ("stopped", str(text)) if what == "next":
                raise StopIteration(text)
            case ("left", str(name), str(text)):
                self._ended(f"it ended by {name}: {text}")
        return self._ended("its answer cannot be read")

    def _proxy(self, number: int) -> Proxy:
        if number not in self._proxies:
            self._proxies[number] = Proxy(self, number)
        return self._proxies[number]


def _number(value: object) -> int:
    if type(value) is not Proxy:
        raise Unsendable(f"a {type(value).__name__} of the tests cannot be given to a solution")
    return value._number


def _hold(container: Any, held: Any) -> None:
    """Makes a container hold what another like it does."""
    if isinstance(container, list | bytearray):
        container[:] = held
        return
    container.clear()
    if isinstance(container, deque):
        container.extend(held)
    else:
        container.update(held)


def _error(name: str, text: str) -> Exception:
    """As the builtin error of this name, else a plain one. A StopIteration would end a loop of the tests unseen."""
    kind = getattr(builtins, name, None)
    if isinstance(kind, type) and issubclass(kind, Exception) and not issubclass(kind, StopIteration):
        try:
            return kind(text)
        except TypeError:
            pass  # of some more than a text is wanted
    return Exception(f"{name}: {text}")
