"""Pairs of passages, one of clean prose and one of boilerplate, labelled by reading before any model was trained.

`tests/marks/perplexity.json` names each passage by file, URL and characters (start, end): of a crawled page within
`marked_pages.rendered` of its UTF-8 text, of a page of C4 within its text. Boilerplate are menus, lists of other pages,
forms, notices of cookies and rights, buttons; passages that mix it with prose were left out. A passage has about 400
characters. Where both come from one page they are a pair, the others are paired in the order in which they were read.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from pathlib import Path

from marked_pages import body_of, rendered
from puna.data.web import warc

MARKS = Path(__file__).parent / "marks" / "perplexity.json"


def pairs_of(samples: Path) -> list[tuple[str, str]]:
    """Each pair as (clean, boilerplate)."""
    marks = json.loads(MARKS.read_text())
    wanted = {(mark["file"], mark["url"]) for pair in marks for mark in pair.values()}
    pages: dict[tuple[str, str], str] = {}
    for file in sorted({file for file, _ in wanted}):
        for url, text in _c4(samples, file) if file.startswith("c4") else _crawled(samples, file):
            if (file, url) in wanted:
                pages.setdefault((file, url), text())
    passages = [
        [pages[mark["file"], mark["url"]][mark["start"] : mark["end"]] for mark in (pair["clean"], pair["boilerplate"])]
        for pair in marks
    ]
    return [(clean, boilerplate) for clean, boilerplate in passages]


def _crawled(samples: Path, file: str) -> Iterator[tuple[str, Callable[[], str]]]:
    path = samples / "commoncrawl" / file
    for record in warc.records(path, 0, path.stat().st_size, 1 << 23):
        assert isinstance(record, warc.WarcRecord)
        yield (
            record.headers.get("warc-target-uri", ""),
            lambda record=record: rendered(body_of(record.block).decode()),
        )


def _c4(samples: Path, file: str) -> Iterator[tuple[str, Callable[[], str]]]:
    with gzip.open(samples / "c4" / file, "rt", encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            yield row["url"], lambda row=row: row["text"]
