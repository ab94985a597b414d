"""Decontamination: planted text of benchmarks is found as its definition says, and nothing else is."""

from __future__ import annotations

import gzip
import json
import random
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

import made_testsets
from puna import recipe as recipes
from puna import storage, testsets
from puna.data import benchmark_grams, decontaminate, pipeline
from puna.data.benchmark_grams import GRAM, Known, indexed, item_grams
from puna.data.decontaminate import CLEAN, CONTAMINATED, QUOTED
from puna.data.dedup.grams import WORD, gram_hashes, runs_of_lengths, words_of
from puna.data.document import Document, Origin, document_id, write_documents
from puna.errors import InputError
from puna.recipe import Recipe
from puna.steps import Context, Step, run_steps

WORDS = [f"{first}{second}" for first in ("ka", "lo", "mi", "ne", "pu") for second in ("ra", "so", "ti", "vu")]
PASSAGE = "The river rises in the northern hills and runs past four old towns before it meets the cold sea"
ASKED = "does the river that rises in the northern hills ever reach a town by the sea in summer"
SHORT = "who first crossed the wide river by night"  # eight words
GOAL = "how do you keep a wooden boat from leaking"


def _filler(seed: int, words: int = 60) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=words))


def _benchmarks(folder: Path) -> dict[str, str]:
    """Files of four benchmarks: path by name."""
    folder.mkdir()
    lines = {
        "boolq": {"question": ASKED, "passage": PASSAGE, "answer": True, "title": "River"},
        "naturalquestions": {"question": SHORT, "answer": ["Ada"]},
        "piqa": {"goal": GOAL, "sol1": "Paint it with thick tar each spring.", "sol2": "Sink it."},
        "gsm8k": {"question": "Count: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 a b", "answer": "ok\n#### 7"},
    }
    (folder / "piqa-labels.lst").write_text("0\n")
    for name, value in lines.items():
        (folder / f"{name}.jsonl").write_text(json.dumps(value) + "\n")
    return {name: str(folder / f"{name}.jsonl") for name in lines}


PLANTED = {  # key -> (text, verdict by default)
    "clean": (_filler(1), CLEAN),
    "counting": (f"{_filler(2)} 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15", CLEAN),
    "asked": (f"{_filler(3)} {ASKED.upper()}? {_filler(4)}", CONTAMINATED),
    "one gram": (f"{_filler(5)} {' '.join(ASKED.split()[:13])} {_filler(6)}", CONTAMINATED),
    "twelve words": (f"{_filler(7)} {' '.join(ASKED.split()[:12])} {_filler(8)}", CLEAN),
    "quoted": (f"{_filler(9)} {PASSAGE}. {_filler(10)}", QUOTED),
    "both": (f"{PASSAGE}. {ASKED} {_filler(11)}", CONTAMINATED),
    "short": (f"{_filler(12)} {SHORT}? {_filler(13)}", CONTAMINATED),
    "part of short": (f"{_filler(14)} {' '.join(SHORT.split()[:7])} {_filler(15)}", CLEAN),
    "goal and solution": (f"{GOAL}? Paint it with thick tar each spring. {_filler(16)}", CONTAMINATED),
    "a document of eight words": (SHORT, CONTAMINATED),
    "empty": ("", CLEAN),
}


def _recipe(named: Any, *more: str) -> Recipe:
    shown = (
        json.dumps(named)
        if isinstance(named, list)
        else "{" + ", ".join(f'{n} = "{p}"' for n, p in named.items()) + "}"
    )
    return recipes.load("llama-7b", [f"decontaminate.benchmarks={shown}", "data.partitions=3", *more])


def _document(source: str, key: str, text: str) -> Document:
    return Document(
        document_id(source, "made", key), source, key, "en", text, Origin("made", key, "f", 0, "", key, "", "")
    )


