"""The classifier of cited pages: what it learns from, what it tells, and that no shard, host or mishap leaks in."""

from __future__ import annotations

import dataclasses
import json
import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import made_citations as web
import made_web
from puna import storage
from puna.data.document import write_documents
from puna.data.exclude import Exclusions
from puna.data.judge import Judge
from puna.data.quality import examples, labels, linear
from puna.data.quality import references as steps_of
from puna.data.quality.addresses import host_hash, same_page
from puna.data.quality.labels import Pages, write_cited
from puna.data.sources import Aside, locate, read, split
from puna.errors import InputError
from puna.recipe import Wikipedia
from puna.recipe_data import Reference

RULE = Reference(min_positives=50, bits=14, characters=600, epochs=3, batch=8)


@pytest.fixture(scope="module")
def made() -> list[web.Made]:
    return web.web()


@pytest.fixture(scope="module")
def trained(made: list[web.Made], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict, dict]:
    folder = tmp_path_factory.mktemp("trained") / "run"
    return folder, *web.run(folder, made, RULE)


def test_cited_pages_of_another_style_are_told_from_the_rest(
    made: list[web.Made], trained: tuple[Path, dict, dict], proved: object
) -> None:
    _, counts, scores = trained
    assert counts["off"] is None
    assert (counts["matched"], counts["positives"], counts["negatives"]) == (200, 200, 200)
    kept = {document.id for document, _ in made if scores[document.id] >= 0.5}
    right = {document.id for document, cited in made if cited}
    precision, recall = len(kept & right) / len(kept), len(kept & right) / len(right)
    assert precision > 0.75
    assert recall > 0.9
    test = counts["test"]
    assert test["average_precision"] > 0.9 > test["base"] + 0.2
    at = test["thresholds"]["threshold"].index(0.5)
    assert test["thresholds"]["precision"][at] > 0.75
    assert test["thresholds"]["recall"][at] > 0.75
    assert test["brier"] < 0.15
    proved(f"cited pages found: precision {precision:.2f}, recall {recall:.2f} at 0.5")  # type: ignore[operator]


