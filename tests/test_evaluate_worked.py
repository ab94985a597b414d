"""Answers of MATH and GSM8k: found in a solution, brought into one form, voted on; by hand and on every real item."""

from __future__ import annotations

import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from puna import testsets
from puna.evaluate import worked
from puna.evaluate.task import Ranking
from puna.evaluate.tasks import PACK
from puna.testsets import Item


@pytest.mark.parametrize(
    ("left", "right", "equal"),
    [
        (r"\frac{1}{2}", r"\dfrac12", True),
        (r"\frac{1}{2}", "0.5", True),
        (r"-\frac{1}{2}", "-1/2", True),
        (r"\frac{-1}{2}", "-.5", True),
        ("1,200", "1200", True),
        (r"5\text{ cm}", "5", True),
        (r"10\text{ inches}^2", "10", True),
        (r"45^\circ", "45", True),
        (r"\$3.00", "3", True),
        (r"12\%", "12", True),
        (r"x = 4", "4", True),
        (r"\left( 1, 2 \right)", "(1,2)", True),
        (r"\text{Tuesday}", "Tuesday", True),
        (r"\sqrt2", r"\sqrt{2}", True),
        (r"2\sqrt{3}", r"\sqrt{12}", False),
        (r"\frac{1}{0}", r"\frac{1}{2}", False),
        ("12", "21", False),
        (r"\leftarrow", r"arrow", False),
        ("(3,100)", "3100", False),
        ("(3,100)", r"\left( 3, 100 \right)", True),
        ("3,100,x", "3100,x", False),
        (r"1,200,300.50\pi", r"1200300.50\pi", True),
        (r"15,\!625", "15625", True),
        ("12{,}000", "12,000", True),
        (r"x \in (5,\infty)", r"(5,\infty)", True),
        (r"x_1 = \frac12", ".5", True),
        ("f(x) = 2x", "2x", True),
        ("x=3,y=4", "4", False),
        (r"\text{(A)}", "A", True),
        (r"\textbf{(A)}", "(A)", True),
        ("(A)", "(B)", False),
        ("25_{6}", "25_6", True),
        ("5 square units", "5", True),
        ("2 xy", "2", False),
    ],
)
def test_answers_of_math_are_the_same_where_one_form_of_them_is(left: str, right: str, equal: bool) -> None:
    assert worked.same(worked.plain(left), worked.plain(right)) is equal


@given(st.text(alphabet=string.ascii_letters + string.digits + r"\{}$ .,-/%^", max_size=40))
def test_one_form_of_anything_is_made_and_equal_to_itself(text: str) -> None:
    found = worked.plain(text)
    assert worked.same(found, found)
    worked.of_math(text)
    worked.of_gsm8k(text)


def test_answers_of_worked_solutions_are_found() -> None:
    assert worked.of_math("So 2 + 2 = 4.\nThe answer is $4$.") == "4"
    assert worked.of_math(r"The answer is \boxed{3}. Rather, the final answer is: $\frac12$.") == r"\frac{1}{2}"
    assert worked.of_math(r"we get \boxed{7}") == "7"
    assert worked.of_math("I cannot tell.") is None
    assert worked.of_math(r"The answer is $\$2.50$. I hope that it is right.") == "2.50"
    assert worked.of_gsm8k("He has $1,200.50 left.\nThe answer is $1,200.50.") == "1200.5"
    assert worked.of_gsm8k("3 apples and 4 pears make 7") == "7"
    assert worked.of_gsm8k("The answer is -3.") == "-3"
    assert worked.of_gsm8k("The answer is 10 - 4 = $6.") == "6"
    assert worked.of_gsm8k("He has\n10 - 4 = 6") == "6"
    assert worked.of_gsm8k("2 + 3 = 5\n#### 5\n\nThere are 7") == "5"
    assert worked.of_gsm8k("none") is None
    assert worked.number("007.0") == "7"
    assert worked.number("-0") == "0"


def test_the_majority_decides_and_the_first_of_equals() -> None:
    assert worked.majority(["1", "2", None, "2"]) == "2"
    assert worked.majority(["1", "2"]) == "1"
    assert worked.majority([None]) is None
    assert worked.majority(["0.5", "3", r"\frac{1}{2}"], worked.same) == "0.5"
    item = Item("math", "test", "1", "p", answers=(r"\frac{1}{2}",))
    made = ("The answer is $3$.", "The answer is $.5$.", r"\boxed{\frac12}")
    assert PACK["math_maj"].judge(item, Ranking(()), made, "none") == {"accuracy": 1.0}
    assert PACK["math"].judge(item, Ranking(()), made[:1], "none") == {"accuracy": 0.0}


def test_every_real_solution_of_math_and_gsm8k_has_its_own_answer(bench: Path) -> None:
    for name, maker in (("math", worked.of_math), ("gsm8k", worked.of_gsm8k)):
        task = PACK[name]
        for item in testsets.read(name, bench):
            assert task.example is not None
            assert task.judge(item, Ranking(()), (task.example(item),), "none") == {"accuracy": 1.0}, item.id
            assert maker(task.example(item)) is not None
