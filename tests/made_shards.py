"""Shards of documents that were never extracted, and a step run over them."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from puna import storage
from puna.data.document import Document, Origin, document_id, write_documents
from puna.recipe import Recipe
from puna.steps import Context, Step, run_steps

Text = tuple[str, str]  # (id, text)


def identity(number: int) -> str:
    return document_id("made", "made", str(number))


def document(source: str, identifier: str, text: str, dump: str = "made.warc.gz") -> Document:
    return Document(identifier, source, identifier, "und", text, Origin(dump, identifier, dump, 0, "", "", "", ""))


def dealt(documents: Sequence[Text], random: random.Random) -> list[list[Text]]:
    """The documents shuffled, and cut into shards anywhere; some may be empty."""
    shuffled = list(documents)
    random.shuffle(shuffled)
    cuts = sorted(random.randint(0, len(shuffled)) for _ in range(random.randint(0, 4)))
    return [shuffled[start:end] for start, end in zip([0, *cuts], [*cuts, len(shuffled)], strict=True)]


def run(
    folder: Path,
    recipe: Recipe,
    source: str,
    shards: Sequence[Sequence[Document]],
    name: str,
    work: Callable[[Recipe, str, Context], Any],
    pattern: str,
) -> tuple[Any, list[Path], Path]:
    """Run one step behind made shards: its counts, its outputs, and the folder of the run."""

    def extract(context: Context) -> Any:
        for index, shard in enumerate(shards):
            write_documents(context.scratch / f"{index:05d}.parquet", shard, row_group_bytes=2_000)
        texts = [each.text for shard in shards for each in shard]
        return {"kept": {"documents": len(texts), "bytes": sum(len(text.encode()) for text in texts)}}

    steps = [
        Step(f"extract.{source}", extract, ("{work}/*.parquet",), values={"made": str(folder)}),
        Step(f"{name}.{source}", partial(work, recipe, source), (pattern,), (f"extract.{source}",)),
    ]
    records = run_steps(storage.place(folder), steps, workers=1)
    record = records[f"{name}.{source}"]
    return record["counts"], [folder / path for path in sorted(record["outputs"])], folder
