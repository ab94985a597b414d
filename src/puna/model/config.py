"""The shape of a model as one frozen record, and its form on disk (`config.json`).

Paper, section 2.2 and Table 2: dim, heads and layers; SwiGLU of hidden size 2/3 4d. Grouped-query attention, tied
embeddings and the rotary base are fields too, so that later models of the same shape load into the same code.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from puna.errors import InputError
from puna.formats import CONFIG
from puna.recipe import Recipe


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """What decides the names and shapes of a model's tensors, and how they are used.

    Raises InputError when the numbers do not fit together.
    """

    dim: int
    """Width of the residual stream."""
    heads: int
    """Query heads; each is dim / heads wide."""
    kv_heads: int
    """Key and value heads; equal to heads, or a divisor of it (grouped-query attention)."""
    layers: int
    """Transformer layers."""
    hidden: int
    """Width inside the SwiGLU feed-forward."""
    vocabulary: int
    """Pieces of the tokenizer: rows of the embedding and of the output."""
    context: int = 2048
    """Tokens of a training window; positions beyond it were never seen."""
    rope_base: float = 10000.0
    """Base of the rotary angles."""
    norm_epsilon: float = 1e-6
    """Added to the mean square in RMSNorm."""
    tied: bool = False
    """Whether the output reuses the embedding's tensor."""
    rotary: str = "interleaved"
    """Which elements of a head turn together: "interleaved" is (0, 1), (2, 3), ..., as in Meta's weights."""

    def __post_init__(self) -> None:
        for name in ("dim", "heads", "kv_heads", "layers", "hidden", "vocabulary", "context"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} = {getattr(self, name)}, but it must be at least 1")
        for name in ("rope_base", "norm_epsilon"):
            if not 0 < getattr(self, name) < math.inf:
                raise InputError(f"{name} = {getattr(self, name)}, but it must be a number above 0")
        if self.dim % self.heads or self.dim // self.heads % 2:
            what = f"dim = {self.dim} over heads = {self.heads} does not give heads of an even width"
            raise InputError(what, mend=f"make dim a multiple of {2 * self.heads}")
        if self.heads % self.kv_heads:
            raise InputError(f"heads = {self.heads} is not a multiple of kv_heads = {self.kv_heads}")
        if self.rotary != "interleaved":
            raise InputError(f"rotary = {self.rotary!r}: only 'interleaved' is known")

    @property
    def head_dim(self) -> int:
        return self.dim // self.heads

    @classmethod
    def from_recipe(cls, recipe: Recipe, vocabulary: int) -> ModelConfig:
        """The model that `recipe` asks for, over a tokenizer of `vocabulary` pieces."""
        model = recipe.model
        return cls(
            dim=model.dim,
            heads=model.heads,
            kv_heads=model.kv_heads or model.heads,
            layers=model.layers,
            hidden=model.hidden,
            vocabulary=vocabulary,
            context=recipe.train.context,
            rope_base=model.rope_base,
            norm_epsilon=model.norm_epsilon,
            tied=model.tied,
        )

    def to_json(self) -> dict[str, Any]:
        """A JSON object that `from_json` reads."""
        return {"format": CONFIG.version, **asdict(self)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any], *, where: str = "config.json") -> ModelConfig:
        """The config of a JSON object; InputError, naming `where`, when it is of a newer format or not whole.

        Keys that are no field of a config (such as `tokenizer`, a digest) are the reader's own business.
        """
        if not isinstance(value, Mapping) or not isinstance(value.get("format"), int):
            raise InputError("is not a model's config (it has no format number)", where=where)
        CONFIG.refuse_newer(value["format"], where)
        known = {field.name: value[field.name] for field in fields(cls) if field.name in value}
        for name, given in known.items():
            kinds = {"rope_base": (float, int), "norm_epsilon": (float, int), "tied": (bool,), "rotary": (str,)}
            if type(given) not in kinds.get(name, (int,)):
                raise InputError(f"{name} = {given!r} is not a value of that field", where=where)
        try:
            return cls(**known)
        except TypeError as error:
            raise InputError(f"is not a whole config ({error})", where=where) from None
        except InputError as error:
            raise InputError(str(error), where=where) from None
