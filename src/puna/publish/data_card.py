"""The card of a data set: what is in it, from where, what was dropped and why, and what nobody knows of it.

The header is what the hub reads: a configuration for each source and one of all, splits, languages, licences, size.
Everything is told from the run's own records; nothing is claimed that they do not say. What the recipe leaves out by
name is never named here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from puna import __version__
from puna.data.fates import FATES
from puna.progress import size
from puna.publish.facts import Counts, Facts
from puna.publish.front_matter import cell, listed, quoted

LISTED = 40  # inputs of a source that are named one by one
NAMED = 8  # licences and languages of a source that are named
# The names that documents have for licences, as the hub has them; what is not here is "other" to it.
HUBS = {
    "Apache-2.0": "apache-2.0",
    "BSD": "bsd",
    "BSD-2-Clause": "bsd-2-clause",
    "BSD-3-Clause": "bsd-3-clause",
    "CC-BY-SA": "cc",
    "CC-BY-SA-2.5": "cc-by-sa-2.5",
    "CC-BY-SA-3.0": "cc-by-sa-3.0",
    "CC-BY-SA-4.0": "cc-by-sa-4.0",
    "MIT": "mit",
    "ODC-BY": "odc-by",
}
SIZES = ("1K", "10K", "100K", "1M", "10M", "100M", "1B", "10B", "100B", "1T")
DEFAULT = "default"  # the configuration of all sources, which readers take where none is named


def text(told: Facts, licence: str = "") -> str:
    """README.md. licence: an identifier of the hub's list, in place of what the documents say."""
    return "\n".join([*_header(told, licence), "", *_body(told), ""])


def licence_of(card: str) -> str:
    """What the header of a card says of the licence, in one line; "" where it says nothing."""
    lines = iter(card.split("\n---", 1)[0].splitlines())
    for line in lines:
        if line.startswith("license:"):
            if one := line.removeprefix("license:").strip():
                return one.strip("'\"[]")
            items = []
            for item in lines:
                if not item.startswith("- "):
                    break
                items.append(item.removeprefix("- ").strip("'\" "))
            return ", ".join(items)
    return ""


def _header(told: Facts, licence: str) -> Iterator[str]:
    rows = sum(counts.train.rows + counts.test.rows for counts in told.sources.values())
    yield "---"
    yield f"pretty_name: {quoted(told.name)}"
    yield from listed("license", [licence] if licence else _licences(told))
    yield from listed("language", sorted({code for counts in told.sources.values() for code in _codes(counts)}))
    yield from listed("task_categories", ["text-generation"])
    yield from listed("size_categories", [_size_category(rows)])
    yield from listed("tags", ["puna"])
    yield "configs:"
    for name, sources in ((DEFAULT, list(told.sources)), *((source, [source]) for source in told.sources)):
        yield f"- config_name: {quoted(name)}"
        yield "  data_files:"
        for split in ("train", "test"):
            paths = [path for source in sources if (path := _paths(source, split, told.sources[source]))]
            if paths:
                yield f"  - split: {split}"
                yield "    path:"
                yield from (f"    - {quoted(path)}" for path in paths)
    yield "---"


def _body(told: Facts) -> Iterator[str]:
    yield f"# {cell(told.name) or 'Documents'}"
    yield ""
    yield "Text for training a language model: documents from public dumps, cleaned, without exact repeats, each"
    yield f"with the place where it was published. Made by Puna {__version__}."
    yield ""
    yield from _contents(told)
    yield from _opening(told)
    yield from _funnels(told)
    yield from _mixture(told)
    yield from _provenance(told)
    yield from _unsaid(told)


def _contents(told: Facts) -> Iterator[str]:
    yield "## What is in it"
    yield "| source | split | documents | text | files |"
    yield "|---|---|---|---|---|"
    for source, counts in told.sources.items():
        for split, part in (("train", counts.train), ("test", counts.test)):
            if part.rows:
                yield f"| {source} | {split} | {part.rows:,} | {size(part.bytes)} | {size(part.size)} |"
    yield ""
    yield "| source | languages | licences, as the documents say |"
    yield "|---|---|---|"
    for source, counts in told.sources.items():
        yield f"| {source} | {_most(counts.languages, 'not told')} | {_most(counts.licences, 'not told')} |"
    yield ""
    if told.heldout:
        yield "`test` is held out by group: a page of Wikipedia or a package of code stands in one split only, and what"
        yield "of the rest shared too much of its wording with `test` was dropped."
    else:
        yield "What the run holds out is not in it, nor what of the rest shared too much of its wording with that."
    yield ""
    yield "Columns: `id` (128-bit xxh3 of source, dump and key), `source`, `group` (what is held out together),"
    yield "`language`, `text`, and `origin` with `dump`, `key`, `file`, `offset`, `url`, `title`, `date`, `licence`."
    yield "`shards.json` has rows, bytes and digests of every shard."
    yield ""


def _opening(told: Facts) -> Iterator[str]:
    first = next(iter(told.sources))
    yield "```python"
    yield f'datasets.load_dataset("PATH", "{first}", split="train", streaming=True)  # without "{first}": all sources'
    yield f"duckdb.sql(\"SELECT id, text, origin.url FROM 'PATH/data/{first}/train-*.parquet'\")"
    yield f'polars.scan_parquet("PATH/data/{first}/train-*.parquet")'
    yield "```"
    yield ""


