"""Held-out loss by source while a training goes on, every `train.evaluate_every` steps.

It is measured as it is at the end (heldout.py): in float32, whole documents, no context out of a document, the same
context and stride, from the master weights and by a model of its own, so that nothing of the training is touched and no
bit of it changes. It costs a forward pass over `train.evaluate_tokens` tokens of each source at most, the first
documents in order of id; a source whose first document is longer than that is measured on that document. Each measure
stands behind a checkpoint of the same step.
"""

from __future__ import annotations

import math
from typing import Any

from puna.evaluate.heldout import framed, held_out_ids
from puna.model.bits import Ids, bits
from puna.model.llama import Llama
from puna.progress import say
from puna.recipe import Recipe
from puna.train.callbacks import Callback, Step, Training
from puna.train.history import METRICS_NAME, lines
from puna.train.saving import measures


class HeldoutLoss(Callback):
    """Adds `{"step": ..., "heldout": {source or all: {nats_per_token, bits_per_byte, tokens, bytes}}}` lines to
    metrics.jsonl. A process that goes on from a checkpoint whose measure a kill prevented takes it first."""

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe
        self._context = recipe.evaluate.context or recipe.train.context
        self._stride = recipe.evaluate.stride or max(1, self._context // 2)

    def start(self, training: Training) -> None:
        most = training.settings.evaluate_tokens
        self._texts: dict[str, list[tuple[int, Ids]]] = {}
        for source, texts in held_out_ids(training.folder):
            chosen: list[tuple[int, Ids]] = []
            left = most
            for size, ids in texts:
                if chosen and len(ids) + 1 > left:
                    break
                left -= len(ids) + 1
                chosen.append((size, framed(ids)))
            self._texts[source] = chosen
        if not self._texts:
            say("no text is held out, so there is no held-out loss to measure")
        step = training.position.step
        known = (line.get("step") for line in lines(training.folder / METRICS_NAME) if "heldout" in line)
        if step and measures(training) and step not in known:
            self._measure(training)

    def step(self, training: Training, step: Step) -> None:
        # A process that is asked to leave leaves the measure to the next, which behind the last step never comes.
        if measures(training) and not step.rewound and (training.finished or not training.stop):
            self._measure(training)

    def _measure(self, training: Training) -> None:
        if not self._texts:
            return
        model = Llama(training.model.config, device="meta")
        model.load_state_dict(training.masters(), assign=True)
        found: dict[str, dict[str, Any]] = {}
        for source, texts in self._texts.items():
            documents = [ids for _, ids in texts]
            cost = bits(model, documents, self._context, self._stride, advance=training.alive)
            nats, tokens, size = float(cost.nats.sum()), int(cost.tokens.sum()), sum(size for size, _ in texts)
            found[source] = _scores(nats, tokens, size)
        total = math.fsum(one["nats_per_token"] * one["tokens"] for one in found.values())
        tokens, size = (sum(one[name] for one in found.values()) for name in ("tokens", "bytes"))
        found["all"] = _scores(total, tokens, size)
        training.write({"step": training.position.step, "heldout": found})
        told = ", ".join(f"{source} {one['bits_per_byte']:.3f}" for source, one in found.items())
        say(f"step {training.position.step}: held-out bits per byte {told}")


def _scores(nats: float, tokens: int, size: int) -> dict[str, Any]:
    return {
        "nats_per_token": round(nats / tokens, 6),
        "bits_per_byte": round(nats / math.log(2) / size, 6),
        "tokens": tokens,
        "bytes": size,
    }
