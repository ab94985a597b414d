"""How fast each source is read, from its dump to Parquet, and how well: figures of ours beside those of peers.

    python benchmarks/data_sources.py [NAME ...] [--json FILE] [--quick] [--samples FOLDER]

One thread each, reader and Parquet writer included; MB of uncompressed input a second of one core. Peers run in turn
with ours in the same process, so the ratios hold where single figures do not. A peer that is not installed is left out,
and said. `--quick` ends within a minute. Real dumps come from where the tests find them.

Each of FILES beside this one has a table METRICS: name -> function of (folder of samples, quick) that gives a figure in
the form of form.py, or several by name.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tests")]
FILES = ("data_arxiv", "data_code", "data_stackexchange", "data_web", "data_wikipedia")


def registry() -> dict[str, Callable[[Path, bool], dict[str, Any]]]:
    found: dict[str, Callable[[Path, bool], dict[str, Any]]] = {}
    for file in FILES:
        found |= importlib.import_module(file).METRICS
    return found


def main() -> None:
    from conftest import SHARED

    metrics = registry()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="*", help=f"of {', '.join(metrics)}; all without one")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--quick", action="store_true", help="less input and fewer rounds, within a minute")
    samples = Path(os.environ.get("PUNA_SAMPLES") or SHARED / "raw")
    parser.add_argument("--samples", type=Path, default=samples, help="folder of real dumps, one folder a source")
    asked = parser.parse_args()
    unknown = set(asked.name) - set(metrics)
    if unknown:
        parser.error(f"no figure is named {', '.join(sorted(unknown))}; there are {', '.join(metrics)}")
    result = {}
    for name in asked.name or metrics:
        found = metrics[name](asked.samples, asked.quick)
        for each, figure in (found if "value" not in found else {name: found}).items():
            result[each] = figure
            print(f"{each:20} {figure['value']:9.3f} {figure['unit']}", *_beside(figure), flush=True)
    if asked.json:
        asked.json.write_text(json.dumps(result, indent=1) + "\n")


def _beside(figure: dict[str, Any]) -> list[str]:
    lines = []
    for peer, value in figure["peers"].items():
        ratio = figure["ratio"][peer]
        lines.append(f"| {peer} {value:.3f}, ratio {ratio['median']:.2f} ({ratio['min']:.2f} to {ratio['max']:.2f})")
    return lines


if __name__ == "__main__":
    main()
