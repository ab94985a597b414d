"""Documents keep their text and origin through a shard, and their ids depend on where they were published only."""

from __future__ import annotations

import ctypes
import multiprocessing
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from puna.data.document import (
    SCHEMA,
    Document,
    DocumentWriter,
    Origin,
    document_id,
    give_back,
    read_column,
    read_documents,
    read_table,
    valid,
    write_documents,
    write_table,
)
from puna.errors import InputError

ANY_TEXT = st.text(st.characters(), max_size=40)  # surrogates and NUL among them


def document(text: str = "text", key: str = "1") -> Document:
    origin = Origin("dump", key, "dump.xml", 7, "https://example.org", "A title", "2022-06-01", "MIT")
    return Document(document_id("wikipedia", "dump", key), "wikipedia", key, "en", text, origin)


@pytest.mark.promise("origin")
@given(st.tuples(ANY_TEXT, ANY_TEXT, ANY_TEXT), st.tuples(st.integers(0, 40), st.integers(0, 40)))
@settings(deadline=None, max_examples=200)
def test_ids_are_equal_only_for_equal_names(one: tuple[str, str, str], cuts: tuple[int, int]) -> None:
    joined, (first, second) = "".join(one), sorted(cuts)
    other = joined[:first], joined[first:second], joined[second:]  # the same characters, divided elsewhere
    for name in (other, (*one[:2], one[2] + "x"), one):
        assert (document_id(*one) == document_id(*name)) == (one == name)
    assert re.fullmatch("[0-9a-f]{32}", document_id(*one))


@pytest.mark.promise("origin")
def test_an_id_does_not_change_between_versions() -> None:
    assert document_id("wikipedia", "enwiki.xml.bz2", "12") == "0cfd946d3ad63c83134fb70b6190a536"
    assert document_id("ab", "c", "") != document_id("a", "bc", "")


@given(st.lists(st.tuples(ANY_TEXT, ANY_TEXT), min_size=1, max_size=5))
@settings(deadline=None, max_examples=60)
def test_columns_are_what_rows_would_be(tmp_path_factory: pytest.TempPathFactory, texts: list[tuple[str, str]]) -> None:
    location = tmp_path_factory.mktemp("shard") / "a.parquet"
    documents = [document(*text) for text in texts]
    write_documents(location, documents)
    rows = [asdict(each) for each in documents]
    plain: list[dict[str, Any]] = [
        {name: valid(value) for name, value in row.items() if name != "origin"} for row in rows
    ]
    for row, made in zip(rows, plain, strict=True):
        made["origin"] = {name: valid(value) if name != "offset" else value for name, value in row["origin"].items()}
    assert read_table(location).to_pylist() == pa.Table.from_pylist(plain, SCHEMA).to_pylist() == plain


@given(st.lists(ANY_TEXT, max_size=5))
@settings(deadline=None, max_examples=60)
def test_any_text_comes_back_from_a_shard(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    location = tmp_path_factory.mktemp("shard") / "a.parquet"
    documents = [document(text, str(index)) for index, text in enumerate(texts)]
    assert write_documents(location, documents, row_group_bytes=20) == len(texts)
    expected = [document(valid(text), str(index)) for index, text in enumerate(texts)]
    assert list(read_documents(location)) == expected


def test_lone_surrogates_are_replaced_and_pairs_joined() -> None:
    assert valid("a\ud800b") == "a\ufffdb"
    assert valid("\ud83d\ude00") == "\U0001f600"


def test_equal_documents_give_equal_bytes_and_bounded_row_groups(tmp_path: Path) -> None:
    documents = [document("x" * 1000, str(index)) for index in range(10)]
    for name in ("a", "b"):
        write_documents(tmp_path / name, iter(documents), row_group_bytes=2500)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    groups = pq.ParquetFile(tmp_path / "a")
    assert [groups.metadata.row_group(i).num_rows for i in range(groups.num_row_groups)] == [3, 3, 3, 1]


def test_columns_and_tables_are_read_alone(tmp_path: Path) -> None:
    write_documents(tmp_path / "a", [document("one", "1"), document("two", "2")])
    assert list(read_column(tmp_path / "a", "text")) == ["one", "two"]
    (first, _) = read_documents(tmp_path / "a", ["text", "group"])
    assert (first.text, first.group, first.id, first.origin.title) == ("one", "1", "", "")
    table = read_table(tmp_path / "a")
    assert table.schema.equals(SCHEMA)
    write_table(tmp_path / "b", table.slice(1))
    assert [d.text for d in read_documents(tmp_path / "b")] == ["two"]
    write_table(tmp_path / "empty", SCHEMA.empty_table())
    assert len(read_table(tmp_path / "empty")) == 0
    assert read_table(tmp_path / "empty", ["id"]).column_names == ["id"]


def test_nothing_stands_when_a_source_of_documents_fails(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), DocumentWriter(tmp_path / "a") as writer:
        writer.write(document())
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_a_shard_that_cannot_be_read_is_refused_by_name(tmp_path: Path) -> None:
    write_documents(tmp_path / "whole", [document("x" * 5000)])
    data = (tmp_path / "whole").read_bytes()
    (tmp_path / "cut").write_bytes(data[: len(data) // 2])
    (tmp_path / "flipped").write_bytes(data[:60] + bytes([data[60] ^ 1]) + data[61:])
    pq.write_table(pa.table({"a": [1]}), tmp_path / "other")
    newer = SCHEMA.with_metadata({"puna.format": "documents/9"})
    pq.write_table(newer.empty_table(), tmp_path / "newer")
    for name in ("cut", "flipped", "other", "newer", "missing"):
        with pytest.raises(InputError, match=name):
            list(read_documents(tmp_path / name))
    with pytest.raises(InputError, match="update"):
        read_table(tmp_path / "newer")


def test_workers_give_memory_back_and_a_process_that_goes_on_is_left_as_it_is() -> None:
    before = pa.default_memory_pool().backend_name
    assert not give_back()
    assert pa.default_memory_pool().backend_name == before
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(give_back) == hasattr(ctypes.CDLL(None), "mallopt")