def _run(
    folder: Path, recipe: Recipe, shards: dict[str, list[list[tuple[str, str]]]], workers: int = 1
) -> dict[str, Any]:
    """Records of the steps over made shards of sources; "verdicts": source -> key -> verdict."""
    located = benchmark_grams.locate(recipe)
    assert located
    chosen = recipe.decontaminate

    def extract(source: str, context: Context) -> dict[str, Any]:
        for index, shard in enumerate(shards[source]):
            write_documents(context.scratch / f"{index:05d}.parquet", [_document(source, *each) for each in shard])
        texts = [text for shard in shards[source] for _, text in shard]
        return {"kept": {"documents": len(texts), "bytes": sum(len(text) for text in texts)}}

    graph = []
    for source in shards:
        graph.append(Step(f"extract.{source}", partial(extract, source), ("{work}/*.parquet",), values={"made": 1}))
        judged = partial(pipeline._duplicates, recipe, source)
        graph.append(Step(f"duplicates.{source}", judged, ("{work}/*.verdicts",), (f"extract.{source}",)))
    values = benchmark_grams.benchmarks_values(recipe, located)
    read = partial(benchmark_grams.benchmarks, recipe, located)
    space = partial(benchmark_grams.benchmarks_space, located)
    graph.append(Step("benchmarks", read, ("{work}/known.*",), (), values, space=space))
    for source in shards:
        compare = partial(decontaminate.contamination, recipe, source)
        needs = (f"extract.{source}", f"duplicates.{source}", "benchmarks")
        outputs = ("{work}/*.contamination", "{work}/*.shared", "{work}/*.jsonl.zst")
        space = partial(decontaminate.contamination_space, recipe, source)
        graph.append(Step(f"contamination.{source}", compare, outputs, needs, {"partitions": 3}, space=space))
    names = tuple(shards)
    count = partial(decontaminate.common, recipe, names)
    needs = ("benchmarks", *(f"contamination.{source}" for source in names))
    space = partial(decontaminate.common_space, names)
    graph.append(Step("common", count, ("{work}/common.bin",), needs, decontaminate.common_values(recipe), space=space))
    records: dict[str, Any] = run_steps(folder, graph, workers=workers)
    verdicts: dict[str, dict[str, int]] = {}
    (common,) = [folder / name for name in records["common"]["outputs"]]
    for source, found in shards.items():
        shared = sorted(name for name in records[f"contamination.{source}"]["outputs"] if name.endswith(".shared"))
        for name, shard in zip(shared, found, strict=True):
            judged = decontaminate.verdict(
                folder / name, common, len(shard), partitions=3, max_shared=chosen.max_shared, quoted=chosen.quoted
            )
            rows = zip(shard, judged, strict=True)
            verdicts.setdefault(source, {}).update({key: int(verdict) for (key, _), verdict in rows})
    return {**records, "verdicts": verdicts}


def _cut(documents: Sequence[tuple[str, str]], shards: int, seed: int) -> list[list[tuple[str, str]]]:
    mixed = list(documents)
    random.Random(seed).shuffle(mixed)
    return [mixed[start::shards] for start in range(shards)]


def test_planted_text_is_found_as_the_definition_says_and_nothing_else(
    tmp_path: Path, proved: Callable[[str], None]
) -> None:
    named = _benchmarks(tmp_path / "bench")
    documents = [(key, text) for key, (text, _) in PLANTED.items()]
    expected = {key: verdict for key, (_, verdict) in PLANTED.items()}
    seen = []
    for shards, seed in ((1, 0), (3, 1), (5, 2)):
        done = _run(tmp_path / f"run-{shards}", _recipe(named), {"wikipedia": _cut(documents, shards, seed)})
        assert done["verdicts"]["wikipedia"] == expected
        seen.append(done["contamination.wikipedia"]["counts"])
    assert seen[0] == seen[1] == seen[2]
    assert seen[0]["benchmarks"]["boolq"]["documents"] == 3
    assert seen[0]["benchmarks"]["boolq"]["quoted"] == 1
    assert "gsm8k" not in seen[0]["benchmarks"]
    proved(f"contamination: {len(expected)} planted documents judged by their definition in 3 cuts into shards")


def test_each_policy_changes_what_it_says(tmp_path: Path) -> None:
    named = _benchmarks(tmp_path / "bench")
    shards = {"books": _cut([(key, text) for key, (text, _) in PLANTED.items()], 2, 3)}

    def found(*more: str) -> set[str]:
        judged = _run(tmp_path / str(len(list(tmp_path.iterdir()))), _recipe(named, *more), shards)["verdicts"]["books"]
        return {key for key, verdict in judged.items() if verdict == CONTAMINATED}

    usual = {key for key, (_, verdict) in PLANTED.items() if verdict == CONTAMINATED}
    assert found('decontaminate.quoted="drop"') == usual | {"quoted"}
    assert found("decontaminate.max_shared=1") == usual - {"one gram", "short", "a document of eight words"}
    assert found("decontaminate.shortest=9") == usual - {"short", "a document of eight words"}
    assert found("decontaminate.ngram=12") == usual | {"twelve words"}


