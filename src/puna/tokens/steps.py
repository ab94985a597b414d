"""The steps from documents to windows: tokenizer, token shards, manifest, mixture.

tokenizer         SentencePiece on a seeded sample of the training documents, each source in proportion to its share
tokens.S          a token shard for each shard of documents
manifest          what all shards hold, as one digest
mixture           how many windows there are and how the sources take turns in them
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import xxhash

from puna import space, storage
from puna import tokenizer as tokenizers
from puna.data.document import read_column
from puna.progress import say
from puna.recipe import Recipe, Source
from puna.space import Need
from puna.steps import Context, Step
from puna.storage import Place
from puna.tokens import manifest as manifests
from puna.tokens import mixture as mixtures
from puna.tokens.shards import write_shard
from puna.tokens.table_1 import paper_epochs

MODEL = "tokenizer/tokenizer.model"
RATE_SAMPLE = 500_000  # bytes of text that tell how many tokens a byte the whole will have


def steps(recipe: Recipe, names: Sequence[str]) -> list[Step]:
    """The token steps for the sources `names`, in order."""
    shares = {name: str(recipe.sources[name].share) for name in names}
    documents = tuple(f"documents.{name}" for name in names)
    graph = [
        Step(
            "tokenizer",
            partial(_tokenizer, recipe, tuple(names)),
            (MODEL,),
            documents,
            recipe.tokenizer.model_dump(mode="json") | {"seed": recipe.seed, "shares": shares},
            space=partial(_tokenizer_space, recipe),
        )
    ]
    for name in names:
        outputs = (f"tokens/{name}/*.bin", f"tokens/{name}/*.idx")
        needs = (f"documents.{name}", "tokenizer")
        graph.append(Step(f"tokens.{name}", partial(_tokens, name), outputs, needs, space=partial(_tokens_space, name)))
    tokens = tuple(f"tokens.{name}" for name in names)
    train = recipe.train
    asked = {"context": train.context, "batch": train.batch, "tokens": train.tokens, "steps": train.steps}
    return [
        *graph,
        Step("manifest", partial(_manifest, tuple(names)), ("tokens/manifest.json",), ("tokenizer", *tokens)),
        Step(
            "mixture",
            partial(_mixture, recipe),
            ("tokens/mixture.json",),
            ("manifest",),
            asked | {"seed": recipe.training_seed, "shares": shares, "max_epochs": mixtures.caps(recipe, names)},
        ),
    ]


def _tokenizer(recipe: Recipe, names: Sequence[str], context: Context) -> dict[str, Any]:
    settings = recipe.tokenizer
    counts = {"documents": 0, "bytes": 0}
    total = sum(recipe.sources[name].share for name in names)

    def sample() -> Iterator[str]:
        for name in names:
            budget = int(settings.sample * recipe.sources[name].share / total)
            for text in _sample(context, name, recipe.sources[name], budget, recipe.seed):
                counts["documents"] += 1
                counts["bytes"] += len(text.encode())
                yield text

    model = tokenizers.train(
        sample(),
        pieces=settings.pieces,
        max_piece_length=settings.max_piece_length,
        character_coverage=settings.character_coverage,
    )
    storage.write(context.folder / MODEL, model)
    return {"pieces": settings.pieces, "sample_documents": counts["documents"], "sample_bytes": counts["bytes"]}


def _tokenizer_space(recipe: Recipe, context: Context) -> Need:
    settings = recipe.tokenizer
    return space.small(settings.pieces * (4 * settings.max_piece_length + 20))


def _sample(context: Context, name: str, source: Source, budget: int, seed: int) -> Iterator[str]:
    """Training texts of a source, each kept or not by its id and the seed, so that about `budget` bytes come out and
    never a tenth more."""
    there = context.counts(f"documents.{name}")["training"]["bytes"]
    threshold = min(1.0, budget / max(1, there)) * 2.0**64
    size = 0
    for shard in _document_shards(context, name):
        for identifier, text in zip(read_column(shard, "id"), read_column(shard, "text"), strict=True):
            if xxhash.xxh3_64_intdigest(f"{seed}\0sample\0{identifier}".encode()) >= threshold:
                continue
            length = len(text.encode())
            if size + length <= 1.1 * budget:
                size += length
                yield text


def _tokens(name: str, context: Context) -> dict[str, Any]:
    shards = [storage.below(shard, context.folder) for shard in _document_shards(context, name)]
    work = partial(_write_tokens, context.folder, name)
    results = context.map(work, shards, label=f"  {name}: encoding", name=lambda shard: Path(shard).stem)
    return {kind: sum(result[kind] for result in results) for kind in ("tokens", "documents", "bytes")}


def _tokens_space(name: str, context: Context) -> Need:
    counts, shards = context.counts(f"documents.{name}")["training"], _document_shards(context, name)
    tokenizer = tokenizers.load(context.folder / MODEL)
    size = tokens = 0
    # Shards are ranges of hashes, so the beginning of one is a fair sample of the source.
    for text in read_column(shards[0], "text"):
        size += len(text.encode())
        tokens += len(tokenizer.encode(text))
        if size >= RATE_SAMPLE:
            break
    rate, width = tokens / max(1, size), tokenizer.dtype.itemsize
    return space.encoded(counts["bytes"], counts["documents"], len(shards), width, rate, context.workers)


def _write_tokens(folder: Place, name: str, shard: str, scratch: Place) -> dict[str, Any]:
    stem = f"tokens/{name}/{Path(shard).stem}"
    documents = zip(read_column(folder / shard, "id"), read_column(folder / shard, "text"), strict=True)
    counts = write_shard(folder / stem, documents, tokenizers.load(folder / MODEL))
    return {**counts, "files": [f"{stem}.bin", f"{stem}.idx"]}


def _manifest(names: Sequence[str], context: Context) -> dict[str, Any]:
    shards = {
        name: [
            Path(file).stem for file in sorted(context.records[f"tokens.{name}"]["outputs"]) if file.endswith(".bin")
        ]
        for name in names
    }
    manifest = manifests.build(context.folder, shards, tokenizers.load(context.folder / MODEL))
    manifests.write(context.folder, manifest)
    return {"digest": manifest.digest}


def _mixture(recipe: Recipe, context: Context) -> dict[str, Any]:
    mixture = mixtures.plan(recipe, manifests.read(context.folder))
    mixtures.write(context.folder, mixture)
    for name, ration in mixture.sources.items():
        cap = f", at most {ration.max_epochs:g}" if ration.max_epochs else ""
        paper = f" (in the paper {given:.2f})" if (given := paper_epochs(name)) else ""
        say(f"  {name}: share {ration.share}, {ration.windows:,} windows, read {ration.epochs:.2f} times{paper}{cap}")
    epochs = {name: ration.epochs for name, ration in mixture.sources.items()}
    # Of all that mixture.json tells, the windows depend on this alone: a cap that does not bind changes none of them.
    turns = {name: [ration.weight, ration.epoch_windows] for name, ration in mixture.sources.items()}
    read = [mixture.manifest, mixture.seed, mixture.context, mixture.batch_windows, mixture.steps, turns]
    context.produced = storage.digest_bytes(json.dumps(read, sort_keys=True).encode())
    return {"steps": mixture.steps, "windows": mixture.windows, "capped_by": mixture.capped_by, "epochs": epochs}


def _document_shards(context: Context, name: str) -> list[Place]:
    outputs = sorted(context.records[f"documents.{name}"]["outputs"])
    return [context.folder / file for file in outputs if file.startswith("documents/")]
