"""Finished runs of several sizes as their files, made up, with a planted law: what the comparison is tested on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from puna import recipe as recipes
from puna.model import flop
from puna.model.config import ModelConfig
from report_run import jsonl, run_files

SHAPES = ((64, 2, 4), (128, 4, 5), (192, 6, 6), (320, 10, 6))  # dim, heads, layers
SEEDS = (3, 3, 1, 1)
PLANTED = 0.06  # exponent of the held-out bits per byte


def family(root: Path, shapes: Sequence[tuple[int, int, int]] = SHAPES, seeds: Sequence[int] = SEEDS) -> list[Path]:
    """The run folders of these sizes, each with so many seeds."""
    return [
        made(root, f"d{dim}-seed{seed}", [f"model.dim={dim}", f"model.heads={heads}", f"model.layers={layers}"], seed)
        for (dim, heads, layers), several in zip(shapes, seeds, strict=True)
        for seed in range(1, several + 1)
    ]


def made(
    root: Path, name: str, overrides: Sequence[str] = (), seed: int = 1, changed: Mapping[str, Any] | None = None
) -> Path:
    """A run of `laptop` with these values; `changed` gives files another content, or None: they are missing."""
    recipe = recipes.load("laptop", [f"name={name}", f"seed={seed}", *overrides])
    files = run_files() | {"recipe.toml": recipes.as_toml(recipe)}
    weights = flop.matmul_weights(ModelConfig.from_recipe(recipe, 4096))
    bits = 2.0 * (weights / 1e6) ** -PLANTED * (1 + 0.002 * np.sin(7 * seed + weights))
    files["metrics.jsonl"] = jsonl(training_lines(weights, seed))
    told = files["evaluations/heldout.json"]["bits_per_byte"]
    for source, part in (("all", 1.0), ("wikipedia", 0.97), ("github", 1.05)):
        told[source] = told[source] | {"model": bits * part}
    files |= {"tokens/manifest.json": manifest(), "records/heldout.json": heldout_record()}
    for path, content in (files | dict(changed or {})).items():
        target = root / name / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if content is not None:
            target.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
    return root / name


def training_lines(weights: int, seed: int, steps: int = 240) -> list[dict[str, Any]]:
    noise = np.random.default_rng([seed, weights]).normal(size=steps)
    lines = []
    for step in range(1, steps + 1):
        loss = 2.2 + 1.3 * (weights / 1e6) ** -0.1 * (step / steps) ** -0.25 + 4 * np.exp(-step / 9)
        lines.append({"step": step, "tokens": step * 8192, "loss": loss + 0.03 * noise[step - 1], "seconds": 1.0})
        if step % 60 == 0:
            told = {"bits_per_byte": loss / 1.8, "nats_per_token": loss}
            lines.append({"step": step, "heldout": {"all": told}})
    return lines


def manifest(tokenizer: str = "xxh3:0aff") -> dict[str, Any]:
    sources = {"wikipedia": {"bytes": 9_870_123, "tokens": 3_310_220}, "github": {"bytes": 11e6, "tokens": 3_990_104}}
    return {"format": 1, "digest": "xxh3:00ff", "tokenizer": tokenizer, "sources": sources}


def heldout_record(digest: str = "xxh3:1") -> dict[str, Any]:
    outputs = {"heldout/wikipedia/00000.parquet": {"digest": digest}}
    return {"format": 1, "step": "documents.wikipedia", "outputs": outputs, "counts": {}}
