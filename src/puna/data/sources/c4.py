"""C4: the published JSON lines, or C4's rules on pages of WARC and WET files (section 2.1; Raffel et al. 2020).

A published row is kept as its authors cleaned it, unless the recipe says to apply the rules again. Rules, in order: of
rows `short`; of pages those of a record (`web/pages.py`), then C4's (`web/c4_rules.py`). A row that is no JSON object
with a text is set aside by itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, cast

import xxhash

from puna.data.document import Document, Origin, document_id
from puna.data.sources.records import EXAMPLE, Dropped, Input, Part, Record, SetAside, Task, group_parts, placed
from puna.data.web.c4_rules import Rules
from puna.data.web.jsonl import Break, Line, is_compressed, lines
from puna.data.web.main_text import plain, whole_text
from puna.data.web.pages import Page, host, origin, pages
from puna.data.web.warc import borders
from puna.recipe import C4, Source

LANGUAGE = "und"  # files of one language do not say which in their rows: a later step tells it from the text
LICENCE = "ODC-BY"  # of the published set
WARC = re.compile(r"\.(warc|wet)(\.gz)?$")


def split(inputs: Sequence[Input], recipe: Source, task_size: int) -> list[Task]:
    """WARC and WET files cut where records begin, plain JSON lines anywhere, compressed ones nowhere."""
    parts = []
    for entry in inputs:
        if WARC.search(entry.dump):
            cuts = borders(entry.location, task_size)
        elif is_compressed(entry.location):
            cuts = [0, entry.size]
        else:
            cuts = [*range(0, max(1, entry.size), task_size), entry.size]
        parts += [Part(entry.declared, start, end) for start, end in pairwise(cuts)]
    return group_parts("c4", parts, task_size)


def read(task: Task, inputs: Sequence[Input], recipe: Source) -> Iterator[Record]:
    """The records of a task, in the order of the files."""
    known = {entry.declared: entry for entry in inputs}
    values = cast(C4, recipe)
    rules = Rules(values)
    for part in task.parts:
        entry = known[part.declared]
        for record in (_pages if WARC.search(entry.dump) else _rows)(entry, part, values, rules):
            yield placed(record, part.declared)


def _pages(entry: Input, part: Part, recipe: C4, rules: Rules) -> Iterator[Record]:
    for page in pages(entry, part, recipe):
        if not isinstance(page, Page):
            yield page
            continue
        text = whole_text(page.tree) if page.tree else plain(page.text)
        yield _judged(text, page.size, origin(page, entry), rules)


def _rows(entry: Input, part: Part, recipe: C4, rules: Rules) -> Iterator[Record]:
    if entry.size == 0:
        yield SetAside("the file is empty", entry.declared, "")
    packed = is_compressed(entry.location)
    for line in lines(entry.location, part.start, part.end, recipe.max_line):
        if isinstance(line, Break):
            yield SetAside(line.reason, entry.declared, "", line.size)
        elif not line.data and line.size > recipe.max_line:
            reason = f"a line is longer than {recipe.max_line} bytes"
            yield SetAside(reason, entry.declared, _place(line), 0 if packed else line.size)
        elif line.data.strip():
            record = _row(line, entry, recipe, rules)
            # A file of one line, as a JSON array is, is much to lose for one record.
            yield replace(record, size=line.size) if isinstance(record, SetAside) and not packed else record


def _row(line: Line, entry: Input, recipe: C4, rules: Rules) -> Record:
    try:
        row: Any = json.loads(line.data)
    except (ValueError, RecursionError):
        return SetAside("a line is not JSON", entry.declared, _place(line))
    if not isinstance(row, dict) or not isinstance(row.get("text"), str):
        return SetAside("a row has no text", entry.declared, _place(line))
    url, date = (row.get(name) if isinstance(row.get(name), str) else "" for name in ("url", "timestamp"))
    key = xxhash.xxh3_128_hexdigest(f"{url}\n{row['text']}".encode("utf-8", "surrogatepass"))
    place = Origin(entry.dump, key, entry.declared, line.offset, str(url), "", str(date), LICENCE)
    text = plain(row["text"])
    if not recipe.published:
        return _judged(text, line.size, place, rules)
    if len(text) < max(1, recipe.min_characters):
        return Dropped("short", key, line.size, text[:EXAMPLE])
    return _document(text, place)


def _judged(text: str, size: int, place: Origin, rules: Rules) -> Document | Dropped:
    verdict = rules.judge(text)
    if verdict.rule:
        return Dropped(verdict.rule, place.key, size, f"{place.url}: {verdict.text or text}"[:EXAMPLE])
    return _document(verdict.text, place)


def _document(text: str, place: Origin) -> Document:
    identity = document_id("c4", place.dump, place.key)
    return Document(identity, "c4", host(place.url) or place.key, LANGUAGE, text, place)


def _place(line: Line) -> str:
    return f"offset {line.offset}" if line.offset else f"line {line.number}"
