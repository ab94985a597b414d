"""What the tests prove, promise by promise: the table of promises, and the pytest plugin that prints it at the end.

Each test file belongs to one promise (HELD_BY); `@pytest.mark.promise("name")` gives a single test another. A test may
leave a figure with the fixture `proved`, printed when it passes. `!` marks a promise with a failed test, `?` one
without a passed test; skips are printed with their reason, so that nothing passes unseen by being left out. What each
promise means, and what it does not, is in docs/promises.md.

With pytest-xdist tests run in several processes, and what they were is told to the one that prints: reports carry their
promise and figures as properties, and each process says at its end what it had chosen and what was left out.
"""

from __future__ import annotations

import textwrap
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import pytest


@dataclass(frozen=True)
class Promise:
    """One line of the summary. A promise without tests says in `waits` why there are none yet."""

    statement: str
    waits: str = ""


PROMISES = {
    "resume": Promise("Killed at any moment, the same command loses nothing finished and gives the same bytes."),
    "order": Promise("Any workers, any order of shards, any folder: the same documents, tokens and batches."),
    "twins": Promise("Every fast path has a slow, readable twin and a test that they agree."),
    "exports": Promise("Every export is reloaded and its logits compared before the command says done."),
    "alone": Promise("Nothing reaches the network unless asked; nothing from outside is unpickled or run."),
    "numbers": Promise("Every number in README and docs is one that a named command prints or a test holds."),
    "origin": Promise("Every record is kept with its origin, dropped by a named rule, or set aside and said."),
    "honest": Promise("Quality is measured on held-out text, beside strong baselines, and told as it is."),
    "paper": Promise("A recipe says all that a run does; model, optimizer and recipes are those of the paper."),
    "formats": Promise("What is written reads back the same; what is damaged or newer is refused by name."),
    "errors": Promise("What goes wrong is one line that says what, where and the mend, and a status."),
    "care": Promise("A run has one writer and harms no other file; it can be found, watched and cleaned."),
    "house": Promise("A module imports only what stands below it; importing puna loads nothing heavy."),
}

# Promise -> its test files, test_NAME.py each.
HELD_BY = {
    "resume": "around_training checkpoint cluster elastic faults fetch fetch_places fetch_store finetune gathering "
    "lora mesh proofs rank_faults ray remote saving spikes steps storage train whole_run",
    "order": "compiler dedup engine lines near permutation pieces planted web_path windows",
    "twins": "arxiv_pylatexenc arxiv_twins bootstrap decoding device evaluate_harness generate grams layer lid loss "
    "modes native overlap peers pipeline reference_twins serve serve_clients serve_text stack tensor vocabulary "
    "wiki_scan",
    "alone": "chat convert_hostile evaluate_alone fetch_benchmarks fetch_catalogues fetch_client outside "
    "perspective push_token sandbox sandbox_messages sandbox_proxies serve_guard serve_page",
    "exports": "convert convert_others finetune_chat publish push",
    "numbers": "cluster_examples docs examples paper plan plan_command plan_ranks planned_mesh readme site speed",
    "origin": "arxiv arxiv_hostile arxiv_titles books c4 code_forms code_text commoncrawl exclude finetune_choose "
    "finetune_examples "
    "fuzz github inputs inspect stack_damage stackexchange testsets testsets_traps trace warc wikipedia",
    "honest": "bits cloze "
    "cloze_run compression decontaminate evaluate evaluate_answers evaluate_chosen evaluate_others "
    "evaluate_kept evaluate_overlap evaluate_run evaluate_scorers evaluate_smollm evaluate_tables evaluate_tasks "
    "evaluate_watch evaluate_worked heldout judged language model_card ngram perplexity present "
    "references report report_beside "
    "report_compare report_figure2 report_law safety",
    "paper": "family mixture model recipe recipe_text schedule token_steps",
    "formats": "document formats shards tokenizer tokenizer_json weights",
    "errors": "cli fetch_command history meeting push_refusals talk",
    "care": "carbon care clean completion cost doctor doctor_machine doctor_ranks meter progress run "
    "serve_readers space",
    "house": "house promises ranks",
}
FILES = {f"test_{name}": promise for promise, names in HELD_BY.items() for name in names.split()}

