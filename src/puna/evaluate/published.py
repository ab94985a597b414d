"""Which files of a benchmark's release a task reads, and what to do where they are not there.

Who publishes them, and where, stands in one list: that of `puna fetch --benchmarks` (fetch/benchmarks.toml). Nothing
here reaches the network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from puna import storage
from puna.errors import InputError
from puna.fetch.released import chosen, releases
from puna.storage import Place
from puna.testsets import BENCHMARKS


@dataclass(frozen=True, slots=True)
class Files:
    """As the release names them."""

    measured: str
    examples: str = ""
    """What examples are drawn from, where that is another file."""


SHOWN = 3  # damaged files that are named
FILES = {
    "boolq": Files("dev.jsonl", "train.jsonl"),
    "piqa": Files("valid.jsonl and valid-labels.lst", "train.jsonl and its labels"),
    "siqa": Files("dev.jsonl and dev-labels.lst", "train.jsonl and its labels"),
    "hellaswag": Files("hellaswag_val.jsonl", "hellaswag_train.jsonl"),
    "winogrande": Files("dev.jsonl", "train_xl.jsonl"),
    "arc_easy": Files("ARC-Easy-Test.jsonl", "ARC-Easy-Train.jsonl"),
    "arc_challenge": Files("ARC-Challenge-Test.jsonl", "ARC-Challenge-Train.jsonl"),
    "openbookqa": Files("test.jsonl", "train.jsonl"),
    "naturalquestions": Files("NQ-open.dev.jsonl", "NQ-open.train.jsonl"),
    "triviaqa": Files("wikipedia-dev.json", "wikipedia-train.json"),
    "race_middle": Files("RACE/test/middle/*.txt", "RACE/train/middle/*.txt"),
    "race_high": Files("RACE/test/high/*.txt", "RACE/train/high/*.txt"),
    "math": Files("MATH/test/*/*.json", "MATH/train/*/*.json"),
    "gsm8k": Files("test.jsonl", "train.jsonl"),
    "humaneval": Files("HumanEval.jsonl.gz"),
    "mbpp": Files("mbpp.jsonl", "mbpp.jsonl"),
    "mmlu": Files("test/*_test.csv", "dev/*_dev.csv"),
    "realtoxicityprompts": Files("prompts.jsonl"),
    "crows_pairs": Files("crows_pairs_anonymized.csv"),
    "winogender": Files("all_sentences.tsv and occupations-stats.tsv"),
    "truthfulqa": Files("mc_task.json"),
}


def publisher(benchmark: str) -> str:
    """The page that a reader is sent to, and what has to be accepted there."""
    (release,) = chosen([benchmark], releases())
    return f"{release.published_by} ({release.condition})" if release.condition else release.published_by


class Missing(InputError):
    """A benchmark's items or examples are not in the folder of benchmarks. examples: how many of those there are for
    each item; None: it is items that lack. whole: the release has no more of them. damaged: what is wrong with files
    there that may be it."""

    def __init__(
        self,
        benchmark: str,
        folder: Place,
        *,
        examples: int | None = None,
        whole: bool = False,
        damaged: Sequence[InputError] = (),
    ) -> None:
        self.benchmark, self.folder, self.examples, self.damaged = benchmark, folder, examples, damaged
        files, title = FILES[benchmark], BENCHMARKS[benchmark].title
        bare = examples is None
        self.put = "" if whole else f"{files.measured if bare else files.examples} of {publisher(benchmark)}"
        what = f"no {BENCHMARKS[benchmark].split} items of {title}" if bare else f"too few examples of {title}"
        what += f" ({examples})" if examples else ""
        ways = [f"put {self.put} there"] if self.put else []
        ways.insert(0 if bare else 1, f"puna fetch --benchmarks {benchmark}" if bare else _fewer([self]))
        mend = ", or ".join(ways)
        super().__init__(f"{_holds(folder)} {what}{_beside(damaged)}", where=str(folder), mend=mend)


def together(found: Sequence[Missing]) -> InputError:
    """One error that names all files of several."""
    each = list({(one.benchmark, one.examples): one for one in found}.values())
    if len(each) == 1:
        return each[0]
    bare, few = [one for one in each if one.examples is None], [one for one in each if one.examples is not None]
    parts = [f"no items of {_titles(bare)}"] if bare else []
    parts += [f"too few examples of {_titles(few)}"] if few else []
    what = f"{_holds(each[0].folder)} {', '.join(parts)}{_beside(each[0].damaged)}"
    ways = [f"puna fetch --benchmarks {' '.join(one.benchmark for one in bare)}"] if bare else []
    ways += [_fewer(few)] if few else []
    put = ", ".join(f"{one.put} for {BENCHMARKS[one.benchmark].title}" for one in each if one.put)
    mend = ", ".join(ways) + (f", or put there {put}" if put else "")
    return InputError(what, where=str(each[0].folder), mend=mend)


def _fewer(found: Sequence[Missing]) -> str:
    return f"give --shots {min(one.examples or 0 for one in found)} with --tasks"


def _titles(found: Sequence[Missing]) -> str:
    return ", ".join(BENCHMARKS[one.benchmark].title for one in found)


def _holds(folder: Place) -> str:
    return "holds" if storage.exists(folder) else "is not there, and so holds"


def _beside(damaged: Sequence[InputError]) -> str:
    if not damaged:
        return ""
    told = [f"{one.where} {one.what}" for one in damaged[:SHOWN]]
    more = [f"{len(damaged) - SHOWN} more are such"] if len(damaged) > SHOWN else []
    return f", and files that begin with no record: {', '.join([*told, *more])}"
