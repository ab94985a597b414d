"""Bits per byte on held-out text, of the model and of what it has to beat, by source.

Bits per byte of UTF-8 is the one loss that compares models with different tokenizers, n-gram models and compressors.
The paper shows training loss alone (Figure 1); here every source has text of its own that no training has seen.

What is scored is the same for all that predict pieces: each document's pieces and its </s>, after its <s>; no context
reaches out of the document. Uniform spends log2(vocabulary) bits on each. Compressors see the documents joined by
newlines. A source's n-gram model and primed compressors know the training text of that source alone. For `all`, bits
and bytes are summed over the sources.

The baselines are a step of their own, since they need no model and no torch: a longer training leaves them as they are.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from puna import storage, tokenizer
from puna.data.document import read_column
from puna.data.quality import ngram
from puna.engine import Engine, map_tasks
from puna.errors import InputError
from puna.evaluate.compression import SEPARATOR, compressed_size, compressed_sizes
from puna.formats import BASELINES, HELDOUT
from puna.progress import progress, say
from puna.recipe import Recipe
from puna.storage import Place
from puna.tokenizer import Tokenizer

MOST_TRAINING_TEXT = 24_000_000  # bytes of a source; training an n-gram model on so much takes up to 900 MB
COST = {"xz": 2.0, "zstd": 2.0, "ngram": 1.0}  # time for the same text, relative to each other


def baselines(folder: Place, recipe: Recipe, *, workers: int = 1, engine: Engine | None = None) -> dict[str, Any]:
    """Measure the recipe's baselines on the run's held-out text; writes evaluations/baselines.json.

    Reads heldout/, documents/ and tokenizer/ of the run. Where a source has no training text, or more than
    MOST_TRAINING_TEXT, what needs it (the n-gram model, primed compressors) is left out, and that is said. A worker
    takes 60 to 110 bytes of memory for a token of a source's training text, at most 900 MB. Returns what was written.
    """
    encoding = _tokenizer(folder)
    sizes = {source: _size(texts) for source, texts in _held_out(folder, encoding).items()}
    if not sizes:
        say("no text is held out, so there is nothing to measure: give heldout.share or a source's heldout_groups")
    bits: dict[str, dict[str, float]] = {source: {} for source in sizes}
    tasks = []
    for source, size in sizes.items():
        known = training_bytes(folder, source)
        usable = 0 < known <= MOST_TRAINING_TEXT
        if not usable and set(recipe.evaluate.baselines) != {"uniform"}:
            much = f"more than {MOST_TRAINING_TEXT:,} bytes of" if known else "no"
            say(f"{source} has {much} training text: its n-gram model and primed compressors are left out")
        for name in recipe.evaluate.baselines:
            if name == "uniform":
                bits[source][name] = size.tokens * math.log2(encoding.vocabulary)
            elif name != "ngram" or usable:
                tasks.append(_Task(source, name, recipe.evaluate.ngram_order, size.bytes, known if usable else 0))
    work = partial(_measure, folder)
    for task, found in map_tasks(work, tasks, workers=workers, label="baselines", size=_cost, engine=engine):
        bits[task.source].update(found)
    result = {"format": BASELINES.version, "bits_per_byte": bits_per_byte(bits, sizes), **_summed(sizes)}
    storage.write_json(folder / "evaluations" / "baselines.json", result)
    return result


def evaluate(folder: Place, recipe: Recipe) -> dict[str, Any]:
    """Measure the run's newest checkpoint beside its baselines; writes evaluations/heldout.json.

    Runs in f32 on `train.device`, whatever type the model was trained in. Returns what was written. InputError when the
    run has no checkpoint or no baselines of this held-out text.
    """
    from puna.model import device
    from puna.model.bits import bits as nats_of
    from puna.model.weights import latest_checkpoint, load_checkpoint

    location = folder / "evaluations" / "baselines.json"
    result: dict[str, Any] = storage.read_json(location)
    held = _held_out(folder, _tokenizer(folder))
    sizes = {source: _size(texts) for source, texts in held.items()}
    BASELINES.refuse_newer(result.get("format"), location)
    known = result.get("format") == BASELINES.version
    if not known or any(result.get(key) != value for key, value in _summed(sizes).items()):
        mend = "remove it and give the same command again"
        raise InputError("was measured on other held-out text", where=str(location), mend=mend)
    checkpoint = latest_checkpoint(folder)
    model = load_checkpoint(checkpoint, device=device.chosen(recipe.train.device))
    context = recipe.evaluate.context or recipe.train.context
    stride = recipe.evaluate.stride or max(1, context // 2)
    bits: dict[str, dict[str, float]] = {}
    with progress("held-out text", sum(size.tokens for size in sizes.values()), "tokens") as bar:
        for source, texts in held.items():
            documents = [framed(ids) for ids in texts.ids]
            nats = nats_of(model, documents, context, stride, advance=bar.advance).nats
            bits[source] = {"model": float(nats.sum()) / math.log(2)}
    for source, found in bits_per_byte(bits, sizes).items():
        result["bits_per_byte"][source].update(found)
    result |= {"format": HELDOUT.version, "context": context, "stride": stride, "checkpoint": checkpoint.name}
    storage.write_json(folder / "evaluations" / "heldout.json", result)
    return result


def held_out_ids(folder: Place) -> Iterator[tuple[str, Iterator[tuple[int, tokenizer.Ids]]]]:
    """Of each source with held-out text, in order of name: the bytes of each document and its pieces without <s> and
    </s>, read as far as they are asked for."""
    names = sorted({path.parent.name for path in storage.listing(folder / "heldout", "*/*.parquet")})
    encoding = _tokenizer(folder) if names else None
    for name in names:
        texts = (text for text in _texts(folder / "heldout" / name) if text)
        if encoding is not None and (first := next(texts, None)) is not None:
            each = itertools.chain((first,), texts)
            yield name, ((len(text.encode()), encoding.encode_batch([text])[0]) for text in each)


@dataclass(frozen=True, slots=True)
class Size:
    """How much text was scored."""

    bytes: int
    """Of UTF-8."""
    documents: int
    tokens: int
    """Pieces, and one </s> a document."""


def bits_per_byte(bits: Mapping[str, Mapping[str, float]], sizes: Mapping[str, Size]) -> dict[str, dict[str, float]]:
    """{source: {name: bits}} over the bytes of each source, and `all`: what every source was measured with, summed."""
    table = {
        source: {name: value / sizes[source].bytes for name, value in found.items()} for source, found in bits.items()
    }
    shared = [name for name in next(iter(bits.values()), {}) if all(name in found for found in bits.values())]
    total = sum(sizes[source].bytes for source in bits)
    return {**table, "all": {name: math.fsum(found[name] for found in bits.values()) / total for name in shared}}


def ngram_bits(encoding: Tokenizer, training: Iterable[str], held: Iterable[str], order: int) -> float:
    """Bits that an n-gram model of the training texts needs for the held-out ones, their </s> included."""
    model = ngram_model(encoding, training, order)
    tokens = ngram.stream(encoding.encode_batch(held), vocabulary=model.vocabulary, bos=model.bos, eos=model.eos)
    return float(-model.log10_probabilities(tokens).sum() * math.log2(10))


def ngram_model(encoding: Tokenizer, training: Iterable[str], order: int) -> ngram.NgramModel:
    """The n-gram model of training texts, in the pieces of `encoding`."""
    ids = encoding.encode_batch(training)
    return ngram.train(ids, order=order, vocabulary=encoding.vocabulary, bos=encoding.bos, eos=encoding.eos)


@dataclass(frozen=True, slots=True)
class _Task:
    """One baseline of one source. A worker reads the texts itself, so that a task is small to send."""

    source: str
    name: Literal["xz", "zstd", "ngram"]
    order: int
    held_bytes: int
    training_bytes: int
    """0: do without."""


def _cost(task: _Task) -> float:
    return COST[task.name] * (task.training_bytes + task.held_bytes)


def _measure(folder: Place, task: _Task) -> dict[str, float]:
    """Bits of the source's whole held-out text, by name in the table."""
    held = _texts(folder / "heldout" / task.source)
    training = _texts(folder / "documents" / task.source)
    if task.name == "ngram":
        return {"ngram": ngram_bits(_tokenizer(folder), training, held, task.order)}
    data = _joined(held)
    if not task.training_bytes:
        return {task.name: 8.0 * compressed_size(task.name, data)}
    alone, primed = compressed_sizes(task.name, _joined(training), data)
    return {task.name: 8.0 * alone, f"{task.name}_primed": 8.0 * primed}


