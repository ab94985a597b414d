"""Which examples are learnt: each once, none that holds a benchmark's question, some kept aside to measure by.

Equal examples are told by their text, case and spaces apart; the first in order of files stays. An example that shares
an n-gram with what a benchmark asks goes, as in the decontamination of a corpus (data/decontaminate.py): 13 words, or
all of a shorter question of 8 or more. The held-out ones are those with the smallest digests of their text, so that
the same examples are held out whatever the order of files.

Memory: 9 bytes a token, of at most TOKENS, half a kilobyte an example, and the table of the benchmarks' n-grams. Texts
are kept of those alone that may be held out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import xxhash

from puna import testsets
from puna.data.benchmark_grams import Known, in_memory
from puna.data.decontaminate import search
from puna.errors import InputError
from puna.finetune.examples import Example, SetAside, files, read
from puna.finetune.reading import times
from puna.finetune.templated import Encoded, encode, shortened
from puna.generate.chat import Template
from puna.progress import progress, say
from puna.storage import Place
from puna.tokenizer import Tokenizer

NGRAM, SHORTEST = 13, 8  # words, as a corpus is decontaminated by default
TOKENS = 500_000_000
HELDOUT = 100  # examples kept aside, where nobody says how many
TOGETHER = 512  # examples searched at once
SHOWN = 3  # places of each kind that are told, and reasons


@dataclass(frozen=True, slots=True)
class Source:
    """Files of instruction data, and how often an epoch reads each of their examples."""

    location: Place
    weight: float = 1.0


@dataclass
class Counts:
    """What became of the records of a source."""

    records: int = 0
    repeated: int = 0
    benchmarks: Counter[str] = field(default_factory=Counter)
    """Examples that went, by the benchmark they hold a question of."""
    aside: Counter[str] = field(default_factory=Counter)
    """Records that cannot be used, by reason."""
    long: int = 0
    """Examples whose answer does not fit the context."""
    cut: int = 0
    """Examples whose question lost its beginning."""
    heldout: int = 0
    kept: int = 0
    tokens: int = 0
    """Of those kept."""
    scored: int = 0
    places: dict[str, list[str]] = field(default_factory=dict)
    """The first few places of what went, by why."""

    def as_json(self) -> dict[str, Any]:
        return {
            name: dict(sorted(value.items())) if isinstance(value, Counter) else value
            for name, value in vars(self).items()
        }


@dataclass(frozen=True, slots=True)
class Chosen:
    train: tuple[tuple[Encoded, ...], ...]
    """The examples of each source."""
    heldout: tuple[tuple[Example, Encoded], ...]
    counts: tuple[Counts, ...]
    digest: str
    """Of all ids and what of them is scored."""


def choose(
    sources: Sequence[Source],
    template: Template,
    tokenizer: Tokenizer,
    *,
    context: int,
    heldout: int | None,
    benchmarks: Sequence[tuple[str, Place]] = (),
) -> Chosen:
    """Read, sort out and encode. heldout: examples kept aside; None: a tenth, at most HELDOUT. benchmarks:
    (benchmark, file) to be kept out.

    InputError when a file cannot be read, when none of its records can be used, when an epoch reads nothing of a
    source, by its weight, and when nothing is left.
    """
    known = in_memory(benchmarks, NGRAM, SHORTEST) if benchmarks else None
    seen: set[bytes] = set()
    every: list[list[tuple[bytes, Encoded]]] = []
    most = HELDOUT if heldout is None else heldout
    spare: dict[bytes, Example] = {}
    counts, total = [], 0
    for source in sources:
        count = Counts()
        kept = []
        with progress(f"reading {source.location.name}", 0, "records") as bar:
            for key, example in _clean(source, count, seen, known, bar.advance):
                whole = encode(example, template, tokenizer)
                encoded = shortened(whole, context + 1)
                if encoded is None:
                    count.long += 1
                    _place(count, "long", example.where)
                    continue
                total += len(encoded.ids)
                if total > TOKENS:
                    mend = "give fewer files, or several finetunings one behind the other"
                    raise InputError(f"is more than {TOKENS:,} tokens", where=str(source.location), mend=mend)
                count.cut += len(encoded.ids) < len(whole.ids)
                kept.append((key, encoded))
                spare[key] = example
                if len(spare) > 2 * most + TOGETHER:
                    spare = {each: spare[each] for each in sorted(spare)[:most]}
        every.append(kept)
        counts.append(count)
    keys = sorted(key for kept in every for key, _ in kept)
    held = keys[: min(most, len(keys) // 10) if heldout is None else heldout]
    aside, train = set(held), []
    heldout_examples = []
    state = xxhash.xxh3_128()
    for source, kept, count in zip(sources, every, counts, strict=True):
        own = [encoded for key, encoded in kept if key not in aside]
        heldout_examples += [(spare[key], encoded) for key, encoded in kept if key in aside]
        count.heldout, count.kept = len(kept) - len(own), len(own)
        _refuse_nothing(source, len(own))
        count.tokens = sum(len(encoded.ids) for encoded in own)
        count.scored = sum(int(encoded.scored.sum()) for encoded in own)
        for encoded in own:
            state.update(len(encoded.ids).to_bytes(8, "little") + encoded.ids.tobytes() + encoded.scored.tobytes())
        train.append(tuple(own))
    if not any(train):
        mend = "give more examples, or hold out fewer (--heldout)"
        raise InputError("no example is left to learn from", where=str(sources[0].location), mend=mend)
    return Chosen(tuple(train), tuple(heldout_examples), tuple(counts), f"xxh3:{state.hexdigest()}")


def _refuse_nothing(source: Source, examples: int) -> None:
    """Of a source whose examples are fewer than its weight asks for, an epoch would read none."""
    if examples and not times(source.weight, examples):
        what = f"of its {examples:,} examples an epoch reads none at a weight of {source.weight:g}"
        raise InputError(what, where=str(source.location), mend=f"give it at least {1 / examples:.3g}, or leave it out")


def _clean(
    source: Source, count: Counts, seen: set[bytes], known: Known | None, advance: Any
) -> Iterator[tuple[bytes, Example]]:
    """The examples of a source that neither repeat one nor hold a benchmark's question, with the digest of each."""
    examples = _sound(source, count, advance)
    while some := list(islice(examples, TOGETHER)):
        holding = _benchmarks([example.text for example in some], known) if known else [[]] * len(some)
        for example, named in zip(some, holding, strict=True):
            key = xxhash.xxh3_128_digest(" ".join(example.text.casefold().split()).encode())
            if key in seen:
                count.repeated += 1
                _place(count, "repeated", example.where)
            elif named:
                count.benchmarks.update(named)
                _place(count, named[0], example.where)
            else:
                seen.add(key)
                yield key, example


