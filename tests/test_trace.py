"""From a piece of text to the documents that hold it: by reading all, and by an index that misses none of them."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import puna
from puna import storage, trace
from puna.care import clean
from puna.data.dedup import winnow
from puna.data.document import read_documents, row_groups, write_documents
from puna.errors import InputError
from puna.trace import index as indexes
from puna.trace import text as texts

RUN = Path(__file__).with_name("fixtures") / "run-1"
MASK = (1 << 64) - 1


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A copy of a small finished run."""
    return Path(shutil.copytree(RUN, tmp_path / "run"))


def _mixed(value: int) -> int:
    value ^= value >> 32
    value = value * 0xD6E8FEB86659FD93 & MASK
    return value ^ value >> 32


def plain_keys(text: str) -> set[int]:
    """The readable twin of `winnow.keys_of`: the least hash of every window, by integers."""
    data = " ".join(text.split()).encode()
    hashes = []
    for start in range(len(data) - winnow.GRAM + 1):
        total = 0
        for byte in data[start : start + winnow.GRAM]:
            total = (total * winnow.MULTIPLIER + int(winnow._HASHES[byte])) & MASK
        hashes.append(_mixed(total))
    windows = range(len(hashes) - winnow.WINDOW + 1)
    least = {min(hashes[start : start + winnow.WINDOW]) for start in windows}
    return {_mixed(value * winnow.MULTIPLIER & MASK) for value in least}


@pytest.mark.promise("twins")
@settings(deadline=None, max_examples=20)
@given(
    lengths=st.lists(st.integers(0, 400), min_size=1, max_size=4), seed=st.integers(0, 9), batch=st.integers(130, 900)
)
def test_what_is_kept_of_a_text_is_what_the_definition_says(lengths: list[int], seed: int, batch: int) -> None:
    chance = random.Random(seed)
    made = ["".join(chance.choices("abc \n\u00e9\u4e16", k=length)) for length in lengths]
    before, winnow.BATCH = winnow.BATCH, batch
    try:
        found: list[set[int]] = [set() for _ in made]
        for keys, numbers in winnow.winnowed(made):
            for key, number in zip(keys.tolist(), numbers.tolist(), strict=True):
                found[number].add(key)
        assert found == [plain_keys(text) for text in made]
        assert [set(winnow.keys_of(text).tolist()) for text in made] == found
    finally:
        winnow.BATCH = before


def drawn(run: Path, chance: random.Random, length: int) -> str:
    """A stretch of a document of the run, with other white space and most often cut within words."""
    documents = [*puna.documents(run), *puna.documents(run, heldout=True)]
    text = chance.choice([d.text for d in documents if len(d.text) > length])
    start = chance.randrange(len(text) - length)
    return "".join(chance.choice(" \n\t") * chance.randint(1, 3) if c.isspace() else c for c in text[start:][:length])


@pytest.mark.promise("twins")
def test_index_and_scan_and_the_plain_search_find_the_same(run: Path, proved: Callable[[str], None]) -> None:
    chance = random.Random(5)
    everything = [*puna.documents(run), *puna.documents(run, heldout=True)]
    queries = [drawn(run, chance, chance.choice([1, 5, 30, 129, 140, 200, 400, 1200])) for _ in range(40)]
    queries = [query for query in queries if query.strip()]
    queries += [queries[-1] + "x", "nobody wrote this " * 20]
    scanned = [trace.search(str(run), query).as_json() for query in queries]
    built = trace.build(str(run), 1)
    assert built.new
    by_index = 0
    for query, scan in zip(queries, scanned, strict=True):
        found = trace.search(str(run), query).as_json()
        by_index += found["by"] == "index"
        assert (found["by"] == "index") == (len(" ".join(query.split()).encode()) >= winnow.SHORTEST)
        same = {"by": "", "bytes_read": 0}
        assert found | same == scan | same
        plain = texts.plain_look(texts.Query.of(query), (document.text for document in everything))
        assert found["count"] == len(plain)
        assert {one["id"] for one in found["documents"]} <= {everything[number].id for number in plain}
        for one in found["documents"]:
            text = next(document.text for document in everything if document.id == one["id"])
            assert [" ".join(text[a:b].split()) for a, b in one["places"]] == [found["text"]] * len(one["places"])
    assert by_index > 10
    proved(f"{len(queries)} texts looked for by scan and by index, {by_index} of them long enough for it")


def test_what_is_found_comes_with_its_origin_and_the_steps_that_read_it(run: Path) -> None:
    document = next(iter(puna.documents(run, "wikipedia")))
    found = trace.search(str(run), document.text[:200])
    (first, *_) = found.as_json()["documents"]
    assert first["origin"]["url"] == document.origin.url
    (named,) = trace.documents(str(run), [document.id]).documents
    assert first["steps"] == list(named.steps)
    text = found.as_text()
    assert f"in     {document.origin.file}, from byte" in text
    assert "holds  it at characters 0 to" in text
    held = next(iter(puna.documents(run, heldout=True)))
    assert "never: it is held out" in trace.search(str(run), held.text).as_text()