def test_the_listing_holds_the_matched_text_by_benchmark(tmp_path: Path) -> None:
    named = _benchmarks(tmp_path / "bench")
    documents = [(key, text) for key, (text, _) in PLANTED.items()]
    done = _run(tmp_path / "run", _recipe(list(named.values())), {"wikipedia": [documents]})
    (listing,) = [name for name in done["contamination.wikipedia"]["outputs"] if name.endswith(".zst")]
    with zstandard.open(tmp_path / "run" / listing, "rt") as file:
        lines = {documents[line["row"]][0]: line for line in map(json.loads, file)}
    assert lines.keys() == {key for key, (_, verdict) in PLANTED.items() if verdict != CLEAN}
    assert lines["asked"]["benchmarks"]["boolq"]["text"] == ASKED.upper()
    assert lines["asked"]["benchmarks"]["boolq"]["items"] == ["1"]
    quoted = lines["quoted"]["benchmarks"]["boolq"]
    assert (quoted["asked"], quoted["quoted"], quoted["text"]) == (0, len(PASSAGE.split()) - 12, PASSAGE)
    assert lines["short"]["benchmarks"]["naturalquestions"]["text"] == SHORT
    (scores,) = [name for name in done["contamination.wikipedia"]["outputs"] if name.endswith(".contamination")]
    counted = np.frombuffer((tmp_path / "run" / scores).read_bytes(), "<u4")
    assert {documents[row][0]: int(n) for row, n in enumerate(counted) if n} == {
        key: line["shared"] for key, line in lines.items()
    }


