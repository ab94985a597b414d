"""Every weight of a model by name and shape, and what of it one rank holds.

The shapes are those of the real model, which a test compares; they stand here again so that planning loads no torch.
Tensor parallelism cuts the first linear weights of each half of a layer by rows, the last by columns, and the embedding
and the output by pieces of the vocabulary; the norms are whole on every rank.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from puna.model.config import ModelConfig
from puna.parallel.layout import Layout

ROWS, COLUMNS = ("wq", "wk", "wv", "w1", "w3", "tok_embeddings", "output"), ("wo", "w2")


class Weight(NamedTuple):
    name: str
    shape: tuple[int, ...]

    @property
    def elements(self) -> int:
        return math.prod(self.shape)


def layer_weights(config: ModelConfig) -> Iterator[Weight]:
    """Those of one layer, named within it."""
    dim, keys, hidden = config.dim, config.kv_heads * config.head_dim, config.hidden
    yield Weight("attention.wq.weight", (dim, dim))
    yield Weight("attention.wk.weight", (keys, dim))
    yield Weight("attention.wv.weight", (keys, dim))
    yield Weight("attention.wo.weight", (dim, dim))
    yield Weight("feed_forward.w1.weight", (hidden, dim))
    yield Weight("feed_forward.w2.weight", (dim, hidden))
    yield Weight("feed_forward.w3.weight", (hidden, dim))
    yield Weight("attention_norm.weight", (dim,))
    yield Weight("ffn_norm.weight", (dim,))


def around_weights(config: ModelConfig) -> Iterator[Weight]:
    """Those before and behind the layers."""
    yield Weight("tok_embeddings.weight", (config.vocabulary, config.dim))
    yield Weight("norm.weight", (config.dim,))
    if not config.tied:
        yield Weight("output.weight", (config.vocabulary, config.dim))


def all_weights(config: ModelConfig) -> Mapping[str, tuple[int, ...]]:
    """Name and shape of every weight of a model."""
    named = {weight.name: weight.shape for weight in around_weights(config)}
    for index in range(config.layers):
        named |= {f"layers.{index}.{weight.name}": weight.shape for weight in layer_weights(config)}
    return named


def parameters(config: ModelConfig) -> int:
    layer = sum(weight.elements for weight in layer_weights(config))
    return config.layers * layer + sum(weight.elements for weight in around_weights(config))


def tensor_cut(weight: Weight, tensor: int) -> tuple[int, ...]:
    """Its shape on one of `tensor` ranks, those of the rank that has most."""
    part = weight.name.removesuffix(".weight").rpartition(".")[2]
    first, *rest = weight.shape
    if part in ROWS:
        return (-(-first // tensor), *rest)
    if part in COLUMNS:
        return (first, -(-rest[0] // tensor))
    return weight.shape


@functools.cache
def layer_elements(config: ModelConfig, tensor: int) -> int:
    """Elements of one layer's weights on a rank while it computes."""
    return sum(math.prod(tensor_cut(weight, tensor)) for weight in layer_weights(config))


@functools.cache
def around_elements(config: ModelConfig, tensor: int) -> int:
    """Elements of the weights around the layers on a rank while it computes."""
    return sum(math.prod(tensor_cut(weight, tensor)) for weight in around_weights(config))


def held_elements(config: ModelConfig, layout: Layout) -> int:
    """Elements of the weights whose masters and moments a rank keeps: those of its stage, cut by `tensor` and then, the
    first dimension of each, by `shard`. Of a pipeline, the rank with most: embedding and output are on its two ends."""
    layer, around = _held(config, layout.tensor, layout.shard, layout.pipeline > 1)
    return layout.stage_layers(config) * layer + around


@functools.cache
def _held(config: ModelConfig, tensor: int, shard: int, cut: bool) -> tuple[int, int]:
    """Of a layer, and around the layers; cut: only one of the two ends is here."""

    def mine(weights: Iterable[Weight]) -> int:
        shapes = (tensor_cut(weight, tensor) for weight in weights)
        return sum(-(-first // shard) * math.prod(rest) for first, *rest in shapes)

    around = list(around_weights(config))
    return mine(layer_weights(config)), mine(around[:1] if cut else around)
