"""CommonCrawl: WARC and WET files as published, one document a page (section 2.1: five dumps from 2017 to 2020).

This is the first step of what the paper does to them: pages out of files, and the main text out of pages. Lines that
repeat, languages, and quality are judged by later steps.

Rules, in order: those of a record (`web/pages.py`), then `empty` (no main text). A page that the crawl cut (Common
Crawl cuts at 1 MiB) is kept with what there is of it, and noted in the lines `truncated` beside the documents.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import cast

from puna.data.document import Document, document_id
from puna.data.sources.records import EXAMPLE, Aside, Dropped, Input, Part, Record, Task, group_parts, placed
from puna.data.web.main_text import Prose, main_text, plain
from puna.data.web.pages import Page, host, origin, pages
from puna.data.web.warc import borders
from puna.recipe import CommonCrawl, Source

LANGUAGE = "und"  # what a page says of its language is often wrong: a later step tells it from the text


def split(inputs: Sequence[Input], recipe: Source, task_size: int) -> list[Task]:
    """Ranges of about `task_size` bytes as stored, cut where records begin; small files share a task."""
    parts = []
    for entry in inputs:
        parts += [Part(entry.declared, start, end) for start, end in pairwise(borders(entry.location, task_size))]
    return group_parts("commoncrawl", parts, task_size)


def read(task: Task, inputs: Sequence[Input], recipe: Source) -> Iterator[Record | Aside]:
    """The records of a task, in the order of the files."""
    known = {entry.declared: entry for entry in inputs}
    values = cast(CommonCrawl, recipe)
    for part in task.parts:
        entry = known[part.declared]
        for page in pages(entry, part, values):
            if not isinstance(page, Page):
                yield placed(page, part.declared)
                continue
            document = _document(page, entry, values)
            if page.truncated and isinstance(document, Document):
                yield Aside("truncated", {"id": document.id, "key": page.key, "reason": page.truncated})
            yield placed(document, part.declared)


def _document(page: Page, entry: Input, recipe: CommonCrawl) -> Document | Dropped:
    prose = Prose(recipe.prose_characters, recipe.other_line_cost, recipe.look_again_below)
    text = main_text(page.tree, page.title, prose) if page.tree else plain(page.text)
    if not text:
        return Dropped("empty", page.key, page.size, f"{page.url}: {page.title}"[:EXAMPLE])
    identity = document_id("commoncrawl", entry.dump, page.key)
    return Document(identity, "commoncrawl", host(page.url) or page.key, LANGUAGE, text, origin(page, entry))
