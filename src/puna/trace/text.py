"""The documents of a run that hold a piece of text, held-out ones too, word for word.

White space is made equal first: a run of it, line ends included, is as good as one space, and at the ends of the text
it counts for nothing. All else must be the same, case and punctuation too; the text may begin and end within words.

Without an index every document is read, and what that costs is said before. With one (index.py) only those are read
that may hold the text, and the answer is the same.
"""

from __future__ import annotations

import re
import time
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from puna import storage
from puna.data.dedup.winnow import SHORTEST, normalised
from puna.data.document import Document, Origin, row_groups, valid
from puna.engine import map_tasks
from puna.errors import InputError
from puna.progress import say, seconds, size
from puna.storage import Place
from puna.trace import index as indexes
from puna.trace.index import Shard
from puna.trace.steps import COLUMNS, FORMAT, SHOWN, OtherTokens, Steps, Traced, told

AGREED = 10_000_000_000  # bytes that are read without being asked for by --yes
PLACES = 10  # of the places in one document that are told
MOST = 100  # documents that are told, unless another number is asked for
ALONE = 10.0  # seconds of work that are not worth another process


@dataclass(frozen=True)
class Query:
    """A text to look for."""

    text: str
    """With its white space made equal."""

    @staticmethod
    def of(text: str) -> Query:
        """InputError when there is nothing in it."""
        found = normalised(valid(text))
        if not found:
            raise InputError("the text to look for is empty", mend="give some words of it")
        return Query(found)

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        return re.compile(r"\s+".join(re.escape(word) for word in self.text.split()))

    @cached_property
    def longest(self) -> str:
        """A word that every text has which holds this one."""
        return max(self.text.split(), key=len)

    def places(self, text: str) -> list[tuple[int, int]]:
        """Where it stands in a text: first character, and the one behind it; places that overlap count once."""
        return [match.span() for match in self.pattern.finditer(text)]


@dataclass(frozen=True)
class Task:
    """A shard to look through; of `rows`, those alone."""

    shard: Shard
    rows: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Hit:
    """A document that holds the text."""

    document: Document
    shard: Shard
    places: tuple[tuple[int, int], ...]
    """The first PLACES of them, in characters."""
    times: int


@dataclass(frozen=True)
class Found:
    """All documents that hold the text; the first of them in full."""

    run: str
    planned: int
    trained: int
    query: Query
    by: str
    """`index` or `scan`."""
    read: int
    """Bytes of documents that were read."""
    count: int
    """Documents that hold it."""
    times: int
    """How often it stands in them."""
    hits: tuple[tuple[Hit, Traced], ...]
    note: str
    """Why no step can be told; "" when steps can."""

    def as_json(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "run": self.run,
            "steps": {"planned": self.planned, "trained": self.trained},
            "text": self.query.text,
            "by": self.by,
            "bytes_read": self.read,
            "count": self.count,
            "times": self.times,
            "documents": [
                {key: value for key, value in traced.as_json().items() if key != "entry"}
                | {"times": hit.times, "places": [list(place) for place in hit.places]}
                for hit, traced in self.hits
            ],
            "note": self.note,
        }

    def as_text(self) -> str:
        trained = (
            f"{self.trained:,} of {self.planned:,} steps are trained" if self.planned else "no step is planned yet"
        )
        many = f"{self.count:,} documents hold it" if self.count != 1 else "1 document holds it"
        lines = [f"{many}, {self.times:,} times in all; {self.note or trained}"]
        for hit, traced in self.hits:
            lines += ["", *told(traced, self.trained, self.places(hit))]
        if self.count > len(self.hits):
            lines += ["", f"and {self.count - len(self.hits):,} more documents; --most shows more of them"]
        return "\n".join(lines)

    def places(self, hit: Hit) -> str:
        listed = ", ".join(f"{first:,} to {end:,}" for first, end in hit.places[:SHOWN])
        more = f" and {hit.times - len(hit.places):,} times more" if hit.times > len(hit.places) else ""
        return f"characters {listed}{more}"


