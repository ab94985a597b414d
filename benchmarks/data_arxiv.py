"""How fast arXiv's sources become documents: archive, macros, cuts and the Parquet writer, on one thread.

    python benchmarks/data_arxiv.py [--json FILE] [--quick] [--samples FOLDER]

The papers of the folder (PUNA_SAMPLES/arxiv) are repeated under new ids in one dump, which is written to a temporary
folder first. The figure is MB of TeX a CPU second: the bytes of the papers' .tex files, the median of five extractions
(two with `--quick`); classes and packages of the paper, which are read too, are told beside it. What the limit is:
15 MB/s, the slowest that a source may be.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

from form import metric
from puna.data.extract import extract
from puna.data.latex import archive
from puna.data.sources import locate, split
from puna.recipe import ArXiv

LIMIT = 15.0  # MB of TeX a second
SAMPLES = Path(os.environ.get("PUNA_SAMPLES", "")) / "arxiv"


def arxiv(samples: Path, *, quick: bool = False) -> dict[str, Any]:
    """The metrics of this source."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        papers = _papers(samples)
        copies = 10 if quick else 60
        dump = folder / "arXiv_src_2101_001.tar"
        _repeat(dump, papers, copies)
        tex, others = (copies * sum(each) for each in zip(*map(_sizes, papers), strict=True))
        recipe = ArXiv.model_validate({"inputs": [str(dump)], "share": 1})
        inputs = locate("arxiv", recipe)
        seconds = []
        for number in range(2 if quick else 5):
            work = folder / "work" / "extract.arxiv" / str(number)
            work.mkdir(parents=True)
            begun = time.process_time()
            for task in split("arxiv", inputs, recipe, 1 << 40):
                extract(inputs, recipe, 1 << 30, task, work)
            seconds.append(time.process_time() - begun)
    median = statistics.median(seconds)
    return {
        "arxiv": metric(tex / median / 1e6, "MB of TeX/s", LIMIT),
        "arxiv_all": metric((tex + others) / median / 1e6, "MB of TeX, classes and packages/s"),
        "arxiv_papers": metric(len(papers) * copies / median, "papers/s"),
    }


def _papers(samples: Path) -> list[bytes]:
    """The stored bytes of every paper with a source, in the order of the dumps."""
    found = []
    for dump in sorted(samples.glob("*.tar")):
        with tarfile.open(dump) as file:
            for member in file:
                if member.name.endswith(".gz"):
                    found += [file.extractfile(member).read()]  # type: ignore[union-attr]
    return found


def _repeat(dump: Path, papers: list[bytes], copies: int) -> None:
    with tarfile.open(dump, "w") as file:
        for number in range(copies):
            for index, data in enumerate(papers):
                entry = tarfile.TarInfo(f"2101/2101.{number * len(papers) + index:05d}.gz")
                entry.size = len(data)
                file.addfile(entry, io.BytesIO(data))


def _sizes(paper: bytes) -> tuple[int, int]:
    """Bytes of a paper's .tex files, and of its other LaTeX."""
    files = archive.unpack(iter([paper]), len(paper), 1 << 30).texts
    tex = sum(len(data) for path, data in files.items() if path.endswith(".tex"))
    return tex, sum(map(len, files.values())) - tex


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--quick", action="store_true", help="fewer copies and repeats")
    parser.add_argument("--samples", type=Path, default=SAMPLES, help="a folder of dumps")
    asked = parser.parse_args()
    result = arxiv(asked.samples, quick=asked.quick)
    for name, figure in result.items():
        print(f"{name:14} {figure['value']:9.1f} {figure['unit']}")
    if asked.json:
        asked.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
