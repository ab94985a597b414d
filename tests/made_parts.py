"""A small model with grouped heads and its tokenizer, as parts and as a folder, and eight ways to write it wrongly."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from puna import tokenizer as tokenizers
from puna.convert import own
from puna.convert.names import half_split
from puna.convert.parts import Parts
from puna.convert.passages import PASSAGES
from puna.model.config import ModelConfig
from puna.model.llama import Llama
from puna.model.weights import initialise
from puna.tokenizer import Tokenizer, pieces
from puna.tokenizer.tokenizer_json import JsonTokenizer

TEXT = "the cat and the hat and the bat. the end is near, the end is here. naïve café, 東京 🦜\n    x = 1\n        y\n"


@functools.cache
def tokenizer() -> Tokenizer:
    return Tokenizer(tokenizers.train([TEXT, *PASSAGES] * 3, pieces=420, character_coverage=0.98))


def made(*, tied: bool = False, dtype: torch.dtype = torch.float32, heads: int = 4, kv_heads: int = 2) -> Parts:
    """Weights large enough that whatever is changed in them changes logits."""
    config = ModelConfig(
        dim=16 * heads,
        heads=heads,
        kv_heads=kv_heads,
        layers=3,
        hidden=96,
        vocabulary=tokenizer().vocabulary,
        context=64,
        rope_base=20000.0,
        norm_epsilon=3e-5,
        tied=tied,
    )
    model = Llama(config)
    initialise(model, 7)
    state = {name: (tensor * 4).to(dtype) for name, tensor in model.state_dict().items()}
    state["norm.weight"] = torch.linspace(0.5, 2, config.dim).to(dtype)
    return Parts(config, state, tokenizer(), name="made")


def theirs(*, rows: int = 0) -> Parts:
    """The same with a tokenizer as LLaMA's own: a space before each text. rows: of the embedding."""
    parts = made()
    found = replace(pieces.parse(tokenizer().model), prefix=True)
    encoding = JsonTokenizer(pieces.to_json(found), bos="<s>", eos="</s>", adds_bos=True, rows=rows)
    more = {
        name: torch.cat([parts.state[name], torch.ones(max(0, rows - len(found.pieces)), parts.config.dim)])
        for name in ("tok_embeddings.weight", "output.weight")
    }
    config = replace(parts.config, vocabulary=encoding.vocabulary)
    return replace(parts, config=config, state={**parts.state, **more}, tokenizer=encoding)


def folder(place: Path, parts: Parts) -> Path:
    """The parts as a Puna folder."""
    own.write(place, parts, {"from": "a test"})
    return place


def _rotary(parts: Parts) -> Parts:
    name = "layers.1.attention.wk.weight"
    return replace(parts, state={**parts.state, name: half_split(parts.state[name], parts.config.kv_heads)})


def _exchanged(parts: Parts) -> Parts:
    other = {"0": "1", "1": "0"}
    state = {}
    for name, tensor in parts.state.items():
        head, dot, rest = name.removeprefix("layers.").partition(".")
        state[f"layers.{other.get(head, head)}{dot}{rest}" if name.startswith("layers.") else name] = tensor
    return replace(parts, state=state)


def _off_by_one(parts: Parts) -> Parts:
    """Every piece one id later, the last one first."""
    found = pieces.parse(parts.tokenizer.model)
    shifted = (*found.pieces[:259], found.pieces[-1], *found.pieces[259:-1])
    scores = (*found.scores[:259], found.scores[-1], *found.scores[259:-1])
    return replace(parts, tokenizer=Tokenizer(pieces.serialise(replace(found, pieces=shifted, scores=scores))))


def _transposed(parts: Parts) -> Parts:
    name = "layers.2.attention.wo.weight"
    return replace(parts, state={**parts.state, name: parts.state[name].T.contiguous()})


def _untied(parts: Parts) -> Parts:
    output = parts.state["tok_embeddings.weight"].flip(0)
    return replace(
        parts, config=replace(parts.config, tied=False), state={**parts.state, "output.weight": output.contiguous()}
    )


def _config(**changed: float) -> Callable[[Parts], Parts]:
    return lambda parts: replace(parts, config=replace(parts.config, **changed))


# What is done to the parts on their way into the files, and what the refusal says.
FAULTS: dict[str, tuple[Callable[[Parts], Parts], str]] = {
    "rotary layout swapped": (_rotary, "wk.weight is in the other rotary layout"),
    "wrong norm epsilon": (_config(norm_epsilon=1e-6), "the norm epsilon is 1e-06, and was to be 3e-05"),
    "one tensor transposed": (_transposed, "layers.2.attention.wo.weight is transposed"),
    "tokenizer off by one": (_off_by_one, "the tokenizer, read by Puna: id 0 of"),
    "head count off by a factor": (_config(heads=2, kv_heads=1), "the head count is 2, and was to be 4"),
    "rope base changed": (_config(rope_base=10000.0), "the rotary base is 10000.0, and was to be 20000.0"),
    "two layers exchanged": (_exchanged, "layers.0.attention.wk.weight holds what layers.1.attention.wk.weight"),
    "embeddings untied": (_untied, "whether the embeddings are tied is False, and was to be True"),
}
