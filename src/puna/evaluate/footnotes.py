"""What stands below a table: how many items, what is not as in the paper, and how intervals came about."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from puna.evaluate.bootstrap import LEVEL, RESAMPLES, SEED
from puna.evaluate.tasks import PACK

if TYPE_CHECKING:
    from puna.evaluate.run import Result, Value

FOUND = "†"  # behind a value some of whose items stand in training documents


def notes_of(result: Result) -> list[str]:
    """What one should know of a result: how many items, and what is not as in the paper."""
    task = PACK[result.task]
    said = [how_many(result), task.ours.rstrip(".")]
    if result.of and result.items < result.of:
        said.append("not all of the paper's items, so that the numbers do not compare")
    if result.of and result.items > result.of:
        said.append(f"other items than the {result.of:,} that are published, so that the numbers do not compare")
    if result.shots not in task.shots:
        said.append(f"{result.shots} examples, where the paper has {', '.join(map(str, task.shots))}")
    if result.norm != result.paper_norm:
        said.append(f"ranked by {result.norm}, where the paper ranks by {result.paper_norm}")
    if result.lacks:
        said.append(result.lacks)
    if result.judged_by:
        said.append(f"by {result.judged_by}")
    if none := unscored(result):
        said.append(f"answers without a score, which no mean counts: {none:,}")
    if result.cut:
        said.append(f"{result.cut:,} items did not fit the context and lost their beginning")
    if task.samples > 1:
        fewer = "" if result.samples == task.samples else f", where the task draws {task.samples:,}"
        said.append(f"{result.samples:,} {'sample' if result.samples == 1 else 'samples'} of each item{fewer}")
    title = f"{task.title}, {result.shots}-shot" if len(task.shots) > 1 else task.title
    return [f"{title}: " + "; ".join(said) + ".", *_met(result)]


def unscored(result: Result) -> int:
    """Items that whoever judges gave nothing for."""
    value = result.values.get(result.metric)
    return result.items - (value.items if value else 0)


def how_many(result: Result) -> str:
    """Items, and of how many where not all were asked."""
    whole = f" of {result.of:,}" if result.of and result.of > result.items else ""
    return f"{result.items:,}{whole} items"


def resampling(results: Sequence[Result]) -> list[str]:
    """How the intervals of a table came about."""
    over = {
        f"{value.clusters:,} {clusters.name}"
        for result in results
        if (clusters := PACK[result.task].clusters) and (value := result.values.get(result.metric)) and value.clusters
    }
    if not over:
        return []
    how = f"{100 * LEVEL:g} % intervals in brackets: percentiles of {RESAMPLES:,} bootstrap samples, seed {SEED}"
    parts = "; a part has those that are in it" if any(result.groups for result in results) else ""
    bare = any(value.clusters and not value.interval for result in results for value in _all(result))
    lacks = "; none where all that it is over agree, which is no certainty" if bare else ""
    return [f"{how}, over {', '.join(sorted(over))}{parts}{lacks}."]


def _all(result: Result) -> Iterator[Value]:
    for values in (result.values, *result.groups.values()):
        yield from values.values()


def _met(result: Result) -> list[str]:
    """The score over items that training did not see, where some were found there."""
    if not result.found:
        return []
    what = f"{result.found:,} of the {result.items:,} items share text with documents that the model trained on"
    value = result.clean.get(result.metric)
    if value is None:
        return [f"{FOUND} {PACK[result.task].title}: {what}."]
    error = "" if value.error is None else f" ± {value.error:.4f}"
    return [f"{FOUND} {PACK[result.task].title}: {what}; {result.metric} without them: {value.mean:.4f}{error}."]
