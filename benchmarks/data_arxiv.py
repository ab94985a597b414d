"""How fast arXiv's sources become documents: archive, macros, cuts and the Parquet writer, on one thread.

The papers of the samples are repeated under new ids in one dump, which is written to a temporary folder first. The
figure is MB of TeX a CPU second: the bytes of the papers' .tex files; classes and packages of the paper, which are read
too, are told beside it. What the limit is: 15 MB/s, the slowest that a source may be.
"""

from __future__ import annotations

import io
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from form import metric
from puna.data.latex import archive
from puna.recipe import ArXiv
from turns import extraction, speeds

LIMIT = 15.0  # MB of TeX a second


def arxiv(samples: Path, quick: bool) -> dict[str, Any]:
    papers = _papers(samples / "arxiv")
    copies = 10 if quick else 60
    with tempfile.TemporaryDirectory() as scratch:
        dump = Path(scratch) / "arXiv_src_2101_001.tar"
        _repeat(dump, papers, copies)
        tex, others = (copies * sum(each) for each in zip(*map(_sizes, papers), strict=True))
        run = extraction("arxiv", ArXiv.model_validate({"inputs": [str(dump)], "share": 1}))
        speed = speeds(tex, run, rounds=2 if quick else 5, limit=LIMIT, unit="MB of TeX/s")
    second = speed["value"] * 1e6 / tex  # how often all of it is read in one
    return {
        "arxiv": speed,
        "arxiv_all": metric((tex + others) * second / 1e6, "MB of TeX, classes and packages/s"),
        "arxiv_papers": metric(len(papers) * copies * second, "papers/s"),
    }


def _papers(samples: Path) -> list[bytes]:
    """The stored bytes of every paper with a source, in the order of the dumps."""
    found = []
    for dump in sorted(samples.glob("*.tar")):
        with tarfile.open(dump) as file:
            papers = (member for member in file if member.name.endswith(".gz"))
            found += [file.extractfile(paper).read() for paper in papers]  # type: ignore[union-attr]
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


METRICS = {"arxiv": arxiv}