WIDTH = 100
INDENT = 12  # columns before the text: two for the mark, ten for the name
SHOWN = 5  # failed tests named a promise; pytest names all of them below
LIMIT, LIMIT_OF_BOTH = 600, 2700  # seconds of `make test`, and of it with `make prove`; printed, and held by no test
SECONDS = "puna/seconds"  # where pytest's cache keeps what the last whole `make test` took


@pytest.fixture
def proved(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Leaves a figure for the summary of this test's promise, such as "fault sweep: 412 borders"."""
    return lambda figure: request.node.user_properties.append(("proved", figure))


@dataclass
class Kept:
    """What the tests of one promise came to."""

    outcomes: dict[str, str] = field(default_factory=dict)  # node id -> "", "passed", "failed" or "skipped"
    reasons: Counter[str] = field(default_factory=Counter)
    skipped_files: dict[str, str] = field(default_factory=dict)  # node id of a file that skips itself -> why
    figures: list[str] = field(default_factory=list)
    seconds: float = 0.0
    left_to_prove: int = 0

    def count(self, outcome: str) -> int:
        return list(self.outcomes.values()).count(outcome)


class Summary:
    """Collects what each test came to, and prints it promise by promise."""

    def __init__(self) -> None:
        self.begun = time.monotonic()
        self.tests: dict[str, Kept] = {}

    def pytest_itemcollected(self, item: pytest.Item) -> None:
        marker = item.get_closest_marker("promise")
        name = str(marker.args[0]) if marker else FILES.get(item.path.stem, "")
        if marker and name not in PROMISES:
            raise pytest.UsageError(f"{item.nodeid}: no promise is named {name!r}; there are {', '.join(PROMISES)}")
        item.user_properties.append(("promise", name))

    def pytest_deselected(self, items: Iterable[pytest.Item]) -> None:
        for item in items:
            option = item.config.option
            if item.get_closest_marker("prove") and option.markexpr == "not prove" and not option.keyword:
                self._of(item.user_properties).left_to_prove += 1

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        for item in session.items:
            self._of(item.user_properties).outcomes[item.nodeid] = ""

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A file that cannot be imported, or skips itself, is one test of its promise with that outcome."""
        if not report.passed:
            tests = self.tests.setdefault(FILES.get(PurePosixPath(report.nodeid).stem, ""), Kept())
            tests.outcomes[report.nodeid] = report.outcome
            if report.skipped:
                tests.skipped_files[report.nodeid] = _reason(report)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """In a process that others started to run tests for them: tell what was collected."""
        if hasattr(session.config, "workeroutput"):
            session.config.workeroutput["promises"] = {
                name: (list(tests.outcomes), tests.left_to_prove, tests.skipped_files)
                for name, tests in self.tests.items()
            }

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Each of these processes collects all tests; one that died tells nothing."""
        for name, (chosen, left, skipped) in getattr(node, "workeroutput", {}).get("promises", {}).items():
            tests = self.tests.setdefault(name, Kept())
            tests.outcomes = {**{each: "skipped" if each in skipped else "" for each in chosen}, **tests.outcomes}
            tests.left_to_prove = left
            tests.skipped_files |= skipped

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        tests = self._of(report.user_properties)
        tests.seconds += report.duration
        before = tests.outcomes.get(report.nodeid, "")
        if report.failed:
            tests.outcomes[report.nodeid] = "failed"
        elif report.skipped:
            tests.outcomes[report.nodeid] = "skipped"
            tests.reasons[_reason(report)] += 1
        elif report.when == "call":
            tests.outcomes[report.nodeid] = "passed"
        elif report.when == "teardown" and before == "passed":
            told = [str(value) for key, value in report.user_properties if key == "proved"]
            tests.figures += [figure for figure in dict.fromkeys(told) if figure not in tests.figures]

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(
        self, terminalreporter: pytest.TerminalReporter, exitstatus: int, config: pytest.Config
    ) -> None:
        if config.option.collectonly or not any(tests.outcomes for tests in self.tests.values()):
            return
        terminalreporter.write_sep("=", "promises", fullwidth=WIDTH)
        for line in [*told(self.tests), *self._times(config)]:
            terminalreporter.write_line(line)

    def _of(self, properties: Iterable[tuple[str, object]]) -> Kept:
        return self.tests.setdefault(str(dict(properties).get("promise", "")), Kept())

    def _times(self, config: pytest.Config) -> Iterator[str]:
        """What `make test` or `make prove` took, when this is one of them whole, and what it may take."""
        command = {"not prove": "make test", "prove": "make prove"}.get(config.option.markexpr)
        chosen = config.option.keyword or config.args_source is not pytest.Config.ArgsSource.TESTPATHS
        if not command or chosen or any("" in tests.outcomes.values() for tests in self.tests.values()):
            return
        took = time.monotonic() - self.begun
        cache = getattr(config, "cache", None)  # none with -p no:cacheprovider
        before = cache.get(SECONDS, None) if cache else None
        if command == "make test" and cache:
            cache.set(SECONDS, took)
        yield ""
        yield taken(command, took, before)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "promise(name): the promise that a test keeps, where it is not its file's")
    config.pluginmanager.register(Summary(), "puna-promises")


