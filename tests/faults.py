"""Faults at every border of durable bytes: what test_faults.py asks of the process that does the trials (warm.py).

A border is a call of `storage.border`: before or after a write, sync, rename, removal or upload. In a trial a command
meets a fault at border n, the next one is the same command without any, and what stands then is compared with what an
undisturbed run made. The recipe is the smallest one with every step in it.
"""

from __future__ import annotations

import bz2
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import tiny
import web_run
from object_store import ObjectStore

RECIPE = """
name = "tiniest"
seed = 3

[sources.wikipedia]
inputs = ["dump.xml.bz2"]
languages = ["en"]
share = 0.5
heldout_groups = ["1"]

[sources.github]
inputs = ["package:mdurl", "package:iniconfig"]
share = 0.5
heldout_groups = ["mdurl"]

[data]
task_size = "200 KB"
shard_size = "100 KB"
partitions = 1

[heldout]
share = 0.1
minimum = "1 KB"

[tokenizer]
pieces = 340
sample = "100 KB"

[model]
dim = 16
heads = 2
layers = 1
multiple_of = 16

[train]
context = 16
batch = "64 tokens"
steps = 5
learning_rate = 1e-2
warmup = "1 steps"
checkpoint_every = "2 steps"
save = "between"
keep = 1
compile = "off"

[evaluate]
context = 128
stride = 128
baselines = ["xz", "ngram", "uniform"]
ngram_order = 2

[samples]
prompts = ["The "]
tokens = 2
"""
PAGES = 8

# The same with every step that a recipe can ask for beside, on pages, books and benchmarks.
ASKED = (
    "sources.github=none",
    "sources.wikipedia.inputs=['dumps/*.bz2']",
    "sources.wikipedia.heldout_groups=['1']",
    "sources.commoncrawl.inputs=['pages/*.gz']",
    "sources.commoncrawl.share=0.3",
    "sources.commoncrawl.paragraphs=drop",
    "sources.commoncrawl.near=minhash",
    "sources.commoncrawl.languages=['en']",
    "sources.commoncrawl.perplexity_percentiles=[30, 60]",
    "sources.commoncrawl.min_reference_score=0.01",
    "sources.books.inputs=['books/*.txt']",
    "sources.books.share=0.2",
    "sources.books.max_containment=0.9",
    "heldout.share=0",
    "heldout.minimum=0",
    "lm.minimum=100",
    "lm.pieces=300",
    "lm.order=2",
    "reference.min_positives=3",
    "reference.bits=10",
    "decontaminate.benchmarks={boolq='boolq.jsonl'}",
)

KINDS = {
    "kill": "SIGKILL",
    "full": "ENOSPC at it and at every later write and sync: the disk stays full",
    "broken": "EIO",
    "stop": "SIGTERM",
    "power": "SIGKILL, and of the folder stays only what was synced",
}


class Border(NamedTuple):
    """One call of `storage.border`, with the run folder's own name taken out."""

    event: str
    location: str


@dataclass(frozen=True)
class Scenario:
    """Commands of a trial: `before` are done once and undisturbed, `faulted` meets the fault, `again` has to mend it.

    Each is what stands on the command line behind `puna run RECIPE` and the options that all trials share; one that
    begins with `data` or `clean` is `puna data RECIPE` or `puna clean`.
    """

    name: str
    before: tuple[tuple[str, ...], ...] = ()
    faulted: tuple[str, ...] = ()
    again: tuple[str, ...] = ()


@dataclass(frozen=True)
class Trial:
    """One fault and what came of it; `problem` is "" when every promise was kept."""

    kind: str
    number: int
    event: str
    location: str
    problem: str


def write(folder: Path) -> None:
    """Write the recipe and its dump into `folder`."""
    pages = "".join(tiny._page(number) for number in range(1, PAGES + 1))
    (folder / "dump.xml.bz2").write_bytes(bz2.compress((tiny.HEAD + pages + "</mediawiki>\n").encode()))
    (folder / "tiniest.toml").write_text(RECIPE)
    _write_asked(folder)


