"""A tiny model with random weights, and a tokenizer of bytes and a few pieces, for tests of decoding."""

from __future__ import annotations

import functools
from typing import Any

import torch

from puna import tokenizer as tokenizers
from puna.model.config import ModelConfig
from puna.model.llama import Llama
from puna.model.weights import initialise
from puna.tokenizer import Tokenizer

TEXT = "the cat and the hat and the bat. the end is near, the end is here. naïve café, 東京 🦜\n"


@functools.cache
def tokenizer() -> Tokenizer:
    return Tokenizer(tokenizers.train([TEXT] * 3, pieces=290, character_coverage=0.98))


def llama(seed: int = 2, **shape: Any) -> Llama:
    """Weights large enough that a different past gives a different next token."""
    plain: dict[str, Any] = {"dim": 32, "heads": 4, "kv_heads": 2, "layers": 2, "hidden": 48, "context": 64}
    model = Llama(ModelConfig(**plain | {"vocabulary": tokenizer().vocabulary} | shape))
    initialise(model, seed)
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            tensor.mul_(1 if "norm" in name else 6)
    return model
