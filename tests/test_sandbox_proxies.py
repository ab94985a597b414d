"""Tests use a solution in another process as if it were with them, and have of it what is its own to define."""

from __future__ import annotations

import pytest

from puna.errors import InputError
from puna.evaluate import sandbox
from puna.evaluate.sandbox import Program
from puna.evaluate.tasks.programs import program
from puna.testsets import Item

caged = pytest.mark.skipif(bool(sandbox.isolation()), reason=f"no cage here: {sandbox.isolation()}")

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


@caged
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


@caged
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
