"""What became of every record is told, adds up, and is shown by examples that no split of the work changes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from care_run import go, home, run
from puna import inspect, storage
from puna.errors import InputError
from puna.report import write

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
