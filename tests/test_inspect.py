"""What became of every record is told, adds up, and is shown by examples that no split of the work changes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import web_run as web
from care_run import go, home, run
from puna import inspect, storage
from puna.errors import InputError
from puna.report import write
from report_run import quality_records, record

__all__ = ["home", "run"]  # fixtures


def test_every_record_is_in_the_funnel_once(run: Path) -> None:
    for funnel in inspect.funnels(str(run)):
        dropped = sum(rule["documents"] for rule in funnel.rules.values())
        assert funnel.records == dropped + funnel.kept["documents"] + funnel.set_aside["count"]
        ends = [*funnel.later.values(), *funnel.left.values()]
        assert funnel.kept["documents"] == sum(part["documents"] for part in ends)
        told = funnel.as_text()
        for rule, found in funnel.rules.items():
            assert f"- {rule}" in told
            assert len(found["examples"]) == min(5, found["documents"])
            assert all(example["file"] or example["key"] for example in found["examples"])
        assert all(example["url"] for example in funnel.kept["examples"] if funnel.source == "wikipedia")
        json.dumps(funnel.as_json())


def test_examples_do_not_depend_on_how_the_work_is_split(run: Path, home: Path) -> None:
    before = [funnel.as_json() for funnel in inspect.funnels(str(run))]
    go(home, run, "data.task_size=1 KB", target="documents")
    for one, other in zip(before, inspect.funnels(str(run)), strict=True):
        assert one["kept"]["examples"] == other.kept["examples"]
        names = {rule: [example["key"] for example in found["examples"]] for rule, found in one["dropped"].items()}
        assert names == {rule: [e["key"] for e in found["examples"]] for rule, found in other.rules.items()}


def test_what_a_run_does_not_have_is_said(run: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no source 'arxiv'; it has github, wikipedia"):
        inspect.funnels(str(run), "arxiv")
    with pytest.raises(InputError, match="holds nothing that was extracted yet; puna data RECIPE does it"):
        inspect.funnels(str(tmp_path))
    path = run / "records" / "extract.wikipedia.json"
    record = storage.read_json(path)
    del record["counts"]["kept"]
    path.write_text(json.dumps(record))
    with pytest.raises(InputError, match=r"extract\.wikipedia\.json: is damaged; puna data RECIPE mends it"):
        inspect.funnels(str(run), "wikipedia")


def test_the_report_shows_the_same_examples(run: Path) -> None:
    write(run)
    page = (run / "report.html").read_text()
    for funnel in inspect.funnels(str(run)):
        assert f"Examples of {funnel.source}, by rule" in page
        assert all(f"dropped by {rule}" in page for rule in funnel.rules)


def test_bytes_of_repeated_lines_stand_in_the_funnel_and_add_up(tmp_path: Path) -> None:
    made = web.pages(20)
    for number, url in enumerate(sorted(made)):
        made[url] = [web.MENU[number % 2], *made[url]]
    web.wet(tmp_path, made, sorted(made), 1)
    folder = web.run(tmp_path, 'paragraphs = "drop"')
    (funnel,) = inspect.funnels(str(folder))
    ends = sum(part["bytes"] for part in [*funnel.later.values(), *funnel.left.values()])
    assert funnel.kept["bytes"] - funnel.quality["lines"]["gone"]["bytes"] == ends
    assert funnel.quality["lines"]["gone"]["lines"] == 20
    told = funnel.as_text()
    assert "- repeated lines, cut from" in told
    assert "repeated lines: 20 of 140; 0 pages have none left" in told
    assert "10  home | about | contact" in told
    write(folder)
    assert "home | about | contact" in (folder / "report.html").read_text()
    again = web.run(tmp_path, 'paragraphs = "drop"', 'data.exclude=["nowhere.example"]')
    assert "home | about" not in inspect.funnels(str(again))[0].as_text()


@pytest.mark.parametrize("odd", [None, [], 3, "x", {"gone": 3, "examples": 4}, {"en": "x", "languages": {"en": []}}])
def test_what_quality_was_decided_on_is_told_whatever_a_record_holds(run: Path, odd: object) -> None:
    extracted = storage.read_json(run / "records" / "extract.wikipedia.json")["produced"]
    made = {one["step"].replace("commoncrawl", "wikipedia"): one["counts"] for one in quality_records()}
    made["near.wikipedia"] = made.pop("near.books")

    def write_records(counts: dict[str, object]) -> str:
        for step, counted in counts.items():
            value = record(step, counted) | {"inputs": {"extract.wikipedia": extracted}, "version": 1}
            (run / "records" / f"{step}.json").write_text(json.dumps(value))
        (funnel,) = inspect.funnels(str(run), "wikipedia")
        json.dumps(funnel.as_json())
        return funnel.as_text()

    told = write_records(made)
    for line in (
        "near duplicates: 4 groups, by 31 pairs that were measured",
        "languages: en 8,000, fr 988, none told 12",
        "perplexity of en: head up to 280, middle up to 512",
        "classifier of cited pages: average precision 0.812, of guessing 0.500, on hosts that it never saw",
        "shared with boolq: 3 documents, and 4 what it only quotes",
    ):
        assert line in told
    assert "wikipedia: " in write_records(dict.fromkeys(made, odd))
