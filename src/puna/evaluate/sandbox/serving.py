"""The process of a cage that a model's program runs in: it runs the solution, then does what the tests ask of it.

Nothing that it says is believed (proxies.py): whatever a solution does to this process, it decides its own answers and
nothing else. It knows no number and no test.
"""

from __future__ import annotations

import operator
import sys
import types
from collections.abc import Callable
from typing import Any, NoReturn

from puna.evaluate.sandbox.messages import Reader, Unsendable, Writer, receive, send

LONGEST_ERROR = 500  # characters of what an error says


def serve(reads: int, writes: int, solution: str) -> NoReturn:
    """Answers requests until its process is ended. The first answer, to none, says how the solution itself went."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "puna"]:
        del sys.modules[name]
    sys.argv = ["program.py"]
    # Not `__main__`: what a program does when it is one, to read input or to run tests of its own, is not asked for.
    module = sys.modules["program"] = types.ModuleType("program")
    names = module.__dict__
    kept: list[object] = []
    numbers: dict[int, int] = {}

    def number_of(value: object) -> int:
        if id(value) not in numbers:
            numbers[id(value)] = len(kept)
            kept.append(value)
        return numbers[id(value)]

    def run() -> None:
        # Without what this file takes from __future__: an annotation that is not defined is an error.
        exec(compile(solution, "program.py", "exec", dont_inherit=True), names)

    def named(name: str) -> object:
        if name not in names:
            raise NameError(f"name {name!r} is not defined")
        return names[name]

    def call(function: Callable[..., object], given: tuple[Any, ...], named: tuple[tuple[str, Any], ...]) -> object:
        return function(*given, **dict(named))

    does: dict[str, Callable[..., object]] = {
        "name": named, "call": call, "attribute": getattr, "set attribute": setattr, "delete attribute": delattr,
        "item": operator.getitem, "set item": operator.setitem, "delete item": operator.delitem, "length": len,
        "truth": bool, "text": str, "iterate": iter, "next": next,
    }  # fmt: skip
    send(writes, 0, _answer([], number_of, run, ()))
    while True:
        number, data = receive(reads)
        request = Reader(data, kept.__getitem__)
        what, given = request.value()
        send(writes, number, _answer(request.known, number_of, does[what], given))


def _answer(
    known: list[object], number_of: Callable[[object], int], function: Callable[..., object], given: tuple[Any, ...]
) -> bytes:
    """What came of it, and what the containers of the request hold by now."""
    try:
        told: tuple[object, ...] = ("gave", function(*given))
    except StopIteration as error:
        told = ("stopped", str(error)) if function is next else ("raised", "RuntimeError", "StopIteration")
    except Exception as error:
        told = ("raised", *_described(error))
    except BaseException as error:
        told = ("left", *_described(error))
    try:
        return _written(told, known, number_of)
    except (Unsendable, RuntimeError, ValueError) as error:
        return _written(("unsent", "TypeError", f"what it gives cannot be sent: {error}"), [], number_of)


def _written(told: tuple[object, ...], known: list[object], number_of: Callable[[object], int]) -> bytes:
    writer = Writer(number_of, known)
    writer.value(told)
    for each in known:
        writer.contents(each)
    return bytes(writer.data)


def _described(error: BaseException) -> tuple[str, str]:
    """The builtin class that an error is of, and what it says."""
    name = next(kind.__name__ for kind in type(error).__mro__ if kind.__module__ == "builtins")
    try:
        return name, str(error)[:LONGEST_ERROR]
    except BaseException:
        return name, ""