def _write_asked(folder: Path) -> None:
    """What ASKED reads: pages with a menu, of which an article cites the half; two books of which one holds the other;
    an item that a page holds."""
    chance = random.Random(2)
    made = {url: [web_run.MENU[0], *(web_run.sentence(chance) for _ in range(5))] for url in web_run.pages(16)}
    urls = sorted(made)
    asked = " ".join(chance.sample(web_run.WORDS, 12))
    made[urls[0]].append(asked)
    web_run.wet(folder, made, urls, 1)
    web_run.cite(folder, urls[::2], articles=4)
    book = "\n\n".join(web_run.line(chance) for _ in range(60))
    (folder / "books").mkdir()
    for name, text in {"one": book, "two": f"{book}\n\n{web_run.line(chance)}"}.items():
        (folder / "books" / f"{name}.txt").write_text(text)
    item = {"question": asked, "title": "T", "answer": True, "passage": web_run.line(chance)}
    (folder / "boolq.jsonl").write_text(f"{json.dumps(item)}\n")


class WarmParent:
    """The process that does the trials: `borders` lists those of a scenario, `sweep` has a fault at each of them."""

    def __init__(self, home: Path, store: ObjectStore | None = None) -> None:
        """home: an empty folder, of which every command is given. store: where run folders lie, if not in `home`."""
        write(home)
        (home / "tmp").mkdir()  # what a killed process leaves there goes with `home`
        self._borders: dict[Scenario, list[Border]] = {}
        surroundings = {**os.environ, **(store.environment if store else {}), "TMPDIR": str(home / "tmp")}
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("warm.py")), store.address if store else ""],
            cwd=home,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**surroundings, "COLUMNS": "100", "OMP_NUM_THREADS": "1"},
        )

    def __enter__(self) -> WarmParent:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if error:
            self._process.kill()
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()

    def borders(self, scenario: Scenario) -> list[Border]:
        """Every border of the command that is to be disturbed; the first call does what comes `before`."""
        if scenario not in self._borders:
            (found,) = self._ask(do="list", scenario=asdict(scenario))
            self._borders[scenario] = [Border(*one) for one in found["borders"]]
        return self._borders[scenario]

    def undisturbed(self, scenario: Scenario) -> list[Border]:
        """The borders of one run that meets no fault; what it made stays, in `NAME-undisturbed`."""
        (found,) = self._ask(do="undisturbed", scenario=asdict(scenario))
        return [Border(*one) for one in found["borders"]]

    def chain(self, scenario: Scenario, moments: Iterable[tuple[str, int]]) -> Iterator[Trial]:
        """One run that is killed at each of these moments and gone on with by the same command: at the border of that
        number (the first is 0) among those of a step's own files. A trial for each, and one for how it ended. Call
        `undisturbed` before."""
        for found in self._ask(do="chain", scenario=asdict(scenario), moments=list(moments)):
            yield Trial(**found)

    def sweep(self, scenario: Scenario, faults: Iterable[tuple[str, int]], *, jobs: int = 2) -> Iterator[Trial]:
        """A trial for each kind and number (the first border is 0), in the order in which they end."""
        for found in self._ask(do="sweep", scenario=asdict(scenario), faults=list(faults), jobs=jobs):
            yield Trial(**found)

    def states(self, scenario: Scenario, kind: str, *, first: int = 0, step: int = 1, jobs: int = 2) -> Iterator[Trial]:
        """A trial for each state, or each `step`-th of them, that a kill, or a power cut, can leave at any border; its
        number is the first border that leaves it. Call `borders` before."""
        plan = {"do": "states", "scenario": asdict(scenario), "kind": kind, "first": first, "step": step, "jobs": jobs}
        for found in self._ask(**plan):
            yield Trial(**found)

    def _ask(self, **plan: Any) -> Iterator[dict[str, Any]]:
        assert self._process.stdin
        assert self._process.stdout
        print(json.dumps(plan), file=self._process.stdin, flush=True)
        for line in self._process.stdout:
            if line == "end\n":
                return
            yield json.loads(line)
        raise AssertionError(f"the warm parent ended with status {self._process.wait()}; what it said stands above")
