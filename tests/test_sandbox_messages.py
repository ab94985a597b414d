"""What the processes of a cage say to each other: what is read is what was sent, and what is no message harms none."""

from __future__ import annotations

import os
import random
import struct
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from typing import Any, NoReturn

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from puna.errors import InputError
from puna.evaluate import sandbox
from puna.evaluate.sandbox import Program
from puna.evaluate.sandbox.messages import DEEPEST, HEADER, LONGEST, NAMED, Reader, Unreadable, Unsendable, Writer
from puna.evaluate.sandbox.proxies import Proxy, Solution
from puna.evaluate.tasks.programs import program
from puna.testsets import Item

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


MADE = """
class Node:
    def __init__(self, value): self.value, self.next = value, None
    def __len__(self): return 1 + len(self.next or ())
    def __str__(self): return f'<{self.value}>'
    def __getitem__(self, at): return [self.value][at]
    def __setitem__(self, at, value): self.value = value
def sort(xs, *more, key=None):
    xs.sort(key=key and (lambda x: -x))
    for each in more: each.clear()
def nest(xs):
    xs[0].append(xs[1]); xs.append(xs[0])
    return xs[0]
def fail(xs, what):
    xs.append(1)
    raise {'own': type('Own', (KeyError,), {}), 'stop': StopIteration}.get(what, ValueError)(what)
def count():
    n = 0
    while True:
        yield n
        n += 1
from collections import namedtuple
from decimal import Decimal
from fractions import Fraction
class Pair(namedtuple('Pair', 'a b')):
    def __eq__(self, other): return True
def wide(pairs): return [pair.b - pair.a for pair in pairs]
def exact(x): return [Fraction(x, 2), Decimal(x) / 2, {x: 1}.keys()]
def same(x): return x
def both(a, b): return a is b
def strange(): return {1: len, 'n': Node(1)}
def cycle():
    x = []; x.append(x)
    return x
kept = 3
"""
ASKS = """
import itertools
xs, ys, zs = [3, 1, 2], {1}, {'a': [1]}
assert sort(xs, ys, zs) is None and (xs, ys, zs) == ([1, 2, 3], set(), {})
sort(xs, key=1)
assert xs == [3, 2, 1] and kept == 3
a, b = [1], [2]
whole = [a, b]
assert nest(whole) is a and whole[0] is a and whole[2] is a and a[1] is b and whole == [[1, [2]], [2], [1, [2]]]
assert both(a, a) and not both([1], [1])
for what, kind in (('value', ValueError), ('own', KeyError), ('stop', RuntimeError)):
    xs = []
    try: fail(xs, what)
    except kind as error: assert type(error) is kind and xs == [1], (error, xs)
    else: assert 0
assert list(itertools.islice(count(), 5)) == [0, 1, 2, 3, 4]
numbers = count()
assert next(numbers) == 0 and next(numbers) == 1 and iter(numbers) is iter(numbers)
node = Node(7)
node.next = Node(8)
assert node.next.value == 8 and len(node) == 2 and str(node) == '<7>' and node[0] == 7 and node.next is node.next
node[0] = 9
assert same(node) is node and node == node and node != Node(9) and [node.value] == [9] and type(node) is not Node
assert Node == same(Node) and strange()['n'].value == 1
pair = Pair(3, 5)
assert pair == (3, 5) != (3, 6) and pair != Pair(3, 6) and pair.b == 5 and wide([pair, same(pair)]) == [2, 2]
assert isinstance(pair, tuple) and pair._replace(a=4) == (4, 5) and {pair: 1} == {(3, 5): 1}
assert exact(3) == [1.5, 1.5, {3}] and abs(exact(1)[0] - 0.5) < 1e-9 and same(exact(1)[1:]) == exact(1)[1:]
for wrong in (lambda: node < 3, lambda: node + 1, lambda: node.none, lambda: kept(), lambda: same(len), cycle):
    try: wrong()
    except (TypeError, AttributeError): pass
    else: assert 0
try: list(same)
except TypeError: pass
else: assert 0
for value in (0.1, -0.0, 10 ** 5000, 'caf\\u00e9\\ud800', (1, [2]), {1: {2}}, None, True, b'x', 1j, range(3), int):
    assert repr(same(value)) == repr(value) if value != 10 ** 5000 else same(value) == value
"""


def test_tests_use_a_solution_as_if_it_were_with_them() -> None:
    names = (
        "Node",
        "sort",
        "nest",
        "fail",
        "count",
        "same",
        "both",
        "strange",
        "cycle",
        "kept",
        "Pair",
        "wide",
        "exact",
    )
    assert sandbox.judge(Program(MADE, ASKS, names=names)) == sandbox.Verdict(True)


def test_a_solution_is_told_from_what_its_tests_have() -> None:
    lead = "def poly(x):\n    return 2 * x\n"
    redefines = "def poly(x):\n    return 0\ndef zero():\n    return 21\nabs = len = lambda x: 0\n"
    tests = "assert poly(zero()) == 42 and abs(-1) == 1 and len([zero()]) == 1\n"
    assert sandbox.judge(Program(redefines, tests, lead, ("zero",))).passed
    verdict = sandbox.judge(Program("", tests, lead, ("zero",)))
    assert (verdict.kind, verdict.why) == ("error", "NameError: name 'zero' is not defined")


def test_tests_have_of_a_solution_what_neither_they_nor_python_nor_the_prompt_defines() -> None:
    reference = "import math\nimport re\nclass Pair: pass\ndef sum(a, b): return 1\ndef own(): pass\nlimit = 3\n"
    tests = ["assert sum(1, 2) == len([Pair(limit)])", "assert all(math.isclose(x, 1) for x in [own()])"]
    item = Item("mbpp", "test", "126", "", extra={"solution": reference, "setup": "start = Pair(0)", "tests": tests})
    made = program(item, "math = re = None")
    assert (made.names, made.lead) == (("Pair", "limit", "own", "sum"), "import math")
    prompt = "import math\n\n\ndef poly(x):\n    return math.e\n\n\ndef zero(xs):\n    'as def zero(xs)'\n"
    test = "def check(candidate):\n    assert abs(poly(math.pi)) > candidate([1]) + other\n"
    item = Item("humaneval", "test", "32", prompt, extra={"test": test, "entry_point": "zero"})
    made = program(item, "    return poly(1)\n\ndef poly(x):\n    return 0\n")
    assert (made.names, made.lead) == (("other", "zero"), prompt[: prompt.index("def zero")])
    item = Item("mbpp", "test", "7", "", extra={"solution": "", "setup": "", "tests": ["assert ("]})
    with pytest.raises(InputError, match="mbpp 7: its tests are no Python"):
        program(item, "")


class _Ended(BaseException):
    pass


@settings(deadline=None, max_examples=60)
@given(
    st.binary(max_size=30) | st.tuples(st.sampled_from(["gave", "raised", "stopped", "left", "unsent"]), VALUES),
    st.integers(0, 2), st.integers(-3, 3),
)  # fmt: skip
def test_an_answer_gives_raises_or_ends(answer: object, turn: int, more: int) -> None:
    writer = Writer(_nothing)
    writer.value(answer)
    data = answer if isinstance(answer, bytes) else bytes(writer.data)
    (asked, writes), (reads, answers) = os.pipe(), os.pipe()
    try:
        os.write(answers, HEADER.pack(turn, max(0, len(data) + more)) + data)
        os.close(answers)
        solution = Solution(reads, writes, _end)
        try:
            solution.ask("call", [1], {2: [3]})
        except (Unreadable, struct.error, EOFError):
            raise
        except (_Ended, Exception):
            pass  # as it should
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
