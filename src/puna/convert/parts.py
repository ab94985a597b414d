"""What a model is, whatever form its files have: shape, tensors, tokenizer, and what is said about it.

Every reader gives these parts and every writer takes them, so each form is written once for each direction. Tensors
have Meta's names and Meta's rotary layout, as everywhere in Puna (model/weights.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from puna.errors import InputError
from puna.model.config import ModelConfig
from puna.model.llama import Llama
from puna.model.weights import difference
from puna.tokenizer import Tokenizer

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}
NAMES = {dtype: name for name, dtype in DTYPES.items()}


@dataclass(frozen=True)
class Parts:
    """A model in memory. InputError is raised by `checked`, not when it is made."""

    config: ModelConfig
    state: Mapping[str, Tensor]
    """Tensors by Meta's names; queries and keys interleaved."""
    tokenizer: Tokenizer
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Of a tokenizer_config.json: bos_token, eos_token, add_bos_token, chat_template."""
    generation: Mapping[str, Any] = field(default_factory=dict)
    """Of a generation_config.json: how its maker samples from it."""
    name: str = "model"

    @property
    def chat_template(self) -> str | None:
        found = self.settings.get("chat_template")
        return found if isinstance(found, str) else None

    @property
    def dtype(self) -> torch.dtype:
        """The one dtype of all tensors, else the widest of them."""
        found = torch.bfloat16 if any(each.dtype == torch.bfloat16 for each in self.state.values()) else torch.float16
        for tensor in self.state.values():
            found = torch.promote_types(found, tensor.dtype)
        return found

    def checked(self, where: str) -> Parts:
        """These parts, if they fit each other; InputError, naming `where`, when they do not."""
        # Counted first: a config that lies about its layers would otherwise be built.
        if self.config.layers > len(self.state):
            what = f"its config says {self.config.layers} layers, and it holds {len(self.state)} tensors"
            raise InputError(what, where=where)
        wrong = difference(self.state, self.config)
        if wrong:
            raise InputError(f"its tensors do not fit its config: {wrong}", where=where)
        for name, tensor in self.state.items():
            if not bool(torch.isfinite(tensor).all()):
                raise InputError(f"{name} holds numbers that are not finite", where=where)
        if self.tokenizer.vocabulary != self.config.vocabulary:
            what = f"its tokenizer has {self.tokenizer.vocabulary} pieces, its embedding {self.config.vocabulary} rows"
            raise InputError(what, where=where)
        return self

    def cast(self, dtype: torch.dtype) -> Parts:
        """The same with every tensor in `dtype`; InputError where a value is too large for it."""
        state = {name: tensor.to(dtype) for name, tensor in self.state.items()}
        for name, tensor in state.items():
            if not bool(torch.isfinite(tensor).all()):
                what = f"{name} holds values that {NAMES[dtype]} cannot hold"
                raise InputError(what, mend="export it as bf16 or f32")
        return replace(self, state=state)

    def model(self) -> Llama:
        """The model in f32, to compute with."""
        model = Llama(self.config, device="meta")
        state = {name: tensor.to(torch.float32) for name, tensor in self.state.items()}
        model.load_state_dict(state, assign=True)
        return model.requires_grad_(False)
