"""An example as the ids that the model is going to meet it as, and which of them it learns to give.

The template is the model's own, or PLAIN for a base model, and is exported with it, so that an answer begins behind the
very ids behind which chat, server and other programs let it begin. Scored is what an answer gives: its text and the
control piece that ends it. What a template sets behind that, nobody has the model write.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from puna.finetune.examples import Example
from puna.generate.chat import Template
from puna.tokenizer import Tokenizer

PLAIN = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{% if message['role'] == 'system' %}{{ message['content'] + '\\n\\n' }}"
    "{% elif message['role'] == 'user' %}{{ '### Instruction:\\n' + message['content'] + '\\n\\n' }}"
    "{% else %}{{ '### Response:\\n' + message['content'] + eos_token + '\\n' }}"
    "{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '### Response:\\n' }}{% endif %}"
)
"""For a model that has no template, of pieces that every LLaMA has. A line break is a piece of its own, or begins one,
so that what follows `Response:` does not grow together with it."""


@dataclass(frozen=True, slots=True)
class Encoded:
    ids: npt.NDArray[np.int64]
    """(tokens,)"""
    scored: npt.NDArray[np.bool_]
    """(tokens,): whether the model learns to give this token."""


def encode(example: Example, template: Template, tokenizer: Tokenizer) -> Encoded:
    """The conversation by the template; InputError when that fails on it.

    Where the template or the tokenizer lets the beginning of an answer run into what stands before it, or no control
    piece ends an answer, the last one alone is scored: encoded by itself, behind the ids that ask for it, with </s>.
    """
    messages = example.as_json()
    answers = [number for number, message in enumerate(messages) if message["role"] == "assistant"]
    controls = {*template.controls.values(), tokenizer.eos}
    ids = template.ids(messages, tokenizer, go_on=False)
    scored = np.zeros(len(ids), bool)
    for number in answers:
        asked = template.ids(messages[:number], tokenizer)
        last = number == len(messages) - 1
        answered = ids if last else template.ids(messages[: number + 1], tokenizer, go_on=False)
        ends = [place for place in range(len(asked), len(answered)) if answered[place] in controls]
        if ids[: len(answered)] != answered or answered[: len(asked)] != asked or not ends:
            return _last(messages[-1]["content"], template.ids(messages[:-1], tokenizer), tokenizer)
        scored[len(asked) : ends[-1] + 1] = True
    return Encoded(np.array(ids, np.int64), scored)


def _last(answer: str, asked: list[int], tokenizer: Tokenizer) -> Encoded:
    given = [*tokenizer.encode(answer), tokenizer.eos]
    scored = np.zeros(len(asked) + len(given), bool)
    scored[len(asked) :] = True
    return Encoded(np.array([*asked, *given], np.int64), scored)


def shortened(encoded: Encoded, most: int) -> Encoded | None:
    """The last of it that fits into `most` tokens: what is asked loses its beginning, behind the first token. None when
    an answer would have to be cut."""
    lost = len(encoded.ids) - most
    if lost <= 0:
        return encoded
    if encoded.scored[: lost + 1].any():
        return None
    kept = np.r_[0, lost + 1 : len(encoded.ids)]
    return Encoded(encoded.ids[kept], encoded.scored[kept])
