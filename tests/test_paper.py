"""The paper's ledger: every name in it is alive, no figure is without a result, and what `puna paper` tells of it."""

from __future__ import annotations

import ast
import datetime
import functools
import importlib.util
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st

import typed
from puna import cli, recipe
from puna.errors import InputError
from puna.paper import results
from puna.paper.ledger import STATUSES, Claim, chosen, ledger
from puna.paper.results import read
from puna.paper.screen import WIDTH, Account

ROOT = Path(__file__).parents[1]
HOUSE = ROOT / "src" / "puna"
LEDGER = ledger()
CLAIMS = LEDGER.claims
GROUP: Any = typer.main.get_command(cli.app)
TODAY = datetime.date(2030, 1, 1)
SECTIONS = [*"12345678", *(f"2.{n}" for n in range(1, 5)), *(f"3.{n}" for n in range(1, 8))]
SECTIONS += [*(f"5.{n}" for n in range(1, 5)), *"ABCD"]
PARTS = {*SECTIONS, *(f"Table {n}" for n in range(1, 17)), *(f"Figure {n}" for n in range(1, 4))}
FREE_NUMBER = re.compile(r"(?<![\w.-])\d[\d.,]*(?!\w)")  # 7B, GPT-3 and A100-80GB are names
GOOD = {
    "format": 1, "name": "x", "command": "puna plan", "commit": "a" * 40, "machine": {"cores": 2},
    "date": "2029-12-31T23:00:00+00:00", "seconds": 1.5, "figures": {"days": 21}, "sources": {},
}  # fmt: skip


def _name(claim: Claim) -> str:
    return f"{claim.section}: {claim.claim[:40]}"


@pytest.fixture(params=CLAIMS, ids=_name)
def claim(request: pytest.FixtureRequest) -> Claim:
    return request.param  # type: ignore[no-any-return]


def test_every_section_table_and_figure_of_the_paper_has_a_claim() -> None:
    assert set(LEDGER.titles) == {claim.section for claim in CLAIMS} == PARTS
    order = list(LEDGER.titles)
    assert [claim.section for claim in CLAIMS] == sorted((claim.section for claim in CLAIMS), key=order.index)
    said = [(claim.section, claim.claim) for claim in CLAIMS]
    assert len(said) == len(set(said))


def test_a_claim_is_whole_and_its_status_is_what_it_says(claim: Claim) -> None:
    assert claim.status in STATUSES
    assert claim.module
    assert claim.test
    assert bool(claim.figure) == bool(claim.result)
    assert claim.status != "needs a cluster" or claim.estimate in LEDGER.estimates
    assert not claim.estimate or claim.status == "needs a cluster"
    assert claim.status != "needs others" or claim.note
    assert not FREE_NUMBER.search(re.sub(r"\{[^}]*\}", "", claim.figure)), "a figure is read, never typed"


def test_what_does_a_claim_and_what_holds_it_is_there(claim: Claim) -> None:
    lost = [module for module in claim.module if not (HOUSE / module).is_file()]
    assert not lost
    for test in claim.test:
        file, _, name = test.partition("::")
        assert file in _functions(), test
        assert not name or name in _functions()[file], test


def test_a_claim_s_page_and_anchor_are_there(claim: Claim) -> None:
    if claim.docs:
        file, _, anchor = claim.docs.partition("#")
        headings = re.findall(r"^#+ +(.*)$", (ROOT / "docs" / file).read_text("utf-8"), re.MULTILINE)
        anchors = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
        assert not anchor or anchor in anchors


@pytest.mark.parametrize("command", sorted({each.command for each in (*CLAIMS, *LEDGER.recorded.values())}))
def test_a_command_can_be_typed(command: str) -> None:
    program, *words = shlex.split(command)
    if program == "puna":
        group, name = GROUP, words.pop(0)
        while hasattr(group, "commands") and hasattr(group.commands[name], "commands"):
            group, name = group.commands[name], words.pop(0)
        group.commands[name].make_context(name, list(words))
        if name in ("run", "data", "tokenizer"):
            assert words[0] in recipe.names()
    elif program == "python":
        assert (ROOT / words[0]).is_file()
    else:
        assert program == "pytest"
        for path in (word for word in words if word.startswith("tests/")):
            file, _, test = path.removeprefix("tests/").partition("::")
            assert not test or test in _functions()[file], path
            assert file in _functions(), path


@functools.cache
def _functions() -> dict[str, set[str]]:
    """Test file to the functions in it."""
    return {
        path.name: {
            node.name for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.FunctionDef)
        }
        for path in (ROOT / "tests").glob("test_*.py")
    }


