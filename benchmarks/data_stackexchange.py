"""How fast dumps of Stack Exchange are read: CPU seconds of one thread, from archives to shards of documents.

`stackexchange` is a task as the data step runs it: 7z unpacked, rows parsed, HTML to text, answers joined and sorted,
Parquet written with zstd and synced. `stackexchange_rows` is cutting and parsing rows alone, beside what lxml's
iterparse takes for the same bytes. Both are MB of Posts.xml a second, over every archive of the samples, each copied
under names of several sites, so that what a task costs beside its bytes weighs little.
"""

from __future__ import annotations

import io
import shutil
import tempfile
from pathlib import Path
from typing import Any

from lxml import etree

from puna.data.sources import locate
from puna.data.stack import posts
from puna.data.stack.rows import BadRow, End, cut, fields
from puna.recipe import StackExchange
from turns import extraction, speeds

RUNS, QUICK_RUNS = 7, 3
COPIES, QUICK_COPIES = 5, 2


def stackexchange(samples: Path, quick: bool) -> dict[str, Any]:
    runs = QUICK_RUNS if quick else RUNS
    with tempfile.TemporaryDirectory() as folder:
        for archive in sorted((samples / "stackexchange").glob("*.7z")):
            for number in range(QUICK_COPIES if quick else COPIES):
                shutil.copy(archive, Path(folder, f"copy{number}.{archive.name}"))
        recipe = StackExchange.model_validate({"inputs": [folder], "share": 1})
        inputs = locate("stackexchange", recipe)
        size = sum(posts.size(entry) or 0 for entry in inputs)
        plain = [b"".join(posts.blocks(entry)) for entry in inputs]
        peers = {"lxml iterparse": lambda: _iterparse(plain)}
        return {
            "stackexchange": speeds(size, extraction("stackexchange", recipe, 1 << 30), rounds=runs),
            "stackexchange_rows": speeds(size, lambda: _rows(plain), peers, runs, 40),
        }


def _rows(files: list[bytes]) -> None:
    for data in files:
        blocks = (data[at : at + (1 << 18)] for at in range(0, len(data), 1 << 18))
        for row in cut(blocks, End()):
            if isinstance(row, BadRow):
                raise ValueError(row.reason)
            fields(row)


def _iterparse(files: list[bytes]) -> None:
    for data in files:
        for _, element in etree.iterparse(io.BytesIO(data), tag="row"):
            dict(element.attrib)
            element.clear()


METRICS = {"stackexchange": stackexchange}
