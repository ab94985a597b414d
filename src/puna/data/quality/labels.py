"""Which pages the classifier learns from: cited ones, and as many random ones as asked (paper, section 2.1).

Addresses meet in one exchange by ranges of their hash: those that articles cite on one side, those of the web's pages
on the other. What is chosen is a function of the pages, their ids and the seed alone: of several captures of a page the
one of smallest rank stands for it, and of cited and of other pages those of smallest rank are taken, a rank being the
hash of id and seed. So shards, tasks and workers leave no mark, and neither does the number of ranges.

Memory of a task: one range of the hashes, or LINES addresses, or the rows of one shard (32 bytes each) and what of its
text its caller holds.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash
import zstandard

from puna import storage
from puna.data.dedup import exchange
from puna.data.dedup.grams import distinct
from puna.data.document import read_documents
from puna.data.quality.addresses import host_hash, page_hash, same_page
from puna.errors import InputError
from puna.storage import Place

CITED = np.dtype([("page", "<u8")])
PAGE = np.dtype([("page", "<u8"), ("rank", "<u8"), ("host", "<u8"), ("shard", "<u4"), ("row", "<u4")])
LABEL = np.dtype([("rank", "<u8"), ("host", "<u8"), ("shard", "<u4"), ("row", "<u4"), ("cited", "u1")])
LINES = 100_000  # lines of references, an article each, whose hashes are held at once
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Pages:
    """The pages of one web source as the classifier may see them. Both are called in workers, as (index, shard)."""

    texts: Callable[[int, Place], Iterable[str]]
    """The text that stays of each document, in order."""
    trainable: Callable[[int, Place], Mask]
    """(documents,): those that no other rule drops and that are not held out."""


@dataclass(frozen=True)
class Shard:
    """A shard of one web source; `number` counts those of all sources."""

    number: int
    source: str
    index: int
    place: Place


def write_cited(parts: int, task: tuple[int, Place], scratch: Place) -> dict[str, Any]:
    """The hashes of the pages that one file of references cites, cut by ranges; a file for every LINES articles."""
    index, source = task
    found: list[Place] = []
    addresses = articles = 0
    lines = _cited(source)
    while group := list(islice(lines, LINES)):
        pages = [same_page(address) for urls in group for address in urls]
        hashes = distinct(np.fromiter((page_hash(page) for page in pages if page), np.uint64))
        target = scratch / f"cited-{index:05d}-{len(found):03d}.cited"
        exchange.write(target, hashes.view(CITED), exchange.ranges(hashes, parts), parts)
        found.append(target)
        articles += len(group)
        addresses += len(pages)
    return {"articles": articles, "addresses": addresses, "files": _named(found, scratch)}


def write_pages(pages: Mapping[str, Pages], seed: int, parts: int, shard: Shard, scratch: Place) -> dict[str, Any]:
    """The trainable pages of one shard that have an address, cut by ranges of its hash."""
    trainable = pages[shard.source].trainable(shard.index, shard.place)
    rows = []
    for row, document in enumerate(read_documents(shard.place, ["id", "origin"])):
        page = same_page(document.origin.url) if trainable[row] else ""
        if page:
            rows.append((page_hash(page), rank(seed, document.id), host_hash(page), shard.number, row))
    table = np.array(rows, PAGE)
    target = scratch / f"pages-{shard.number:05d}.pages"
    exchange.write(target, table, exchange.ranges(table["page"], parts), parts)
    return {"trainable": int(trainable.sum()), "pages": len(rows), "files": _named([target], scratch)}


def match(
    cited: Sequence[Place], pages: Sequence[Place], most: tuple[int, int], part: int, scratch: Place
) -> dict[str, Any]:
    """Label one range of all pages. most: how many of the others, and of the cited ones, can be of use at all."""
    known = distinct(exchange.read(cited, part, CITED)[0]["page"])
    rows, _ = exchange.read(pages, part, PAGE)
    rows = rows[np.lexsort((rows["rank"], rows["page"]))]
    first = np.ones(len(rows), bool)
    first[1:] = rows["page"][1:] != rows["page"][:-1]
    rows = rows[first]
    labels = np.empty(len(rows), LABEL)
    for name in ("rank", "host", "shard", "row"):
        labels[name] = rows[name]
    place = np.minimum(np.searchsorted(known, rows["page"]), max(0, len(known) - 1))
    labels["cited"] = known[place] == rows["page"] if len(known) else False
    found = [_smallest(labels[labels["cited"] == kind], most[kind]) for kind in (0, 1)]
    target = scratch / f"part-{part:05d}.labels"
    kinds = np.repeat(np.arange(2), [len(one) for one in found])
    exchange.write(target, np.concatenate(found), kinds, 2)
    matched = int(labels["cited"].sum())
    counts = {"cited": len(known), "pages": len(labels), "captures": len(first), "matched": matched}
    return counts | {"files": _named([target], scratch)}


def choose(
    labels: Sequence[Place], negatives: int, positives: int, shards: int, name: str, scratch: Place
) -> dict[str, Any]:
    """The labelled pages of smallest rank, cut by shard, as scratch/NAME.labels; memory is theirs, three times."""
    chosen = []
    for kind, most in ((0, negatives), (1, positives)):
        best = np.empty(0, LABEL)
        for file in labels:
            best = _smallest(np.concatenate([best, exchange.read([file], kind, LABEL)[0]]), most)
        chosen.append(best)
    rows = np.concatenate(chosen)
    target = scratch / f"{name}.labels"
    exchange.write(target, rows, rows["shard"].astype(np.int64), shards)
    return {"negatives": len(chosen[0]), "positives": len(chosen[1]), "files": _named([target], scratch)}


def rank(seed: int, identifier: str) -> int:
    """64 bits by which pages are chosen, and the order in which the classifier sees them."""
    return xxhash.xxh3_64_intdigest(f"{seed}\0reference\0{identifier}".encode())


def _cited(source: Place) -> Iterator[list[str]]:
    """What each article of a file of references cites."""
    try:
        with (
            storage.open_read(source) as raw,
            zstandard.ZstdDecompressor().stream_reader(raw) as data,
            io.TextIOWrapper(data, "utf-8") as lines,
        ):
            for line in lines:
                yield [str(address) for address in json.loads(line)["urls"]]
    except (zstandard.ZstdError, ValueError, LookupError, TypeError) as error:
        what = f"cannot be read as references of articles ({str(error).splitlines()[0]})"
        raise InputError(what, where=str(source), mend="delete it and run again") from None


def _smallest(rows: npt.NDArray[np.void], most: int) -> npt.NDArray[np.void]:
    """The rows of smallest rank, in its order; the host settles a tie, which 64 bits make all but impossible."""
    return rows[np.lexsort((rows["host"], rows["rank"]))[:most]]


def _named(files: Sequence[Place], scratch: Place) -> list[str]:
    return [storage.below(file, scratch.parents[2]) for file in files]