def test_what_more_documents_share_than_is_allowed_does_not_count(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    named = _benchmarks(tmp_path / "bench")
    copies = {
        source: [(f"{source} {n}", f"{_filler(n)} {SHORT} {_filler(n + 99)}") for n in range(2)]
        for source in ("c4", "books")
    }
    copies["books"] += [("again", copies["books"][0][1]), ("asked", PLANTED["asked"][0])]  # a copy is not counted twice
    shards = {source: _cut(documents, 2, 5) for source, documents in copies.items()}
    at_most = _run(tmp_path / "four", _recipe(named, "decontaminate.common=4"), shards)["verdicts"]
    assert at_most["c4"] == {"c4 0": CONTAMINATED, "c4 1": CONTAMINATED}
    assert not any("is in more than" in line for line in capsys.readouterr().err.splitlines())
    done = _run(tmp_path / "three", _recipe(named, "decontaminate.common=3"), shards)
    assert set(done["verdicts"]["c4"].values()) == {CLEAN}
    assert done["verdicts"]["books"].pop("asked") == CONTAMINATED
    assert set(done["verdicts"]["books"].values()) == {CLEAN}
    assert done["common"]["counts"]["items"] == {"naturalquestions": {"items": 1, "examples": ["1"]}}
    said = capsys.readouterr().err
    assert "naturalquestions: what was found of 1 items, such as 1, is in more than 3 documents" in said
    assert "piqa: no document shares an n-gram with it" in said
    every = _run(tmp_path / "none", _recipe(named, "decontaminate.common=none"), shards)
    assert every["common"]["counts"]["common"] == 0
    assert set(every["verdicts"]["c4"].values()) == {CONTAMINATED}


@pytest.mark.prove
@pytest.mark.promise("order")
def test_workers_and_a_second_run_give_the_same_bytes(tmp_path: Path) -> None:
    named = _benchmarks(tmp_path / "bench")
    shards = {"wikipedia": _cut([(key, text) for key, (text, _) in PLANTED.items()], 2, 4)}
    one, two = (_run(tmp_path / str(n), _recipe(named), shards, workers=n) for n in (1, 2))
    for step in ("benchmarks", "contamination.wikipedia", "common"):
        assert one[step]["produced"] == two[step]["produced"]
        assert one[step]["counts"] == two[step]["counts"]


@pytest.mark.promise("errors")
def test_a_missing_wrong_or_empty_benchmark_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    named = _benchmarks(tmp_path / "bench")
    wrong: list[tuple[Any, str]] = [
        ({"boolq": named["piqa"]}, "is a file of piqa, not of boolq"),
        ({"boolq": str(tmp_path / "none.jsonl")}, "no such file"),
        ({"nonsense": named["piqa"]}, "nonsense is no benchmark"),
        ([""], "a file is empty"),
    ]
    for value, match in wrong:
        with pytest.raises(InputError, match=match):
            benchmark_grams.locate(_recipe(value))
    (tmp_path / "bench" / "empty.jsonl").write_text("")
    located = benchmark_grams.locate(_recipe([str(tmp_path / "bench")]))
    assert located
    assert {name for name, _ in located.files} == named.keys()
    assert "1 files there are no benchmark's that is known, such as empty.jsonl" in capsys.readouterr().err
    assert benchmark_grams.locate(recipes.load("laptop")) is None
    gone = benchmark_grams.Benchmarks((), located.seen, InputError("no such file", where="boolq"))
    with pytest.raises(InputError, match="boolq: no such file"):
        gone.there()
    with pytest.raises(InputError, match="no text of the benchmarks is long enough"):
        only = {"naturalquestions": named["naturalquestions"]}
        _run(tmp_path / "run", _recipe(only, "decontaminate.shortest=13"), {"c4": [[("a", "b")]]})
    assert "1 of its 1 items are too short" in capsys.readouterr().err
    with pytest.raises(InputError, match=r"decontaminate\.shortest 8 is more than decontaminate\.ngram 5"):
        _recipe(named, "decontaminate.ngram=5")
    with pytest.raises(InputError, match=r"decontaminate\.benchmarks takes a table"):
        recipes.load("laptop", ["decontaminate.benchmarks=3"])


def test_real_items_are_found_wherever_they_stand_and_not_in_real_pages(bench: Path, samples: Path) -> None:
    texts = []
    for name, path in testsets.find(bench).files:
        for item in islice(testsets.read_file(name, path), 6):
            texts += [(text.text, text.quoted) for text in testsets.BENCHMARKS[name].texts(item)]
    known = _made(texts, 13, 8)
    for text, _ in texts[::7]:
        ((hits, places),) = decontaminate.search([f"Before. {text} Behind."], known)
        length, hashes = item_grams(text, 13, 8)
        assert set(hashes.tolist()) <= set(hits["hash"].tolist())
        assert (length == 0) or {behind - first for _, first, behind in places} >= ({length} if len(hashes) else set())
    with gzip.open(samples / "c4" / "c4-train.00000-of-01024.json.gz", "rt") as file:
        pages = [json.loads(line)["text"] for line in islice(file, 200)]
    assert pages
    assert not [hits for hits, _ in decontaminate.search(pages, known) if len(hits)]


@pytest.mark.prove
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is told by /proc")
def test_a_worker_holds_little_beside_the_mapped_table(tmp_path: Path, proved: Callable[[str], None]) -> None:
    """Five million n-grams, as all benchmarks of the paper have."""
    count, items = 5_000_000, 170_000
    random_numbers = np.random.default_rng(1)
    np.sort(random_numbers.integers(0, 2**64, count, np.uint64)).tofile(tmp_path / "hashes")
    np.arange(count + 1, dtype="<u4").tofile(tmp_path / "starts")
    random_numbers.integers(0, 2 * items, count, "<u4").tofile(tmp_path / "owners")
    (tmp_path / "items").write_text("".join(f"made\tkey_{number}\n" for number in range(items)))
    names = tuple(str(tmp_path / name) for name in ("hashes", "starts", "owners", "items"))
    code = f"""
import re
from puna.data import benchmark_grams, decontaminate
def own():
    return int(re.search(r"RssAnon:\\s*(\\d+)", open("/proc/self/status").read())[1]) / 1000
before = own()
known = benchmark_grams.opened(({names!r}, (8, 9, 10, 11, 12, 13)))
texts = (" ".join(f"word{{number}}of{{at}}" for at in range(600)) for number in range(400))
assert len(list(decontaminate.search(texts, known))) == 400
print(own() - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    megabytes = float(done.stdout)
    assert megabytes < 100
    proved(f"contamination: a worker's own memory at 5 million n-grams: {megabytes:.0f} MB")


def _made(texts: Sequence[tuple[str, bool]], n: int, shortest: int) -> Known:
    rows, lengths = [], set()
    for number, (text, quoted) in enumerate(texts):
        length, hashes = item_grams(text, n, shortest)
        lengths |= {length} - {0}
        rows += [(int(value), number, quoted) for value in hashes]
    names = "".join(f"made\t{number}\n" for number in range(len(texts))).encode()
    return Known(*indexed(np.array(rows, GRAM)), np.frombuffer(names, "u1"), sorted(lengths))


def _slow(texts: Sequence[tuple[str, bool]], document: str, n: int, shortest: int) -> dict[tuple[str, ...], bool]:
    """Distinct runs of words that the document shares, and whether each is only quoted."""
    words = WORD.findall(document.lower())
    found: dict[tuple[str, ...], bool] = {}
    for text, quoted in texts:
        own = WORD.findall(text.lower())
        length = min(n, len(own))
        if len(own) < shortest:
            continue
        held = {tuple(words[at : at + length]) for at in range(len(words) - length + 1)}
        for at in range(len(own) - length + 1):
            run = tuple(own[at : at + length])
            if run in held and any(len(word) > 1 and not word.isnumeric() for word in run):
                found[run] = found.get(run, True) and quoted
    return found


TEXTS = st.text(st.sampled_from("ab1 .É"), max_size=24)


@pytest.mark.promise("twins")
@given(st.lists(st.tuples(TEXTS, st.booleans()), max_size=4), st.data(), st.integers(1, 5), st.integers(1, 4))
@settings(max_examples=100, deadline=None)
def test_the_search_agrees_with_its_readable_twin(
    texts: list[tuple[str, bool]], data: st.DataObject, n: int, shortest: int
) -> None:
    parts = st.lists(st.sampled_from([text for text, _ in texts]) | TEXTS if texts else TEXTS, max_size=4)
    document = " ".join(data.draw(parts))
    shortest = min(n, shortest)
    known = _made(texts, n, shortest)
    # Runs that reach from one text into the next are none.
    before, (hits, places), behind = decontaminate.search([document, document, document], known)
    assert before[1] == behind[1] == places
    slow = _slow(texts, document, n, shortest)
    expected = {int(gram_hashes(" ".join(run), len(run))[0]): quoted for run, quoted in slow.items()}
    assert {int(hit["hash"]): bool(hit["quoted"]) for hit in hits} == expected
    assert {gram for gram, _, _ in places} == expected.keys()


@pytest.mark.promise("twins")
@given(TEXTS, st.sets(st.integers(1, 6)))
@settings(max_examples=40, deadline=None)
def test_grams_of_many_lengths_are_those_of_each(text: str, lengths: set[int]) -> None:
    words = len(WORD.findall(text.lower()))
    expected = {n: gram_hashes(text, n).tolist() for n in sorted(lengths) if n <= words}
    found = {n: hashes.tolist() for n, hashes in runs_of_lengths(words_of([text]).hashes, lengths)}
    assert found == expected


@pytest.mark.parametrize("benchmark", testsets.BENCHMARKS)
def test_each_benchmark_goes_into_the_table(tmp_path: Path, benchmark: str) -> None:
    path = made_testsets.write(tmp_path, benchmark)
    recipe = _recipe({benchmark: str(path)}, "decontaminate.shortest=1")
    located = benchmark_grams.locate(recipe)
    assert located
    read = partial(benchmark_grams.benchmarks, recipe, located)
    records = run_steps(tmp_path / "run", [Step("benchmarks", read, ("{work}/known.*",))], workers=1)
    counts = records["benchmarks"]["counts"]["benchmarks"][benchmark]
    assert counts["items"] == len(list(testsets.read(benchmark, path)))
    assert counts["grams"]
    (names,) = [name for name in records["benchmarks"]["outputs"] if name.endswith("known.items")]
    assert storage.read(tmp_path / "run" / names).decode().count(f"{benchmark}\t") == counts["items"]
