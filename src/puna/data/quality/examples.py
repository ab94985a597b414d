"""The labelled pages as runs of words, in the order of their ranks, and the classifier learnt from them.

Words of chosen pages go from shards to ranges of ranks and lie there as the training reads them, so that it holds one
range at a time, whatever the corpus. Hosts, not pages, are dealt out to training, calibration and measurement: a
classifier that knows a host's menu again would otherwise be praised for it.

Memory of a task: 100 bytes for each of AT_ONCE characters, or one range of about RANGE words, four times over.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from puna import storage
from puna.data.dedup import exchange
from puna.data.dedup.grams import distinct
from puna.data.quality import linear
from puna.data.quality.hashed_words import Features, batches, runs
from puna.data.quality.labels import LABEL, Pages, Shard
from puna.data.quality.linear import Examples
from puna.data.quality.measured import measured
from puna.recipe_data import Reference
from puna.storage import Place

EXAMPLE = np.dtype([("rank", "<u8"), ("host", "<u8"), ("words", "<u4"), ("part", "u1"), ("cited", "u1")])
WORD = np.dtype([("bucket", "<u4")])
AT_ONCE = 1_000_000  # characters of pages whose words a task holds and writes to one file
RANGE = 3_000_000  # runs of words in a range of ranks, were all pages as long as they may be
LETTERS = 6  # characters a word, with the space behind it: 6.3 in English
TRAINING, CALIBRATION, TEST = range(3)


@dataclass(frozen=True)
class Group:
    """Some examples in the order of their ranks."""

    examples: Examples
    part: npt.NDArray[np.uint8]
    host: npt.NDArray[np.uint64]

    def of(self, part: int) -> Examples:
        """Those of one part."""
        chosen = self.part == part
        words = np.repeat(chosen, self.examples.lengths)
        return Examples(self.examples.cited[chosen], self.examples.lengths[chosen], self.examples.buckets[words])


def features(rule: Reference) -> Features:
    return Features(rule.characters, rule.ngram, rule.bits)


def ranges(rule: Reference, chosen: int) -> int:
    """Into how many ranges of ranks the words of so many pages are cut."""
    return 1 + chosen * rule.ngram * (rule.characters // LETTERS + 1) // RANGE


def part_of(host: npt.NDArray[np.uint64], seed: int, test_share: float) -> npt.NDArray[np.uint8]:
    """What the pages of each host are for, by host and seed alone."""
    mixed = (host ^ np.uint64((seed + 1) * 0x9E3779B97F4A7C15 % 2**64)) * np.uint64(0xD6E8FEB86659FD93)
    chance = (mixed ^ (mixed >> np.uint64(32))) * np.uint64(0xD6E8FEB86659FD93)
    share = (chance >> np.uint64(11)) / 2.0**53
    return np.where(share < test_share / 2, TEST, np.where(share < test_share, CALIBRATION, TRAINING)).astype(np.uint8)


def write_words(
    pages: Mapping[str, Pages], rule: Reference, seed: int, labels: Place, cuts: int, shard: Shard, scratch: Place
) -> dict[str, Any]:
    """The chosen pages of one shard as words, cut by ranges of ranks."""
    rows, _ = exchange.read([labels], shard.number, LABEL)
    rows = rows[np.argsort(rows["row"])]
    texts = _chosen(pages[shard.source], shard, rows["row"])
    named: list[str] = []
    done = 0
    for group in batches(texts, rule.characters, AT_ONCE):
        found = runs(group, features(rule))
        here, done = rows[done : done + len(group)], done + len(group)
        table = np.empty(len(group), EXAMPLE)
        for name in ("rank", "host", "cited"):
            table[name] = here[name]
        table["words"], table["part"] = found.lengths(), part_of(table["host"], seed, rule.test_share)
        words = np.concatenate([np.empty(0, np.uint32), *map(found.of, range(len(group)))]).view(WORD)
        place = exchange.ranges(table["rank"], cuts)
        stem = scratch / f"words-{shard.number:05d}-{len(named) // 2:03d}"
        for target, values, to in ((".examples", table, place), (".words", words, np.repeat(place, table["words"]))):
            exchange.write(stem.with_name(stem.name + target), values, to, cuts)
            named.append(storage.below(stem.with_name(stem.name + target), scratch.parents[2]))
    return {"pages": done, "files": named}


def gather(files: Sequence[Place], part: int, scratch: Place) -> dict[str, Any]:
    """One range of ranks of all shards, in the order of the ranks, as scratch/range-PART.examples and .words."""
    rows, _ = exchange.read([file for file in files if file.name.endswith(".examples")], part, EXAMPLE)
    words, _ = exchange.read([file for file in files if file.name.endswith(".words")], part, WORD)
    order = np.lexsort((rows["host"], rows["rank"]))
    ends = np.cumsum(rows["words"], dtype=np.int64)
    sorted_words = [words[ends[at] - rows["words"][at] : ends[at]] for at in order]
    targets = _range(scratch, part)
    storage.write(targets[0], rows[order].tobytes())
    storage.write(targets[1], np.concatenate([words[:0], *sorted_words]).tobytes())
    return {"files": [storage.below(target, scratch.parents[2]) for target in targets]}


def learn(rule: Reference, cuts: int, task: str, scratch: Place) -> dict[str, Any]:
    """Train, calibrate and measure; write the model; the figures are the result, and the model's facts."""
    read = partial(groups, scratch, cuts)
    model = linear.train(
        lambda: (group.of(TRAINING) for group in read()),
        features(rule),
        epochs=rule.epochs,
        batch=rule.batch,
        learning_rate=rule.learning_rate,
    )
    logits, cited = _judged(model, read(), CALIBRATION)
    slope, intercept = linear.platt(logits, cited)
    model = replace(model, slope=slope, intercept=intercept)
    tested, truth = _judged(model, read(), TEST)
    facts = {
        "training": _counted(read(), TRAINING),
        "calibration": _counted(read(), CALIBRATION) | {"slope": slope, "intercept": intercept},
        "test": _counted(read(), TEST) | measured(model.calibrated(tested).astype(np.float32), truth),
    }
    files = linear.write(scratch, model, facts)
    return facts | {"files": [storage.below(file, scratch.parents[2]) for file in files]}


