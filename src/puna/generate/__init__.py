"""Text from a trained model: `puna.load(model).generate(prompt)`.

A model is a run folder, whose newest checkpoint is taken, or a checkpoint folder.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from puna import tokenizer as tokenizers
from puna.errors import InputError
from puna.generate.decode import generate
from puna.generate.engine import Engine
from puna.generate.packed import pack
from puna.model.folder import find
from puna.model.llama import Llama
from puna.model.weights import load_checkpoint, read_config
from puna.storage import Location, Place
from puna.tokenizer import Tokenizer

__all__ = ["Generator", "find", "generate", "load"]


class Generator:
    """A model with its tokenizer, ready to continue text.

    Attributes: `model`, `tokenizer`, and `folder`, the checkpoint they came from.
    """

    def __init__(self, model: Llama, tokenizer: Tokenizer, folder: Place) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.folder = folder

    def generate(
        self,
        prompt: str,
        *,
        tokens: int = 128,
        temperature: float = 0.8,
        top_p: float = 0.95,
        top_k: int = 0,
        seed: int = 1,
        stop: Sequence[str] = (),
    ) -> str:
        """The continuation of `prompt`, without the prompt itself.

        tokens: at most so many; </s> ends it sooner. temperature: 0 takes the likeliest token each time. top_p: draw
        from the likeliest tokens that reach this probability. top_k: draw from so many of the likeliest; 0: from all.
        seed: the same seed gives the same text. stop: strings before which the text ends.
        InputError when a value makes no sense.
        """
        pieces = self.stream(
            prompt, tokens=tokens, temperature=temperature, top_p=top_p, top_k=top_k, seed=seed, stop=stop
        )
        return "".join(pieces)

    def stream(
        self,
        prompt: str,
        *,
        tokens: int = 128,
        temperature: float = 0.8,
        top_p: float = 0.95,
        top_k: int = 0,
        seed: int = 1,
        stop: Sequence[str] = (),
    ) -> Iterator[str]:
        """What `generate` gives, in pieces of whole characters as they are made."""
        return generate(
            self.model,
            self.tokenizer,
            prompt,
            tokens=tokens,
            temperature=temperature,
            top_p=top_p,
            top_k=top_k,
            seed=seed,
            stop=stop,
        )

    def engine(self, *, slots: int = 8, context: int | None = None, dtype: str = "f32") -> Engine:
        """Makes many texts at once: see engine.py. slots: samples at a time; context: tokens of one, at most the
        model's; dtype: of the weights, f32, bf16 or int8."""
        return Engine(pack(self.model, dtype), self.tokenizer, slots=slots, context=context)


def load(model: Location, *, device: torch.device | str = "cpu") -> Generator:
    """The model of a run folder or a checkpoint folder, in f32 and on that device, with its tokenizer.

    Raises InputError: no such folder, no checkpoint in it, a broken or newer file, or a tokenizer that is not the one
    the model was trained with.
    """
    checkpoint, tokenizer_file = find(model)
    tokenizer = tokenizers.load(tokenizer_file)
    config, digest = read_config(checkpoint)
    if (digest and digest != tokenizer.digest) or tokenizer.vocabulary != config.vocabulary:
        what = f"is not the tokenizer that {checkpoint.name} was trained with"
        raise InputError(
            what, where=str(tokenizer_file), mend="train the model again, or put its tokenizer.model there"
        )
    return Generator(load_checkpoint(checkpoint, device=device), tokenizer, checkpoint)