@pytest.mark.promise("order")
def test_scores_depend_on_no_shard_order_or_worker(
    made: list[web.Made], trained: tuple[Path, dict, dict], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _, expected = trained
    _, once = web.run(tmp_path / "a", made[::-1], RULE, shards=5, partitions=1)
    assert once == expected
    monkeypatch.setattr(examples, "RANGE", 30_000)  # many ranges of ranks
    monkeypatch.setattr(examples, "AT_ONCE", 20_000)
    monkeypatch.setattr("puna.data.quality.hashed_words.BATCH", 3_000)
    monkeypatch.setattr("puna.data.quality.labels.LINES", 53)
    _, cut = web.run(tmp_path / "b", sorted(made, key=lambda one: one[0].text), RULE, shards=2, partitions=7)
    assert cut == expected
    assert web.model(tmp_path / "b").read_bytes() == web.model(folder).read_bytes()


@pytest.mark.promise("order")
def test_pages_of_two_sources_are_learnt_from_as_one(
    made: list[web.Made], trained: tuple[Path, dict, dict], tmp_path: Path
) -> None:
    counts, scores = web.run(tmp_path / "run", made, RULE, sources=("c4", "commoncrawl"))
    assert (counts["matched"], counts["scored"]["documents"]) == (200, 250)
    assert scores == trained[2]


@pytest.mark.promise("order")
@pytest.mark.prove
def test_two_workers_give_the_scores_of_one(
    made: list[web.Made], trained: tuple[Path, dict, dict], tmp_path: Path
) -> None:
    assert web.run(tmp_path / "run", made, RULE, workers=2)[1] == trained[2]


@pytest.mark.promise("resume")
@pytest.mark.parametrize("stage", ["match", "write_words", "learn"])
def test_a_stage_that_broke_is_gone_on_with(
    made: list[web.Made], trained: tuple[Path, dict, dict], tmp_path: Path, stage: str
) -> None:
    module = labels if stage == "match" else examples
    with pytest.MonkeyPatch.context() as patch, pytest.raises(RuntimeError):
        patch.setattr(module, stage, _broken)
        web.run(tmp_path / "run", made, RULE)
    assert web.run(tmp_path / "run", made, RULE)[1] == trained[2]


def _broken(*given: object) -> None:
    raise RuntimeError


def test_no_host_stands_on_two_sides(made: list[web.Made], trained: tuple[Path, dict, dict]) -> None:
    _, counts, _ = trained
    hosts = {host_hash(same_page(document.origin.url)) for document, _ in made}
    parts = examples.part_of(np.array(sorted(hosts), np.uint64), 3, RULE.test_share)
    sides = np.bincount(parts, minlength=3).tolist()
    assert [counts[part]["hosts"] for part in ("training", "calibration", "test")] == sides
    assert all(sides)
    pages = sum(counts[part]["pages"] for part in ("training", "calibration", "test"))
    assert pages == counts["positives"] + counts["negatives"]


def test_what_the_verdicts_drop_or_hold_out_is_not_learnt_from(made: list[web.Made], tmp_path: Path) -> None:
    gone = frozenset(document.id for document, cited in made if cited)
    pages = Pages(web.texts, partial(web.but_for, gone))
    counts, scores = web.run(tmp_path / "run", made, RULE, pages=pages)
    assert (counts["matched"], counts["pages"], counts["trainable"]) == (0, 300, 300)
    assert counts["off"]
    assert len(scores) == len(made)


def test_the_judge_says_what_may_be_learnt_from(tmp_path: Path) -> None:
    documents = [document for document, _ in web.web(2, 3)]
    shard = tmp_path / "00000.parquet"
    write_documents(shard, documents)
    judge = Judge(held={documents[1].group}.__contains__, excluded=Exclusions((documents[3].id,)), repeats=())
    assert judge.trainable(0, shard).tolist() == [True, False, True, False, True]


def test_captures_of_one_page_count_once(made: list[web.Made], tmp_path: Path) -> None:
    again = [
        (dataclasses.replace(document, id=f"{number:032x}"), cited) for number, (document, cited) in enumerate(made)
    ]
    counts, _ = web.run(tmp_path / "run", [*made, *again], RULE)
    assert (counts["captures"], counts["pages"], counts["matched"]) == (1000, 500, 200)


def test_too_few_cited_pages_turn_the_rule_off_and_say_so(
    made: list[web.Made], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rule = RULE.model_copy(update={"min_positives": 201})
    counts, scores = web.run(tmp_path / "run", made, rule)
    assert "200 of 500 pages are cited" in counts["off"]
    assert "reference.min_positives is 201" in counts["off"]
    assert "WARNING: the classifier of cited pages is off" in capsys.readouterr().err
    values = np.array(list(scores.values()), np.float32)
    assert np.isnan(values).all()
    assert not steps_of.below(values, 0.25).any()
    told = steps_of.complaint("commoncrawl", counts["scored"], 0.25)
    assert told
    assert "drops nothing: 200 of 500" in told
    assert not list((tmp_path / "run").rglob("*.safetensors"))


def test_pages_that_cannot_be_told_apart_give_a_warning(
    made: list[web.Made], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alike = [(document, number % 3 == 0) for number, (document, _) in enumerate(made)]
    counts, _ = web.run(tmp_path / "run", alike, RULE)
    assert counts["test"]["average_precision"] < counts["test"]["base"] + 0.2
    assert "WARNING: the classifier of" in capsys.readouterr().err


def test_a_web_that_is_cited_whole_or_a_run_without_wikipedia_is_said(made: list[web.Made], tmp_path: Path) -> None:
    counts, _ = web.run(tmp_path / "whole", [(document, True) for document, _ in made], RULE)
    assert "leaves none to tell them from" in counts["off"]
    with pytest.raises(InputError, match="the recipe has none"):
        web.run(tmp_path / "none", made, RULE, wikipedia=False)


def test_hostile_addresses_cite_nothing(made: list[web.Made], tmp_path: Path) -> None:
    bad = [
        "",
        "http://",
        "javascript:alert(1)",
        "http://[::1",
        "http://a.b/" + "%" * 1900,
        "http://\ud800.de/",
        "x" * 9999,
    ]
    counts, _ = web.run(tmp_path / "run", made, RULE, also=bad)
    assert counts["addresses"] == 200 + len(bad)
    assert counts["matched"] == 200


def test_a_threshold_that_drops_nothing_or_all_is_told() -> None:
    histogram = [0] * 100
    histogram[30] = 7
    counts = {"documents": 7, "off": None, "histogram": histogram}
    assert steps_of.complaint("c4", counts, 0.25) == "c4: min_reference_score = 0.25 drops none of 7 documents"
    assert steps_of.complaint("c4", counts, 0.5) == "c4: min_reference_score = 0.5 drops all of 7 documents"
    assert steps_of.complaint("c4", counts, 0.305) is None
    assert steps_of.complaint("c4", counts, 0.0) == "c4: min_reference_score = 0 drops none of 7 documents"


@pytest.mark.promise("formats")
def test_a_model_is_brought_along_and_gives_the_same_scores(
    made: list[web.Made], trained: tuple[Path, dict, dict], tmp_path: Path
) -> None:
    brought = RULE.model_copy(update={"model": str(web.model(trained[0])), "min_positives": 9_999})
    counts, scores = web.run(tmp_path / "run", made, brought, wikipedia=False)
    assert scores == trained[2]
    assert counts["brought"] == "reference.json"
    assert counts["test"] == trained[1]["test"]


@pytest.mark.promise("formats")
def test_a_model_that_is_not_ours_or_of_other_features_is_refused(
    trained: tuple[Path, dict, dict], tmp_path: Path
) -> None:
    file = tmp_path / "reference.json"
    weights = web.model(trained[0]).with_suffix(".safetensors").read_bytes()
    found = json.loads(web.model(trained[0]).read_text())

    def refused(value: object, what: str, data: bytes = weights) -> None:
        file.write_text(json.dumps(value))
        storage.write(tmp_path / "reference.safetensors", data)
        with pytest.raises(InputError, match=what):
            linear.load(file, examples.features(RULE))

    refused([], "is no classifier")
    refused({"kind": "x"}, "is no classifier")
    refused(found | {"format": 99}, "newer Puna")
    refused({name: value for name, value in found.items() if name != "bias"}, "is damaged")
    refused(found | {"features": found["features"] | {"version": 99}}, "sees words by rule 99")
    refused(found | {"features": found["features"] | {"bits": 15}}, "other features .* give .*reference.bits=15")
    refused(found, "not the file that its .json", weights[:-1])
    cut = weights[:100]
    refused(found | {"digest": storage.digest_bytes(cut)}, "is damaged", cut)


@pytest.mark.promise("formats")
def test_damaged_references_are_named(tmp_path: Path) -> None:
    file = tmp_path / "00000.references.jsonl.zst"
    storage.write(file, b"nonsense")
    with pytest.raises(InputError, match=r"00000\.references.*cannot be read as references"):
        write_cited(2, (0, storage.place(file)), storage.place(tmp_path / "a" / "b" / "c"))


def test_platt_finds_the_chances_that_labels_were_drawn_with() -> None:
    chance = np.random.default_rng(1)
    logits = chance.normal(size=20_000)
    cited = chance.random(20_000) < linear.sigmoid(1.7 * logits - 0.6)
    slope, intercept = linear.platt(logits, cited)
    assert math.isclose(slope, 1.7, abs_tol=0.1)
    assert math.isclose(intercept, -0.6, abs_tol=0.1)
    assert linear.platt(logits, np.ones(20_000, bool)) == (1.0, 0.0)
    split = np.array([-1.0, -1.0, 1.0, 1.0])
    assert all(map(math.isfinite, linear.platt(split, split > 0)))


@pytest.mark.promise("origin")
@pytest.mark.prove
def test_real_articles_cite_none_of_the_real_pages_and_the_rule_is_off(
    samples: Path, tmp_path: Path, proved: object
) -> None:
    wikipedia = Wikipedia.model_validate({"inputs": [str(samples / "wikipedia" / "*.bz2")], "share": 1})
    dumps = locate("wikipedia", wikipedia)
    articles = (one for task in split("wikipedia", dumps, wikipedia, 1 << 30) for one in read(task, dumps, wikipedia))
    cites = [
        url for one in articles if isinstance(one, Aside) and one.kind == "references" for url in one.value["urls"]
    ]
    pages = made_web.kept(made_web.records(samples / "commoncrawl" / "CC-REAL-dev-0000*.warc.gz"))
    counts, _ = web.run(tmp_path / "run", [(page, False) for page in pages], Reference(), also=cites)
    assert len(pages) == counts["captures"] > 500
    assert counts["cited"] > 5_000
    assert counts["matched"] == 0
    assert counts["off"].startswith(f"0 of {counts['pages']:,} pages are cited by Wikipedia")
    proved(f"real articles cite {counts['cited']:,} addresses, none of them of {counts['pages']:,} real pages")  # type: ignore[operator]
