"""Disk space foreseen: each step says what it will write at most and stops before it begins, not midway.

A need is an upper bound of what a piece of work adds to the run folder while it works, its temporary files among it.
After extraction it follows from what was recorded (counts and sizes). Extraction reads text that nobody has seen yet,
and its factors are measured ones. All factors stand below, each with its reason.

What is free is what the file system grants an ordinary user (statvfs, f_bavail). A quota of a user or project is not
seen: then, and when something else fills the disk meanwhile, the write that fails is told in one line. An object store
tells nothing of its space, but a run there passes its files through the local temporary folder, which is looked at.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from puna import recipe as recipes
from puna import storage
from puna.errors import PunaError
from puna.progress import size
from puna.recipe import Recipe
from puna.storage import Place

FLOOR = 1_000_000  # bytes, every step: its record, log lines, folders, and results that do not grow with the data
FILE = 8_192  # bytes for each file beside its own: what its last block leaves empty, and its task's record
PARAMETER = 12  # bytes in a checkpoint: the weight and two moments, float32
TENSOR = 600  # bytes in the headers of a checkpoint: a name and its offsets, three times
METRICS_LINE = 420  # bytes; 320 are usual
WINDOW = 6  # bytes in losses.jsonl for each window: 4 in base64, and the line around them

# Bytes of documents written for a byte read. Text in bz2 becomes 0.6 (English) to 1.1 (Cyrillic), since zstd packs what
# is left of it less tightly; plain XML and source code become 0.15 to 0.35.
PACKED, PLAIN = 1.25, 0.4
SOLID = 1.75  # the same of .7z: posts as their publisher packs them become 1.16 to 1.27, tighter archives more
ENDINGS = (".bz2", ".gz", ".xz", ".7z", ".zst")
RESORTED = 1.25  # sorted by id, neighbours are no longer alike: 1.00 to 1.07 of the size in the order of the dump
ROW_GROUP = 10_000  # bytes a row group of documents: its statistics, and what short pages pack less; 4,000 to 8,000
NOTICED = 20  # bytes of a notice for a byte of the packed lines that it is made of; licence texts pack to a third
WORD = 5  # bytes of text a word, with what parts it from the next; 6.3 in English, 9 in code
SHARED = 20  # words of text for each shared n-gram; whole copies of benchmarks have one a word, the web one in 10,000
SPREAD = 2.0  # held-out documents are few: how much longer than all others they may be on average
SAMPLED = 1.2  # tokens a byte of all text, to those of a sample
INDEXED = 0.2  # bytes of an index of text for a byte of it: 8 for each of two hashes in 98, and what chance adds; 0.165
INDEX_BUCKETS = 4_099  # offsets in a part of that index
# For a guess before anything was read: bytes of text in a byte read, and in a token and a document.
TEXT_PACKED, TEXT_PLAIN = 3.0, 1.0
TOKEN, DOCUMENT = 2.5, 2_000


@dataclass(frozen=True)
class Need:
    """What a piece of work writes at most, in bytes."""

    bytes: int
    """In all that lies in the run folder at once, at the highest point."""
    largest: int
    """In one file, or folder that is filled as one: what of it may be written again beside its old self."""
    here: int
    """In the local temporary folder at once, when the run lies on an object store."""


BEGUN = Need(65_536, 65_536, 0)  # lock, recipe and log; where there is no room for them, there is no run


def check(folder: Place, name: str, need: Need, *, there: int = 0) -> None:
    """PunaError, one line with the mend, when the disk cannot hold what `name` is going to write into a run folder.

    there: bytes of it that lie in the folder from an attempt before.
    """
    if storage.is_remote(folder):
        name = f"{name} for {folder}"
        disk, left, mend = Path(tempfile.gettempdir()), need.here, "set TMPDIR to another folder"
    else:
        disk, left, mend = Path(str(folder)), need.bytes, "give another folder with --out"
    if there:
        left = max(left - there, min(left, need.largest))
    available = free(disk)
    if available is not None and available < left:
        what = f"{name} needs about {size(left)}{' more' if there else ''} and {size(available)} are free"
        # Rounded up, so that what is said to be missing will do.
        raise PunaError(what, where=str(disk), mend=f"free {size(1.05 * (left - available))} there, or {mend}")


def free(folder: Place) -> int | None:
    """Bytes that may still be written in a folder, which need not exist yet; None where that cannot be told."""
    if storage.is_remote(folder):
        return None
    path = Path(str(folder)).absolute()
    there = next(above for above in (path, *path.parents) if above.exists())
    status = os.statvfs(there)
    return status.f_bavail * status.f_frsize if status.f_blocks else None  # /proc and its like have no size


def small(extra: int = 0, *, read: int = 0) -> Need:
    """Of a step whose files stay small, but for `extra` bytes. read: bytes of what an object store's run must copy here
    to read it."""
    return Need(FLOOR + extra, FLOOR + extra, FLOOR + extra + read)


def extracted(raw: Mapping[str, int], shard_size: int, workers: int) -> Need:
    """Clean documents of inputs, by name: bytes that are read of each."""
    total = sum(int(count * _written(name)) for name, count in raw.items())
    return _files(total, 1 + sum(raw.values()) // shard_size, shard_size, workers)


def exchanged(documents: int, shards: int, partitions: int, row: int, verdict: int, workers: int) -> Need:
    """Rows sent to partitions and the verdicts sent back, `row` and `verdict` bytes each, were every document one."""
    offsets = 2 * 8 * (partitions + 1) * (shards + 1)
    return _files(documents * (row + verdict) + offsets, 2 * (shards + partitions), documents * row, workers)


def grams(held: int, shards: int) -> Need:
    """Hashes of the n-grams of about `held` bytes of held-out text, shard by shard and then all in one file."""
    one = int(held * SPREAD / WORD) * 8
    return _files(2 * one, 2 * shards, one, 1)


def scores(documents: int, shards: int, known: int, workers: int) -> Need:
    """A float32 for each document. known: bytes of the held-out n-grams, which every worker reads."""
    need = _files(4 * documents, 2 * shards, 4 * documents, 1)
    return Need(need.bytes, need.largest, need.here + workers * known)


def contamination(documents: int, text: int, shards: int, partitions: int, hit: int, known: int, workers: int) -> Need:
    """A score for each document, and `hit` bytes for each shared n-gram, of which the listing takes as much again, were
    one in SHARED of the words of `text` bytes the first of one. known: bytes of the benchmarks' table, which every
    worker reads."""
    found = 2 * hit * (text // WORD) // SHARED + shards * 8 * (partitions + 1)
    need = _files(4 * documents + found, 4 * shards, 4 * documents + found, 1)
    return Need(need.bytes, need.largest, need.here + workers * known)


def routed(written: int, shards: int, parts: int, shard_size: int, workers: int) -> Need:
    """`written` bytes of documents on their way to `parts` ranges of ids, and then in them."""
    groups = ROW_GROUP * (shards * parts + 2 * shards + parts + 1)
    return _files(int(2 * RESORTED * written) + groups, 4 * shards + 2 * parts, shard_size, workers)


def noticed(told: int) -> Need:
    """A notice of licences, from `told` bytes of packed lines; the database that sorts them is temporary."""
    return Need(FLOOR + NOTICED * told, FLOOR + NOTICED * told, FLOOR + 3 * NOTICED * told)


def encoded(text: int, documents: int, shards: int, width: int, rate: float, workers: int) -> Need:
    """Token shards of `text` bytes, `width` bytes a token; `rate`: tokens a byte in a sample. No token is less than a
    byte, so that is the most there can be, beside <s> and </s> and the index."""
    tokens = int(text * min(1.0, rate * SAMPLED)) + 2 * documents
    total = tokens * width + documents * 24
    return _files(total, 4 * shards, 2 * total // max(1, shards), workers)


def indexed(text: int, shards: int, parts: int, workers: int) -> Need:
    """An index of `text` bytes of text: entries on their way to `parts` ranges, and then in them."""
    entries = int(text * INDEXED)
    offsets = 8 * (shards * (parts + 3) + parts * INDEX_BUCKETS)
    return _files(2 * entries + offsets, 2 * (shards + parts), 2 * entries // max(1, min(shards, parts)), workers)


def checkpoint(parameters: int, tensors: int) -> Need:
    """One checkpoint of a model, filled in a folder of its own; one for an object store is filled here."""
    total = PARAMETER * parameters + TENSOR * tensors + 5 * FILE
    return Need(total, total, total)


def training(recipe: Recipe, vocabulary: int, steps: int, tokens: int) -> Need:
    """The checkpoints that are kept, one more while it is written, the one that a rewind may go back to, and
    metrics.jsonl and losses.jsonl, twice when they are cut back.

    tokens: bytes of the token shards, which an object store's run copies here.
    """
    one = checkpoint(recipe.model.parameters(vocabulary), 9 * recipe.model.layers + 3).bytes
    train = recipe.train
    ever = sum(
        -(-steps // every) for every in (train.checkpoint_every, train.keep_every, train.evaluate_every) if every
    )
    for_good = steps // train.keep_every if train.keep_every else 0
    lines = FLOOR + 2 * METRICS_LINE * (steps // train.log_every + 1)
    lines += 2 * WINDOW * steps * recipes.batch_windows(recipe)
    return Need(lines + one * min(train.keep + 2 + for_good, ever), one, lines + one + tokens)


def whole(
    recipe: Recipe, raw: Mapping[str, Mapping[str, int]], station: str | tuple[str, ...] | None
) -> dict[str, int]:
    """A guess for a whole run, part by part in bytes, from no more than the recipe and what is read of each input.

    raw: by source and the input's name. station: what the run ends with, as `workflow.targets` names it; None: all.
    """
    parts = {"work": 0, "documents": 0}
    texts = 0
    for inputs in raw.values():
        written = extracted(inputs, recipe.data.shard_size, 1).bytes
        text = sum(int(n * (TEXT_PACKED if name.endswith(ENDINGS) else TEXT_PLAIN)) for name, n in inputs.items())
        parts["work"] += 2 * written + 100 * (text // DOCUMENT)  # extracted, sent on to their ranges, and hashed
        parts["documents"] += written
        texts += text
    if station not in ("documents", "tokenizer"):
        parts["tokens"] = int(texts / TOKEN) * (2 if recipe.tokenizer.pieces <= 65_536 else 4)
    if station in ("train", None):
        parts["checkpoints"] = training(recipe, recipe.tokenizer.pieces, recipes.steps(recipe), 0).bytes
    return parts


def _written(name: str) -> float:
    """Bytes of documents written for a byte read of an input."""
    if name.endswith(".7z"):
        return SOLID
    return PACKED if name.endswith(ENDINGS) else PLAIN


def _files(total: int, count: int, largest: int, workers: int) -> Need:
    need = FLOOR + total + FILE * count
    one = min(need, FLOOR + largest)
    return Need(need, one, min(need, FLOOR + workers * one))
