"""The step `lines.SOURCE`: which lines of which documents go, over all shards of a source of web pages.

{work}/NNNNN.lines      of shard NNNNN, sorted: lines.removed reads them, lines.edited applies them
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from puna import space, storage
from puna.data.dedup import lines, normal
from puna.data.dedup.lines import Policy
from puna.data.document import read_column
from puna.data.outputs import kept, numbered, shards_of
from puna.data.sources.c4 import WARC
from puna.progress import say
from puna.recipe import Recipe
from puna.recipe_sources import C4, Source, WebPages
from puna.space import Need
from puna.steps import Context
from puna.storage import Place

# Bytes of text a range of hashes. Lines of web pages have 60 bytes and more on average, so that a range has 64 MB of
# rows or less, with ids 128 MB; what has more is judged in turns of ROWS.
RANGE = 250_000_000
ROWS = 64_000_000
SHORT = 40  # bytes of a line on average at least, where space is foreseen; WET files have 58 with notices and menus


def policy(source: Source) -> Policy | None:
    """What a source asks for; None: nothing."""
    if isinstance(source, C4) and source.spans:
        return Policy("sentence", True, source.spans)
    if isinstance(source, WebPages) and source.paragraphs != "keep":
        return Policy("line", source.paragraphs == "keep-first", 1, source.paragraph_parts)
    return None


def values(recipe: Recipe, name: str) -> dict[str, Any]:
    """The values that the step depends on, for one that has a policy. How ranges are cut is one: tasks that ended
    before an interruption have left files cut by it."""
    source = recipe.sources[name]
    asked = {"partitions": recipe.data.partitions}
    if isinstance(source, C4) and source.spans:
        return asked | {"spans": source.spans, "of_published": _published_too(source)}
    return asked | source.model_dump(mode="json", include={"paragraphs", "paragraph_parts"}, exclude_defaults=True)


def repeated_lines(recipe: Recipe, name: str, context: Context) -> dict[str, Any]:
    """The step's work. Counts: `documents` that take part, their `lines`, those that are `repeated`, and what goes:
    lines, `bytes`, of how many documents, and how many are `emptied`; `examples`: the most frequent lines.

    Memory of a worker: 50 bytes for each line of its shard, or 3 times ROWS."""
    rule = policy(recipe.sources[name])
    assert rule is not None
    shards, parts = list(enumerate(shards_of(context, name))), _partitions(recipe, name, context)
    hashes = [context.scratch / f"{index:05d}.hashes" for index, _ in shards]
    chosen = (
        isinstance(recipe.sources[name], C4) and rule.unit == "sentence" and not _published_too(recipe.sources[name])
    )
    write = partial(_write, rule, chosen, parts)
    written = context.map(write, shards, label=f"  {name}: hashing lines", name=lambda task: f"hash-{numbered(task)}")
    total = {unit: sum(result[unit] for result in written) for unit in ("documents", "lines", "rows")}
    turns = max(1, -(-total["rows"] * rule.row.itemsize // (parts * ROWS)))
    cuts = [(part, turn, turns) for part in range(parts) for turn in range(turns)]
    judge = partial(_judge, rule, hashes)
    judged = context.map(judge, cuts, label=f"  {name}: finding repeated lines", name=_cut_name)
    verdicts = [context.scratch / f"{_cut_name(cut)}.verdicts" for cut in cuts]
    gather = partial(_gather, rule, verdicts)
    gone = context.map(gather, shards, label=f"  {name}: sorting repeated lines", name=numbered)
    most = sorted((each for result in judged for each in result["examples"]), key=lambda each: (-each[0], each[1]))
    examples = [_example(rule, shards, each) for each in most[: lines.EXAMPLES]]
    for path in [*hashes, *verdicts, *(_own(context.scratch, index) for index, _ in shards)]:
        storage.remove(path)
    counts = {
        "documents": total["documents"],
        "lines": total["lines"],
        "repeated": sum(result["repeated"] for result in judged),
        "gone": {unit: sum(r["gone"][unit] for r in gone) for unit in ("lines", "bytes", "documents", "emptied")},
        "examples": examples,
    }
    _warn(name, rule, counts, kept(context, name)["documents"])
    return counts


def lines_space(recipe: Recipe, name: str, context: Context) -> Need:
    rule, text, shards = policy(recipe.sources[name]), kept(context, name)["bytes"], len(shards_of(context, name))
    width = (rule or Policy()).row.itemsize
    return space.exchanged(
        text // SHORT,
        2 * shards,
        _partitions(recipe, name, context),
        width + 8,
        lines.VERDICT.itemsize,
        context.workers,
    )


def _partitions(recipe: Recipe, name: str, context: Context) -> int:
    return max(recipe.data.partitions, -(-kept(context, name)["bytes"] // RANGE))


def _published_too(source: C4 | Source) -> bool:
    """Whether rows of published JSON lines take part: when asked, or when C4's rules are applied to them too."""
    return isinstance(source, C4) and (source.published_spans or not source.published)


