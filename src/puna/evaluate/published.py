"""Which files of a benchmark's release a task reads, and what to do where they are not there.

Who publishes them, and where, stands in one list: that of `puna fetch --benchmarks` (fetch/benchmarks.toml). Nothing
here reaches the network.
"""

from __future__ import annotations

from dataclasses import dataclass

from puna.errors import InputError
from puna.fetch.released import chosen, releases
from puna.testsets import BENCHMARKS


@dataclass(frozen=True, slots=True)
class Files:
    """As the release names them."""

    measured: str
    examples: str = ""
    """What examples are drawn from, where that is another file."""


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


def missing(benchmark: str, folder: object, *, examples: bool = False) -> InputError:
    """What to raise where a benchmark's items or examples are not in the folder of benchmarks."""
    files, title = FILES[benchmark], BENCHMARKS[benchmark].title
    if examples:
        what = f"holds too few examples of {title}"
        mend = f"put {files.examples} of {publisher(benchmark)} there, or give --shots 0 with --tasks"
    else:
        what = f"holds no {BENCHMARKS[benchmark].split} items of {title}"
        mend = f"puna fetch --benchmarks {benchmark}, or put {files.measured} of {publisher(benchmark)} there"
    return InputError(what, where=str(folder), mend=mend)
