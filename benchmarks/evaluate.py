"""How fast the paper's benchmarks are asked, beside lm-eval's own Hugging Face backend, on the same requests.

    python benchmarks/evaluate.py MODEL HF [NAME ...] --data BENCHMARKS [--json FILE] [--quick] [--rounds N]

    multiple_choice   MMLU with five examples: 64 items from all its subjects, asked with the examples of one of them,
                      since in the whole release 246 items of a subject share theirs, and 8 in a sample of it
    hellaswag         HellaSwag, four endings an item
    race_like         BoolQ's passages joined to the length of a RACE article, four questions each
    generation        TriviaQA, five examples, 16 tokens, greedy

MODEL is a model of Puna's, HF the same as `puna export --to hf` writes it. Both get the same requests of lm-eval, in
f32, with as many threads; the peer runs at the best of the batch sizes 1, 4 and 16, found beforehand. Items a second of
processor time, over all threads; rounds in turn, medians and ranges. Tokens that each computes for an item are printed,
and in how many items the two choose alike.

    pip install 'puna[eval]' transformers accelerate
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from form import metric

BATCHES = (1, 4, 16)
ARTICLE = 2000  # characters
MADE = 16  # tokens


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("hf", type=Path)
    parser.add_argument("name", nargs="*", help=f"of {', '.join(CASES)}; all without one")
    parser.add_argument("--data", type=Path, required=True, help="release files of the benchmarks")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--quick", action="store_true", help="one round of few items, the peer at batch size 4")
    parser.add_argument("--rounds", type=int, help="rounds instead of 3")
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    if unknown := set(asked.name) - set(CASES):
        parser.error(f"no figure is named {', '.join(sorted(unknown))}; there are {', '.join(CASES)}")
    import torch
    from lm_eval.models.huggingface import HFLM

    import puna
    from puna.evaluate.harness.model import HarnessModel
    from puna.progress import configure

    configure(quiet=True)
    torch.set_num_threads(asked.threads)
    ours = HarnessModel(puna.load(asked.model))
    peer = HFLM(pretrained=str(asked.hf), dtype="float32", device="cpu", batch_size=4)
    result = {}
    for name in asked.name or CASES:
        groups = CASES[name](asked.data, 4 if asked.quick else 16)
        result[name] = measured(name, ours, peer, groups, asked)
    if asked.json:
        asked.json.write_text(json.dumps(result, indent=1) + "\n")


Group = tuple[tuple[Any, ...], ...]
"""The requests of one item: (context, text) each, or one (context, settings)."""


def measured(name: str, ours: Any, peer: Any, groups: Sequence[Group], asked: argparse.Namespace) -> dict[str, Any]:
    made = name == "generation"
    requests = [each for group in groups for each in group]
    best = 4 if asked.quick else min(BATCHES, key=lambda size: run(peer, requests[: len(requests) // 4], made, size)[0])
    taken: dict[str, list[float]] = {"ours": [], "lm-eval-hf": []}
    for _ in range(asked.rounds or (1 if asked.quick else 3)):
        mine, answers = run(ours, requests, made)
        theirs, others = run(peer, requests, made, best)
        taken["ours"].append(len(groups) / mine)
        taken["lm-eval-hf"].append(len(groups) / theirs)
    pairs = zip(chosen(answers, groups, made), chosen(others, groups, made), strict=True)
    alike = sum(left == right for left, right in pairs)
    own, its = tokens(peer, groups, made)
    ratios = [left / right for left, right in zip(*taken.values(), strict=True)]
    found = {key: statistics.median(values) for key, values in taken.items()}
    print(
        f"{name}: {found['ours']:.3f} items/s/core, lm-eval-hf {found['lm-eval-hf']:.3f} at batch size {best}: "
        f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}); tokens an item {own:.0f} and "
        f"{its:.0f}; alike in {alike} of {len(groups)}",
        flush=True,
    )
    ratio = {"lm-eval-hf": {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios)}}
    return metric(found["ours"], "items/s/core", None, {"lm-eval-hf": found["lm-eval-hf"]}, ratio)


def run(model: Any, requests: Sequence[tuple[Any, ...]], made: bool, batch: int = 0) -> tuple[float, list[Any]]:
    """Processor seconds over all threads, and the answers."""
    from lm_eval.api.instance import Instance

    kind = "generate_until" if made else "loglikelihood"
    instances = [Instance(kind, {}, each, number) for number, each in enumerate(requests)]
    if batch:
        model.batch_size_per_gpu = batch
    ask: Callable[..., list[Any]] = model.generate_until if made else model.loglikelihood
    before = time.process_time()
    answers = ask(instances, disable_tqdm=True) if batch else ask(instances)
    return time.process_time() - before, answers


def chosen(answers: Sequence[Any], groups: Sequence[Group], made: bool) -> list[Any]:
    """Of each item the likeliest text, or the text that was made."""
    left = iter(answers)
    rows = [list(itertools.islice(left, len(group))) for group in groups]
    return [row[0] if made else max(range(len(row)), key=lambda index: row[index][0]) for row in rows]


def tokens(peer: Any, groups: Sequence[Group], made: bool) -> tuple[float, float]:
    """Tokens that each computes for an item on the average: ours shares what stands before, however far it is the same;
    the peer's reads every text whole, or once for all texts of one token behind one context."""
    encode = peer.tok_encode
    order = sorted((encode(context + ("" if made else text)) for group in groups for context, text in group))
    common = [0, *(_common(left, right) for left, right in itertools.pairwise(order))]
    own = sum(len(ids) - min(shared, len(ids) - 1) for ids, shared in zip(order, common, strict=True))
    its = 0
    for group in groups:
        lengths = [len(encode(context + ("" if made else text))) for context, text in group]
        single = not made and all(len(encode(text)) == 1 for _, text in group)
        its += lengths[0] if single else sum(lengths)
    added = MADE if made else 0
    return own / len(groups) + added, its / len(groups) + added


