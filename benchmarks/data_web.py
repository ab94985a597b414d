"""Figures of web pages: WARC to clean text beside datatrove with Trafilatura, and how near main text is to what was
marked by hand beside Trafilatura itself."""

from __future__ import annotations

import gzip
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from form import metric
from puna.data.document import Document, DocumentWriter
from puna.data.sources import locate, read, split
from puna.recipe import CommonCrawl
from turns import speeds

TIMES = 8  # as fast as the peer: what is asked of WARC to text


def warc_to_text(samples: Path, quick: bool) -> dict[str, Any]:
    files = sorted((samples / "commoncrawl").glob("CC-REAL-*.warc.gz"))[2 if quick else 0 :]
    size = sum(len(gzip.decompress(file.read_bytes())) for file in files)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        peer = _datatrove(files, folder)
        peers = {"datatrove with trafilatura": peer} if peer else {}
        _ours(files[-1:], folder)  # what is loaded at first use is no part of the speed
        return speeds(size, lambda: _ours(files, folder), peers, 2 if quick else 3, TIMES)


def main_text_f1(samples: Path, quick: bool) -> dict[str, Any]:
    """Mean F1 over the words of the pages marked in tests/marks; peers get each page decoded as its mark says."""
    from marked_pages import f1, marked
    from puna.data.web import warc
    from puna.data.web.main_text import Prose, main_text, parsed, title

    pages = {page.url: page for page in marked()}
    html: dict[str, str] = {}
    wanted: dict[str, str] = {}
    for file in sorted((samples / "commoncrawl").glob("CC-REAL-*.warc.gz")):
        for record in warc.records(file, 0, file.stat().st_size, 1 << 23):
            url = record.headers.get("warc-target-uri", "") if isinstance(record, warc.WarcRecord) else ""
            if url in pages and url not in html:
                body = record.block.partition(b"\r\n\r\n")[2]
                html[url], wanted[url] = body.decode(pages[url].encoding, "replace"), pages[url].main(body)
    recipe = CommonCrawl.model_validate({"share": 1})
    prose = Prose(recipe.prose_characters, recipe.other_line_cost, recipe.look_again_below)

    def ours(page: str) -> str:
        tree = parsed(page)
        return main_text(tree, title(tree), prose)

    def score(extract: Callable[[str], str | None]) -> float:
        return sum(f1(extract(html[url]) or "", text) for url, text in wanted.items()) / len(wanted)

    mine, peers = score(ours), {name: score(extract) for name, extract in _trafilaturas().items()}
    ratio = {name: dict.fromkeys(("median", "min", "max"), mine / value) for name, value in peers.items()}
    return metric(mine, f"F1 on {len(wanted)} pages", 1.0, peers, ratio)


def _ours(files: list[Path], folder: Path) -> None:
    recipe = CommonCrawl.model_validate({"inputs": [str(file) for file in files], "share": 1})
    inputs = locate("commoncrawl", recipe)
    with DocumentWriter(folder / "ours.parquet") as writer:
        for task in split("commoncrawl", inputs, recipe, 1 << 40):
            for record in read(task, inputs, recipe):
                if isinstance(record, Document):
                    writer.write(record)


def _datatrove(files: list[Path], folder: Path) -> Callable[[], None] | None:
    try:
        from datatrove.pipeline.extractors import Trafilatura
        from datatrove.pipeline.readers import WarcReader
        from datatrove.pipeline.writers import ParquetWriter
        from loguru import logger

        logger.remove()
        for file in files:
            (folder / file.name).symlink_to(file.resolve())
        WarcReader(str(folder), glob_pattern="*.warc.gz")
        import trafilatura  # noqa: F401
    except ImportError as error:
        print(f"datatrove is left out: {str(error).splitlines()[0]}")
        return None

    def run() -> None:
        documents = WarcReader(str(folder), glob_pattern="*.warc.gz").run(None, 0, 1)
        for _ in ParquetWriter(str(folder / "theirs"))(Trafilatura()(documents, 0, 1), 0, 1):
            pass

    return run


def _trafilaturas() -> dict[str, Callable[[str], str | None]]:
    try:
        from trafilatura import extract
    except ImportError as error:
        print(f"trafilatura is left out: {str(error).splitlines()[0]}")
        return {}
    return {
        "trafilatura": extract,
        "without comments": lambda page: extract(page, include_comments=False),
        "as datatrove": lambda page: extract(page, favor_precision=True, include_comments=False, deduplicate=True),
    }


METRICS = {"warc_to_text": warc_to_text, "main_text_f1": main_text_f1}
