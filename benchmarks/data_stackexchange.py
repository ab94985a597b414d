"""How fast dumps of Stack Exchange are read: CPU seconds of one thread, from archives to shards of documents.

    python benchmarks/data_stackexchange.py [--json FILE] [--quick] [--samples FOLDER]

`stackexchange` is a task as the data step runs it: 7z unpacked, rows parsed, HTML to text, answers joined and sorted,
Parquet written with zstd and synced. `stackexchange_rows` is cutting and parsing rows alone, beside what lxml's
iterparse takes for the same bytes in the same run. Both are MB of Posts.xml a second: the median of several runs (of
three with `--quick`), over every archive below FOLDER/stackexchange (PUNA_SAMPLES when not given), each copied under
names of several sites, so that what a task costs beside its bytes weighs little.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lxml import etree

from form import metric
from puna.data.extract import extract
from puna.data.sources import Input, locate, split
from puna.data.stack import posts
from puna.data.stack.rows import BadRow, End, cut, fields
from puna.recipe import StackExchange

RUNS, QUICK_RUNS = 7, 3
COPIES, QUICK_COPIES = 5, 2
PEER = "lxml iterparse"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--quick", action="store_true", help="fewer runs")
    parser.add_argument("--samples", type=Path, help="folder of raw samples; PUNA_SAMPLES if unset")
    asked = parser.parse_args()
    samples = asked.samples or Path(os.environ.get("PUNA_SAMPLES", ""))
    if not (samples / "stackexchange").is_dir():
        sys.exit("name a folder that holds stackexchange/*.7z with --samples or PUNA_SAMPLES")
    result = stackexchange(samples, quick=asked.quick)
    for name, figure in result.items():
        print(f"{name:24} {figure['value']:9.1f} {figure['unit']}  {figure['peers']}")
    if asked.json:
        asked.json.write_text(json.dumps(result, indent=1) + "\n")


def stackexchange(samples: Path, *, quick: bool = False) -> dict[str, Any]:
    """The metrics of this script, by name."""
    with tempfile.TemporaryDirectory() as folder:
        for archive in sorted((samples / "stackexchange").glob("*.7z")):
            for number in range(QUICK_COPIES if quick else COPIES):
                shutil.copy(archive, Path(folder, f"copy{number}.{archive.name}"))
        return _measured(Path(folder), QUICK_RUNS if quick else RUNS)


def _measured(folder: Path, runs: int) -> dict[str, Any]:
    recipe = StackExchange.model_validate({"inputs": [str(folder)], "share": 1})
    inputs = locate("stackexchange", recipe)
    size = sum(posts.size(entry) or 0 for entry in inputs) / 1e6
    whole = [size / _seconds(lambda: _extract(inputs, recipe)) for _ in range(runs)]
    plain = [b"".join(_file(entry)) for entry in inputs]
    pairs = [(size / _seconds(lambda: _rows(plain)), size / _seconds(lambda: _iterparse(plain))) for _ in range(runs)]
    ours, peers = ([pair[index] for pair in pairs] for index in (0, 1))
    ratios = sorted(mine / other for mine, other in pairs)
    ratio = {PEER: {"median": statistics.median(ratios), "min": ratios[0], "max": ratios[-1]}}
    return {
        "stackexchange": metric(statistics.median(whole), "MB/s"),
        "stackexchange_rows": metric(
            statistics.median(ours), "MB/s", limit=40, peers={PEER: statistics.median(peers)}, ratio=ratio
        ),
    }


def _seconds(work: Callable[[], None]) -> float:
    """CPU seconds of this thread, so that what else the machine does costs less."""
    begun = time.thread_time()
    work()
    return time.thread_time() - begun


def _extract(inputs: list[Input], recipe: StackExchange) -> None:
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder, "work", "extract.stackexchange", "1")
        for task in split("stackexchange", inputs, recipe, 1 << 30):
            extract(inputs, recipe, 1 << 30, task, scratch)


def _file(entry: Input) -> list[bytes]:
    """The Posts.xml of a site in blocks."""
    return list(posts.blocks(entry))


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


METRICS: dict[str, Callable[[Path, bool], Any]] = {
    "stackexchange": lambda samples, quick: stackexchange(samples, quick=quick)
}

if __name__ == "__main__":
    main()