def _write(rule: Policy, raw_only: bool, parts: int, task: tuple[int, Place], scratch: Place) -> dict[str, Any]:
    index, shard = task
    target, own = scratch / f"{index:05d}.hashes", _own(scratch, index)
    counts = lines.write_hashes(target, own, _documents(shard, raw_only), rule, parts)
    return counts | {"files": [storage.below(path, scratch.parents[2]) for path in (target, own)]}


def _documents(shard: Place, raw_only: bool) -> Iterator[tuple[str, str | None]]:
    pairs = zip(read_column(shard, "id"), read_column(shard, "text"), strict=True)
    if not raw_only:
        yield from pairs
        return
    for (identifier, text), origin in zip(pairs, read_column(shard, "origin"), strict=True):
        yield identifier, text if WARC.search(origin["dump"]) else None


def _judge(rule: Policy, hashes: Sequence[Place], cut: tuple[int, int, int], scratch: Place) -> dict[str, Any]:
    target = scratch / f"{_cut_name(cut)}.verdicts"
    found = lines.find_repeats(hashes, cut[0], cut[1:], rule, target)
    return found | {"files": [storage.below(target, scratch.parents[2])]}


def _gather(rule: Policy, verdicts: Sequence[Place], task: tuple[int, Place], scratch: Place) -> dict[str, Any]:
    index, _ = task
    target = scratch / f"{index:05d}.lines"
    gone = lines.gather(_own(scratch, index), verdicts, index, rule, target)
    return {"gone": gone, "files": [storage.below(target, scratch.parents[2])]}


def _cut_name(cut: tuple[int, int, int]) -> str:
    part, turn, turns = cut
    return f"part-{part:05d}" + (f"-{turn}-of-{turns}" if turns > 1 else "")


def _own(scratch: Place, index: int) -> Place:
    return scratch / f"{index:05d}.own"


def _example(rule: Policy, shards: Sequence[tuple[int, Place]], found: list[int]) -> dict[str, Any]:
    """A repeated line in its normal form, which is the same for all copies, so that no order of shards shows in it."""
    count, _, shard, unit = found
    at = 0
    for text in read_column(shards[shard][1], "text"):
        units = rule.units(text)
        if unit < at + len(units):
            said = " ".join(map(normal.normal, units[unit - at : unit - at + rule.span]))
            return {"count": count, "text": said[:200]}
        at += len(units)
    raise AssertionError(f"shard {shard} has fewer than {unit} lines")


def _warn(name: str, rule: Policy, counts: dict[str, Any], documents: int) -> None:
    if not counts["documents"] and documents:
        say(f"  {name}: no page came raw, so no span was looked for; published_spans = true looks in published ones")
    elif not counts["repeated"] and documents > 1:
        what = "span of sentences" if rule.unit == "sentence" else "line"
        say(f"  {name}: no {what} occurs twice among {counts['lines']:,} of {documents:,} documents; is that the text?")