def test_every_figure_is_of_a_result_that_was_recorded_and_every_result_is_used() -> None:
    used = {claim.result for claim in CLAIMS} | {estimate.result for estimate in LEDGER.estimates.values()}
    there = {path.stem for path in (HOUSE / "paper" / "results").iterdir()}
    assert used - {""} == set(LEDGER.recorded) == there
    assert {claim.estimate for claim in CLAIMS} - {""} == set(LEDGER.estimates)


@pytest.mark.parametrize("name", LEDGER.recorded)
def test_a_result_is_of_the_command_and_holds_the_figures_that_the_ledger_names(name: str) -> None:
    found, recorded = read(name), LEDGER.recorded[name]
    assert found.command == recorded.command
    assert found.figures.keys() == recorded.json.keys() | recorded.line.keys()
    assert found.sources.keys() == set(recorded.sources)
    assert all(results.digest(source) for source in recorded.sources), "it follows from what is not there"
    assert found.machine.keys() >= {"processor", "cores", "memory_bytes", "python"}
    shown = [claim.figure for claim in CLAIMS if claim.result == name]
    shown += [estimate.figure for estimate in LEDGER.estimates.values() if estimate.result == name]
    asked = {figure for text in shown for figure in re.findall(r"\{(\w+)", text)}
    assert asked <= found.figures.keys()


def test_figures_of_the_paper_s_own_numbers_are_what_they_still_give() -> None:
    """So that a result of `benchmarks/paper.py` cannot be of other tables than those that are installed."""
    spec = importlib.util.spec_from_file_location("paper_numbers", ROOT / "benchmarks" / "paper.py")
    assert spec is not None
    assert spec.loader is not None
    numbers = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        spec.loader.exec_module(numbers)
    finally:
        sys.path.pop(0)
    made = {**numbers.data(), **numbers.efficiency(), **numbers.comparisons(), **numbers.carbon()}
    for figure, place in LEDGER.recorded["numbers"].json.items():
        assert read("numbers").figures[figure] == pytest.approx(made[place.removesuffix("/value")]["value"]), figure


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["2.4"], ["2.4"]),
        (["2"], ["2", "2.1", "2.2", "2.3", "2.4"]),
        (["b"], ["B"]),
        (["table", "15", "2.4"], ["2.4", "Table 15"]),
        (["Table1"], ["Table 1"]),
        (["figures"], ["Figure 1", "Figure 2", "Figure 3"]),
    ],
)
def test_parts_of_the_paper_are_chosen_as_they_are_called(words: list[str], parts: list[str]) -> None:
    assert chosen(words, LEDGER.titles) == parts


@given(st.lists(st.text(max_size=8), min_size=1, max_size=3))
@settings(deadline=None, max_examples=100)
def test_any_words_choose_parts_or_are_refused_in_one_line(words: list[str]) -> None:
    told = ""
    try:
        assert set(chosen(words, LEDGER.titles)) <= PARTS
    except InputError as error:
        told = str(error)
    assert "\n" not in told


def test_the_screen_fits_80_columns_and_tells_every_claim_and_age() -> None:
    account = Account(LEDGER, CLAIMS, TODAY)
    for whole in (False, True):
        lines = account.as_text(whole).splitlines()
        assert max(map(len, lines)) <= WIDTH
        told = " ".join(" ".join(lines).split())
        for each in CLAIMS:
            assert " ".join(each.claim.split()) in told
            assert account.figure(each) in told
            assert account.estimate(each) in told
    age = (TODAY - read("plans").date).days
    assert f"plans, {read('plans').date.isoformat()}, {age} days old, at {read('plans').commit[:10]}" in told
    assert f"{len(CLAIMS)} claims: " in told


def test_a_figure_of_other_code_than_this_is_told_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = {**GOOD, "sources": {"errors.py": "0" * 16, "paper/results.py": results.digest("paper/results.py")}}
    (tmp_path / "x.json").write_text(json.dumps(made))
    found = read("x", tmp_path)
    assert found.changed() == ["errors.py"]
    claim = replace(CLAIMS[0], result="x", figure="{days} days", estimate="", status="shown")
    account = Account(LEDGER, [claim], TODAY, tmp_path)
    told = " ".join(account.as_text().split())
    assert "= 21 days" in told
    assert "1 claim: 1 shown. Figures from 1 result file, 1 day old at most" in told
    assert "2029-12-31, 1 day old, at aaaaaaaaaa; changed since: errors.py" in told
    assert "1 of them from before a change of their code" in told
    (row,) = account.as_json()["claims"]
    assert (row["figure"], row["result"]["age_days"], row["result"]["changed"]) == ("21 days", 1, ["errors.py"])


