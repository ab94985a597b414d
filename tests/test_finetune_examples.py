"""Instruction data in the common forms, as ids by the model's template, packed without leakage."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from puna.errors import InputError
from puna.finetune.examples import Example, Message, SetAside, files, read
from puna.finetune.packing import laid, packed
from puna.finetune.templated import Encoded, shortened

ANSWER = Message("assistant", "Paris")


def _said(*pairs: tuple[str, str]) -> tuple[Message, ...]:
    return tuple(Message(role, content) for role, content in pairs)


FORMS: list[tuple[dict[str, Any], tuple[Message, ...]]] = [
    (
        {"messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "Q"},
                      {"role": "assistant", "content": "Paris"}]},
        (*_said(("system", "S"), ("user", "Q")), ANSWER),
    ),
    (
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "Q"}]},
                      {"role": "assistant", "content": "Paris"}]},
        (*_said(("user", "Q")), ANSWER),
    ),
    (
        {"conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "Paris"}]},
        (*_said(("user", "Q")), ANSWER),
    ),
    ({"instruction": "Q", "input": "", "output": "Paris"}, (*_said(("user", "Q")), ANSWER)),
    ({"instruction": "Q", "input": "of France", "output": "Paris"}, (*_said(("user", "Q\n\nof France")), ANSWER)),
    ({"instruction": "Q", "output": "Paris"}, (*_said(("user", "Q")), ANSWER)),
    (
        {"instruction": "Q", "context": "of France", "response": "Paris", "category": "qa"},
        (*_said(("user", "Q\n\nof France")), ANSWER),
    ),
    ({"inputs": "Q", "targets": "Paris", "task": "t"}, (*_said(("user", "Q")), ANSWER)),
    ({"prompt": "Q\n", "completion": " Paris<|endoftext|>"}, (*_said(("user", "Q")), ANSWER)),
]  # fmt: skip


def _write(path: Path, *records: Any) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


@pytest.mark.parametrize(("record", "messages"), FORMS, ids=range(len(FORMS)))
def test_each_form_is_read_as_its_conversation(
    record: dict[str, Any], messages: tuple[Message, ...], tmp_path: Path
) -> None:
    path = _write(tmp_path / "a.jsonl", record)
    assert list(read(path)) == [Example(messages, f"{path}:1")]


def test_instances_of_a_seed_are_conversations_of_their_own(tmp_path: Path) -> None:
    seed = {"instruction": "Q", "instances": [{"input": "", "output": "1"}, {"input": "x", "output": "2"}]}
    first, second = read(_write(tmp_path / "a.jsonl", seed))
    assert isinstance(first, Example)
    assert isinstance(second, Example)
    assert (first.text, second.text) == ("Q\n1", "Q\n\nx\n2")
    assert second.where.endswith(":1, instance 2")


def test_the_same_records_are_read_from_every_kind_of_file(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    records = [record for record, _ in FORMS if "output" in record]
    lines = _write(tmp_path / "a.jsonl", *records)
    (tmp_path / "b.json").write_text(json.dumps(records, indent=1))
    (tmp_path / "c.jsonl.gz").write_bytes(gzip.compress(lines.read_bytes()))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(records), tmp_path / "d.parquet")
    (tmp_path / "e.json").write_text(json.dumps(records), encoding="utf-8-sig")
    found = files(tmp_path)
    assert [path.name for path in found] == ["a.jsonl", "b.json", "c.jsonl.gz", "d.parquet", "e.json"]
    said = [[each.text for each in read(path) if isinstance(each, Example)] for path in found]
    assert len(said[0]) == len(records)
    assert all(each == said[0] for each in said)


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"question": "Q", "answer": "A"}, "is of no known form (its keys: answer, question)"),
        ({"instruction": "Q", "output": " "}, "its answer is empty"),
        ({"instruction": 3, "output": "A"}, "instruction is 3, not a text"),
        ({"messages": [{"role": "user", "content": "Q"}]}, "does not end with an answer"),
        ({"messages": [{"role": "tool", "content": "Q"}]}, "role is 'tool', not one of"),
        ({"messages": [{"role": "assistant", "content": "A"}]}, "user and assistant do not take turns"),
        ({"messages": []}, "does not end with an answer"),
        ({"prompt": "Q", "completion": "\ud800"}, "completion is '\\ud800', not valid Unicode"),
    ],
)
def test_what_cannot_be_used_is_set_aside_with_its_reason(record: dict[str, Any], reason: str, tmp_path: Path) -> None:
    aside, kept = read(_write(tmp_path / "a.jsonl", record, FORMS[5][0]))
    assert isinstance(aside, SetAside)
    assert aside.reason.startswith(reason)
    assert "a.jsonl:1" in aside.where
    assert isinstance(kept, Example)


@pytest.mark.parametrize(
    "data", [b'{"a": ', b'{\n "a": 1\n}', b"[1]", b"PAR1 and no more", b"\xff\xfe{}", b'[{"a": 1}, {"b"']
)
def test_a_damaged_file_is_an_error_that_names_it_and_what_files_are_read(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"a\.json.*; a file is JSON objects, one a line, or one JSON list of them"):
        list(read(path))


def test_every_real_record_is_read(samples: Path) -> None:
    found = [each for path in files(samples / "instructions") for each in read(path)]
    assert [each for each in found if isinstance(each, SetAside)] == []
    assert len(found) == 599 + 175 + 8 * 200


@st.composite
def _examples(draw: st.DrawFn) -> list[Encoded]:
    sizes = draw(st.lists(st.integers(1, 12), min_size=1, max_size=30))
    made = []
    for number, size in enumerate(sizes):
        scored = draw(st.lists(st.booleans(), min_size=size, max_size=size))
        made.append(Encoded(np.arange(size, dtype=np.int64) + 100 * (number + 1), np.array(scored)))
    return made


@given(_examples(), st.integers(12, 40))
def test_packing_keeps_every_example_whole_and_once(examples: list[Encoded], room: int) -> None:
    rows = packed([len(each.ids) for each in examples], room)
    assert sorted(number for row in rows for number in row) == list(range(len(examples)))
    made = laid([[examples[number] for number in row] for row in rows], room - 1, filler=7)
    for row, numbers in enumerate(rows):
        joined = np.concatenate([examples[number].ids for number in numbers])
        assert len(joined) <= room
        assert made.tokens_BL1[row, : len(joined)].tolist() == joined.tolist()
        assert (made.tokens_BL1[row, len(joined) :] == 7).all()
    # What is learnt is what the examples score, but for their first tokens, which nothing of theirs predicts.
    learnt = sorted(made.tokens_BL1[:, 1:][made.scored_BL].tolist())
    assert learnt == sorted(int(i) for each in examples for i in each.ids[1:][each.scored[1:]])
    # And is predicted from within its example.
    before = made.tokens_BL1[:, :-1][made.scored_BL] // 100
    assert (before == made.tokens_BL1[:, 1:][made.scored_BL] // 100).all()


@given(st.lists(st.integers(1, 50), max_size=200), st.integers(50, 100))
def test_no_two_neighbours_of_a_packing_would_fit_one_row(lengths: list[int], room: int) -> None:
    rows = packed(lengths, room)
    filled = [sum(lengths[number] for number in row) for row in rows]
    assert all(first + lengths[second[0]] > room for first, second in zip(filled, rows[1:], strict=False))


def test_a_long_question_loses_its_beginning_and_an_answer_nothing() -> None:
    encoded = Encoded(np.arange(10), np.arange(10) >= 7)
    cut = shortened(encoded, 6)
    assert cut is not None
    assert cut.ids.tolist() == [0, 5, 6, 7, 8, 9]
    assert cut.scored.tolist() == [False, False, False, True, True, True]
    assert shortened(encoded, 4).ids.tolist() == [0, 7, 8, 9]  # type: ignore[union-attr]
    assert shortened(encoded, 3) is None
    assert shortened(encoded, 10) is encoded