def search(run: str, text: str, *, most: int = MOST, workers: int = 1, agreed: bool = False) -> Found:
    """The documents of a run that hold `text`, in the order of their shards; `most` of them in full.

    agreed: whether more than AGREED bytes may be read. Memory is one row group of documents a worker, and `most` hits a
    shard. InputError when the run has no documents, when the text is empty, and when more would have to be read.
    """
    query = Query.of(text)
    folder = storage.place(run)
    steps, planned, trained, note = _steps(folder)
    shards = indexes.shards(folder)
    index, why = indexes.find(folder, shards)
    if index is not None and len(query.text.encode()) < SHORTEST:
        index, why = None, f"a text of less than {SHORTEST} bytes is not in the index"
    if index is None:
        tasks = [Task(shard) for shard in shards]
        say(f"{why}, so all documents are read")
        workers = _foretell(query, tasks, workers, agreed)
    else:
        tasks = [Task(shards[number], rows) for number, rows in indexes.candidates(index, query.text)]
        say(f"the index names {sum(len(task.rows or ()) for task in tasks):,} documents that may hold it")
    work = partial(look, query, most)
    weigh: Any = (lambda task: task.shard.size) if index is None else (lambda task: len(task.rows))
    count = times = 0
    hits: list[Hit] = []
    for _, (documents, occurrences, some) in map_tasks(work, tasks, workers=workers, label="  looking", size=weigh):
        count, times = count + documents, times + occurrences
        hits += some[: most - len(hits)]
    traced = [Traced(hit.document, query.text, hit.shard.held_out, _read(steps, hit)) for hit in hits]
    read = sum(task.shard.size for task in tasks) if index is None else sum(_stored(task) for task in tasks)
    by = "scan" if index is None else "index"
    pairs = tuple(zip(hits, traced, strict=True))
    return Found(run, planned, trained, query, by, read, count, times, pairs, note)


def look(query: Query, most: int, task: Task) -> tuple[int, int, list[Hit]]:
    """(documents that hold the text, how often, the first `most` of them) of one shard."""
    count = times = 0
    hits: list[Hit] = []
    for first, table in row_groups(task.shard.path, [*COLUMNS, "text"], task.rows):
        # Searched where the text lies: of most documents no Python string is made.
        likely = pc.match_substring(table["text"], query.longest)
        if task.rows is not None:
            inside = [row - first for row in task.rows if first <= row < first + len(table)]
            asked = pa.array([False] * len(table)).to_numpy(zero_copy_only=False)
            asked[inside] = True
            likely = pc.and_(likely, pa.array(asked))
        for row in table.filter(likely).to_pylist():
            places = query.places(row.pop("text"))
            if places:
                count, times = count + 1, times + len(places)
                if len(hits) < most:
                    document = Document(**(row | {"language": "", "text": "", "origin": Origin(**row["origin"])}))
                    hits.append(Hit(document, task.shard, tuple(places[:PLACES]), len(places)))
    return count, times, hits


def plain_look(query: Query, texts: Iterable[str]) -> list[int]:
    """The readable twin: which of the texts hold the query."""
    return [number for number, text in enumerate(texts) if query.text in normalised(text)]


def _foretell(query: Query, tasks: Sequence[Task], workers: int, agreed: bool) -> int:
    """Say what a scan costs, at the rate of the first row group; the processes that are worth starting for it."""
    total = sum(task.shard.size for task in tasks)
    first = next((task for task in tasks if task.shard.size), None)
    if first is None:
        return 1
    started = time.perf_counter()
    look(query, 1, Task(first.shard, (0,)))
    rate = _stored(Task(first.shard, (0,))) / max(1e-6, time.perf_counter() - started)
    workers = workers if total / rate > ALONE else 1
    cost = f"{size(total)} in {len(tasks):,} files to read, about {seconds(total / rate / workers)}"
    cost += f" (at {size(rate)}/s and process, {workers} of them)"
    if total > AGREED and not agreed:
        mend = "give --yes, or build an index once with --index"
        raise InputError(f"{cost}: more than {size(AGREED)} are not read unasked", mend=mend)
    say(f"  {cost}")
    return workers


def _stored(task: Task) -> int:
    """Stored bytes of the row groups that a task reads."""
    rows = task.rows or ()
    with storage.open_read(task.shard.path) as raw:
        metadata = pq.ParquetFile(raw).metadata
    total = first = 0
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        if bisect_left(rows, first + group.num_rows) > bisect_left(rows, first):
            total += sum(group.column(column).total_compressed_size for column in range(group.num_columns))
        first += group.num_rows
    return total


def _steps(folder: Place) -> tuple[Steps | None, int, int, str]:
    """As `Steps.of`; documents that the tokens were not made from can be looked through all the same."""
    try:
        return (*Steps.of(folder), "")
    except OtherTokens as error:
        return None, 0, 0, f"no step can be told, since {error.what}"


def _read(steps: Steps | None, hit: Hit) -> tuple[int, ...]:
    if steps is None or hit.shard.held_out:
        return ()
    return steps.that_read(hit.document.source, hit.shard.path.stem, hit.document.id)