@dataclass(frozen=True, slots=True)
class _HeldOut:
    """The held-out texts of a source: bytes of each, and its pieces without <s> and </s>."""

    bytes: list[int]
    ids: list[tokenizer.Ids]


def _held_out(folder: Place, encoding: Tokenizer) -> dict[str, _HeldOut]:
    """By source, in order of name; sources without held-out text are not there."""
    names = sorted({path.parent.name for path in storage.listing(folder / "heldout", "*/*.parquet")})
    texts = {name: list(_texts(folder / "heldout" / name)) for name in names}
    return {
        name: _HeldOut([len(text.encode()) for text in found], encoding.encode_batch(found))
        for name, found in texts.items()
        if any(found)
    }


def _size(held: _HeldOut) -> Size:
    return Size(sum(held.bytes), len(held.ids), sum(len(ids) + 1 for ids in held.ids))


def _summed(sizes: Mapping[str, Size]) -> dict[str, dict[str, int]]:
    """{"bytes": {source: ..., "all": ...}, "documents": ..., "tokens": ...}"""
    columns: dict[str, dict[str, int]] = {}
    for key in ("bytes", "documents", "tokens"):
        column = {source: asdict(size)[key] for source, size in sizes.items()}
        columns[key] = {**column, "all": sum(column.values())}
    return columns


def framed(ids: tokenizer.Ids) -> npt.NDArray[np.int64]:
    """The ids of a document with its <s> and </s>."""
    return np.concatenate(([Tokenizer.bos], ids, [Tokenizer.eos])).astype(np.int64)


def training_bytes(folder: Place, source: str) -> int:
    """Bytes of the source's training text; counting ends beyond MOST_TRAINING_TEXT."""
    total = 0
    for text in _texts(folder / "documents" / source):
        total += len(text.encode()) + len(SEPARATOR)
        if total > MOST_TRAINING_TEXT:
            break
    return total


def _texts(folder: Place) -> Iterator[str]:
    for shard in storage.listing(folder, "*.parquet"):
        yield from read_column(shard, "text")


def _joined(texts: Iterable[str]) -> bytes:
    return SEPARATOR.join(text.encode() for text in texts)


def _tokenizer(folder: Place) -> Tokenizer:
    return tokenizer.load(folder / "tokenizer" / "tokenizer.model")
