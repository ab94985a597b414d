"""Where each benchmark is published, and which of its files a task reads: for whoever has not got them yet.

Addresses are named, never opened: nothing here reaches the network. `puna fetch --benchmarks` does, when it is typed.
"""

from __future__ import annotations

from dataclasses import dataclass

from puna.errors import InputError
from puna.testsets import BENCHMARKS


@dataclass(frozen=True, slots=True)
class Place:
    address: str
    files: str
    """As the release names them: what is measured."""
    examples: str = ""
    """What examples are drawn from, where that is another file."""


ALLENAI = "https://allenai.org/data"
RACE = "https://www.cs.cmu.edu/~glai1/data/race/ (non-commercial research only)"
HENDRYCKS = "https://github.com/hendrycks"
PLACES = {
    "boolq": Place("https://github.com/google-research-datasets/boolean-questions", "dev.jsonl", "train.jsonl"),
    "piqa": Place("https://yonatanbisk.com/piqa", "valid.jsonl and valid-labels.lst", "train.jsonl and its labels"),
    "siqa": Place(f"{ALLENAI}/socialiqa", "dev.jsonl and dev-labels.lst", "train.jsonl and its labels"),
    "hellaswag": Place("https://github.com/rowanz/hellaswag", "hellaswag_val.jsonl", "hellaswag_train.jsonl"),
    "winogrande": Place(f"{ALLENAI}/winogrande", "dev.jsonl", "train_xl.jsonl"),
    "arc_easy": Place(f"{ALLENAI}/arc", "ARC-Easy-Test.jsonl", "ARC-Easy-Train.jsonl"),
    "arc_challenge": Place(f"{ALLENAI}/arc", "ARC-Challenge-Test.jsonl", "ARC-Challenge-Train.jsonl"),
    "openbookqa": Place(f"{ALLENAI}/open-book-qa", "test.jsonl", "train.jsonl"),
    "naturalquestions": Place(
        "https://github.com/google-research-datasets/natural-questions", "NQ-open.dev.jsonl", "NQ-open.train.jsonl"
    ),
    "triviaqa": Place("https://nlp.cs.washington.edu/triviaqa", "wikipedia-dev.json", "wikipedia-train.json"),
    "race_middle": Place(RACE, "RACE/test/middle/*.txt", "RACE/train/middle/*.txt"),
    "race_high": Place(RACE, "RACE/test/high/*.txt", "RACE/train/high/*.txt"),
    "math": Place(f"{HENDRYCKS}/math", "MATH/test/*/*.json", "MATH/train/*/*.json"),
    "gsm8k": Place("https://github.com/openai/grade-school-math", "test.jsonl", "train.jsonl"),
    "humaneval": Place("https://github.com/openai/human-eval", "HumanEval.jsonl.gz"),
    "mbpp": Place("https://github.com/google-research/google-research/tree/master/mbpp", "mbpp.jsonl", "mbpp.jsonl"),
    "mmlu": Place(f"{HENDRYCKS}/test", "test/*_test.csv", "dev/*_dev.csv"),
    "realtoxicityprompts": Place("https://github.com/allenai/real-toxicity-prompts", "prompts.jsonl"),
    "crows_pairs": Place("https://github.com/nyu-mll/crows-pairs", "crows_pairs_anonymized.csv"),
    "winogender": Place(
        "https://github.com/rudinger/winogender-schemas", "all_sentences.tsv and occupations-stats.tsv"
    ),
    "truthfulqa": Place("https://github.com/sylinrl/TruthfulQA", "mc_task.json"),
}


def missing(benchmark: str, folder: object, *, examples: bool = False) -> InputError:
    """What to raise where a benchmark's items or examples are not in the folder of benchmarks."""
    place, title = PLACES[benchmark], BENCHMARKS[benchmark].title
    if examples:
        what = f"holds too few examples of {title}"
        mend = f"put {place.examples} of {place.address} there, or give --shots 0"
    else:
        what, mend = (
            f"holds no {BENCHMARKS[benchmark].split} items of {title}",
            f"puna fetch --benchmarks {benchmark}, or put {place.files} of {place.address} there",
        )
    return InputError(what, where=str(folder), mend=mend)
