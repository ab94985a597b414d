"""The tokenizer's sample keeps to its budget, whatever the size of single documents."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from puna import recipe as recipes
from puna.data.document import Document, Origin, document_id, write_documents
from puna.steps import Context
from puna.tokens.steps import _sample


def made(number: int, size: int) -> Document:
    key = str(number)
    origin = Origin("made", key, "made", 0, "", key, "", "")
    return Document(document_id("wikipedia", "made", key), "wikipedia", key, "en", "x" * size, origin)


@given(st.lists(st.integers(1, 400), min_size=1, max_size=30), st.integers(1, 5000), st.integers(0, 9))
@settings(deadline=None, max_examples=40)
def test_the_sample_is_never_a_tenth_more_than_its_budget(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], budget: int, seed: int
) -> None:
    folder = tmp_path_factory.mktemp("run")
    write_documents(folder / "documents" / "0.parquet", [made(number, size) for number, size in enumerate(sizes)])
    record = {"outputs": ["documents/0.parquet"], "counts": {"training": {"bytes": sum(sizes)}}}
    context = Context(folder, "tokenizer", "f", 1, {"documents.wikipedia": record})
    source = recipes.load("laptop").sources["wikipedia"]
    taken = sum(len(text.encode()) for text in _sample(context, "wikipedia", source, budget, seed))
    assert taken <= 1.1 * budget
    assert taken <= sum(sizes)
    if budget >= sum(sizes):
        assert taken == sum(sizes)


def test_the_sample_is_about_its_budget_where_there_is_more_text(tmp_path: Path) -> None:
    write_documents(tmp_path / "documents" / "0.parquet", [made(number, 40 + number % 21) for number in range(2000)])
    record = {"outputs": ["documents/0.parquet"], "counts": {"training": {"bytes": 100_000}}}
    context = Context(tmp_path, "tokenizer", "f", 1, {"documents.wikipedia": record})
    source = recipes.load("laptop").sources["wikipedia"]
    samples = [list(_sample(context, "wikipedia", source, 20_000, seed)) for seed in range(5)]
    assert all(16_000 < sum(map(len, sample)) <= 22_000 for sample in samples)
    assert len(set(map(tuple, samples))) == 5
