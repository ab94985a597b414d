"""Whether an export says what the model says from which it was made: by its parts, then by its logits on real text.

First Puna's own reader takes the files apart, and each setting, each tensor and each token id is held against what was
to be written; that names what is wrong. Then the form's own program reads them, where it is installed, and its ids and
logits are compared; that finds what a writer and a reader of ours might have wrong together. Every comparison is with
the weights as the export's dtype has them, so only arithmetic is left to differ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import torch

from puna.convert import foreign
from puna.convert.foreign import Logits
from puna.convert.names import half_split, in_order, interleaved, rotary_heads
from puna.convert.parts import Parts
from puna.convert.passages import CONTROLS, PASSAGES, SPELLINGS
from puna.errors import PunaError
from puna.tokenizer.sentencepiece_bpe import SPACE
from puna.tokenizer.tokenizer_json import JsonTokenizer

# The largest difference of two logits, in standard deviations of its passage's logits, that f32 arithmetic explains.
EXACT = 1e-3
# llama.cpp rounds activations to the weights' type, to 8 bits for Q8_0 and Q4_0: there the root of the mean square is
# compared. Measured on SmolLM2-135M and a made model: 0.004, 0.03, 0.05, 0.08 at most. The weights are held bit by bit.
ROUNDED = {"f16": 1e-2, "bf16": 8e-2, "q8_0": 1.5e-1, "q4_0": 1.5e-1}
LONGEST = 64  # tokens of a passage
_SAID = {
    "norm_epsilon": "the norm epsilon",
    "rope_base": "the rotary base",
    "heads": "the head count",
    "kv_heads": "the count of key-value heads",
    "tied": "whether the embeddings are tied",
}


class Mismatch(PunaError):
    """An export that is not what it was made from: exit status 1."""


def verify(form: str, path: Path, wanted: Parts, read: Callable[[Path], Parts], dtype: str) -> str:
    """Compare the export at `path` with `wanted`, its parts as they were to be written; who read it, and how far its
    logits are. read: Puna's own reader of the form. Raises Mismatch, with the reason."""
    try:
        back = read(path)
    except PunaError as error:
        raise Mismatch(f"what was written cannot be read back ({error.what})") from None
    by_parts(wanted, back)
    if form in ("hf", "puna") and (lost := [key for key in wanted.generation if key not in back.generation]):
        raise Mismatch(f"generation_config.json has no {lost[0]}")
    passages = [wanted.tokenizer.begin(text)[: min(LONGEST, wanted.config.context)] for text in PASSAGES]
    texts = [*PASSAGES, *SPELLINGS, *(() if wanted.chat_template else CONTROLS)]
    # SentencePiece's sign for a space is one to llama.cpp too; Puna's own tokenizer alone spells it in bytes.
    alike = form != "gguf" or isinstance(wanted.tokenizer, JsonTokenizer)
    texts = [text for text in texts if alike or SPACE not in text]
    ids = [wanted.tokenizer.encode(text) for text in texts]
    ours = logits(wanted, passages)
    reader = foreign.installed(form)
    if reader is None:
        theirs, found = logits(back, passages), [back.tokenizer.encode(text) for text in texts]
    else:
        found, theirs = foreign.ask(form, path, texts, passages)
    rounds = reader == "llama.cpp" and dtype in ROUNDED
    limit, far = (ROUNDED[dtype], spread) if rounds else (EXACT, distance)
    name = reader or "Puna"
    _same_ids(name, texts, ids, found)
    away = [far(*each) for each in zip(ours, theirs, strict=True)]
    number = int(np.argmax(away))  # that of a NaN, where there is one: max() passes over it
    worst = away[number]
    if not worst <= limit:
        cause = next(_causes(wanted, passages[number], theirs[number]), "")
        what = f"logits of {name} differ by {worst:.2g} of their spread, and may by {limit:g}, in passage {number + 1}"
        raise Mismatch(f"{what}{f': {cause}' if cause else ''}")
    said = f"{'on average' if rounds else 'at most'} {worst:.1e} of their spread"
    but = "" if alike else "; U+2581 in a text is a space there"
    return f"read by {name}: logits differ by {said}, ids of {len(texts)} texts are the same{but}"