def _sound(source: Source, count: Counts, advance: Any) -> Iterator[Example]:
    for file in files(source.location):
        usable = before = 0
        aside: Counter[str] = Counter()
        for each in read(file):
            before += 1
            advance()
            if isinstance(each, SetAside):
                aside[each.reason] += 1
                _place(count, each.reason, each.where)
                continue
            usable += 1
            yield each
        count.records += before
        count.aside.update(aside)
        if not usable:
            what = "holds no record"
            if before:
                what = f"none of its {before:,} records can be used: {aside.most_common(1)[0][0]}"
            raise InputError(what, where=str(file), mend="the forms are those that puna finetune --help lists")


def _benchmarks(texts: Sequence[str], known: Known) -> list[list[str]]:
    """For each text the benchmarks of which it shares an n-gram that is asked, not only quoted."""
    found = []
    for hits, _ in search(texts, known):
        own = hits["hash"][hits["quoted"] == 0]
        owners = {int(owner) for gram in own for owner in known.owners(int(gram)) if not owner & 1}
        found.append(sorted({known.item(owner >> 1)[0] for owner in owners}))
    return found


def _place(count: Counts, why: str, where: str) -> None:
    places = count.places.setdefault(why, [])
    if len(places) < SHOWN:
        places.append(where)


def located(folder: Place) -> list[tuple[str, Place]]:
    """The benchmark files in a folder: (benchmark, file). InputError when there are none."""
    found = testsets.find(folder)
    if not found.files:
        mend = "name the folder of the benchmarks' release files: puna fetch --benchmarks"
        raise InputError("holds no file of a benchmark that is known", where=str(folder), mend=mend)
    return list(found.files)


def say_counts(sources: Sequence[Source], counts: Iterable[Counts], *, benchmarks: bool) -> None:
    """A line for each source of what became of its records. benchmarks: whether any were kept out."""
    for source, count in zip(sources, counts, strict=True):
        parts = [f"{count.kept:,} of {count.records:,} records learnt"]
        parts += [f"{count.heldout:,} held out"] if count.heldout else []
        parts += [f"{count.repeated:,} repeated"] if count.repeated else []
        parts += [f"{number:,} hold {name}" for name, number in sorted(count.benchmarks.items())]
        parts += ["none holds a benchmark's question"] if benchmarks and not count.benchmarks else []
        shown = count.aside.most_common(SHOWN)
        parts += [f"{number:,} set aside ({reason})" for reason, number in shown]
        others = count.aside.total() - sum(number for _, number in shown)
        parts += [f"{others:,} more for other reasons, all in finetune.json"] if others else []
        parts += [f"{count.long:,} with an answer longer than the context"] if count.long else []
        parts += [f"{count.cut:,} cut at their beginning"] if count.cut else []
        weight = f", weight {source.weight:g}" if source.weight != 1 else ""
        say(f"{source.location.name}{weight}: {'; '.join(parts)}")
