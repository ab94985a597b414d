"""The model card: what the model is, how it is loaded, and what is not known of it, in Hugging Face's form."""

from __future__ import annotations

import json
from math import prod

from puna.convert.parts import NAMES, Parts

# `license: other` is what the hub takes where no licence is chosen; nothing is claimed in the owner's name.
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

| | |
|---|---|
| width, layers | {config.dim}, {config.layers} |
| heads, key-value heads | {config.heads}, {config.kv_heads} |
| width of the feed-forward | {config.hidden} |
| pieces | {config.vocabulary:,} |
| context | {config.context:,} tokens |
| rotary base, norm epsilon | {config.rope_base:g}, {config.norm_epsilon:g} |
| embeddings | {tied} |
| weights | {dtype} |

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained({folder})
model = AutoModelForCausalLM.from_pretrained({folder})
```

Before this folder was written, it was read back, and its logits and token ids on real text were those of the model that
it was made from. What the model was trained on, and under which licences, is told by the run that made it. It may say
what is false, and may repeat what it read word for word.
"""


def text(parts: Parts, licence: str = "") -> str:
    """README.md. licence: an identifier of the hub's list, such as apache-2.0."""
    return _CARD.format(
        licence=licence or "other",
        name=" ".join(parts.name.split()) or "model",
        folder=json.dumps(parts.name, ensure_ascii=False),
        parameters=sum(prod(tensor.shape) for tensor in parts.state.values()),
        kind="with a chat template" if parts.chat_template else "a base model without a chat template",
        config=parts.config,
        tied="shared by input and output" if parts.config.tied else "apart for input and output",
        dtype=NAMES.get(parts.dtype, str(parts.dtype)),
    )
