"""A run whose pages are planted: what repeats, and what does not, is known line by line."""

from __future__ import annotations

import bz2
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import puna
import tiny
from made_web import record, write, zipped
from puna import storage, workflow
from puna.workflow import Options

WORDS = [
    "river", "city", "the", "of", "king", "star", "language", "number", "theory", "music", "island", "was", "in",
    "and", "born", "first", "war", "system", "species", "known", "university", "north", "ocean", "bridge", "letter",
    "engine", "garden", "winter", "paper", "copper", "signal", "harbour", "moral", "silent",
]  # fmt: skip
SUBJECTS = ["old city", "river", "young king", "university", "small island", "war", "engine", "winter garden", "system"]
VERBS = ["was built near", "is known for", "came from", "stands beside", "was born in", "belongs to"]
ENDS = ["in the north of the country", "and many people live there", "because of its history", "for a long time"]
MENU = ["Home | About | Contact", "All rights reserved 2019", "Subscribe to our newsletter today"]
UNTRAINED = """
[model]
dim = 32
heads = 2
layers = 2

[train]
context = 32
batch = "256 tokens"
steps = 4
learning_rate = 1e-2
save = "between"
"""
RECIPE = """
name = "web-path"
seed = 3

[sources.commoncrawl]
inputs = ["pages/*.wet.gz"]
share = 1
{keys}

{more}

[data]
task_size = "{task}"
shard_size = "{shard}"
partitions = 3

[heldout]
share = 0.1
"""


def line(chance: random.Random) -> str:
    """A line that no other has."""
    return " ".join([*chance.choices(WORDS, k=chance.randint(12, 30)), f"{chance.getrandbits(64):016x}"])


def sentence(chance: random.Random) -> str:
    """A line of English, made of parts in their order."""
    one, other = chance.choice(SUBJECTS), chance.choice(SUBJECTS)
    return f"The {one} {chance.choice(VERBS)} the {other} {chance.choice(ENDS)}."


def pages(count: int, seed: int = 1) -> dict[str, list[str]]:
    """Lines of each page, by URL."""
    chance = random.Random(seed)
    return {f"https://www.site{n}.org/page": [line(chance) for _ in range(6)] for n in range(count)}


def wet(folder: Path, texts: Mapping[str, Sequence[str]], order: Sequence[str], files: int) -> None:
    """Write the pages in this order into so many WET files, which stand in a folder of their own."""
    numbers = {url: number for number, url in enumerate(sorted(texts))}
    for file in range(files):
        made = [
            record(
                numbers[url],
                "\n".join(texts[url]).encode(),
                kind="conversion",
                WARC_Target_URI=url,
                Content_Type="text/plain",
            )
            for url in order[file::files]
        ]
        write(folder / "pages", "CC-MAIN-0.warc.wet.gz" if files == 1 else f"CC-MAIN-{file}.warc.wet.gz", zipped(*made))


def cite(folder: Path, urls: Sequence[str], articles: int = 3) -> str:
    """Write a Wikipedia that cites these pages; the tables of a recipe that reads it."""
    cited = "".join(f"A fact.&lt;ref>[{url} page]&lt;/ref> " for url in urls)
    chance = random.Random(9)
    texts = ["\n".join(sentence(chance) for _ in range(9)) + cited for _ in range(articles)]
    made = [
        tiny.PAGE.format(title=f"Page {n}", ns=0, id=n, redirect="", text=text) for n, text in enumerate(texts, start=1)
    ]
    dump = (tiny.HEAD + "".join(made) + "</mediawiki>\n").encode()
    write(folder / "dumps", "enwiki-1-pages-articles.xml.bz2", bz2.compress(dump))
    inputs = f'inputs = ["{folder.as_posix()}/dumps/*.bz2"]'
    return f'[sources.wikipedia]\n{inputs}\nlanguages = ["en"]\nshare = 1\n'


def run(
    folder: Path,
    keys: str,
    *overrides: str,
    more: str = "",
    task: str = "1 MB",
    shard: str = "1 MB",
    workers: int = 1,
) -> Path:
    """The data steps of a recipe in `folder`; the run folder."""
    recipe = folder / "web.toml"
    written = (RECIPE + UNTRAINED).format(keys=keys, more=more, task=task, shard=shard)
    recipe.write_text(written.replace('"pages/', f'"{folder.as_posix()}/pages/'))
    workflow.work(str(recipe), overrides, str(folder / "run"), "documents", Options(workers=workers))
    return folder / "run"


def texts(run: Path) -> dict[str, str]:
    """The text of every document, held out or not, by URL."""
    found = {}
    for heldout in (False, True):
        found |= {one.origin.url: one.text for one in puna.documents(run, heldout=heldout)}
    return found


def counts(run: Path, step: str) -> Any:
    return storage.read_json(run / "records" / f"{step}.json")["counts"]