def _funnels(told: Facts) -> Iterator[str]:
    yield "## From dumps to documents"
    yield "What each rule took out, by source. Bytes are of clean text where there is any, else of what the rule saw."
    yield ""
    for source, counts in told.sources.items():
        funnel = counts.funnel
        yield f"| {source} | documents | bytes |"
        yield "|---|---|---|"
        yield f"| records read | {funnel.records:,} | |"
        yield f"| − set aside, unreadable | {funnel.set_aside['count']:,} | {funnel.set_aside['bytes']:,} |"
        yield from (_row(f"− {rule}", found) for rule, found in funnel.rules.items())
        yield from (_row(f"− {FATES[rule]}", found) for rule, found in funnel.later.items())
        yield from (_row(name, found) for name, found in funnel.left.items())
        yield ""


def _mixture(told: Facts) -> Iterator[str]:
    yield "## Mixture"
    if told.mixture is None:
        yield "The run has not planned a training, so this says nothing of how its sources are to be mixed."
        yield ""
        return
    rations = told.mixture["sources"]
    windows = sum(ration["windows"] for ration in rations.values()) or 1
    yield "How the run's training reads `train`:"
    yield ""
    yield "| source | share asked | share read | epochs |"
    yield "|---|---|---|---|"
    for source, ration in rations.items():
        share = f"{100 * ration['windows'] / windows:.1f} %"
        yield f"| {source} | {ration['share']} | {share} | {ration['epochs']:.2f} |"
    yield ""


def _provenance(told: Facts) -> Iterator[str]:
    yield "## Where it is from"
    yield "| source | dump | version | bytes | digest |"
    yield "|---|---|---|---|---|"
    for source, counts in told.sources.items():
        for one in counts.inputs[:LISTED]:
            cells = (source, one["dump"], one["version"], f"{one['size']:,}", one["digest"])
            yield f"| {' | '.join(map(cell, cells))} |"
        if (more := len(counts.inputs) - LISTED) > 0:
            yield f"| {source} | and {more:,} more | | | |"
    yield ""


def _unsaid(told: Facts) -> Iterator[str]:
    rows = sum(counts.train.rows + counts.test.rows for counts in told.sources.values())
    without = sum(counts.licences[""] for counts in told.sources.values())
    yield "## What it does not say"
    yield "- **Licences.** Each document is under the terms of the one who wrote it. `origin.licence` is what its dump"
    yield f"  said of it, which nobody looked at again; {without:,} of {rows:,} documents have none. Public to read is"
    yield "  not free to publish: look at the terms of each source before you pass this on."
    if "github" in told.sources:
        yield "  `notices/github.txt` has the notices that licences of code ask for: keep it with copies."
    if "stackexchange" in told.sources:
        yield "  Stack Exchange asks for the names of authors; these are not in it, and `origin.url` leads to them."
    if told.masked:
        yield f"- **People.** Replaced by their kind, where their form is plain: {_words(told.masked)}. Names, and what"
        yield "  text tells of people, were not removed."
    else:
        yield "- **People.** Nothing that points to a person was removed: names, mail addresses, phone numbers."
    if told.excluded:
        yield "- **Removed on request.** Documents that a list names were left out; a copy elsewhere may have stayed."
    else:
        yield "- **Removed on request.** Nothing was asked for."
    looked = f"near ones were looked for in {_words(told.near)} only" if told.near else "near ones were not looked for"
    yield f"- **Repeats.** Exact repeats were dropped within a source, not between sources; {looked}."
    if told.decontaminated:
        done = "only marked in the run, and is in it" if told.marked else "dropped"
        yield f"- **Benchmarks.** Text of {_words(told.decontaminated)} was {done}; that of others may be in it."
    else:
        yield "- **Benchmarks.** None was looked for: their text may be in it."
    yield "- **Truth.** Nothing was checked for being true, fair or fit to be read by everybody. `language` is what the"
    yield "  dump said, or what a classifier took it for; of code it is the language of the program."


def _row(name: str, found: Mapping[str, Any]) -> str:
    return f"| {cell(name)} | {found['documents']:,} | {found['bytes']:,} |"


def _paths(source: str, split: str, counts: Counts) -> str:
    """The pattern of a split's shards. It names how many there are, so that it takes none of another export."""
    part = counts.train if split == "train" else counts.test
    return f"data/{source}/{split}-*-of-{part.shards:05d}.parquet" if part.rows else ""


def _licences(told: Facts) -> list[str]:
    found = {HUBS.get(name, "other") for counts in told.sources.values() for name in counts.licences}
    return sorted(found - {"other"}) + (["other"] if "other" in found or not found else [])


def _codes(counts: Counts) -> Iterator[str]:
    """The languages that are codes of two or three letters, as the hub asks for; of code there are none."""
    yield from (code for code in counts.languages if len(code) in (2, 3) and code.isascii() and code.islower())


def _size_category(rows: int) -> str:
    below = [index for index in range(len(SIZES)) if rows < 10 ** (3 + index)]
    if not below:
        return f"n>{SIZES[-1]}"
    return f"n<{SIZES[0]}" if below[0] == 0 else f"{SIZES[below[0] - 1]}<n<{SIZES[below[0]]}"


def _most(counted: Counter[str], without: str) -> str:
    """The most frequent names, and how many documents have each."""
    named = [f"{cell(name) or without} ({times:,})" for name, times in counted.most_common(NAMED)]
    return ", ".join([*named, *(["..."] if len(counted) > NAMED else [])])


def _words(names: tuple[str, ...]) -> str:
    return ", ".join(names[:-1]) + (" and " if len(names) > 1 else "") + names[-1]
