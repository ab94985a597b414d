"""Answers that are kept: what counts as one, and what a file of them may have become meanwhile."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from puna.errors import InputError
from puna.evaluate.kept import Kept
from puna.evaluate.task import Choice, Prompt, Ranking, Score, digest


@pytest.mark.promise("errors")
@given(data=st.data())
@settings(deadline=None, max_examples=60)
def test_garbled_answers_are_read_or_refused_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    location = tmp_path_factory.mktemp("kept") / "answers.jsonl"
    ranking, prompt = Ranking((Choice("a", " b"),)), Prompt("a", (), 3)
    kept = Kept(location, "m")
    kept.add("1", ranking, (Score(-1.5, 2, None),), cut=False)
    kept.add("2", prompt, ("ü",), cut=True)
    kept.close()
    whole = location.read_bytes()
    cut = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(cut, len(whole)))
    location.write_bytes(whole[:cut] + data.draw(st.binary(max_size=6)) + whole[end:])
    again = None
    with suppress(InputError):  # always one line
        again = Kept(location, "m")
    if again is None:
        return
    for key, asked in (("1", ranking), ("2", prompt)):
        found = again.answer(key, asked, alone=False)
        assert found is None or len(found) == 1
    again.close()
    shutil.rmtree(location.parent)


def test_two_that_begin_one_file_of_answers_at_once_leave_one_that_is_read(tmp_path: Path) -> None:
    location, asked = tmp_path / "answers.jsonl", Prompt("a", (), 3)
    Kept(location, "m").close()
    head = location.read_text()
    location.write_text(head + head)
    both = Kept(location, "m")
    both.add("1", asked, ("b",), cut=False)
    both.close()
    location.write_text(location.read_text() + head)
    again = Kept(location, "m")
    assert again.answer("1", asked, alone=False) == ("b",)
    again.close()
    location.write_text(head + head.replace('"m"', '"n"'))
    with pytest.raises(InputError, match="holds answers of another model"):
        Kept(location, "m")


def test_a_line_that_answers_in_another_form_than_was_asked_is_asked_again(tmp_path: Path) -> None:
    location, ranking = tmp_path / "answers.jsonl", Ranking((Choice("a", " b"),))
    kept = Kept(location, "m")
    kept.add("1", ranking, (Score(-1.5, 2, None),), cut=False)
    kept.close()
    whole = location.read_bytes()
    for other in (b'"texts": ["b"]', b'"scores": []', b'"scores": [[-1.5, 2, null], [-1.5, 2, null]]'):
        location.write_bytes(whole.replace(b'"scores": [[-1.5, 2, null]]', other))
        again = Kept(location, "m")
        assert again.answer("1", ranking, alone=False) is None
        again.close()
    location.write_bytes(whole.replace(b"-1.5", b"NaN"))
    with pytest.raises(InputError, match="is no answer"):
        Kept(location, "m")


def test_another_question_is_not_answered_by_what_is_kept(tmp_path: Path) -> None:
    kept = Kept(tmp_path / "answers.jsonl", "m")
    asked = Ranking((Choice("a", " b"),))
    kept.add("1", asked, (Score(-1.5, 2),), cut=False)
    assert kept.answer("1", asked, alone=False) == (Score(-1.5, 2),)
    assert kept.answer("1", asked, alone=True) is None
    assert kept.answer("1", Ranking((Choice("a", " c"),)), alone=False) is None
    assert kept.answer("2", asked, alone=False) is None
    kept.close()
    assert digest(asked) in (tmp_path / "answers.jsonl").read_text("utf-8")
