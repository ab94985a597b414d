"""Every test keeps a promise, and the summary at the end tells which were kept, broken, or not tested at all."""

from __future__ import annotations

import itertools
import re
import sys
from pathlib import Path

import pytest

import promises
from promises import FILES, HELD_BY, PROMISES, WIDTH, Kept

pytest_plugins = ["pytester"]

TESTS = Path(__file__).parent
ROOT = TESTS.parent
MARKED = re.compile(r"mark\.promise\(\"(\w+)\"\)")
SECTION = re.compile(r"^## (\w+)\n\*\*(.+?)\*\*$(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)

EXAMPLE = """
import pytest

def test_passes(proved):
    proved("412 borders, 2060 trials")

def test_fails(proved):
    proved("a figure of a failed test")
    assert False

@pytest.mark.skip(reason="no lmplz here")
def test_skips():
    pass

@pytest.mark.promise("order")
@pytest.mark.parametrize("number", [1, 2])
def test_keeps_another(number, proved):
    proved("the same figure")

@pytest.fixture
def broken():
    yield
    raise OSError

@pytest.mark.promise("twins")
def test_fails_at_its_end(broken):
    pass
"""


@pytest.fixture(autouse=True)
def _no_other_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    """The runs within these tests load hypothesis anew each time otherwise, which takes a second."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")


@pytest.fixture(autouse=True)
def _no_other_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """The files made here bear names of real ones, which are imported already when all tests run."""
    for name in [name for name in sys.modules if name.startswith("test_")]:
        monkeypatch.delitem(sys.modules, name)


@pytest.fixture
def example(pytester: pytest.Pytester) -> pytest.Pytester:
    """Tests of the promises `resume`, by their file, `order` and `twins`, by their marks."""
    pytester.makeconftest('pytest_plugins = ["promises"]')
    pytester.makepyfile(test_steps=EXAMPLE)
    return pytester


def _held_by() -> dict[str, set[str]]:
    """Promise -> the test files that hold it, by the table or by a mark in them."""
    held: dict[str, set[str]] = {name: set() for name in PROMISES}
    for path in TESTS.glob("test_*.py"):
        marked = set(MARKED.findall(path.read_text("utf-8"))) if path != Path(__file__) else set()
        for name in {FILES.get(path.stem, ""), *marked} & PROMISES.keys():
            held[name].add(path.name)
    return held


def test_every_test_file_belongs_to_a_promise_that_there_is() -> None:
    there = {path.stem for path in TESTS.glob("test_*.py")}
    assert there - FILES.keys() == set(), "add them to HELD_BY in tests/promises.py"
    assert FILES.keys() - there == set(), "there is no such file; take it out of HELD_BY in tests/promises.py"
    assert len(FILES) == sum(len(names.split()) for names in HELD_BY.values()), "one is in two promises"
    assert HELD_BY.keys() <= PROMISES.keys()


def test_every_promise_has_tests_or_says_what_it_waits_for() -> None:
    for name, files in _held_by().items():
        assert bool(files) != bool(PROMISES[name].waits), name


def test_every_promise_is_one_line_of_the_summary() -> None:
    for name, promise in PROMISES.items():
        assert promises.INDENT + len(promise.statement) <= WIDTH, name
        assert len(name) <= promises.INDENT - 3


def test_the_document_of_promises_says_what_the_table_says() -> None:
    sections = {name: (said, rest) for name, said, rest in SECTION.findall((ROOT / "docs" / "promises.md").read_text())}
    assert {name: said for name, (said, _) in sections.items()} == {n: p.statement for n, p in PROMISES.items()}
    for name, files in _held_by().items():
        rest = sections[name][1]
        assert "\nNot promised: " in rest, name
        held = re.search(r"\nHeld by: (.*?)\n(?:\n|\Z)", rest, re.DOTALL)
        named = set(re.findall(r"`(test_\w+\.py)`", held[1])) if held else set()
        assert named == files, f"docs/promises.md, {name}: Held by: {', '.join(f'`{each}`' for each in sorted(files))}"


def _summary(run: pytest.RunResult) -> list[str]:
    lines = run.outlines
    assert all(len(line) <= WIDTH for line in lines[_title(lines) :])
    return [line.rstrip() for line in lines[_title(lines) + 1 :]]


def _title(lines: list[str]) -> int:
    return next(number for number, line in enumerate(lines) if re.fullmatch("=+ promises =+", line))


def test_the_summary_counts_and_names_what_each_promise_came_to(example: pytest.Pytester) -> None:
    found = "\n".join(re.sub(r" +\d+ s$", "", line) for line in _summary(example.runpytest_inprocess()))
    assert found.startswith(
        f"! resume    {PROMISES['resume'].statement}\n"
        "               1 passed    1 failed    1 skipped\n"
        "              412 borders, 2060 trials\n"
        "              FAILED  test_steps.py::test_fails\n"
        "              skipped 1: no lmplz here\n"
        f"  order     {PROMISES['order'].statement}\n"
        "               2 passed    0 failed    0 skipped\n"
        "              the same figure\n"
        f"! twins     {PROMISES['twins'].statement}\n"
        "               0 passed    1 failed    0 skipped\n"
        "              FAILED  test_steps.py::test_fails_at_its_end\n"
        "  No test chosen of: exports, alone, numbers, origin, honest, paper, formats, errors,"
    )


def test_tests_in_several_processes_are_told_as_those_in_one(
    example: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))  # where the processes find the plugin
    example.makeini("[pytest]\nmarkers = prove: slow")
    example.makepyfile(
        test_loss="import pytest\n\n@pytest.mark.prove\ndef test_slow():\n    pass\n\ndef test_quick():\n    pass",
        test_run="import pytest\npytest.skip('never here', allow_module_level=True)",
    )
    several = ("-p", "xdist.plugin", "--numprocesses", "2", "--dist", "loadfile")
    # pytest-xdist gives its processes the path that it was loaded with.
    told = [_summary(example.runpytest_subprocess("-m", "not prove", *options)) for options in ((), several)]
    one, two = (
        [re.sub(r" +\d+ s\b", "", line) for line in itertools.takewhile(lambda line: line[:1] != "=", lines)]
        for lines in told
    )
    assert two == one
    assert any(line.endswith("and 1 in make prove") for line in two)
    assert any("never here" in line for line in two)


@pytest.mark.parametrize("options", [(), ("-q",), ("-q", "-q"), ("-v",)])
def test_a_choice_of_tests_is_told_alone_at_any_verbosity(example: pytest.Pytester, options: tuple[str, ...]) -> None:
    found = _summary(example.runpytest_inprocess("-k", "another", *options))
    assert found[0].startswith("  order ")
    assert found[1].split()[:6] == ["2", "passed", "0", "failed", "0", "skipped"]
    assert found[3].startswith("  No test chosen of: resume, twins,")


def test_files_that_cannot_be_imported_skip_themselves_or_are_in_no_promise_are_told(
    pytester: pytest.Pytester,
) -> None:
    pytester.makeconftest('pytest_plugins = ["promises"]')
    pytester.makepyfile(
        test_cli="import nothing_of_that_name",
        test_run="import pytest\npytest.skip('never here', allow_module_level=True)",
        test_unknown="def test_one():\n    pass",
    )
    found = "\n".join(_summary(pytester.runpytest_inprocess("--continue-on-collection-errors")))
    assert "FAILED  test_cli.py" in found
    assert "skipped 1: never here" in found
    assert "In no promise yet: add the file to tests/promises.py.\n               1 passed" in found


def test_what_was_not_run_is_told(pytester: pytest.Pytester) -> None:
    pytester.makeconftest('pytest_plugins = ["promises"]')
    pytester.makepyfile(test_loss="def test_one():\n    assert False\n\ndef test_two():\n    pass")
    found = _summary(pytester.runpytest_inprocess("-x"))
    assert re.fullmatch(r" +0 passed +1 failed +0 skipped +\d+ s +1 not run", found[1])


def test_nothing_is_told_where_nothing_is_tested(example: pytest.Pytester) -> None:
    for options in (("--collect-only",), ("-k", "nothing")):
        example.runpytest_inprocess(*options).stdout.no_fnmatch_line("*promises*")


def test_a_mark_of_no_promise_is_refused_by_name(pytester: pytest.Pytester) -> None:
    pytester.makeconftest('pytest_plugins = ["promises"]')
    pytester.makepyfile("import pytest\n\n@pytest.mark.promise('resumes')\ndef test_one():\n    pass")
    run = pytester.runpytest_inprocess()
    assert run.ret == pytest.ExitCode.USAGE_ERROR
    run.stderr.fnmatch_lines(["*test_one: no promise is named 'resumes'; there are resume, order*"])


PROOFS = """
import pytest

def test_quick():
    pass

@pytest.mark.prove
def test_slow():
    pass
"""


def test_both_commands_tell_their_seconds_and_the_limit(pytester: pytest.Pytester) -> None:
    pytester.makeconftest('pytest_plugins = ["promises"]')
    pytester.makeini("[pytest]\ntestpaths = .\nmarkers = prove: slow")
    pytester.makepyfile(test_steps=PROOFS)
    runs = [_summary(pytester.runpytest_inprocess("-m", choice)) for choice in ("prove", "not prove", "prove")]
    assert runs[1][1].endswith(" s   and 1 in make prove")
    assert re.fullmatch(r"  make prove: \d+ s; with make test it may be 2700 s", runs[0][-2])
    assert re.fullmatch(r"  make test: \d+ s, limit 600 s", runs[1][-2])
    both = r"  make prove: \d+ s; with make test \(\d+ s when it last ran here\): \d+ s, limit 2700 s"
    assert re.fullmatch(both, runs[2][-2])
    chosen = _summary(pytester.runpytest_inprocess("-m", "not prove", "-k", "quick"))
    assert not any("make" in line for line in chosen)


def test_a_limit_that_was_passed_is_said() -> None:
    assert promises.taken("make test", 601, None) == "  make test: 601 s, limit 600 s, OVER THE LIMIT"
    assert promises.taken("make prove", 2105, 600).endswith(": 2705 s, limit 2700 s, OVER THE LIMIT")


def test_lines_of_any_length_and_number_fit_the_summary() -> None:
    kept = Kept({f"test_x.py::{number}" + "y" * 300: "failed" for number in range(9)})
    kept.figures.append("many words " * 30 + "\x1b[0m")
    kept.reasons["a reason " * 30] = 2
    lines = list(promises.told({"order": kept, "": kept}))
    assert all(len(line) <= WIDTH and line.isprintable() for line in lines)
    assert sum("FAILED" in line for line in lines) == 2 * 6
    assert sum(line.endswith("FAILED  and 4 more") for line in lines) == 2


def test_a_promise_of_which_no_test_passed_is_marked() -> None:
    marks = [next(promises.told({"order": Kept({"a": one, "b": "skipped"})}))[0] for one in ("skipped", "passed", "")]
    assert marks == ["?", " ", "?"]


@pytest.mark.parametrize(("required", "outcome"), [("", "skipped"), ("0", "skipped"), ("1", "errors")])
def test_a_test_without_its_samples_skips_and_says_so_or_fails_where_they_are_required(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, required: str, outcome: str
) -> None:
    monkeypatch.setenv("PUNA_REQUIRE_SAMPLES", required)
    monkeypatch.setenv("PUNA_SAMPLES", str(pytester.path / "none"))
    pytester.makeconftest((TESTS / "conftest.py").read_text("utf-8"))
    pytester.makepyfile(test_wikipedia="def test_real_dumps(samples):\n    pass")
    run = pytester.runpytest_inprocess()
    run.assert_outcomes(**{outcome: 1})
    reason = "set PUNA_SAMPLES to a folder that holds them"
    if outcome == "skipped":
        assert reason in " ".join(" ".join(_summary(run)).split())
    else:
        assert f"{reason} (PUNA_REQUIRE_SAMPLES is set)" in run.stdout.str()


def test_what_must_hold_before_a_change_lands_requires_the_samples() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    before, _, after = script.partition("export PUNA_REQUIRE_SAMPLES=1\n")
    assert "make" not in "\n".join(line for line in before.splitlines() if not line.startswith("#"))
    assert "PUNA_REQUIRE_SAMPLES" not in after
    assert [line for line in after.splitlines() if line.startswith("make ")] == [
        "make check",
        "make test",
        "make prove",
    ]
    assert after.endswith("\nmake check\nmake test\nmake prove\n")