def by_parts(wanted: Parts, back: Parts) -> None:
    """Raise Mismatch at the first setting, tensor or piece of `back` that is not that of `wanted`."""
    for field in fields(wanted.config):
        ours, theirs = getattr(wanted.config, field.name), getattr(back.config, field.name)
        same = ours == theirs or (isinstance(ours, float) and np.float32(ours) == np.float32(theirs))
        if not same:
            raise Mismatch(f"{_SAID.get(field.name, field.name)} is {theirs}, and was to be {ours}")
    for name in in_order(wanted.state):
        if (cause := _of_tensor(name, wanted, back)) is not None:
            raise Mismatch(cause)
    ours, theirs = wanted.tokenizer, back.tokenizer
    if (ours.bos, ours.eos) != (theirs.bos, theirs.eos):
        what = (
            f"the tokenizer's bos and eos are {theirs.bos} and {theirs.eos}, and were to be {ours.bos} and {ours.eos}"
        )
        raise Mismatch(what)
    texts = [*PASSAGES, *SPELLINGS, *CONTROLS]
    _same_ids("Puna", texts, *([tokenizer.encode(text) for text in texts] for tokenizer in (ours, theirs)))
    if ours.begin("a") != theirs.begin("a"):
        raise Mismatch("the tokenizer begins a text otherwise: whether it adds <s> was changed")
    if wanted.chat_template != back.chat_template:
        raise Mismatch("the chat template is not the one that was to be written")


@torch.no_grad()
def logits(parts: Parts, passages: Sequence[Sequence[int]]) -> list[Logits]:
    """(length, vocabulary) of each passage of ids, computed in f32 by the reference model."""
    model = parts.model()
    return [model.logits(torch.tensor([list(ids)]))[0].numpy() for ids in passages]


def distance(ours: Logits, theirs: Logits) -> float:
    """The largest difference of two logits, over the standard deviation of `ours`; infinite for other shapes."""
    if ours.shape != theirs.shape:
        return float("inf")
    return float(np.abs(ours - theirs).max() / max(float(ours.std()), 1e-30))


def spread(ours: Logits, theirs: Logits) -> float:
    """As `distance`, of the root of the mean square of all differences."""
    if ours.shape != theirs.shape:
        return float("inf")
    return float(np.sqrt(np.square(ours - theirs).mean()) / max(float(ours.std()), 1e-30))


def _same_ids(name: str, texts: Sequence[str], ours: Sequence[list[int]], theirs: Sequence[list[int]]) -> None:
    for text, wanted, found in zip(texts, ours, theirs, strict=True):
        if wanted != list(found):
            at = next(
                (i for i, (a, b) in enumerate(zip(wanted, found, strict=False)) if a != b), min(len(wanted), len(found))
            )
            said = f"{found[at : at + 4]}, and was to be {wanted[at : at + 4]}"
            raise Mismatch(f"the tokenizer, read by {name}: id {at} of {text[:40]!r} begins {said}")


def _of_tensor(name: str, wanted: Parts, back: Parts) -> str | None:
    """How a tensor differs from what was to be written; None when every bit is the same."""
    ours, theirs = wanted.state[name], back.state.get(name)
    if theirs is None:
        return f"{name} is missing"
    if ours.dtype == theirs.dtype and torch.equal(ours, theirs):
        return None
    if ours.shape[::-1] == theirs.shape and torch.equal(ours.T, theirs.to(ours.dtype)):
        return f"{name} is transposed"
    if ours.shape != theirs.shape:
        return f"{name} has shape {tuple(theirs.shape)}, and was to have {tuple(ours.shape)}"
    if ours.dtype != theirs.dtype and torch.equal(ours, theirs.to(ours.dtype)):
        return f"{name} is {theirs.dtype}, and was to be {ours.dtype}"
    heads = rotary_heads(name, wanted.config)
    if heads and any(torch.equal(turn(ours, heads), theirs) for turn in (half_split, interleaved)):
        return f"{name} is in the other rotary layout"
    for other, tensor in wanted.state.items():
        if other != name and tensor.shape == theirs.shape and torch.equal(tensor, theirs):
            return f"{name} holds what {other} was to hold"
    place = [int(i) for i in (ours != theirs.to(ours.dtype)).nonzero()[0]]
    return f"{name} differs from what was to be written, first at {place}"


def _causes(wanted: Parts, passage: Sequence[int], theirs: Logits) -> Iterator[str]:
    """What would explain logits of another program, where reading the parts back found nothing: each is tried."""
    for said, changed in _changes(wanted):
        if distance(logits(changed, [passage])[0], theirs) <= EXACT:
            yield f"they are those of a model with {said}"


def _changes(wanted: Parts) -> Iterator[tuple[str, Parts]]:
    for turn in (half_split, interleaved):
        state = {}
        for name, tensor in wanted.state.items():
            heads = rotary_heads(name, wanted.config)
            state[name] = turn(tensor, heads) if heads else tensor
        yield "the other rotary layout", replace(wanted, state=state)
    for epsilon in (1e-5, 1e-6):
        yield f"norm epsilon {epsilon:g}", replace(wanted, config=replace(wanted.config, norm_epsilon=epsilon))
    for base in (1e4, 1e5, 5e5, 1e6):
        yield f"rotary base {base:g}", replace(wanted, config=replace(wanted.config, rope_base=base))
    if not wanted.config.tied:
        state = {name: tensor for name, tensor in wanted.state.items() if name != "output.weight"}
        yield "tied embeddings", replace(wanted, config=replace(wanted.config, tied=True), state=state)