def test_all_are_counted_and_as_many_told_as_asked_for(run: Path) -> None:
    found = trace.search(str(run), "the", most=3)
    holding = [d.text for kept in (False, True) for d in puna.documents(run, heldout=kept) if "the" in d.text]
    assert (found.count, found.times) == (len(holding), sum(text.count("the") for text in holding))
    assert len(found.hits) == 3
    assert f"and {found.count - 3:,} more documents" in found.as_text()
    assert all(len(one["places"]) <= texts.PLACES for one in found.as_json()["documents"])


def test_one_worker_and_two_find_and_build_the_same(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(texts, "ALONE", 0.0)
    one, two = (trace.search(str(run), "river", workers=workers).as_json() for workers in (1, 2))
    assert one == two
    other = Path(shutil.copytree(run, tmp_path / "other"))
    for folder, workers in ((run, 1), (other, 2)):
        trace.build(str(folder), workers)
    parts = [
        {path.name: storage.digest(path) for path in folder.rglob("*.parts")} | {"": path_names(folder)}
        for folder in (run, other)
    ]
    assert parts[0] == parts[1]


def path_names(folder: Path) -> str:
    return " ".join(storage.tree(folder / "trace"))


def test_a_killed_build_goes_on_and_loses_nothing(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = Path(shutil.copytree(run, tmp_path / "other"))
    trace.build(str(other), 1)
    done: list[int] = []
    plain = indexes._sort

    def dying(*arguments: object) -> object:
        done.append(1)
        if len(done) > 1:
            raise KeyboardInterrupt
        return plain(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(indexes, "PART", 10_000)
    monkeypatch.setattr(indexes, "_sort", dying)
    with pytest.raises(KeyboardInterrupt):
        trace.build(str(run), 1)
    assert indexes.find(run, indexes.shards(run))[0] is None
    monkeypatch.setattr(indexes, "_sort", plain)
    read: list[object] = []
    monkeypatch.setattr(indexes, "winnowed", lambda texts: read.append(texts) or iter(()))
    assert trace.build(str(run), 1).counts["entries"] == storage.read_json(other / "trace" / "index.json")["entries"]
    assert read == []  # what had been read of the shards was not read again
    assert {Path(name).suffix for name in storage.tree(run / "trace")} == {".json", ".parts"}
    assert not trace.build(str(run), 1).new


def test_a_stale_index_is_said_and_not_used(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace.build(str(run), 1)
    shard, record = run / "documents" / "wikipedia" / "00000.parquet", run / "records" / "documents.wikipedia.json"
    document, *others = read_documents(shard)
    write_documents(shard, others)
    storage.write_json(record, storage.read_json(record) | {"produced": "xxh3:0"})
    capsys.readouterr()
    found = trace.search(str(run), document.text[:300])
    assert (found.by, found.note) != ("index", "")
    assert "the index is stale" in capsys.readouterr().err
    assert "no step can be told, since its tokens were made from other wikipedia documents" in found.as_text()
    assert document.id not in json.dumps(found.as_json()["documents"])
    assert trace.build(str(run), 1).new
    assert trace.search(str(run), document.text[:300]).by == "index"


@pytest.mark.promise("errors")
def test_what_cannot_be_looked_for_is_one_line(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="the text to look for is empty"):
        trace.search(str(run), " \n")
    monkeypatch.setattr(texts, "AGREED", 10)
    with pytest.raises(InputError, match=r"to read, about .* are not read unasked; give --yes, or build an index"):
        trace.search(str(run), "river")
    assert trace.search(str(run), "river", agreed=True).count
    (run / "records" / "documents.wikipedia.json").rename(run / "records" / "documents.wikipedia.begun.json")
    with pytest.raises(InputError, match=r"its documents are not finished \(documents.wikipedia\)"):
        trace.build(str(run), 1)
    shutil.rmtree(run / "documents")
    with pytest.raises(InputError, match="holds no documents yet"):
        trace.search(str(run), "river")


@pytest.mark.promise("care")
def test_clean_removes_an_index_when_asked_and_what_was_left_of_one_always(run: Path) -> None:
    trace.build(str(run), 1)
    storage.write(run / "trace" / "0123456789abcdef" / "00000.grams", b"old")
    shown = clean.plan(run)
    assert {item.path for item in shown.going if item.kind == "old index"} == {"trace/0123456789abcdef"}
    clean.clean(run, shown)
    assert indexes.find(run, indexes.shards(run))[0] is not None
    shown = clean.plan(run, index=True)
    assert "puna clean" in shown.as_text()
    assert clean.clean(run, shown)
    assert not storage.tree(run / "trace") if (run / "trace").exists() else True
    assert trace.build(str(run), 1).new


def test_only_row_groups_with_a_wanted_row_are_read(run: Path, tmp_path: Path) -> None:
    documents = [*puna.documents(run)] * 3
    write_documents(tmp_path / "a.parquet", documents, row_group_bytes=5_000)
    groups = [(first, len(table)) for first, table in row_groups(tmp_path / "a.parquet", ["id"])]
    assert len(groups) > 3
    for rows in ([0], [len(documents) - 1], [groups[1][0], groups[1][0] + groups[1][1]], []):
        found = {first for first, _ in row_groups(tmp_path / "a.parquet", ["id"], rows)}
        assert found == {first for first, count in groups if any(first <= row < first + count for row in rows)}
    assert np.sum([count for _, count in groups]) == len(documents)