def _common(left: Sequence[int], right: Sequence[int]) -> int:
    size = min(len(left), len(right))
    return next((place for place in range(size) if left[place] != right[place]), size)


def asked_of(task: str, shots: int, data: Path) -> list[tuple[Any, Any]]:
    """Items with what is asked of them."""
    from puna.evaluate import chosen as choosing
    from puna.evaluate.tasks import PACK

    items = choosing.read(PACK[task].benchmark, data)
    return list(choosing.questions(PACK[task], items, shots, None).values())


def texts(asked: Any) -> Group:
    return tuple((choice.context, choice.text) for choice in asked.choices)


def multiple_choice(data: Path, count: int) -> list[Group]:
    from puna.evaluate import chosen as choosing
    from puna.evaluate.tasks import PACK

    items = choosing.read("mmlu", data)
    keys = list(items.asked)[:: max(1, len(items.asked) // (4 * count))][: 4 * count]
    subject = items.asked[keys[0]].extra["subject"]
    of_one = {key: replace(items.asked[key], extra={**items.asked[key].extra, "subject": subject}) for key in keys}
    return [
        texts(asked) for _, asked in choosing.questions(PACK["mmlu"], replace(items, asked=of_one), 5, None).values()
    ]


def hellaswag(data: Path, count: int) -> list[Group]:
    return [texts(asked) for _, asked in asked_of("hellaswag", 0, data)[: 2 * count]]


def race_like(data: Path, count: int) -> list[Group]:
    items = [item for item, _ in asked_of("boolq", 0, data)]
    groups = []
    for first in range(0, count, 4):
        four = items[first : first + 4]
        article = "\n".join(item.context for item in four)[:ARTICLE]
        groups += [
            tuple(
                (f"Article:\n{article}\n\nQuestion: {item.question}\nAnswer:", f" {word} it is")
                for word in ("yes", "no")
            )
            for item in four
        ]
    return groups


def generation(data: Path, count: int) -> list[Group]:
    settings = {"until": ["\n\n\n\n"], "max_gen_toks": MADE, "do_sample": False}
    return [((asked.text, settings),) for _, asked in asked_of("triviaqa", 5, data)[:count]]


CASES: dict[str, Callable[[Path, int], list[Group]]] = {
    "multiple_choice": multiple_choice,
    "hellaswag": hellaswag,
    "race_like": race_like,
    "generation": generation,
}

if __name__ == "__main__":
    main()
