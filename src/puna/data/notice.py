"""What of code was read, and under which licences: the notice that MIT, BSD and Apache licences ask for (section 2.1).

Repositories are sorted by name, each with its files by licence, the copyright lines of its licence files and of the
headers that were removed, and the digests of its licence texts; each text stands once, behind them. Only what documents
or held-out text were made of is told.

Memory: what is counted lies in a temporary database on the disk of this machine, of which CACHE bytes are held.
"""

from __future__ import annotations

import io
import json
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import zstandard

from puna import space, storage
from puna.data import outputs
from puna.data.document import read_documents, valid
from puna.space import Need
from puna.steps import Context
from puna.storage import Place

CACHE = 32_000_000  # bytes
WIDTH = 80
TOLD = ".licences.jsonl.zst"  # how files end in which the source tells of licences
_TABLES = """
CREATE TABLE files (repository TEXT, dump TEXT, licence TEXT, files INTEGER, PRIMARY KEY (repository, dump, licence))
    WITHOUT ROWID;
CREATE TABLE told (repository TEXT, dump TEXT, kind TEXT, value TEXT, PRIMARY KEY (repository, dump, kind, value))
    WITHOUT ROWID;
CREATE TABLE texts (digest TEXT PRIMARY KEY, text TEXT) WITHOUT ROWID;
"""
_COUNT = (
    "INSERT INTO files VALUES (?, ?, ?, ?) "
    "ON CONFLICT (repository, dump, licence) DO UPDATE SET files = files + excluded.files"
)


def notice(context: Context) -> dict[str, Any]:
    """The step: what the documents of code were read under, as notices/github.txt."""
    asides = outputs.files(context, "extract.github", TOLD)
    shards = outputs.files(context, "documents.github", ".parquet")
    return write_notice(context.folder / "notices" / "github.txt", shards, asides)


def notice_space(context: Context) -> Need:
    told = context.records["extract.github"]["outputs"].items()
    return space.noticed(sum(output["size"] for file, output in told if file.endswith(TOLD)))


def write_notice(target: Place, shards: Sequence[Place], asides: Sequence[Place]) -> dict[str, Any]:
    """Write the notice of the documents in `shards`; asides: what their source told of licences, as JSON lines."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="puna-notice-"))
        known = stack.enter_context(closing(sqlite3.connect(Path(folder) / "notice.sqlite", isolation_level=None)))
        known.executescript(f"PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA cache_size=-{CACHE // 1000};")
        known.executescript(_TABLES)
        known.execute("BEGIN")
        for shard in shards:
            _count(known, shard)
        for file in asides:
            _tell(known, file)
        known.execute("COMMIT")
        with storage.create(target) as written:
            for line in _lines(known):
                written.write(line.encode() + b"\n")
        (repositories,) = known.execute("SELECT COUNT(*) FROM (SELECT DISTINCT repository, dump FROM files)").fetchone()
        (files,) = known.execute("SELECT COALESCE(SUM(files), 0) FROM files").fetchone()
    return {"repositories": repositories, "files": files}


def _count(known: sqlite3.Connection, shard: Place) -> None:
    found: Counter[tuple[str, str, str]] = Counter()
    for document in read_documents(shard, ["group", "origin"]):
        found[document.group, document.origin.dump, document.origin.licence] += 1
    known.executemany(_COUNT, [(*key, files) for key, files in found.items()])


def _tell(known: sqlite3.Connection, file: Place) -> None:
    with storage.open_read(file) as raw, zstandard.ZstdDecompressor().stream_reader(raw) as packed:
        for line in io.TextIOWrapper(packed, "utf-8"):
            value = json.loads(line)
            if "text" in value:
                known.execute("INSERT OR IGNORE INTO texts VALUES (?, ?)", (value["digest"], valid(value["text"])))
                continue
            said = [("copyright", value.get("copyright", "")), ("version", value.get("version", ""))]
            said += [("url", value.get("url", "")), *(("text", digest) for digest in value.get("texts", []))]
            rows = [(value["repository"], value["dump"], kind, each) for kind, each in said if each]
            known.executemany(
                "INSERT OR IGNORE INTO told VALUES (?, ?, ?, ?)", [tuple(map(valid, row)) for row in rows]
            )


def _lines(known: sqlite3.Connection) -> Iterator[str]:
    yield "What was read of code, and under which licences. Licence texts stand at the end, each once."
    listed = known.execute("SELECT repository, dump, licence, files FROM files ORDER BY repository, dump, licence")
    last = None
    for repository, dump, licence, files in listed:
        if (repository, dump) != last:
            if last:
                yield from _told(known, *last)
            last = (repository, dump)
            yield from ("", "-" * WIDTH, f"{repository} ({dump})" if dump != repository else repository)
        yield f"  {licence}: {files:,} {'file' if files == 1 else 'files'}"
    if last:
        yield from _told(known, *last)
    used = (
        "SELECT digest, text FROM texts WHERE digest IN (SELECT value FROM told JOIN files USING (repository, dump) "
        "WHERE kind = 'text') ORDER BY digest"
    )
    for digest, text in known.execute(used):
        yield from ("", "=" * WIDTH, f"Licence text {digest}", "", text.rstrip("\n"))


def _told(known: sqlite3.Connection, repository: str, dump: str) -> Iterator[str]:
    names = {"version": "  version {}", "url": "  {}", "copyright": "    {}", "text": "  licence text {}"}
    asked = "SELECT value FROM told WHERE repository = ? AND dump = ? AND kind = ? ORDER BY value"
    for kind, form in names.items():
        for (value,) in known.execute(asked, (repository, dump, kind)):
            yield form.format(value)
