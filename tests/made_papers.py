"""Papers and dumps as arXiv stores them, made for tests."""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path

from puna.data import sources
from puna.data.document import Document
from puna.data.sources import Aside, Dropped, SetAside
from puna.recipe import ArXiv

Found = list[Document | Dropped | SetAside]
PROSE = "We measure the \\emph{flow} of rivers, and of $x^2$ streams. " * 12
PAPER = "\\documentclass{article}\n\\title{On Rivers}\n\\begin{document}\nFront.\n\\section{One}\n" + PROSE
PAPER += "\n\\end{document}\n"


def paper(body: str, preamble: str = "") -> str:
    """A whole file whose first section begins with `body`."""
    begin, end = "\\begin{document}\nFront.\n\\section{One}\n", "\n\\end{document}\n"
    return f"\\documentclass{{article}}\n{preamble}\n{begin}{body}{end}"


def packed(files: dict[str, str | bytes]) -> bytes:
    """A gzip of a tar of files."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, text in files.items():
            data = text if isinstance(text, bytes) else text.encode()
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return gzip.compress(out.getvalue(), mtime=0)


def single(text: str | bytes) -> bytes:
    """A gzip of one file."""
    return gzip.compress(text if isinstance(text, bytes) else text.encode(), mtime=0)


def dump(members: list[tuple[str, bytes]]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in members:
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return out.getvalue()


def written(folder: Path, data: bytes, name: str = "arXiv_src_2101_001.tar") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)
    return folder / name


def everything(*files: Path, task_size: int = 1 << 30, **values: object) -> list[Document | Dropped | SetAside | Aside]:
    recipe = ArXiv.model_validate({"inputs": [str(file) for file in files], "share": 1, "min_characters": 1, **values})
    inputs = sources.locate("arxiv", recipe)
    tasks = sources.split("arxiv", inputs, recipe, task_size)
    return [record for task in tasks for record in sources.read(task, inputs, recipe)]


def records(*files: Path, task_size: int = 1 << 30, **values: object) -> Found:
    found = everything(*files, task_size=task_size, **values)
    return [record for record in found if not isinstance(record, Aside)]


def text_of(folder: Path, files: dict[str, str | bytes] | str | bytes, **values: object) -> str:
    """The text of one paper, which must be kept."""
    stored = packed(files) if isinstance(files, dict) else single(files)
    (found,) = records(written(folder, dump([("2101/2101.00001.gz", stored)])), **values)
    assert isinstance(found, Document), found
    return found.text