DAMAGE: dict[str, Callable[[], bytes]] = {
    "empty": lambda: b"",
    "cut": lambda: json.dumps(GOOD).encode()[:-9],
    "no object": lambda: b"[1]",
    "deep": lambda: b"[" * 90_000,
    "large": lambda: b" " * 200_000,
    "not utf-8": lambda: b'{"format": 1, "name": "\xff"}',
    "newer": lambda: json.dumps({**GOOD, "format": 2}).encode(),
    "another name": lambda: json.dumps({**GOOD, "name": "y"}).encode(),
    "no commit": lambda: json.dumps({**GOOD, "commit": "HEAD"}).encode(),
    "no figures": lambda: json.dumps({**GOOD, "figures": {}}).encode(),
    "text for a figure": lambda: json.dumps({**GOOD, "figures": {"days": "21"}}).encode(),
    "truth for a figure": lambda: json.dumps({**GOOD, "figures": {"days": True}}).encode(),
    "nan": lambda: json.dumps({**GOOD, "figures": {"days": float("nan")}}).encode(),
    "huge": lambda: json.dumps({**GOOD, "figures": {"days": 10**400}}).encode(),
    "a date that is none": lambda: json.dumps({**GOOD, "date": "yesterday"}).encode(),
    "two lines": lambda: json.dumps({**GOOD, "command": "puna\n\x1b[31mrm"}).encode(),
    "a machine of two lines": lambda: json.dumps({**GOOD, "machine": {"processor": "a\x1b[2J\nb"}}).encode(),
    "a key is missing": lambda: json.dumps({key: GOOD[key] for key in GOOD if key != "sources"}).encode(),
}


@pytest.mark.promise("errors")
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_result_is_one_line_with_its_mend(damage: str, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_bytes(DAMAGE[damage]())
    with pytest.raises(InputError) as caught:
        read("x", tmp_path)
    told = str(caught.value)
    assert told.startswith("results/x.json: ")
    assert told.isprintable()
    assert len(told) < 300
    assert "benchmarks/record.py x" in told or "update puna" in told


@pytest.mark.promise("errors")
def test_a_result_that_is_missing_or_lacks_a_figure_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"results/x.json: no result can be read .*; python benchmarks/record.py x"):
        read("x", tmp_path)
    (tmp_path / "x.json").write_text(json.dumps(GOOD))
    with pytest.raises(InputError, match=r"results/x.json: does not fit the text .*KeyError"):
        results.filled("{nights}", read("x", tmp_path))


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda each: st.dictionaries(st.sampled_from(sorted(GOOD)), each) | st.lists(each),
        max_leaves=9,
    )
)
@settings(deadline=None, max_examples=60)
def test_any_json_is_a_result_or_refused(tmp_path_factory: pytest.TempPathFactory, value: Any) -> None:
    folder = tmp_path_factory.mktemp("results")
    (folder / "x.json").write_text(json.dumps(value))
    with pytest.raises(InputError):
        read("x", folder)


def test_the_command_prints_claims_and_json(capsys: pytest.CaptureFixture[str]) -> None:
    status, told, errors = typed.said(capsys, "paper", "--json")
    assert (status, errors) == (0, "")
    found = json.loads(told)
    assert len(found["claims"]) == len(CLAIMS) == sum(found["counts"].values())
    for row in found["claims"]:
        assert row.keys() >= {"section", "claim", "module", "test", "command", "figure", "status"}
        assert row["module"]
        assert row["test"]
        assert row["command"]
        assert row["status"] != "needs a cluster" or "days" in row["estimate"]
        if row["figure"]:
            assert row["result"].keys() >= {"command", "commit", "machine", "date", "age_days", "changed"}
    status, told, _ = typed.said(capsys, "paper", "2.4", "table", "15")
    assert status == 0
    assert "$ puna plan llama-65b --gpus 2048" in told
    assert not re.search(r"^3\.1  ", told, re.MULTILINE)
    status, told, _ = typed.said(capsys, "paper", "--open")
    assert status == 0
    assert not re.search(r"^  (shown|recomputed)  ", told, re.MULTILINE)
    status, _, errors = typed.said(capsys, "paper", "")
    assert (status, errors) == (2, "error: PART is empty; is a variable of the shell unset?\n")
    status, _, errors = typed.said(capsys, "paper", "table", "17")
    assert status == 2
    assert errors.startswith('error: the paper has no "Table 17"; ')


def test_the_command_loads_nothing_heavy() -> None:
    code = """
import sys
sys.argv = ["puna", "paper"]
from puna import cli
try:
    cli.main()
except SystemExit as end:
    assert end.code == 0
heavy = {"torch", "numpy", "pyarrow", "matplotlib", "puna.recipe", "fsspec", "rich.table"}
print(sorted(heavy & set(sys.modules)), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"
    assert "claims: " in done.stdout
