"""What the processes of a cage say to each other: what is read is what was sent, and what is no message harms none."""

from __future__ import annotations

import os
import random
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from typing import Any, NoReturn

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from puna.evaluate.sandbox.messages import DEEPEST, HEADER, LONGEST, NAMED, Reader, Unreadable, Unsendable, Writer
from puna.evaluate.sandbox.proxies import Proxy, Solution

FIXED = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.complex_numbers(), st.binary(max_size=9),
    st.text(st.characters(), max_size=9), st.sampled_from(list(NAMED.values())),
    st.integers(-(10**40), 10**40), st.fractions(), st.decimals(allow_nan=False),
    st.builds(range, st.integers(), st.integers(), st.integers(1)),
)  # fmt: skip
HASHED = st.recursive(FIXED, lambda v: st.lists(v, max_size=3).map(tuple) | st.frozensets(v, max_size=3), max_leaves=5)


def _containers(held: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    pairs = st.dictionaries(HASHED, held, max_size=3)
    items = st.lists(held, max_size=3)
    return st.one_of(
        items, items.map(tuple), pairs, pairs.map(OrderedDict), pairs.map(Counter), pairs.map(dict.keys),
        st.sets(HASHED, max_size=3),
        st.binary(max_size=9).map(bytearray), st.builds(deque, items, st.none() | st.integers(0, 5)),
        st.builds(defaultdict, st.sampled_from([None, int, list]), pairs), items.map(lambda each: [each, each]),
    )  # fmt: skip


VALUES = st.recursive(HASHED, _containers, max_leaves=8)


@settings(deadline=None, max_examples=60)
@given(st.lists(VALUES, max_size=3))
def test_what_is_read_is_what_was_sent(values: list[object]) -> None:
    writer = Writer(_nothing)
    for value in values:
        writer.value(value)
    reader = Reader(bytes(writer.data), _nothing)
    read = [reader.value() for _ in values]
    reader.end()
    assert _form(read) == _form(values)
    assert _form(reader.known) == _form(writer.known)


@settings(deadline=None, max_examples=50)
@given(st.lists(VALUES, min_size=1, max_size=3), st.data())
def test_what_is_no_message_is_said_to_be_none(values: list[object], data: st.DataObject) -> None:
    writer = Writer(_nothing)
    writer.value(values)
    message = bytearray(writer.data)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(message)))
        message[at : at + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=4))
    _survives(bytes(message))


@pytest.mark.prove
def test_no_bytes_do_more_than_fail() -> None:
    chance = random.Random(0)
    for _ in range(50_000):
        _survives(bytes(chance.choices(b"NTFrhynkm/OCDdlSqYtzRsbifc\0\0\0\1\2\xff", k=chance.randrange(60))))


def test_what_derives_from_a_plain_type_goes_as_that() -> None:
    class Text(str):
        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = str.__hash__

    class Whole(int):
        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = int.__hash__

    class Items(list[int]):
        def __eq__(self, other: object) -> bool:
            return True

        def __len__(self) -> int:
            return 99

        __hash__ = None  # type: ignore[assignment]

    made = defaultdict(lambda: 1, {Text("a"): Whole(2)})
    point = namedtuple("point", "x y")(1, Items([3]))
    writer = Writer(lambda value: 7)
    writer.value([made, point])
    read = Reader(bytes(writer.data), lambda number: number).value()
    assert _form(read) == _form([defaultdict(None, {"a": 2}), (1, [3])])
    assert read[1].stands_for == 7


