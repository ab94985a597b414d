"""The model card: what the model is and how it is loaded, in Hugging Face's form.

This is all that the parts of a model tell. What the run that made it tells (data, training, energy, scores) is put in
by puna.publish.model_card, which knows runs.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from math import prod
from typing import TypeAlias

from puna.convert.parts import NAMES, Parts

Card: TypeAlias = Callable[[Parts, str], str]
"""README.md of a model, and of the licence that was given for it, "" for none."""
UNCHOSEN = "other"  # what the hub takes where no licence is chosen; nothing is claimed in the owner's name

_CARD = """---
license: {licence}
library_name: transformers
pipeline_tag: text-generation
tags:
- llama
- puna
---

# {name}

A LLaMA of {parameters:,} parameters, {kind}, exported by Puna.

{architecture}

{loading}

{compared} What the model was trained on, and under which licences, is told by the run that made it. It
may say what is false, and may repeat what it read word for word.
"""
_ARCHITECTURE = """| | |
|---|---|
| width, layers | {config.dim}, {config.layers} |
| heads, key-value heads | {config.heads}, {config.kv_heads} |
| width of the feed-forward | {config.hidden} |
| pieces | {config.vocabulary:,} |
| context | {config.context:,} tokens |
| rotary base, norm epsilon | {config.rope_base:g}, {config.norm_epsilon:g} |
| embeddings | {tied} |
| weights | {dtype} |"""
_LOADING = """```python
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained({folder})
model = AutoModelForCausalLM.from_pretrained({folder})
```"""
COMPARED = """Before this folder was written, it was read back, and its logits and token ids on real text were those of
the model that it was made from."""


def text(parts: Parts, licence: str = "") -> str:
    """README.md. licence: an identifier of the hub's list, such as apache-2.0."""
    return _CARD.format(
        licence=licence or UNCHOSEN,
        name=title(parts),
        parameters=parameters(parts),
        kind=kind(parts),
        architecture=architecture(parts),
        loading=loading(parts),
        compared=COMPARED,
    )


def title(parts: Parts) -> str:
    return " ".join(parts.name.split()) or "model"


def parameters(parts: Parts) -> int:
    return sum(prod(tensor.shape) for tensor in parts.state.values())


def kind(parts: Parts) -> str:
    return "with a chat template" if parts.chat_template else "a base model without a chat template"


def architecture(parts: Parts) -> str:
    """Its shape, as a table."""
    tied = "shared by input and output" if parts.config.tied else "apart for input and output"
    return _ARCHITECTURE.format(config=parts.config, tied=tied, dtype=NAMES.get(parts.dtype, str(parts.dtype)))


def loading(parts: Parts) -> str:
    """How it is loaded, as Python."""
    return _LOADING.format(folder=json.dumps(parts.name, ensure_ascii=False))
