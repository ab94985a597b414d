"""Books: Project Gutenberg's text files, and plain text of one's own, one document a book (section 2.1).

The paper also took Books3, which was withdrawn; any folder of plain text stands in its place. Its rule, that books with
more than 90% of overlap go, belongs to deduplication; here each file is judged by itself.

Rules, in order: `size`, `copyrighted` (a book that its owner lent to Project Gutenberg: its header says so),
`language`, `short`. What is no text, or names Project Gutenberg and has no end of a header, is set aside.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import cast

from puna import storage
from puna.data.book import gutenberg
from puna.data.book.gutenberg import Book
from puna.data.document import Document, Origin, document_id
from puna.data.sources.records import EXAMPLE, Dropped, Input, Part, Record, SetAside, Task, group_parts
from puna.recipe import Books, Source

LICENCE = "Public domain in the USA (Project Gutenberg)"
LENT = "Copyrighted, by its owner's leave (Project Gutenberg)"


def split(inputs: Sequence[Input], recipe: Source, task_size: int) -> list[Task]:
    """Groups of files of at least `task_size` bytes; a book is never cut."""
    parts = [Part(entry.declared, 0, entry.size) for entry in inputs]
    return group_parts("books", parts, task_size)


def read(task: Task, inputs: Sequence[Input], recipe: Source) -> Iterator[Record]:
    """One record a file."""
    known = {entry.declared: entry for entry in inputs}
    for part in task.parts:
        yield _read(known[part.declared], cast(Books, recipe))


def _read(entry: Input, rules: Books) -> Record:
    if entry.size > rules.max_bytes:
        return Dropped("size", entry.declared, entry.size, f"{entry.size} bytes")
    try:
        with storage.open_read(entry.location) as file:
            data = file.read(rules.max_bytes + 1)
        found = gutenberg.book(gutenberg.decoded(data))
    except (ValueError, LookupError) as error:
        return SetAside(" ".join(str(error).split())[:EXAMPLE], entry.declared, "", entry.size)
    if not found.text:
        return SetAside("holds no text", entry.declared, "", entry.size)
    if rule := _rule(found, rules):
        return Dropped(rule, entry.declared, len(found.text.encode()), f"{found.title}: {found.text}"[:EXAMPLE])
    return _document(entry, found)


def _rule(found: Book, rules: Books) -> str:
    """The first rule that drops a book, or ""."""
    if found.copyrighted and not rules.keep_copyrighted:
        return "copyrighted"
    if rules.languages and found.language not in (*rules.languages, "und"):
        return "language"
    return "short" if len(found.text) < rules.min_characters else ""


def _document(entry: Input, found: Book) -> Document:
    key = found.number or entry.declared
    url = f"https://www.gutenberg.org/ebooks/{found.number}" if found.number else ""
    licence = (LENT if found.copyrighted else LICENCE) if found.framed else ""
    title = f"{found.title} by {found.author}" if found.title and found.author else found.title
    origin = Origin(entry.dump, key, entry.declared, 0, url, title, found.released, licence)
    # Editions of one work are held out together, or the one would tell what stands in the other.
    group = " ".join(re.findall(r"\w+", re.sub("['’]", "", found.title.casefold()))) or entry.declared
    return Document(document_id("books", entry.dump, key), "books", group, found.language, found.text, origin)