def test_what_is_deep_long_within_itself_or_strange_is_refused() -> None:
    deep: list[Any] = []
    deep.append(deep)
    for value in (deep, b"x" * (LONGEST + 1), [b"x" * LONGEST, 1, 2], len, object(), lambda: 0, iter([])):
        with pytest.raises(Unsendable):
            sent = Writer(_nothing)
            sent.value(value)
            if len(sent.data) > LONGEST:
                raise Unsendable
    for message in (
        b"l\1\0\0\0" * (DEEPEST + 2) + b"N",
        b"l\xff\xff\xff\xff",
        b"r\0\0\0\0",
        b"D\0\0\0\0h\1\0\0\0",
        b"",
    ):
        with pytest.raises(Unreadable):
            Reader(message, lambda number: Proxy(None, number)).value()  # type: ignore[arg-type]


class _Ended(BaseException):
    pass


KINDS = st.sampled_from(["gave", "raised", "stopped", "left", "unsent", "", 1])
ANSWERS = st.tuples(KINDS, VALUES) | st.tuples(KINDS, st.text(max_size=3), st.text(max_size=3) | VALUES)


@settings(deadline=None, max_examples=60)
@given(VALUES | ANSWERS)
@example(("raised", "ValueError", "why"))
@example(("raised", "StopIteration", "why"))
@example(("raised", "KeyboardInterrupt", "why"))
@example(("raised", "UnicodeDecodeError", "why"))
@example(("raised", "Solution", "why"))
@example(("unsent", "TypeError", "why"))
@example(("stopped", "why"))
@example(("left", "SystemExit", "0"))
def test_an_answer_gives_what_it_says_raises_what_it_may_or_ends_all(answer: Any) -> None:
    match answer:
        case ("gave", value):
            assert _form(_answered(answer)) == _form(value)
        case ("raised" | "unsent", str(name), str()):
            kind = {"ValueError": ValueError, "TypeError": TypeError}.get(name, Exception)
            with pytest.raises(kind) as raised:
                _answered(answer)
            assert raised.type is kind
        case _:
            with pytest.raises(_Ended):
                _answered(answer)
    for turn, more, why in (
        (0, 0, "else"),
        (2, 0, "else"),
        (1, 1, "ended"),
        (1, -1, "read"),
        (1, LONGEST, "more than"),
    ):
        with pytest.raises(_Ended, match=why):
            _answered(answer, turn, more)


def test_what_is_said_unasked_ends_all() -> None:
    reads, answers = os.pipe()
    solution = Solution(reads, answers, _end)
    solution.end()
    os.write(answers, b"\0")
    with pytest.raises(_Ended, match="unasked"):
        solution.end()
    os.close(reads)
    os.close(answers)


def _answered(answer: object, turn: int = 1, more: int = 0) -> object:
    writer = Writer(_nothing)
    writer.value(answer)
    (asked, writes), (reads, answers) = os.pipe(), os.pipe()
    try:
        os.write(answers, HEADER.pack(turn, len(writer.data) + more) + writer.data)
        os.close(answers)
        return Solution(reads, writes, _end).ask("call", 1)
    finally:
        for file in (asked, writes, reads):
            os.close(file)


def _end(why: str) -> NoReturn:
    raise _Ended(why)


def _survives(message: bytes) -> None:
    reader = Reader(message, lambda number: Proxy(None, number))  # type: ignore[arg-type]
    try:
        reader.value()
        reader.end()
    except Unreadable:
        pass


def _nothing(value: object) -> Any:
    raise Unsendable(type(value).__name__)


def _form(value: Any) -> object:
    """By types, order and bits."""
    if isinstance(value, deque):
        return deque, value.maxlen, [_form(each) for each in value]
    if isinstance(value, defaultdict):
        return defaultdict, value.default_factory, [(_form(key), _form(each)) for key, each in value.items()]
    if isinstance(value, dict):
        return type(value), [(_form(key), _form(each)) for key, each in value.items()]
    if isinstance(value, type({}.keys())):
        return "keys", [_form(each) for each in value]
    if isinstance(value, list | tuple):
        return tuple if isinstance(value, tuple) else list, [_form(each) for each in value]
    if isinstance(value, set | frozenset):
        return type(value), sorted(repr(_form(each)) for each in value)
    return type(value), repr(value)
