"""The floating-point operations of a training step, counted from the model's shape.

A multiplication and an addition are two. Model FLOP utilisation as in PaLM (Chowdhery et al. 2022, appendix B): what
has to be computed counts, and what is computed again for the backward pass does not. Unlike there, masked scores of
attention do not count, since they are not computed (paper, section 2.4).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from puna.model.config import ModelConfig

FORMULA = "6 x weights in matmuls + 6 x layers x dim x (context + 1) for attention"


def matmuls(config: ModelConfig) -> Mapping[tuple[int, int], int]:
    """Shapes (output, input) of the linear weights of a model, and how many there are of each."""
    dim, keys = config.dim, config.kv_heads * config.head_dim
    layer = [(dim, dim), (keys, dim), (keys, dim), (dim, dim)]  # wq, wk, wv, wo
    layer += [(config.hidden, dim), (config.hidden, dim), (dim, config.hidden)]  # w1, w3, w2
    return Counter([*(layer * config.layers), (config.vocabulary, dim)])


def matmul_weights(config: ModelConfig) -> int:
    """Weights that a token is multiplied with: all but the input embedding and the norms."""
    return sum(output * inner * times for (output, inner), times in matmuls(config).items())


def matmul_flop(config: ModelConfig) -> int:
    """Of one token in the matmuls with weights: 2 forward, 2 for the input's gradient, 2 for the weight's."""
    return 6 * matmul_weights(config)


def token_flop(config: ModelConfig, context: int) -> int:
    """Of one token in all: `matmul_flop` and attention.

    A position sees (context + 1) / 2 positions on average. Scores and output take 2 FLOP for each of them and each of
    dim numbers, so 2 dim (context + 1) together, and twice that backward.
    """
    return matmul_flop(config) + 6 * config.layers * config.dim * (context + 1)
