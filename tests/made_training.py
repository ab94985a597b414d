"""A tiny training that tests can run in a second: a run folder of made-up tokens and a recipe of a very small model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

import tiny
from made_tokens import Spelling, document, write_mixture, write_tokens
from puna import recipe as recipes
from puna.data.document import Document, Origin, write_documents
from puna.train import onednn
from puna.train.callbacks import Callback
from puna.train.loop import train

FINGERPRINT = "f" * 32
STEPS = 12


def recipe(*overrides: str) -> recipes.Recipe:
    """Two layers of 32, windows of 32 tokens, twelve steps of four windows, a checkpoint every four, between steps."""
    values = {
        "sources.wikipedia.max_epochs": "none",
        "model.dim": 32,
        "model.heads": 2,
        "model.layers": 2,
        "train.context": 32,
        "train.batch": 128,
        "train.tokens": "none",
        "train.steps": STEPS,
        "train.warmup": 4,
        "train.checkpoint_every": 4,
        "train.compile": "off",
        "train.save": "between",
    }
    return recipes.load("laptop", [*(f"{key}={value}" for key, value in values.items()), *overrides])


def make(folder: Path, *overrides: str, poisoned: Sequence[int] = ()) -> Path:
    """Write recipe, documents, tokens and mixture of a run into `folder`; of its documents those numbered are random
    bytes."""
    order = np.random.default_rng(1)
    words = ["tea", "poi", "taro", "ulu", "niu"]
    documents = [(document(number), " ".join(order.choice(words, 100))) for number in range(20)]
    for number in poisoned:
        documents[number] = (document(number), bytes(order.integers(0, 128, 100, dtype=np.uint8)).decode())
    built = write_tokens(folder, {"wikipedia": [documents]}, Spelling())
    write_mixture(folder, built, recipe(*overrides))
    (folder / "recipe.toml").write_text(recipes.as_toml(recipe(*overrides)))
    published = [
        Document(id, "wikipedia", id, "en", text, Origin("dump", id, "dump.xml", 0, "", f"Page {number}", "", ""))
        for number, (id, text) in enumerate(documents)
    ]
    write_documents(folder / "documents" / "wikipedia" / "00000.parquet", published)
    return folder


def run(folder: Path, *overrides: str, callbacks: Sequence[Callback] = (), **options: Any) -> dict[str, Any]:
    """Train there, on one thread unless `threads` says otherwise. Matmuls stay MKL's: a training takes what is faster
    in that moment and keeps to it, and two that are compared bit by bit might differ in it."""
    given = {"fingerprint": FINGERPRINT, "threads": 1, **options}
    with mock.patch.object(onednn, "faster", return_value=False):
        return train(folder, recipe(*overrides), callbacks=callbacks, **given)


def metrics(folder: Path) -> list[dict[str, Any]]:
    """The training lines."""
    return [line for line in told(folder) if "loss" in line]


def told(folder: Path) -> list[dict[str, Any]]:
    """All lines of metrics.jsonl."""
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def result(folder: Path, step: int = STEPS) -> list[Any]:
    """All that must be the same bits after any history: the stable columns, and the last checkpoint's tensors."""
    last = folder / "checkpoints" / f"step-{step:06d}"
    tensors = [(last / name).read_bytes() for name in ("model.safetensors", "optimizer.safetensors", "state.json")]
    return [[[line[key] for key in tiny.COLUMNS] for line in metrics(folder)], tensors]
