"""Which examples a finetuning reads: what is set aside, held out, counted, and how often an epoch reads each."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import made_finetune
import made_model
from made_finetune import PAIRS
from puna.convert.parts import Parts
from puna.errors import InputError
from puna.finetune import choose as choosing
from puna.finetune import tune as tuning
from puna.finetune.choose import Source, choose, say_counts
from puna.finetune.reading import Rows, Weighted
from puna.finetune.templated import Encoded


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_finetune.data(tmp_path_factory.mktemp("data") / "pairs.jsonl")


def _rows(weights: tuple[float, float], epochs: float, seed: int = 1) -> Rows:
    examples = [Encoded(np.full(3, number), np.array([False, True, True])) for number in range(10)]
    sources = [Weighted(examples[:4], weights[0], "a"), Weighted(examples[4:], weights[1], "b")]
    return Rows(sources, length=8, rows=2, epochs=epochs, seed=seed, filler=99, tokenizer="")


def test_an_epoch_reads_each_example_as_often_as_its_weight_says() -> None:
    rows = _rows((2.0, 0.5), 1)
    times: Counter[int] = Counter()
    for number in range(rows._start(1)):
        tokens = rows.batch(number, 1).tokens_BL1[0].tolist()
        times.update(token for token in tokens if token != 99)
    assert {token: count // 3 for token, count in times.items() if token < 4} == dict.fromkeys(range(4), 2)
    assert sorted(count for token, count in times.items() if token >= 4) == [3, 3, 3]
    assert rows.steps == -(-rows._start(1) // 2)


def test_a_row_is_a_function_of_its_number() -> None:
    forwards, backwards = _rows((1.0, 1.5), 3), _rows((1.0, 1.5), 3)
    numbers = range(forwards._start(3))
    there = [forwards.batch(number, 1).tokens_BL1.tolist() for number in numbers]
    assert [backwards.batch(number, 1).tokens_BL1.tolist() for number in reversed(numbers)] == there[::-1]
    assert [_rows((1.0, 1.5), 3, seed=2).batch(number, 1).tokens_BL1.tolist() for number in numbers] != there
    whole = forwards.batch(0, len(numbers)).tokens_BL1.tolist()
    assert whole == [row for (row,) in there]


def _choose(path: Path, *, heldout: int = 0, benchmarks: list[tuple[str, Path]] | None = None) -> Counter[str]:
    llama, tokenizer = made_model.llama(), made_model.tokenizer()
    template, _ = tuning._templated(Parts(llama.config, dict(llama.state_dict()), tokenizer))
    chosen = choose([Source(path)], template, tokenizer, context=60, heldout=heldout, benchmarks=benchmarks or ())
    (count,) = chosen.counts
    assert count.kept == len(chosen.train[0])
    assert count.heldout == len(chosen.heldout)
    return Counter(
        {"kept": count.kept, "heldout": count.heldout, "repeated": count.repeated, "long": count.long}
    ) + Counter({f"of {name}": number for name, number in count.benchmarks.items()})


def test_repeats_and_questions_of_benchmarks_go_and_are_counted(tmp_path: Path) -> None:
    asked = "Janet’s ducks lay 16 eggs per day and she eats three for breakfast every morning"
    path, bench = tmp_path / "a.jsonl", tmp_path / "test.jsonl"
    lines = [("q", "a"), ("Q ", "A"), (f"Say: {asked}?", "9"), ("r", "b"), ("s", "the " * 200)]
    path.write_text("".join(json.dumps({"inputs": q, "targets": a}) + "\n" for q, a in lines))
    bench.write_text(json.dumps({"question": asked, "answer": "9\n#### 9"}) + "\n")
    assert _choose(path) == {"kept": 3, "repeated": 1, "long": 1}
    found = _choose(path, heldout=1, benchmarks=[("gsm8k", bench)])
    assert found["of gsm8k"] == 1
    assert found["kept"] == 1
    assert found["heldout"] == 1


def test_whatever_was_set_aside_is_counted_in_the_line_of_its_source(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    llama, tokenizer = made_model.llama(), made_model.tokenizer()
    template, _ = tuning._templated(Parts(llama.config, dict(llama.state_dict()), tokenizer))
    path = tmp_path / "a.jsonl"
    lines = [{"inputs": "q", "targets": "a"}, *({"inputs": number, "targets": "a"} for number in range(5))]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    sources = [Source(path)]
    say_counts(sources, choose(sources, template, tokenizer, context=60, heldout=0).counts, benchmarks=False)
    said = capsys.readouterr().err.splitlines()[-1]
    assert "1 of 6 records learnt; 1 set aside (inputs is 0, not a text); " in said
    assert said.endswith("; 2 more for other reasons, all in finetune.json")


def test_a_question_that_just_fits_is_not_counted_as_cut(tmp_path: Path) -> None:
    llama, tokenizer = made_model.llama(), made_model.tokenizer()
    template, _ = tuning._templated(Parts(llama.config, dict(llama.state_dict()), tokenizer))
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"inputs": "the cat?", "targets": "the hat."}) + "\n")
    fits = len(PAIRS[0].ids) - 1
    for context, cut in ((fits, 0), (fits - 1, 1)):
        (count,) = choose([Source(path)], template, tokenizer, context=context, heldout=0).counts
        assert (count.kept, count.cut) == (1, cut)


def test_a_file_of_which_nothing_can_be_used_is_told_by_its_own_records(tmp_path: Path) -> None:
    """Not by those of the files before it."""
    llama, tokenizer = made_model.llama(), made_model.tokenizer()
    template, _ = tuning._templated(Parts(llama.config, dict(llama.state_dict()), tokenizer))
    lines = [{"inputs": "q", "targets": "a"}, {"other": 1}, {"other": 2}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "b.jsonl").write_text(json.dumps({"inputs": "q", "targets": ""}) + "\n")
    with pytest.raises(InputError, match=r"b\.jsonl: none of its 1 records can be used: its answer is empty"):
        choose([Source(tmp_path)], template, tokenizer, context=60, heldout=0)
    (tmp_path / "b.jsonl").write_text("")
    with pytest.raises(InputError, match=r"b\.jsonl: holds no record"):
        choose([Source(tmp_path)], template, tokenizer, context=60, heldout=0)


def test_a_tenth_is_held_out_unless_said_and_more_than_memory_holds_is_refused(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    llama, tokenizer = made_model.llama(), made_model.tokenizer()
    template, _ = tuning._templated(Parts(llama.config, dict(llama.state_dict()), tokenizer))
    for most, held in ((choosing.HELDOUT, 2), (1, 1)):
        monkeypatch.setattr(choosing, "HELDOUT", most)
        chosen = choose([Source(data)], template, tokenizer, context=60, heldout=None)
        assert (len(chosen.heldout), len(chosen.train[0])) == (held, 25 - held)
    with pytest.raises(InputError, match="no example is left to learn from"):
        choose([Source(data)], template, tokenizer, context=60, heldout=25)
    monkeypatch.setattr(choosing, "TOKENS", chosen.counts[0].tokens)  # of all but the one that was held out
    with pytest.raises(InputError, match=r"pairs\.jsonl: is more than"):
        choose([Source(data)], template, tokenizer, context=60, heldout=None)


def test_of_many_examples_the_text_is_kept_of_those_that_may_be_held_out(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    llama, tokenizer = made_model.llama(), made_model.tokenizer()
    template, _ = tuning._templated(Parts(llama.config, dict(llama.state_dict()), tokenizer))
    found = []
    for together in (choosing.TOGETHER, 1):
        monkeypatch.setattr(choosing, "TOGETHER", together)
        chosen = choose([Source(data)], template, tokenizer, context=60, heldout=2)
        found.append([example.text for example, _ in chosen.heldout])
    assert len(found[0]) == 2
    assert found[0] == found[1]


def test_of_a_long_plain_text_the_beginning_is_read(tmp_path: Path) -> None:
    """Also where its first bytes end within a character, and whatever stands far behind."""
    path, tokenizer = tmp_path / "a.txt", made_model.tokenizer()
    path.write_bytes(("a" + "é" * 90_000).encode() + b"\xff")
    texts = tuning._plain(path, tokenizer)
    assert texts.bytes == 1 + 2 * (tuning.PLAIN_TEXT - 1)
    path.write_bytes("aé".encode()[:-1])
    with pytest.raises(InputError, match="is not UTF-8"):
        tuning._plain(path, tokenizer)


def test_held_out_examples_do_not_depend_on_the_order_of_files(tmp_path: Path, data: Path) -> None:
    llama, tokenizer = made_model.llama(), made_model.tokenizer()
    template, _ = tuning._templated(Parts(llama.config, dict(llama.state_dict()), tokenizer))
    turned = tmp_path / "turned.jsonl"
    turned.write_text("".join(reversed(data.read_text().splitlines(keepends=True))))
    held = [
        {example.text for example, _ in choose([Source(path)], template, tokenizer, context=60, heldout=5).heldout}
        for path in (data, turned)
    ]
    assert len(held[0]) == 5
    assert held[0] == held[1]


def test_the_source_of_which_an_epoch_would_read_nothing_is_named(tmp_path: Path, data: Path) -> None:
    llama, tokenizer = made_model.llama(), made_model.tokenizer()
    template, _ = tuning._templated(Parts(llama.config, dict(llama.state_dict()), tokenizer))
    few = tmp_path / "few.jsonl"
    few.write_text(json.dumps({"inputs": "the cat?", "targets": "hat."}) + "\n")
    for sources in ([Source(few, 0.1), Source(data)], [Source(data), Source(few, 0.1)]):
        with pytest.raises(InputError, match=r"few\.jsonl: of its 1 examples an epoch reads none at a weight of 0.1"):
            choose(sources, template, tokenizer, context=60, heldout=0)
