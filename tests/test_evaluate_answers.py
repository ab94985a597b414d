"""What of a generated text is its answer, and when two answers are one."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from puna.evaluate import exact


@pytest.mark.parametrize(
    ("made", "answer"),
    [
        (" Paris\nQ: what", "Paris"),
        (" Paris, France", "Paris"),
        (" Paris.", "Paris"),
        (" St. Louis.", "St. Louis"),
        (" 3.5 million.\n", "3.5 million"),
        ("\nParis", ""),
        (" .", ""),
        ("", ""),
        (" U.S.", "U.S"),
    ],
)
def test_an_answer_is_cut_at_line_break_comma_or_final_dot(made: str, answer: str) -> None:
    assert exact.cut(made) == answer


@pytest.mark.parametrize(
    ("answer", "plain"),
    [
        ("The Beatles!", "beatles"),
        ("  A  tale of the two cities ", "tale of two cities"),
        ("Theatre", "theatre"),
        ("O'Neill", "oneill"),
        ("“Heroes”", "heroes"),
        ("U.S.", "us"),
        ("an-a", "ana"),
        ("Äpfel", "äpfel"),
        ("the", ""),
    ],
)
def test_normalisation_of_answers(answer: str, plain: str) -> None:
    assert exact.normalised(answer) == plain
    assert exact.exact(answer, ["nothing", plain])


@given(st.text(max_size=30))
def test_a_normalised_answer_stays_as_it_is(text: str) -> None:
    once = exact.normalised(text)
    assert exact.exact(text, [text])
    assert "  " not in once
    assert not set(once) & set(string.punctuation)
    assert exact.normalised(f"  {text}\t!") == once
    assert exact.cut(f"{exact.cut(text)}\nmore") == exact.cut(exact.cut(text))
