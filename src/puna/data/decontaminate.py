"""Decontamination: which documents share n-grams with the benchmarks, how common those are, and who goes.

The paper does not say that it did any. The measure is GPT-3's (Brown et al. 2020, appendix C): 13-grams of lower-cased
words; and so are the numbers, all of them recipe values: one shared n-gram is enough, but for those that more than ten
documents have. Three steps, of which only the verdict knows thresholds:

    contamination.S   the known n-grams in each document, and a listing of them by benchmark with the matched text
    common            n-grams in more documents of all sources than `common` allows; what was found nowhere is said
    documents.S       asks `verdict` of each shard

An n-gram counts once a document. Exact copies of a document are not counted: they go anyway.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import tee
from typing import Any

import numpy as np
import numpy.typing as npt
import zstandard

from puna import space, storage
from puna.data.benchmark_grams import Known, known_of, opened
from puna.data.dedup import exact, exchange
from puna.data.dedup.grams import WORD, batches, runs_of_lengths, words_of
from puna.data.document import read_column
from puna.data.extract import LINES
from puna.data.outputs import files, kept, numbered, shards_of
from puna.data.texts import Texts, texts_of
from puna.errors import InputError
from puna.progress import say
from puna.recipe import Recipe
from puna.space import Need
from puna.steps import Context
from puna.storage import Place

HIT = np.dtype([("hash", "<u8"), ("row", "<u4"), ("quoted", "u1")])
NO_HIT = np.empty(0, HIT)
CLEAN, QUOTED, CONTAMINATED = 0, 1, 2  # what `verdict` says of a row
ITEMS = 5  # of a benchmark that the listing names for one document
TEXT = 300  # characters of matched text in the listing, for one document and benchmark
EXAMPLES = 5  # documents of each benchmark in the counts: those with the smallest ids


def contamination(recipe: Recipe, name: str, context: Context) -> dict[str, Any]:
    """The step `contamination.S`: for each shard NNNNN.contamination (<u4 a row: distinct known n-grams of the
    document), NNNNN.shared (rows of HIT, cut by ranges of the hash) and NNNNN.contaminated.jsonl.zst (a line for each
    document that shares any).

    Counts, by benchmark: documents that share what it asks, documents that share only what it quotes, and examples.
    """
    gone = tuple(files(context, f"duplicates.{name}", ".verdicts"))
    work = partial(_match, known_of(context), texts_of(recipe, name, context), gone, recipe.data.partitions)
    tasks = list(enumerate(shards_of(context, name)))
    results = context.map(work, tasks, label=f"  {name}: comparing with benchmarks", name=numbered)
    found: dict[str, Any] = {}
    for result in results:
        for benchmark, counts in result["benchmarks"].items():
            into = found.setdefault(benchmark, {"documents": 0, "quoted": 0, "examples": []})
            into["documents"] += counts["documents"]
            into["quoted"] += counts["quoted"]
            into["examples"] = _smallest([*into["examples"], *counts["examples"]])
    return {
        "documents": sum(result["documents"] for result in results),
        "sharing": sum(result["sharing"] for result in results),
        "benchmarks": dict(sorted(found.items())),
    }


def contamination_space(recipe: Recipe, name: str, context: Context) -> Need:
    size = sum(output["size"] for output in context.records["benchmarks"]["outputs"].values())
    counts, shards = kept(context, name), len(shards_of(context, name))
    return space.contamination(
        counts["documents"], counts["bytes"], shards, recipe.data.partitions, HIT.itemsize, size, context.workers
    )


def common(recipe: Recipe, names: Sequence[str], context: Context) -> dict[str, Any]:
    """The step `common`: common.bin, the sorted hashes of the n-grams that more than `decontaminate.common` documents
    of all sources have; empty when that is unset. Counts: how many, and of each benchmark the items of which nothing
    but such n-grams was found, for which no document goes. Memory: the shared n-grams in one range of hashes, 13 bytes
    each, and the distinct ones, 16 bytes each."""
    limit = recipe.decontaminate.common
    shared = [path for name in names for path in files(context, f"contamination.{name}", ".shared")]
    parts = list(range(recipe.data.partitions)) if limit else []
    work = partial(_count, shared, limit or 0)
    context.map(work, parts, label="  counting shared n-grams", name=lambda part: f"part-{part:05d}")
    grams, found = (
        np.concatenate([np.empty(0, "<u8"), *(_hashes(context.scratch / f"{part:05d}.{kind}") for part in parts)])
        for kind in ("common", "found")
    )
    storage.write(context.scratch / "common.bin", grams.tobytes())
    everywhere = opened(known_of(context)).wholly(grams, found) if len(grams) else []
    lost: dict[str, Any] = {}
    for benchmark, key in everywhere:
        into = lost.setdefault(benchmark, {"items": 0, "examples": []})
        into["items"] += 1
        into["examples"] = [*into["examples"], key][:EXAMPLES]
    for benchmark, counts in lost.items():
        what = f"what was found of {counts['items']:,} items, such as {counts['examples'][0]}, is in more than {limit}"
        say(f"  {benchmark}: {what} documents, so none goes for them (decontaminate.common)")
    nowhere = _unmatched(names, context)
    for benchmark in nowhere:
        say(f"  {benchmark}: no document shares an n-gram with it")
    return {"common": len(grams), "items": lost, "nowhere": nowhere}


def common_values(recipe: Recipe) -> dict[str, Any]:
    return {"common": recipe.decontaminate.common, "partitions": recipe.data.partitions}


def common_space(names: Sequence[str], context: Context) -> Need:
    outputs = [output for name in names for output in context.records[f"contamination.{name}"]["outputs"].items()]
    return space.small(2 * sum(found["size"] for path, found in outputs if path.endswith(".shared")))


def verdict(
    shared: Place, common: Place, rows: int, *, partitions: int, max_shared: int, quoted: str
) -> npt.NDArray[np.uint8]:
    """CLEAN, QUOTED or CONTAMINATED for each of the `rows` documents of a shard.

    shared, common: the shard's NNNNN.shared, cut in `partitions`, and common.bin. CONTAMINATED: more than `max_shared`
    distinct n-grams that are not common, of those that a benchmark asks, or of all where `quoted` is "drop". QUOTED:
    not so, but with those that benchmarks quote there are more.
    """
    hits = np.concatenate([exchange.read([shared], part, HIT)[0] for part in range(partitions)])
    everywhere = _hashes(common)
    hits = hits[~np.isin(hits["hash"], everywhere)]
    of_all = np.bincount(hits["row"], minlength=rows)
    own = np.bincount(hits["row"][hits["quoted"] == 0], minlength=rows)
    if len(of_all) > rows:
        raise InputError(f"names a row beyond the {rows} of its shard", where=str(shared), mend="delete it, run again")
    judged = np.where(of_all > max_shared, np.uint8(QUOTED), np.uint8(CLEAN))
    judged[(of_all if quoted == "drop" else own) > max_shared] = CONTAMINATED
    return judged


def search(texts: Iterable[str], known: Known) -> Iterator[tuple[npt.NDArray[np.void], list[tuple[int, int, int]]]]:
    """For each text (rows of HIT with row 0, one for each distinct known n-gram, sorted by hash; where they stand:
    hash, first word, word behind, in the order of the text)."""
    for batch in batches(texts):
        words = words_of(batch)
        places: list[list[tuple[int, int, int]]] = [[] for _ in batch]
        for n, grams in runs_of_lengths(words.hashes, known.lengths):
            for text, place in zip(*words.within(known.holds(grams), n), strict=True):
                first = int(place - words.borders[text])
                places[text].append((int(grams[place]), first, first + n))
        for found in places:
            yield _hits(found, known) if found else NO_HIT, sorted(found, key=lambda each: each[1:])


def matched(
    text: str, hits: npt.NDArray[np.void], places: Iterable[tuple[int, int, int]], known: Known
) -> dict[str, Any]:
    """By benchmark what a document shares with it: distinct n-grams (`asked`, `quoted`), `items` (the first few ids),
    and `text`, the first stretch that matches, n-grams that overlap joined."""
    lowered = text.lower()
    words = [match.span() for match in WORD.finditer(lowered)]
    source = text if len(text) == len(lowered) else lowered  # a letter may become two in lower case
    owners = {int(gram): [(int(owner) >> 1, bool(owner & 1)) for owner in known.owners(gram)] for gram in hits["hash"]}
    found: dict[str, dict[str, Any]] = {}
    stretches: dict[str, tuple[int, int]] = {}
    for gram, begin, end in places:
        seen = set()
        for number, quotes in owners[gram]:
            benchmark, key = known.item(number)
            into = found.setdefault(benchmark, {"asked": set(), "quoted": set(), "items": {}})
            into["quoted" if quotes else "asked"].add(gram)
            if len(into["items"]) < ITEMS:
                into["items"][key] = None
            seen.add(benchmark)
        for benchmark in seen:
            first, last = stretches.get(benchmark, (begin, end))
            if begin <= last:
                stretches[benchmark] = (first, max(last, end))
    return {
        benchmark: {
            "asked": len(into["asked"]),
            "quoted": len(into["quoted"] - into["asked"]),
            "items": list(into["items"]),
            "text": source[words[stretches[benchmark][0]][0] : words[stretches[benchmark][1] - 1][1]][:TEXT],
        }
        for benchmark, into in sorted(found.items())
    }


def _hits(places: Sequence[tuple[int, int, int]], known: Known) -> npt.NDArray[np.void]:
    grams = np.array(sorted({gram for gram, _, _ in places}), np.uint64)
    hits = np.zeros(len(grams), HIT)
    hits["hash"], hits["quoted"] = grams, known.quoted(grams)
    return hits


def _match(
    known_files: tuple[tuple[str, ...], tuple[int, ...]],
    texts: Texts,
    gone: Sequence[Place],
    partitions: int,
    task: tuple[int, Place],
    scratch: Place,
) -> dict[str, Any]:
    """Search one shard. Memory: the table of `Known`, a row group and a batch of text, and what was found."""
    index, shard = task
    known = opened(known_files)
    repeats = set(exact.dropped_rows(gone, index).tolist())
    scores: list[int] = []
    rows = [np.empty(0, HIT)]
    counts: dict[str, Any] = {}
    target = {kind: scratch / f"{index:05d}.{kind}" for kind in ("contamination", "shared", "contaminated.jsonl.zst")}
    with (
        storage.create(target["contaminated.jsonl.zst"]) as raw,
        zstandard.ZstdCompressor().stream_writer(raw, closefd=False) as listing,
    ):
        # What repeats another document is not looked at.
        looked_at, shown = tee("" if row in repeats else text for row, text in enumerate(texts.of(index, shard)))
        found = zip(read_column(shard, "id"), shown, search(looked_at, known), strict=True)
        for row, (key, text, (hits, places)) in enumerate(found):
            scores.append(len(hits))
            if not len(hits):
                continue
            hits["row"] = row
            rows.append(hits)
            shared = matched(text, hits, places, known)
            line = {"id": key, "row": row, "shared": len(hits), "benchmarks": shared}
            listing.write(LINES.encode(line).encode() + b"\n")
            _tally(counts, key, shared)
    table = np.concatenate(rows)
    exchange.write(target["shared"], table, exchange.ranges(table["hash"], partitions), partitions)
    storage.write(target["contamination"], np.array(scores, "<u4").tobytes())
    return {
        "documents": len(scores),
        "sharing": len(rows) - 1,
        "benchmarks": counts,
        "files": [storage.below(path, scratch.parents[2]) for path in target.values()],
    }


def _tally(counts: dict[str, Any], key: str, shared: Mapping[str, Mapping[str, Any]]) -> None:
    for benchmark, found in shared.items():
        into = counts.setdefault(benchmark, {"documents": 0, "quoted": 0, "examples": []})
        into["documents" if found["asked"] else "quoted"] += 1
        into["examples"] = _smallest([*into["examples"], {"id": key, **found}])


def _smallest(examples: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(examples, key=lambda example: (not example["asked"], str(example["id"])))[:EXAMPLES]


def _count(shared: Sequence[Place], limit: int, part: int, scratch: Place) -> dict[str, Any]:
    hits, _ = exchange.read(shared, part, HIT)
    grams, documents = np.unique(hits["hash"], return_counts=True)
    made = {"common": grams[documents > limit], "found": grams}
    for kind, hashes in made.items():
        storage.write(scratch / f"{part:05d}.{kind}", hashes.astype("<u8").tobytes())
    return {"files": [storage.below(scratch / f"{part:05d}.{kind}", scratch.parents[2]) for kind in made]}


def _unmatched(names: Sequence[str], context: Context) -> list[str]:
    """The benchmarks of which no source has anything."""
    found: Counter[str] = Counter()
    for name in names:
        for benchmark, counts in context.counts(f"contamination.{name}")["benchmarks"].items():
            found[benchmark] += counts["documents"] + counts["quoted"]
    return [benchmark for benchmark in context.counts("benchmarks")["benchmarks"] if not found[benchmark]]


def _hashes(location: Place) -> npt.NDArray[np.uint64]:
    return np.frombuffer(storage.read(location), "<u8")
