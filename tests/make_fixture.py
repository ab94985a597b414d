"""Make a run that is kept for ever: what this version writes, so that every later one is held to read it.

    python tests/make_fixture.py run-1       writes tests/fixtures/run-1 and tests/fixtures/run-1.json

A released version's run is never made again: a version with another format adds the next number. With the same
versions of Python and its packages, on a processor of the same kind, the same bytes come out: clocks stand still, and
the machine's own names are left out. The text is made here (tiny.py), so it is nobody else's.

The JSON beside the run says what reading it must give: the documents, some windows, and the likeliest text.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch

import puna
import tiny
from puna import records, storage, workflow
from puna.tokens import Windows

FIXTURES = Path(__file__).with_name("fixtures")
NOT_KEPT = ("log.txt", "run.lock.guard", "run.lock.held")
LAST_CHANGE = 1_600_000_000  # of the dump, seconds since 1970
PROMPT = "City of "
TOKENS = 24  # that follow it, the likeliest each time
SAFE = 0.05  # logits by which the likeliest must lead, so that no processor's rounding (some 1e-6) takes another

RECIPE = """
name = "kept"
seed = 3

[sources.wikipedia]
inputs = ["dumps/*.xml.bz2"]
languages = ["en"]
share = 0.75

[sources.books]
share = 0.25

[data]
task_size = "8 KB"
shard_size = "8 KB"
partitions = 2

[heldout]
share = 0.2
minimum = "1 KB"

[tokenizer]
pieces = 320
sample = "100 KB"

[model]
dim = 8
heads = 2
layers = 2
multiple_of = 8

[train]
context = 16
batch = "128 tokens"
steps = 240
log_every = 12
learning_rate = 2e-2
warmup = "4 steps"
dtype = "float32"
compile = "off"
checkpoint_every = "120 steps"
keep = 1

[samples]
prompts = ["The ", "A star "]
tokens = 16
"""


def make(target: Path) -> None:
    """Run the recipe, take what is kept of the run to `target`, and write what reading it gives to TARGET.json."""
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        tiny.write(home, dumps=1, pages=13)
        (dump,) = (home / "dumps").iterdir()
        os.utime(dump, (LAST_CHANGE, LAST_CHANGE))
        (home / "kept.toml").write_text(RECIPE)
        here = Path.cwd()
        os.chdir(home)  # so that the recipe names its dumps from there, on any machine
        try:
            with _nothing_of_here():
                workflow.work("kept.toml", [], "run", None, workflow.Options(workers=1, threads=1))
        finally:
            os.chdir(here)
        for tasks in sorted((home / "run" / "work").iterdir()):
            records.clean(home / "run", tasks.name)
        _drop_times(home / "run")
        for each in NOT_KEPT:
            (home / "run" / each).unlink()
        (home / "run" / "work").rmdir()
        if (lead := _smallest_lead(home / "run")) < SAFE:
            sys.exit(f"the likeliest token after {PROMPT!r} leads by {lead:.4f} only: choose another prompt")
        shutil.copytree(home / "run", target)
    lines = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in reading(target).items()]
    target.with_suffix(".json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


def reading(run: Path) -> dict[str, Any]:
    """What the Python interface gives of a run."""
    windows = Windows(run)
    return {
        "documents": {each.id: storage.digest_bytes(each.text.encode()) for each in _all(run)},
        "windows": len(windows),
        "window": {str(i): puna.window(run, i).tolist() for i in (0, 1, len(windows) - 1)},
        "all_windows": storage.digest_bytes(windows.batch(0, len(windows)).astype("<i8").tobytes()),
        "prompt": PROMPT,
        "likeliest": puna.load(run).generate(PROMPT, tokens=TOKENS, temperature=0),
    }


def _all(run: Path) -> Iterator[Any]:
    return itertools.chain(puna.documents(run), puna.documents(run, heldout=True))


def _smallest_lead(run: Path) -> float:
    """By how many logits at least the likeliest token is ahead of the second, over the text that is kept."""
    generator = puna.load(run)
    ids = [generator.tokenizer.bos, *generator.tokenizer.encode(PROMPT)]
    leads = []
    for _ in range(TOKENS):
        found = torch.topk(generator.model.logits(torch.tensor([ids]))[0, -1], 2)
        leads.append(float(found.values[0] - found.values[1]))
        ids.append(int(found.indices[0]))
    return min(leads)


@contextmanager
def _nothing_of_here() -> Iterator[None]:
    """Clocks that stand still (that of the training ticks a hundredth a step), and a machine without a name."""
    ticks = (number / 100 for number in itertools.count())
    with ExitStack() as patched:
        patched.enter_context(mock.patch("time.monotonic", return_value=0.0))
        patched.enter_context(mock.patch("puna.train.loop.time.perf_counter", side_effect=lambda: next(ticks)))
        patched.enter_context(mock.patch("puna.train.machine.cpu_name", return_value="a processor"))
        patched.enter_context(mock.patch("puna.train.machine.platform.platform", return_value="a system"))
        patched.enter_context(mock.patch("puna.train.machine.compiler", return_value=""))
        patched.enter_context(mock.patch("puna.train.machine.usable_cpus", return_value=1))
        patched.enter_context(mock.patch("puna.train.machine.torch.cpu.get_capabilities", return_value={}))
        yield


def _drop_times(run: Path) -> None:
    """Leave no file's time in the records: a checkout gives every file another one anyway."""
    for path in sorted((run / "records").iterdir()):
        record = json.loads(path.read_bytes())
        for known in record["outputs"].values():
            known["modified"] = 0
        storage.write_json(path, record)


if __name__ == "__main__":
    (name,) = sys.argv[1:] or ("run-1",)
    if (FIXTURES / name).exists():
        sys.exit(f"{FIXTURES / name} is kept as it is: name the next one")
    make(FIXTURES / name)
    print(f"{FIXTURES / name}: {sum(storage.tree(FIXTURES / name).values()):,} bytes")
