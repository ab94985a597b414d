"""MMLU before and after a finetuning, as section 4 of the paper shows it: micro average, 5-shot, 63.4 -> 68.9 for 65B.

A sample of the items is asked, the same both times, and the standard error says what such a sample can tell. On a small
model both are chance, which is 25 %, and are said to be.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from puna import storage
from puna.evaluate.answering import Model
from puna.evaluate.run import Wanted, evaluate, plan
from puna.evaluate.tasks import PACK
from puna.generate.packed import pack
from puna.model import weights
from puna.model.llama import Llama
from puna.storage import Place
from puna.tokenizer import Tokenizer

SHOTS = 5
CHANCE = 0.25
PAPER = {"before": 63.4, "after": 68.9}  # LLaMA-65B and LLaMA-I, section 4


class Mmlu:
    """Asks a model `limit` items of MMLU. Answers lie in `folder` while they are asked, by weights.

    InputError at once when MMLU is not below `data`.
    """

    def __init__(self, data: Place, folder: Place, limit: int) -> None:
        self._plans = plan([Wanted(PACK["mmlu"], SHOTS)], data, limit=limit)
        self._folder = folder
        files = sorted(self._plans[0].items.digests.items())
        self.name = f"mmlu {limit} {storage.digest_bytes(repr(files).encode())}"

    def __call__(self, model: Llama, tokenizer: Tokenizer) -> Mapping[str, Any]:
        digest = weights.digest(model.state_dict())
        (result,) = evaluate(self._plans, Model(pack(model), tokenizer), self._folder / digest[-12:], digest)
        value = result.value
        return {"mmlu": {"accuracy": value.mean, "error": value.error, "items": value.items, "of": result.of}}
