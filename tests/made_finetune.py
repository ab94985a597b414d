"""What tests of finetuning share: a base model, a file of pairs, and a few of them encoded."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import made_model
from puna import storage
from puna.convert import own
from puna.convert.parts import Parts
from puna.finetune import tune as tuning
from puna.finetune.examples import Example, Message
from puna.finetune.templated import Encoded, encode
from puna.finetune.tune import Settings

tune = partial(
    tuning.tune, threads=1
)  # several wait for each other by spinning, which takes minutes beside other tests
WORDS = ["the cat", "the hat", "the bat", "the end", "is near", "is here", "and", "naïve café"]
SMALL = Settings(epochs=2, context=64, batch=2, micro_batch=1, heldout=3, checkpoint_every=2, learning_rate=1e-3,
                 compile="off", dtype="float32")  # fmt: skip


def model(folder: Path, **shape: int) -> Path:
    """A base model without a template, as `puna import` leaves one."""
    llama = made_model.llama(**shape)
    state = {name: tensor.detach() for name, tensor in llama.state_dict().items()}
    with storage.create_folder(folder) as inside:
        own.write(inside, Parts(llama.config, state, made_model.tokenizer()), {"from": "test"})
    return folder


def data(path: Path) -> Path:
    """Pairs of a question and its answer, 25 of them."""
    pairs = [{"inputs": f"{a} {b}?", "targets": f"{b}."} for a in WORDS[:5] for b in WORDS[3:]]
    path.write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    return path


def encoded(*pairs: tuple[str, str]) -> list[Encoded]:
    llama, tokenizer = made_model.llama(), made_model.tokenizer()
    template, _ = tuning._templated(Parts(llama.config, dict(llama.state_dict()), tokenizer))
    said = (Example((Message("user", a), Message("assistant", b)), "here") for a, b in pairs)
    return [encode(example, template, tokenizer) for example in said]


PAIRS = encoded(("the cat?", "the hat."), ("is near?", "the end is here."), ("and?", "the bat and the cat."))
