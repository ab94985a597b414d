"""A whole run in seconds: a made Wikipedia dump, Python sources of small packages, a tiny model."""

from __future__ import annotations

import bz2
import json
import os
import random
import subprocess
import sys
from pathlib import Path

from puna import storage

RECIPE = """
name = "tiny"
seed = 3

[sources.wikipedia]
inputs = ["dumps/*.xml.bz2"]
languages = ["en"]
share = 0.5

[sources.github]
inputs = ["package:markdown-it-py", "package:packaging", "package:mdurl", "package:pluggy"]
share = 0.5
heldout_groups = ["mdurl"]

[data]
task_size = "200 KB"
shard_size = "100 KB"
partitions = 3

[heldout]
share = 0.15
minimum = "4 KB"

[tokenizer]
pieces = 500
sample = "300 KB"

[model]
dim = 32
heads = 2
layers = 2
multiple_of = 16

[train]
context = 32
batch = "256 tokens"
steps = 24
learning_rate = 1e-2
warmup = "4 steps"
checkpoint_every = "7 steps"
save = "between"
compile = "off"

[samples]
prompts = ["The ", "def "]
tokens = 16
"""

PAGE = """  <page>
    <title>{title}</title>
    <ns>{ns}</ns>
    <id>{id}</id>
{redirect}    <revision>
      <id>{id}</id>
      <timestamp>2022-06-20T00:00:00Z</timestamp>
      <model>wikitext</model>
      <format>text/x-wiki</format>
      <text xml:space="preserve">{text}</text>
    </revision>
  </page>
"""
HEAD = '<mediawiki version="0.10" xml:lang="en">\n  <siteinfo><dbname>enwiki</dbname></siteinfo>\n'
WORDS = [
    "river", "city", "the", "of", "king", "star", "language", "number", "theory", "music", "island", "was", "in", "and",
    "born", "first", "war", "system", "species", "known", "a", "is", "to", "university", "north", "1905", "3", "ocean",
]  # fmt: skip


def write(folder: Path, *, dumps: int = 2, pages: int = 40) -> Path:
    """Write the recipe and its dumps into `folder`; return the recipe's path. Equal arguments give equal bytes."""
    (folder / "dumps").mkdir(parents=True)
    for dump in range(dumps):
        made = "".join(_page(dump * 1000 + number) for number in range(1, pages + 1))
        data = (HEAD + made + "</mediawiki>\n").encode()
        (folder / "dumps" / f"enwiki-{dump}-pages-articles.xml.bz2").write_bytes(bz2.compress(data))
    recipe = folder / "tiny.toml"
    recipe.write_text(RECIPE.replace("dumps/*", f"{folder.as_posix()}/dumps/*"))
    return recipe


def _page(number: int) -> str:
    # Every ninth article repeats the text of the one before it under another title: a duplicate to find.
    chance = random.Random(number - (number % 9 == 0))
    sentences = (" ".join(chance.choices(WORDS, k=chance.randint(5, 14))).capitalize() + "." for _ in range(40))
    text = f"'''Bold''' [[link|words]] {{{{cite|x}}}}\n== Part ==\n{' '.join(sentences)}\n[[Category:Made]]"
    redirect = ""
    if number % 11 == 0:
        redirect, text = '    <redirect title="Page 1" />\n', "#REDIRECT [[Page 1]]"
    return PAGE.format(title=f"Page {number}", ns=1 if number % 13 == 0 else 0, id=number, redirect=redirect, text=text)


def puna(*arguments: str | Path, cwd: Path | None = None, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    """Run the `puna` command."""
    command = [sys.executable, "-m", "puna.cli", *map(str, arguments)]
    environment = {**os.environ, "COLUMNS": "100"}
    return subprocess.run(
        command, capture_output=True, text=True, cwd=cwd, timeout=timeout, check=False, env=environment
    )


COLUMNS = ("step", "tokens", "loss", "learning_rate", "grad_norm", "skipped")  # of metrics.jsonl that are bit-stable
WEIGHTS = ("model.safetensors", "optimizer.safetensors", "config.json")  # files of a checkpoint that are


def stable(run: Path) -> dict[str, str]:
    """Digests of what promise 1 calls bit-stable: documents, tokenizer, token shards, windows, weights, losses."""
    patterns = ("documents/*/*", "heldout/*/*", "tokenizer/*", "tokens/*", "tokens/*/*", "evaluations/*")
    found = {
        path.relative_to(run).as_posix(): storage.digest(path)
        for pattern in patterns
        for path in sorted(run.glob(pattern))
        if path.is_file()
    }
    if steps := list(run.glob("checkpoints/step-*")):
        found |= {name: storage.digest(max(steps) / name) for name in WEIGHTS}
        found["losses"] = stable_columns((run / "metrics.jsonl").read_text())
    return found


def stable_columns(metrics: str | bytes) -> str:
    lines = [json.loads(line) for line in metrics.splitlines()]
    return json.dumps([[line[column] for column in COLUMNS] for line in lines if "loss" in line])
