"""The pack's multiple-choice tasks asked by Puna and by lm-eval's own Hugging Face backend, and held item by item.

    python benchmarks/evaluate_agrees.py MODEL HF [TASK-SHOTS ...] --data BENCHMARKS [--limit N] [--seconds S]

MODEL is a model of Puna's, HF the same as `puna export --to hf` writes it; both in f32, the peer at batch size 1. Puna
answers N items of each task, the peer the first of them, in slices of 4, until S seconds of its processor time are
gone: it reads every text by itself. A row for each task:

    items      that Puna answered; its score, with the standard error
    both       items that both answered; their scores over those; items of which they choose differently; ties: items
               whose two best choices are nearer than the tolerance; the largest difference of a log-probability, nats
    otherwise  the first text whose ids differ, and items chosen differently that are no ties

`mmlu_cloze` is no task of the pack: MMLU with the choices themselves scored behind the question, by characters, as
scores of small models are often published. --json has the share of items that are chosen alike, ties among them, and
what a row says.

    pip install 'puna[eval]' transformers accelerate
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from form import metric

TASKS = (
    *("boolq-0", "piqa-0", "siqa-0", "hellaswag-0", "winogrande-0", "arc_easy-0", "arc_challenge-0", "openbookqa-0"),
    *("mmlu-0", "mmlu-5", "mmlu_cloze-0", "truthfulqa-0", "crows_pairs-0", "winogender-0"),
)
SLICE = 4  # items


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("hf", type=Path)
    parser.add_argument("name", nargs="*", help=f"of {', '.join(TASKS)}, race_middle-0, race_high-0; without one these")
    parser.add_argument("--data", type=Path, required=True, help="release files of the benchmarks")
    parser.add_argument("--limit", type=int, help="items of each task; all without it")
    parser.add_argument("--seconds", type=float, default=120, help="processor seconds of the peer for each task")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    import torch
    from lm_eval.models.huggingface import HFLM

    import puna
    from puna.evaluate.answering import Model
    from puna.generate.packed import pack
    from puna.progress import configure

    configure(quiet=True)
    torch.set_num_threads(asked.threads)
    loaded = puna.load(asked.model)
    model = Model(pack(loaded.model), loaded.tokenizer)
    peer = HFLM(pretrained=str(asked.hf), dtype="float32", device="cpu", batch_size=1)
    result = {}
    for name in asked.name or TASKS:
        result[name] = row(name, planned(name, asked), model, peer, asked.seconds)
        if asked.json:
            asked.json.write_text(json.dumps(result, indent=1) + "\n")


def planned(name: str, asked: argparse.Namespace) -> Any:
    from puna.evaluate import run
    from puna.evaluate.tasks import PACK

    task, _, shots = name.rpartition("-")
    known = {**PACK, "mmlu_cloze": replace(PACK["mmlu"], name="mmlu_cloze", ask=cloze, norm="char")}
    return run.plan([run.Wanted(known[task], int(shots))], asked.data, limit=asked.limit)[0]


def cloze(item: Any, shown: str) -> Any:
    from puna.evaluate.task import Choice, Ranking

    about = str(item.extra["subject"]).replace("_", " ")
    context = f"The following are questions about {about}.\nQuestion: {item.question.strip()}\nAnswer:"
    return Ranking(tuple(Choice(context, f" {choice.strip()}") for choice in item.choices))


def row(name: str, plan: Any, model: Any, peer: Any, seconds: float) -> dict[str, Any]:
    from puna.evaluate.answering import answers
    from puna.evaluate.harness import agreement
    from puna.evaluate.run import judged

    asked = {key: asked for key, (_, asked) in plan.questions.items()}
    ours = {found.key: found.answer for found in answers(model, asked, alone=plan.alone)}
    value = judged(plan, ours, 0).value
    both = first(plan, theirs := theirs_within(plan, peer, seconds))
    found = agreement.compare(both, ours, theirs)
    told = [agreement.unlike_ids(peer, both, model), *(f"{key} is chosen differently" for key in found.unexplained)]
    print(
        f"{name}: {value.items} items, {found.metric} {percent(value.mean)} +- {percent(value.error or 0)}; both "
        f"{found.items} items of {found.texts} texts, {percent(found.ours)} and {percent(found.theirs)}, unlike "
        f"{len(found.unlike)}, ties {len(found.ties)}, at most {found.farthest:.1e} nats apart",
        *(f"    {line}" for line in told if line),
        sep="\n",
        flush=True,
    )
    alike = 1 - len(found.unexplained) / found.items
    scores = {"ours": found.ours, "lm-eval-hf": found.theirs, "all": value.mean, "error": value.error or 0.0}
    return {
        **metric(alike, "items chosen alike, of 1", 1.0),
        "scores": scores,
        "items": value.items,
        "both": found.items,
    }


def theirs_within(plan: Any, peer: Any, seconds: float) -> dict[str, Any]:
    """The peer's answers to the first items, until its time is gone; at least to a slice of them."""
    from puna.evaluate.harness import agreement

    begun, theirs, left = time.process_time(), {}, list(plan.questions)
    while left and (not theirs or time.process_time() - begun < seconds):
        part, left = left[:SLICE], left[SLICE:]
        theirs |= agreement.asked_of(peer, first(plan, part))
    return theirs


def first(plan: Any, keys: Mapping[str, Any] | list[str]) -> Any:
    return replace(plan, questions={key: plan.questions[key] for key in keys})


def percent(share: float) -> str:
    return f"{100 * share:.1f}"


if __name__ == "__main__":
    main()
