"""What it takes to have a model write text on GPUs: memory by the form of its weights, and tokens a second.

A token is written by reading all weights and the cache of every sequence once: that is the time it takes, at a share of
the memory's bandwidth, until so many sequences are written together that the matmuls take longer. Weights: 2 bytes an
element in 16 bits; in int8 and 4 bits, blocks of 32 with a scale of 16 bits, 8.5 and 4.5 bits; the input embedding
stays in 16 bits. The cache holds keys and values of each position in 16 bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from puna.errors import InputError
from puna.model import flop
from puna.model.config import ModelConfig
from puna.plan import shapes
from puna.plan.efficiency import efficiency
from puna.plan.gpus import Gpu
from puna.plan.roofline import collective

RESERVE = 1_000_000_000
"""Bytes of a GPU that are not planned with."""
FORMS = {"16 bits": 16.0, "int8": 8.5, "4 bits": 4.5}  # bits an element


@dataclass(frozen=True, slots=True)
class Serving:
    """One form of the weights on `gpus` GPUs that share the model. Bytes are of one GPU, rates of all together."""

    form: str
    weights: int
    cache: int
    """Of one sequence of the whole context."""
    room: int
    """What a GPU has for both."""
    prefill: float
    """Tokens a second that are read."""
    alone: float
    """Tokens a second of one sequence, on average over its context."""
    sequences: int
    """That fit together, each of the whole context."""
    together: float
    """Tokens a second of all of these."""

    @property
    def fits(self) -> bool:
        return self.weights + self.cache <= self.room

    def as_json(self) -> dict[str, Any]:
        return {
            "form": self.form,
            "fits": self.fits,
            "weights_bytes_per_gpu": self.weights,
            "cache_bytes_per_sequence_per_gpu": self.cache,
            "tokens_per_second": self.alone if self.fits else None,
            "sequences": self.sequences,
            "tokens_per_second_together": self.together if self.fits else None,
            "prefill_tokens_per_second": self.prefill if self.fits else None,
        }


def serving(config: ModelConfig, gpu: Gpu, gpus: int, *, most: int | None = None) -> list[Serving]:
    """One record a form. most: sequences together at most. InputError when the model's heads cannot be shared so."""
    if gpus > gpu.node or any(count % gpus for count in (config.heads, config.kv_heads, config.hidden)):
        what = f"the heads and columns of the model cannot be shared by {gpus:,} GPUs of one node"
        raise InputError(what, mend=f"give --gpus that divide {config.kv_heads} heads, at most {gpu.node}")
    return [_serving(config, gpu, gpus, form, most) for form in FORMS]


def weight_bytes(config: ModelConfig, form: str) -> int:
    """Of the whole model."""
    matmuls = flop.matmul_weights(config)
    return round(matmuls * FORMS[form] / 8) + 2 * (shapes.parameters(config) - matmuls)


def cache_bytes(config: ModelConfig) -> int:
    """Of one position of one sequence."""
    return 2 * 2 * config.layers * config.kv_heads * config.head_dim


def _serving(config: ModelConfig, gpu: Gpu, gpus: int, form: str, most: int | None) -> Serving:
    factors = efficiency(gpu.family)
    weights = -(-weight_bytes(config, form) // gpus)
    cache = -(-cache_bytes(config) * config.context // gpus)
    room = gpu.memory - RESERVE
    sequences = max(0, (room - weights) // cache)
    if most is not None:
        sequences = min(sequences, most)
    read = flop.matmul_weights(config) * FORMS[form] / 8 / gpus  # of the embedding only one row

    def rate(together: int) -> float:
        moved = (read + together * cache / 2) / (gpu.bandwidth * factors.decode)
        computed = 2 * flop.matmul_weights(config) * together / gpus / (gpu.flops * factors.matmul)
        size = 2.0 * together * config.dim
        sums = 4 * config.layers * collective(size, gpus, 1, gpu, factors)
        return together / (max(moved, computed) + sums)

    token = 2 * flop.matmul_weights(config) / gpu.flops / factors.matmul
    token += config.layers * 2 * config.dim * (config.context + 1) / gpu.flops / factors.attention
    return Serving(form, weights, cache, room, gpus / token, rate(1), sequences, rate(max(1, sequences)))
