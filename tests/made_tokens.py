"""Token runs that tests make up: documents of known ids, a tokenizer that needs no training, a run folder of both."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from puna.recipe import Data
from puna.tokenizer import dtype_for
from puna.tokens import manifest, mixture, shards

Documents = Sequence[tuple[str, str]]


class Spelling:
    """Spells a text in its UTF-8 bytes: ids 3 to 258, with <s> 1 and </s> 2 as in the real tokenizer."""

    bos, eos = 1, 2

    def __init__(self, vocabulary: int = 300) -> None:
        self.vocabulary = vocabulary
        self.dtype = dtype_for(vocabulary)
        self.digest = f"xxh3:{vocabulary:032x}"

    def encode_batch(self, texts: Iterable[str]) -> list[np.ndarray]:
        return [np.frombuffer(text.encode(), dtype=np.uint8).astype(self.dtype) + 3 for text in texts]


def document(number: int) -> str:
    """A document id."""
    return f"{number:032x}"


def stream(documents: Documents, tokenizer: Any) -> list[int]:
    """All tokens of the documents, one after another, as plain integers."""
    return [t for _, text in documents for t in (1, *tokenizer.encode_batch([text])[0].tolist(), 2)]


def write_tokens(run: Path, sources: Mapping[str, Sequence[Documents]], tokenizer: Any) -> manifest.Manifest:
    """Write shards (source -> the documents of each shard) and the manifest."""
    names: dict[str, list[str]] = {}
    for source, cuts in sources.items():
        names[source] = [f"{number:05}" for number in range(len(cuts))]
        for name, documents in zip(names[source], cuts, strict=True):
            shards.write_shard(manifest.stem(run, source, name), documents, tokenizer)
    built = manifest.build(run, names, tokenizer)
    manifest.write(run, built)
    return built


def recipe(
    shares: Mapping[str, str],
    *,
    context: int = 8,
    batch: int = 8,
    steps: int = 10,
    seed: int = 1,
    max_epochs: Mapping[str, float] | None = None,
    data: Mapping[str, Any] | None = None,
) -> Any:
    """What `mixture.plan` reads of a recipe. batch: tokens a step."""
    caps = max_epochs or {}
    sources = {n: SimpleNamespace(share=Decimal(s), max_epochs=caps.get(n)) for n, s in shares.items()}
    train = SimpleNamespace(context=context, batch=batch, tokens=None, steps=steps)
    return SimpleNamespace(
        training_seed=seed, seed=seed, sources=sources, train=train, data=Data.model_validate(data or {})
    )


def write_mixture(run: Path, built: manifest.Manifest, made: Any) -> mixture.Mixture:
    planned = mixture.plan(made, built)
    mixture.write(run, planned)
    return planned