def groups(scratch: Place, cuts: int) -> Iterator[Group]:
    """All examples in the order of their ranks, one range in memory."""
    for part in range(cuts):
        rows, words = (storage.read(file) for file in _range(scratch, part))
        table = np.frombuffer(rows, EXAMPLE)
        examples = Examples(
            table["cited"].astype(bool), table["words"].astype(np.int64), np.frombuffer(words, WORD)["bucket"]
        )
        yield Group(examples, table["part"], table["host"])


def _range(scratch: Place, part: int) -> tuple[Place, Place]:
    return scratch / f"range-{part:05d}.examples", scratch / f"range-{part:05d}.words"


def _chosen(pages: Pages, shard: Shard, rows: npt.NDArray[np.uint32]) -> Iterator[str]:
    """The texts of these rows, which are sorted."""
    wanted = iter(rows.tolist())
    following = next(wanted, None)
    if following is None:
        return
    for row, text in enumerate(pages.texts(shard.index, shard.place)):
        if row == following:
            yield text
            following = next(wanted, None)
            if following is None:
                return
    raise ValueError(f"{shard.place} gave {row + 1} texts and was asked for text {following}")


def _judged(model: linear.Model, read: Iterator[Group], part: int) -> tuple[linear.Floats, npt.NDArray[np.bool_]]:
    logits, cited = [np.empty(0)], [np.empty(0, bool)]
    for group in read:
        examples = group.of(part)
        logits.append(model.logits_of(examples))
        cited.append(examples.cited)
    return np.concatenate(logits), np.concatenate(cited)


def _counted(read: Iterator[Group], part: int) -> dict[str, int]:
    hosts, pages, cited = np.empty(0, np.uint64), 0, 0
    for group in read:
        chosen = group.part == part
        hosts = distinct(np.concatenate([hosts, group.host[chosen]]))
        pages += int(chosen.sum())
        cited += int(group.examples.cited[chosen].sum())
    return {"pages": pages, "cited": cited, "hosts": len(hosts)}