def told(found: Mapping[str, Kept]) -> Iterator[str]:
    """The lines of the summary: promises that tests were chosen of, then those that none was chosen of."""
    for name in [*PROMISES, ""]:
        tests = found.get(name, Kept())
        if not tests.outcomes:
            continue
        failed = sorted(each for each, outcome in tests.outcomes.items() if outcome == "failed")
        statement = PROMISES[name].statement if name else "In no promise yet: add the file to tests/promises.py."
        mark = "!" if failed else " " if tests.count("passed") else "?"
        yield f"{mark} {name:<{INDENT - 2}}{statement}"
        counts = f"{tests.count('passed'):4} passed {len(failed):4} failed {tests.count('skipped'):4} skipped"
        not_run = tests.count("")
        more = f"   {not_run} not run" if not_run else ""
        more += f"   and {tests.left_to_prove} in make prove" if tests.left_to_prove else ""
        yield f"{'':{INDENT}}{counts} {tests.seconds:6.0f} s{more}"
        for figure in tests.figures:
            yield from _wrapped(figure)
        for each in failed[:SHOWN]:
            yield from _wrapped(f"FAILED  {each}")
        if len(failed) > SHOWN:
            yield from _wrapped(f"FAILED  and {len(failed) - SHOWN} more")
        for reason, times in sorted((tests.reasons + Counter(tests.skipped_files.values())).items()):
            yield from _wrapped(f"skipped {times}: {reason}")
    silent = [name for name in PROMISES if not found.get(name, Kept()).outcomes]
    if silent:
        names = (f"{name} ({PROMISES[name].waits})" if PROMISES[name].waits else name for name in silent)
        yield from textwrap.wrap(f"  No test chosen of: {', '.join(names)}.", WIDTH, subsequent_indent="  ")


def taken(command: str, took: float, before: float | None) -> str:
    """Seconds and limit. `before`: what the last whole `make test` took here, if it is known."""
    said, seconds, limit = f"  {command}: {took:.0f} s", took, LIMIT
    if command == "make prove":
        if before is None:
            return f"{said}; with make test it may be {LIMIT_OF_BOTH} s"
        seconds, limit = took + before, LIMIT_OF_BOTH
        said += f"; with make test ({before:.0f} s when it last ran here): {seconds:.0f} s"
    return f"{said}, limit {limit} s" + (", OVER THE LIMIT" if seconds > limit else "")


def _wrapped(text: str) -> list[str]:
    indent = " " * (INDENT + 2)
    plain = "".join(character if character.isprintable() else " " for character in text)
    return textwrap.wrap(plain, WIDTH, initial_indent=indent, subsequent_indent=indent + "  ", break_on_hyphens=False)


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    return str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr).removeprefix("Skipped: ")
